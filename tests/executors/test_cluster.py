import logging
import os
import pickle
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from greys import cohort
from noting import Stages
from tiny import SIZE_PX, convolutional_classifier, settings
from torch import Tensor, nn

from dosimeter.attacks.presets import PRESETS
from dosimeter.cohorts.base import Cohort, Decoded
from dosimeter.cohorts.images import to_grid
from dosimeter.cohorts.split import split
from dosimeter.engines.choose import EnginePlan
from dosimeter.errors import DosimeterError
from dosimeter.executors import crew as sharing
from dosimeter.executors import joining
from dosimeter.executors import ray as cluster
from dosimeter.executors.crew import ATTEMPTS, Crew
from dosimeter.executors.local import Executor, FitJob, LocalExecutor
from dosimeter.executors.ray import RayExecutor
from dosimeter.executors.worker import Report, portable_cell, versions
from dosimeter.models.backbones import get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.training import FitOptions
from dosimeter.models.weights import Weights, digest, expected_shapes
from dosimeter.progress import Progress
from dosimeter.record import table as responses
from dosimeter.study.run import run_study
from dosimeter.sweeps.execute import Row, execute_cell
from dosimeter.sweeps.plan import SHARD_SIZE, Cell, Setting, plan_cells, pseudonymise_patients

PLAN = EnginePlan("torch", 4)
N_CPUS = 2


def unreadable() -> Decoded:
    raise OSError("/home/ana/patient-smith.png: gone")


def cases(n: int = 3 * SHARD_SIZE) -> Cohort:
    """Images larger than the classifier's grid, one of which cannot be read."""
    whole = cohort(n, size=SIZE_PX + 8)
    records = list(whole.records)
    records[1] = replace(records[1], read=unreadable)
    return replace(whole, records=tuple(records))


def plan(classifier: Classifier, n: int = 3 * SHARD_SIZE) -> list[Cell]:
    setting = Setting("paper", PRESETS["sound"], (0.0, 0.003, 0.02), 0, pseudonymise_patients(cases(n)))
    return list(plan_cells(cases(n), classifier, setting))


def rows_of(executor: Executor, cells: list[Cell], classifier: Classifier) -> list[Row]:
    """All rows but their times, in the order of cells; fails if a cell came twice or with another's rows."""
    done = {id(each.cell): each.rows for each in executor.run(cells, classifier, PLAN)}
    assert set(done) == {id(cell) for cell in cells}
    return timeless(row for cell in cells for row in done[id(cell)])


def timeless(rows: Any) -> list[Row]:
    return [{key: value for key, value in row.items() if key != "duration_s"} for row in rows]


# --- what travels -------------------------------------------------------------------------------------------


def test_a_portable_cell_has_the_same_rows_and_names_nobody(caplog: pytest.LogCaptureFixture) -> None:
    classifier = convolutional_classifier()
    for cell in plan(classifier):
        travelled = pickle.loads(pickle.dumps(portable_cell(cell, grid=classifier.grid)))
        assert timeless(execute_cell(travelled, classifier)) == timeless(execute_cell(cell, classifier))
    assert b"name-0" in pickle.dumps(cell.setting)
    for private in (b"name-", b"smith", b"ana"):
        assert private not in pickle.dumps(portable_cell(cell, grid=classifier.grid))
    assert "smith" in caplog.text  # the driver's log tells what was wrong


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_an_image_on_its_grid_keeps_every_bit(bits: int) -> None:
    generator = np.random.default_rng(bits)
    image = generator.random((3, 50, 40)).astype(np.float32)
    once = to_grid(Decoded(image, bits), size_px=SIZE_PX)
    twice = to_grid(Decoded(pickle.loads(pickle.dumps(once)), bits), size_px=SIZE_PX)
    assert once.tobytes() == twice.tobytes()


# --- on a cluster -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one node on this machine, whose workers find this module."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([*sys.path, str(Path(__file__).parent)]))
        patch.setenv("DOSIMETER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setattr(logging.getLogger("ray"), "level", logging.CRITICAL)
        patch.setattr(
            sharing, "NO_WORKER_S", 300.0
        )  # a machine that runs much else is slow, and no test fails for that
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": N_CPUS, "include_dashboard": False})
        try:
            yield nodes.address
        finally:
            nodes.shutdown()


@pytest.fixture(scope="module")
def executor(ray_cluster: str) -> Iterator[RayExecutor]:
    with RayExecutor(ray_cluster) as executor:
        yield executor


class Fatal(nn.Module):
    """Passes images on, but the first process that makes `flag` dies."""

    def __init__(self, flag: Path) -> None:
        super().__init__()
        self._flag = flag

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 1:  # a batch of the sweep, after the gradients
            try:
                self._flag.mkdir()
            except FileExistsError:
                return images
            os.kill(os.getpid(), signal.SIGKILL)
        return images


@pytest.mark.slow  # two studies, whose workers load torch anew
@pytest.mark.usefixtures("tiny_networks", "no_report")
def test_a_run_goes_on_in_a_cluster_with_the_same_rows(ray_cluster: str, image_folder: Path, tmp_path: Path) -> None:
    """Half of a finished run's parts are lost; the cluster, whose CPUs nobody holds yet, computes them."""
    run_study(settings(image_folder, tmp_path))
    whole = responses.read(tmp_path / "responses.parquet").frame
    lost = sorted((tmp_path / "parts").iterdir())[::2]
    for part in lost:
        part.unlink()
    run_study(settings(image_folder, tmp_path, executor="ray", address=ray_cluster, workers=N_CPUS))
    assert all(part.is_file() for part in lost)
    again = responses.read(tmp_path / "responses.parquet").frame
    assert again.drop(columns="duration_s").equals(whole.drop(columns="duration_s"))


def test_rows_are_those_of_the_local_executor(executor: RayExecutor, capfd: pytest.CaptureFixture[str]) -> None:
    classifier = convolutional_classifier()
    cells = plan(classifier)
    expected = rows_of(LocalExecutor(1), cells, classifier)
    assert rows_of(executor, cells, classifier) == expected
    assert sum(row["status"] == "error" for row in expected) == 1
    other = convolutional_classifier(seed=1)
    assert rows_of(executor, plan(other, 4), other) == rows_of(LocalExecutor(1), plan(other, 4), other)
    assert list(executor.run([], classifier, PLAN)) == []
    assert capfd.readouterr() == ("", "")


def test_a_killed_worker_loses_and_doubles_nothing(
    executor: RayExecutor, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    classifier = convolutional_classifier()
    classifier.base = nn.Sequential(Fatal(tmp_path / "killed"), classifier.base)
    cells = plan(classifier)
    found = rows_of(executor, cells, classifier)
    assert (tmp_path / "killed").is_dir()  # and Fatal strikes once
    assert found == rows_of(LocalExecutor(1), cells, classifier)
    assert "was lost" in caplog.text
    assert capfd.readouterr().out == ""


@pytest.mark.slow  # half a gigabyte of weights goes to a worker
def test_training_gives_the_classifier_that_local_training_gives(executor: RayExecutor) -> None:
    images = cohort(4)
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) / 30 for name, shape in expected_shapes("vgg16").items()}
    weights = Weights("vgg16", "random", "a test", "none", digest(state), state, PREPROCESSINGS["unit"], True, "")
    head, options = get_backbone("vgg16").head, FitOptions(epochs=2)
    halves = [split(images, "paper", seed=seed, test_share=0.5) for seed in (0, 1)]
    jobs = [FitJob("vgg16", half, seed, weights, head, options) for seed, half in enumerate(halves)]
    seen = Stages()
    remote = dict(executor.fit(jobs, device="cpu", progress=seen))
    assert seen.stages == [("training 2 classifiers on the cluster", 2, 2)]
    for place, classifier in LocalExecutor(1).fit(jobs, device="cpu", progress=Progress()):
        assert remote[place].fingerprint == classifier.fingerprint
        assert {**remote[place].card, "duration_s": 0} == {**classifier.card, "duration_s": 0}


@pytest.mark.slow  # workers begin anew after those that failed
def test_an_engine_that_a_worker_lacks_is_an_error_and_frees_the_cluster(executor: RayExecutor) -> None:
    import ray

    classifier = convolutional_classifier()  # too small for the engine
    with pytest.raises(DosimeterError, match=r"winograd engine is not available on node .* --engine torch"):
        list(executor.run(plan(classifier), classifier, EnginePlan("winograd", 4)))
    patience = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < N_CPUS:
        assert time.monotonic() < patience
        time.sleep(0.1)


def test_a_second_cluster_is_refused_while_one_is_joined(executor: RayExecutor) -> None:
    with pytest.raises(DosimeterError, match="address must be 'auto' where Ray is connected"):
        RayExecutor("10.0.0.5:6379")


def test_unusual_devices_are_refused(executor: RayExecutor) -> None:
    with pytest.raises(DosimeterError, match="cpu or cuda, got 'mps'"):
        list(executor.fit([], device="mps", progress=Progress()))


# --- no cluster ---------------------------------------------------------------------------------------------


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DosimeterError, match=r"pip install 'dosimeter\[ray\]'"):
        RayExecutor()


def test_an_unreachable_cluster_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "import_ray", lambda: SimpleNamespace(is_initialized=lambda: False))
    with pytest.raises(DosimeterError, match=r"'nonsense' cannot be joined \(Invalid address format.*ray start --head"):
        RayExecutor("nonsense")
    monkeypatch.setattr(joining, "ANSWER_S", 2.0)
    with pytest.raises(DosimeterError, match=r"no Ray cluster answered at '127.0.0.1:1' within 2 s\. Start one"):
        RayExecutor("127.0.0.1:1")


# --- sharing tasks, on a cluster that is made up --------------------------------------------------------------


class Lost(Exception):
    """In place of RayError."""

    actor_init_failed = False


class Raised(Exception):
    """In place of RayTaskError."""

    cause = ZeroDivisionError("a mistake of ours")


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
    crew = Crew(made_up, "cpu", limit=None)
    return crew.share(range(n_tasks), lambda worker, task: made_up.call(worker.name, 10 * task), ahead=ahead)


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
    crew = Crew(made_up, "cpu", limit=None)

    def hand_out(worker: Any, task: int) -> Any:
        return made_up.call(worker.name, task)

    outer = []
    for place, _ in crew.share(range(5), hand_out, ahead=1):
        before = Counter(made_up.calls)
        assert sorted(crew.share(range(20), hand_out, ahead=2)) == [(task, task) for task in range(20)]
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
        list(share(MadeUp(1, [None, Raised()]), 1))


def test_a_worker_with_other_software_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "versions", lambda: {**versions(), "torch": "1.0"})
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
    monkeypatch.setattr(sharing, "NO_WORKER_S", 0.05)
    monkeypatch.setattr(sharing, "WAIT_S", 0.02)
    with pytest.raises(DosimeterError, match=r"a free CPU, but had none for 0\.05 s\. Start one"):
        list(share(MadeUp(0), 1))
