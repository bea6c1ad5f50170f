"""`Crew`: the workers of a Ray cluster, and how tasks are shared among them.

One that is lost is replaced where there is room, and what it was doing is handed out again.
"""

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import dosimeter
from dosimeter.errors import DosimeterError
from dosimeter.executors.worker import Report, Worker, cudnn_switches, versions
from dosimeter.parallel import GPU_WORKERS

log = logging.getLogger(__name__)
Task = TypeVar("Task")

ATTEMPTS = 5
"""Workers that may be lost under one task before the task is held to be the reason."""

NO_WORKER_S = 60.0
"""A cluster without a worker for so long has none."""

WAIT_S = 1.0
LOOK_S = 5.0
"""Between two looks at whether the cluster has grown."""


@dataclass(eq=False)
class _Member:
    """A worker as the driver sees it."""

    actor: Any
    node: str = ""  # known once the worker has reported
    load: int = 0  # tasks handed to it
    share: "_Share | None" = None  # of which its tasks are


@dataclass(eq=False)
class _Share:
    """What one call of `Crew.share` is about; tasks go by their places."""

    waiting: deque[int]
    n_running: int = 0
    results: list[tuple[int, Any]] = field(default_factory=list)
    losses: Counter[int] = field(default_factory=Counter)


class _Errand(NamedTuple):
    """A task in a worker's hands."""

    share: _Share
    place: int
    member: _Member


class Crew:
    """The workers for one kind of device, and what is shared among them.

    Args:
        ray: the package, connected to the cluster.
        device: "cpu" or "cuda".
        limit: the largest number of workers; None is all cores, or GPUs, of the cluster.
    """

    def __init__(self, ray: Any, device: str, *, limit: int | None) -> None:
        self._ray = ray
        self._resource = "GPU" if device == "cuda" else "CPU"
        options = {"num_gpus": 1, "max_concurrency": GPU_WORKERS} if device == "cuda" else {}
        self._actor = ray.remote(Worker).options(num_cpus=1, **options)
        self._limit = limit
        self._versions = versions()
        self._members: list[_Member] = []
        self._reports: dict[Any, _Member] = {}  # of workers that are starting
        self._errands: dict[Any, _Errand] = {}  # by the reference of the result
        self._next_look = 0.0
        self._last_seen = 0.0  # when there last was a worker

    def share(
        self, tasks: Sequence[Task], hand_out: Callable[[Any, Task], Any], *, ahead: int
    ) -> Iterator[tuple[int, Any]]:
        """Yield the place and the result of each task as it is done.

        Several may be under way, one within another's loop: a worker does what it was handed first.

        Args:
            tasks: in the order in which they are handed out.
            hand_out: calls a worker with a task and returns the reference of the result.
            ahead: tasks that a worker may hold, so that it never waits for the next. Towards the end it holds one, or
                it would keep what others could do.

        Raises:
            DosimeterError: no worker can be had, workers differ from the driver, or a task loses all its workers.
        """
        share = _Share(deque(range(len(tasks))))
        self._next_look, self._last_seen = 0.0, time.monotonic()
        try:
            while share.waiting or share.n_running or share.results:
                self._recruit(len(share.waiting) + len(self._errands))
                while member := self._next_free(share, ahead):
                    place = share.waiting.popleft()
                    self._note(self._handed(hand_out, member, tasks[place]), _Errand(share, place, member))
                results, share.results = share.results, []
                yield from results  # now that the workers are busy again
                if not results:
                    self._collect()
        except BaseException:  # also when the caller leaves the loop
            self.dismiss()
            raise

    def _handed(self, hand_out: Callable[[Any, Task], Any], member: _Member, task: Task) -> Any:
        try:
            return hand_out(member.actor, task)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise DosimeterError(
                f"work cannot be handed to the Ray cluster ({type(error).__name__}: {reason}). If its store or disk is "
                "full, give `ray start` more with --object-store-memory or another --temp-dir, and run the same "
                "command again: what is done is kept."
            ) from error

    def dismiss(self) -> None:
        """Stop all workers, whatever they are doing."""
        for ref in list(self._errands):
            self._put_back(self._settle(ref))
        for member in self._members:
            self._ray.kill(member.actor)
        self._members.clear()
        self._reports.clear()

    def _next_free(self, share: _Share, ahead: int) -> _Member | None:
        """Return the worker to which the next task goes, None if there is no task or each has enough."""
        if len(share.waiting) <= len(self._members):
            ahead = 1
        free = [
            member
            for member in self._members
            if member.node and (member.load == 0 or (member.share is share and member.load < ahead))
        ]
        return min(free, key=lambda member: member.load, default=None) if share.waiting else None

    def _note(self, ref: Any, errand: _Errand) -> None:
        self._errands[ref] = errand
        errand.share.n_running += 1
        errand.member.load += 1
        errand.member.share = errand.share

    def _settle(self, ref: Any) -> _Errand:
        errand = self._errands.pop(ref)
        errand.share.n_running -= 1
        errand.member.load -= 1
        return errand

    def _put_back(self, errand: _Errand) -> None:
        errand.share.waiting.appendleft(errand.place)

    def _collect(self) -> None:
        """Take what is done, within a second; welcome workers, and put back what was lost with one."""
        self._check_presence()
        refs = [*self._reports, *self._errands]
        if not refs:
            time.sleep(WAIT_S)
            return
        for ref in self._ray.wait(refs, timeout=WAIT_S)[0]:
            if ref in self._reports:
                self._greet(ref)
                continue
            errand = self._settle(ref)
            share, place, member = errand
            try:
                share.results.append((place, self._result(ref)))
            except self._ray.exceptions.RayError as error:
                self._lose(member, error)
                self._put_back(errand)
                share.losses[place] += 1
                if share.losses[place] == ATTEMPTS:
                    raise _deadly(error) from error

    def _check_presence(self) -> None:
        if any(member.node for member in self._members):
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > NO_WORKER_S:
            raise DosimeterError(
                f"the Ray cluster must have a worker with a free {self._resource}, but had none for {NO_WORKER_S:g} s. "
                "Start one with `ray start --address HOST:PORT`, and run the same command again: what is done is kept."
            )

    def _recruit(self, n_tasks: int) -> None:
        """Start workers on cores or GPUs that have none, but not more than there are tasks."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        room = self._limit or int(self._ray.cluster_resources().get(self._resource, 0))
        for _ in range(min(room, n_tasks) - len(self._members)):
            member = _Member(self._actor.remote(cudnn_switches()))
            self._members.append(member)
            self._reports[member.actor.report.remote()] = member

    def _greet(self, ref: Any) -> None:
        """Take a worker into service if its software is the driver's."""
        member = self._reports.pop(ref)
        try:
            report: Report = self._result(ref)
        except self._ray.exceptions.RayError as error:
            self._lose(member, error)
            return
        for name, ours in self._versions.items():
            if (theirs := report.versions.get(name)) != ours:
                raise DosimeterError(
                    f"every worker must have the driver's {name} {ours}, but node {report.node} has {theirs}. Install "
                    "the same there, restart Ray on it, and run the same command again."
                )
        member.node = report.node

    def _result(self, ref: Any) -> Any:
        """Return what a worker returned, or raise what it raised; a RayError means that the worker was lost."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OSError):
                raise DosimeterError(
                    f"a worker on node {_node(error)} could not write or read ({error.cause.strerror or error.cause}). "
                    "Make room in its cache folder (DOSIMETER_CACHE), and run the same command again: what is done is "
                    "kept."
                ) from error
            raise error.cause from error

    def _lose(self, member: _Member, error: Exception) -> None:
        if member not in self._members:
            return  # another of its tasks said so before
        if getattr(error, "actor_init_failed", False):
            reason = str(error).strip().splitlines()[-1]
            raise DosimeterError(
                f"every worker must be able to run dosimeter, one on node {_node(error)} is not ({reason}). Install "
                f"dosimeter {dosimeter.__version__} in the Python that Ray runs there, and run the same command again."
            ) from error
        log.warning("a worker on node %s was lost; what it had to do is handed out again", member.node or _node(error))
        log.info("%s", error)
        self._members.remove(member)
        self._ray.kill(member.actor)  # one that is only cut off must not go on
        if member.node:
            self._next_look = 0.0


def _deadly(error: Exception) -> DosimeterError:
    return DosimeterError(
        f"{ATTEMPTS} workers were lost over the same work, the last on node {_node(error)}; its memory may be full. "
        "Give --workers fewer, and run the same command again: what is done is kept."
    )


def _node(error: Exception) -> str:
    """Return the node that one of Ray's errors names."""
    found = re.search(r"\bip[:=] ?([\w.:]+)", str(error))
    return found[1] if found else "unknown"
