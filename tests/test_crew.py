"""Sharing tasks among workers, on a cluster that is made up."""

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from dosimeter.errors import DosimeterError
from dosimeter.sweeps import crew
from dosimeter.sweeps.crew import ATTEMPTS, Crew
from dosimeter.sweeps.worker import Report, versions


class Lost(Exception):
    """In place of RayError."""

    actor_init_failed = False


class ObjectStoreFullError(Lost):
    """Named as Ray's."""


class OutOfDiskError(Lost):
    """Named as Ray's."""


class Raised(Exception):
    """In place of RayTaskError."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"ray::Worker.sweep() (pid=7, ip=10.0.0.7)\n{cause}")
        self.cause = cause


class MadeUp:
    """Stands in for ray: whatever is called is done at once, if it is waited for.

    Args:
        n_cpus: of the cluster.
        fates: exceptions that come of calls in the order in which they are waited for; None is none.
    """

    exceptions = SimpleNamespace(RayError=Lost, RayTaskError=Raised)

    def __init__(self, n_cpus: int, fates: Sequence[Exception | None] = ()) -> None:
        self._n_cpus = n_cpus
        self._fates = list(fates)
        self._results: list[Any] = []
        self.held: Counter[str] = Counter()
        self.calls: list[str] = []
        self.started: list[str] = []
        self.killed: list[str] = []

    def remote(self, _: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._start))

    def _start(self, _: Any) -> Any:
        name = f"worker {len(self.started)}"
        self.started.append(name)
        report = SimpleNamespace(remote=lambda: self.call(name, Report("10.0.0.1", versions())))
        return SimpleNamespace(report=report, name=name)

    def call(self, name: str, result: Any) -> tuple[int, str]:
        self._results.append(result)
        self.held[name] += 1
        self.calls.append(name)
        return len(self._results) - 1, name

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self._n_cpus}

    def wait(self, refs: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return refs[:1], refs[1:]

    def get(self, ref: tuple[int, str]) -> Any:
        self.held[ref[1]] -= 1
        fate = self._fates.pop(0) if self._fates else None
        if fate is not None:
            raise fate
        return self._results[ref[0]]

    def kill(self, actor: Any) -> None:
        self.killed.append(actor.name)


def share(made_up: MadeUp, n_tasks: int, *, ahead: int = 2) -> Iterator[tuple[int, Any]]:
    workers = Crew(made_up, "cpu", limit=None)
    return workers.share(range(n_tasks), lambda worker, task: made_up.call(worker.name, 10 * task), ahead=ahead)


def test_every_task_comes_once_with_its_own_result() -> None:
    assert sorted(share(MadeUp(3), 20)) == [(place, 10 * place) for place in range(20)]


def test_there_are_no_more_workers_than_tasks() -> None:
    made_up = MadeUp(100)
    assert len(list(share(made_up, 3))) == 3
    assert len(made_up.started) == 3


def test_workers_hold_two_tasks_but_at_the_end_one() -> None:
    made_up = MadeUp(2)
    held = [max(made_up.held.values()) for _ in share(made_up, 12)]
    assert max(held) == 2
    assert held[-4:] == [1, 1, 1, 0]


def test_shares_within_each_other_leave_no_worker_idle() -> None:
    made_up = MadeUp(2)
    workers = Crew(made_up, "cpu", limit=None)

    def hand_out(worker: Any, task: int) -> Any:
        return made_up.call(worker.name, task)

    outer = []
    for place, _ in workers.share(range(5), hand_out, ahead=1):
        before = Counter(made_up.calls)
        assert sorted(workers.share(range(20), hand_out, ahead=2)) == [(task, task) for task in range(20)]
        assert min((Counter(made_up.calls) - before).values()) > 5  # each worker had its part
        outer.append(place)
    assert sorted(outer) == [0, 1, 2, 3, 4]


def test_leaving_the_loop_stops_the_workers() -> None:
    made_up = MadeUp(2)
    for _ in share(made_up, 12):
        break
    assert made_up.killed == made_up.started


def test_what_a_worker_raises_reaches_the_caller_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        list(share(MadeUp(1, [None, Raised(ZeroDivisionError("a mistake of ours"))]), 1))


STORE = r"Ray's object store is full on {}\. Give it more with `ray start --object-store-memory BYTES`, and run the"
DISK = r"the disk of Ray's folder is full on {}\. Free space there, or move the folder with `ray start --temp-dir`, and"
OTHER = r"Ray could not take work on this machine \(Lost: no idea\)\. See `ray status`, and run the same command again"


@pytest.mark.parametrize(
    ("error", "message"),
    [(ObjectStoreFullError(), STORE), (OutOfDiskError(), DISK), (Lost("no idea.\nmore"), OTHER)],
)
def test_work_that_the_cluster_cannot_take_is_one_sentence(error: Exception, message: str) -> None:
    made_up = MadeUp(2)

    def hand_out(worker: Any, task: int) -> Any:
        raise error

    with pytest.raises(DosimeterError, match=message.format("this machine")) as caught:
        list(Crew(made_up, "cpu", limit=None).share(range(3), hand_out, ahead=1))
    assert "\n" not in str(caught.value)
    assert made_up.killed == made_up.started


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Raised(OutOfDiskError()), DISK.format(r"node 10\.0\.0\.7")),
        (ObjectStoreFullError("(pid=7, ip=10.0.0.7)"), STORE.format(r"node 10\.0\.0\.7")),
        (
            Raised(OSError(errno.ENOSPC, "No space left on device")),
            r"worker on node 10\.0\.0\.7 could not read or write a file \(.*No space left.*\)\. .* DOSIMETER_CACHE",
        ),
    ],
)
def test_what_is_full_on_a_worker_is_said_with_its_node(error: Exception, message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        list(share(MadeUp(1, [None, error]), 1))


def test_a_worker_with_other_software_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "versions", lambda: {**versions(), "torch": "1.0"})
    with pytest.raises(DosimeterError, match=r"torch 1\.0, but node 10\.0\.0\.1 has 2\..* Install the same"):
        list(share(MadeUp(1), 1))


def test_a_task_that_loses_every_worker_is_an_error() -> None:
    died = Lost("it died\n\tip: 10.0.0.7\nmore")
    survived = MadeUp(1, [None, died] * (ATTEMPTS - 1))
    assert list(share(survived, 1)) == [(0, 0)]
    assert len(survived.started) == ATTEMPTS
    with pytest.raises(DosimeterError, match=rf"{ATTEMPTS} workers were lost .* node 10\.0\.0\.7; .* --workers"):
        list(share(MadeUp(1, [None, died] * ATTEMPTS), 1))


def test_a_worker_that_cannot_start_is_an_error() -> None:
    failed = Lost("The actor died because of an error (pid=7, ip=10.0.0.7)\nModuleNotFoundError: No module")
    failed.actor_init_failed = True
    with pytest.raises(DosimeterError, match=r"node 10\.0\.0\.7 is not \(ModuleNotFoundError: No module\)\. Install"):
        list(share(MadeUp(1, [failed]), 1))


def test_a_cluster_without_workers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "NO_WORKER_S", 0.05)
    monkeypatch.setattr(crew, "WAIT_S", 0.02)
    with pytest.raises(DosimeterError, match=r"a free CPU, but had none for 0\.05 s\. Start one"):
        list(share(MadeUp(0), 1))
