"""`RayExecutor`: trains and sweeps on the cores or GPUs of a Ray cluster.

The driver decodes images and writes rows; workers only compute. To them travel classifiers, base weights, and images
on the classifier's grid under pseudonyms, no file name, no path and no patient id, so they share no file system. One
worker serves one core, or one GPU, and computes alone, as the threads of `LocalExecutor` do: the rows are the same.
"""

import copy
import hashlib
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import PIL
import torch

import dosimeter
from dosimeter.cohorts.base import Cohort, Decoded, Record
from dosimeter.cohorts.images import to_grid
from dosimeter.engines.base import Engine, EngineUnavailable
from dosimeter.engines.choose import EnginePlan, build_engine
from dosimeter.errors import DosimeterError
from dosimeter.models.backbones import get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.fit import assemble, fit
from dosimeter.models.weights import State
from dosimeter.parallel import AHEAD, GPU_WORKERS
from dosimeter.sweeps.execute import Row, execute_cell
from dosimeter.sweeps.executor import JOB, Advance, Done, FitJob
from dosimeter.sweeps.plan import Cell

log = logging.getLogger(__name__)
Item = TypeVar("Item")

ATTEMPTS = 5
"""Workers that may be lost under one task before the task is held to be the reason."""

ANSWER_S = 20
"""A cluster that has not answered for so long is out of reach."""

NO_WORKER_S = 60.0
"""A cluster without a worker for so long has none."""

WAIT_S = 1.0
LOOK_S = 5.0
"""Between two looks at whether the cluster has grown."""

BLOCK = 64
"""Images that share an object in the cluster's store: a worker fetches them together."""

_PROBE = """
import logging, sys, ray
try:
    ray.init(sys.argv[1], logging_level=logging.CRITICAL, log_to_driver=False)
except Exception as error:
    print(" ".join(str(error.__cause__ or error).split()))
    sys.exit(1)
"""
"""Joins the cluster in a process of its own: where nothing answers, `ray.init` can neither be timed nor interrupted."""


class RayExecutor:
    """Trains and sweeps on a Ray cluster, which the driver's machine is a node of; see docs/cluster.md.

    A worker that is lost is replaced where there is room, and what it was doing is handed out again. Use it as a
    context manager, or call `close`.

    Args:
        address: "auto" for the cluster that this machine belongs to, or its head's HOST:PORT.
        workers: cores or GPUs used at once; by default all that the cluster has, also those that join later.

    Raises:
        DosimeterError: ray is not installed, or the cluster does not answer.
    """

    def __init__(self, address: str = "auto", workers: int | None = None) -> None:
        self._ray = _import_ray()
        self._address = address
        self._workers = workers
        self._connected_here = not self._ray.is_initialized()
        if self._connected_here:
            _connect(self._ray, address)
        self._crews: dict[str, _Crew] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers, whatever they are doing, and leave the cluster if this executor joined it."""
        for crew in self._crews.values():
            crew.dismiss()
        self._crews.clear()
        if self._connected_here and self._ray.is_initialized():
            self._ray.shutdown()
            self._ray._private.worker._worker_logs_enabled = True

    def fit(self, jobs: Sequence[FitJob], *, device: str, advance: Advance) -> Iterator[tuple[int, Classifier]]:
        """Yield the place of each job and its classifier as it is done, each trained by one worker.

        Feature maps stay in the workers' cache folders, so that jobs on the same images compute them once a machine.
        `advance` is called once a job, with all its images.
        """
        weights = {id(job.weights): self._ray.put(job.weights) for job in jobs}
        stores = {job.model: _ImageStore(self._ray, size_px=get_backbone(job.model).size_px) for job in jobs}

        def hand_out(worker: Any, job: FitJob) -> Any:
            store = stores[job.model]
            halves = replace(job.split, train=store.put(job.split.train), test=store.put(job.split.test))
            arguments = {name: getattr(job, name) for name in JOB} | {"split": halves, "device": device}
            del arguments["weights"]
            return worker.fit.remote(arguments, [weights[id(job.weights)]])

        for place, (state, card) in self._crew(device).share(jobs, hand_out, ahead=1):
            job = jobs[place]
            generator = torch.Generator()  # of initial values that are replaced
            classes = job.split.train.classes
            classifier = assemble(get_backbone(job.model), job.weights, job.head, classes=classes, generator=generator)
            classifier.head.load_state_dict(state)
            classifier.card = card
            advance(len(job.split.train) + len(job.split.test))
            yield place, classifier.to(device)

    def run(self, cells: Sequence[Cell], classifier: Classifier, plan: EnginePlan) -> Iterator[Done]:
        """Yield each cell with its rows as it is done; leaving the loop stops the workers."""
        if not cells:
            return
        device = classifier.device.type
        portable = classifier if device == "cpu" else copy.deepcopy(classifier).cpu()
        served = _Served(classifier.fingerprint, [self._ray.put(portable)], plan.name, device)

        def hand_out(worker: Any, cell: Cell) -> Any:
            return worker.sweep.remote(portable_cell(cell, size_px=classifier.size_px), served)

        for place, rows in self._crew(device).share(cells, hand_out, ahead=AHEAD):
            yield Done(cells[place], rows)

    def _crew(self, device: str) -> "_Crew":
        """Return the workers for `device`; they stay for what comes next."""
        if device not in ("cpu", "cuda"):
            raise DosimeterError(f"the ray executor computes on cpu or cuda, got '{device}'. Use --device cpu.")
        if device not in self._crews:
            self._crews[device] = _Crew(self._ray, self._address, device, limit=self._workers)
        return self._crews[device]


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise DosimeterError("The ray executor needs ray: pip install 'dosimeter[ray]'.") from error
    return ray


def _connect(ray: Any, address: str) -> None:
    """Join the cluster, silently and without usage statistics, or raise DosimeterError."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns of its own next version
    remedy = "Start one with `ray start --head`, or give --address HOST:PORT of one that this machine is a node of."
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DosimeterError(f"no Ray cluster answered at '{address}' within {ANSWER_S} s. {remedy}") from None
    if probe.returncode != 0:
        reason = probe.stdout.strip().rstrip(".") or f"exit code {probe.returncode}"
        raise DosimeterError(f"the Ray cluster at '{address}' cannot be joined ({reason}). {remedy}")
    ray.init(address, logging_level=logging.CRITICAL, log_to_driver=False)
    ray._private.worker._worker_logs_enabled = (
        False  # the one switch of "(raylet) A worker died", which we say ourselves
    )


# --- the driver's side --------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Member:
    """A worker as the driver sees it."""

    actor: Any
    node: str = ""  # known once the worker has reported
    load: int = 0  # tasks handed to it


class _Crew:
    """The workers for one kind of device, and the tasks shared among them.

    Args:
        ray: the package, connected.
        address: of the cluster, for messages.
        device: "cpu" or "cuda".
        limit: the largest number of workers.
    """

    def __init__(self, ray: Any, address: str, device: str, *, limit: int | None) -> None:
        self._ray = ray
        self._address = address
        self._resource = "GPU" if device == "cuda" else "CPU"
        options = {"num_gpus": 1, "max_concurrency": GPU_WORKERS} if device == "cuda" else {}
        self._kind = ray.remote(Worker).options(num_cpus=1, **options)
        self._limit = limit
        self._members: list[_Member] = []
        self._reports: dict[Any, _Member] = {}
        self._next_look = 0.0

    def share(
        self, tasks: Sequence[Item], hand_out: Callable[[Any, Item], Any], *, ahead: int
    ) -> Iterator[tuple[int, Any]]:
        """Yield the place and the result of each task as it is done.

        Args:
            tasks: in the order in which they are handed out.
            hand_out: calls a worker with a task and returns the reference of the result.
            ahead: tasks that one worker may hold: one is done, the others wait. It sinks to 1 at the end, so that no
                worker holds what another could do.
        """
        waiting = deque(range(len(tasks)))
        running: dict[Any, tuple[_Member, int]] = {}
        losses: Counter[int] = Counter()
        alone_since = time.monotonic()
        try:
            while waiting or running:
                self._recruit(len(waiting) + len(running))
                while waiting and (member := self._free(ahead if len(waiting) > len(self._members) else 1)):
                    place = waiting.popleft()
                    member.load += 1
                    running[hand_out(member.actor, tasks[place])] = member, place
                if any(member.node for member in self._members):
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since > NO_WORKER_S:
                    raise self._deserted()
                done: list[tuple[int, Any]] = []
                for ref in self._wait([*self._reports, *running]):
                    if ref in self._reports:
                        self._greet(ref)
                        continue
                    member, place = running.pop(ref)
                    member.load -= 1
                    try:
                        done.append((place, self._result(ref)))
                    except self._ray.exceptions.RayError as error:
                        self._lose(member, error)
                        waiting.appendleft(place)
                        losses[place] += 1
                        if losses[place] == ATTEMPTS:
                            raise _deadly(error) from error
                yield from done
        finally:
            if running:  # left early
                self.dismiss()

    def dismiss(self) -> None:
        """Stop all workers, whatever they are doing."""
        for member in self._members:
            self._ray.kill(member.actor)
        self._members.clear()
        self._reports.clear()

    def _wait(self, refs: list[Any]) -> list[Any]:
        """Return those of `refs` that are ready, after a second at most."""
        if not refs:
            time.sleep(WAIT_S)
            return []
        ready: list[Any] = self._ray.wait(refs, timeout=WAIT_S)[0]
        return ready

    def _free(self, ahead: int) -> _Member | None:
        """Return the least loaded worker if it holds fewer than `ahead` tasks."""
        ready = [member for member in self._members if member.node]
        least = min(ready, key=lambda member: member.load, default=None)
        return least if least is not None and least.load < ahead else None

    def _recruit(self, n_tasks: int) -> None:
        """Start workers for the cores or GPUs that have none, but not more than there are tasks."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        room = self._limit or int(self._ray.cluster_resources().get(self._resource, 0))
        for _ in range(min(room, n_tasks) - len(self._members)):
            member = _Member(self._kind.remote(_cudnn_switches()))
            self._members.append(member)
            self._reports[member.actor.report.remote()] = member

    def _greet(self, ref: Any) -> None:
        """Take a worker into service if its software is the driver's."""
        member = self._reports.pop(ref)
        try:
            report: _Report = self._result(ref)
        except self._ray.exceptions.RayError as error:
            self._lose(member, error)
            return
        for name, ours in versions().items():
            if (theirs := report.versions.get(name)) != ours:
                raise DosimeterError(
                    f"every worker must have the driver's {name}, which is {ours}; on node {report.node} it is {theirs}. "
                    "Install the same there, restart Ray on that node, and run the same command again."
                )
        member.node = report.node

    def _result(self, ref: Any) -> Any:
        """Return what a worker returned, or raise what it raised; RayError means that it was lost."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def _lose(self, member: _Member, error: Exception) -> None:
        if member not in self._members:
            return  # another of its tasks said so before
        if getattr(error, "actor_init_failed", False):
            raise DosimeterError(
                f"every worker must be able to run dosimeter, the one on node {_node(error)} is not "
                f"({_last_line(error)}). Install dosimeter {dosimeter.__version__} in the Python that Ray runs there, "
                "and run the same command again."
            ) from error
        log.warning("a worker on node %s was lost; what it had to do is handed out again", member.node or _node(error))
        log.info("%s", error)
        self._members.remove(member)
        self._ray.kill(member.actor)  # one that is only cut off must not go on
        if member.node:
            self._next_look = 0.0

    def _deserted(self) -> DosimeterError:
        return DosimeterError(
            f"the Ray cluster at '{self._address}' must have a worker with a free {self._resource}, but had none for "
            f"{NO_WORKER_S:.0f} s. Start some with `ray start --address HOST:PORT`, and run the same command again: "
            "what is done is kept."
        )


def _deadly(error: Exception) -> DosimeterError:
    return DosimeterError(
        f"{ATTEMPTS} workers were lost over the same work, the last on node {_node(error)}, where perhaps the memory is "
        "full. Use fewer workers (--workers), and run the same command again: what is done is kept."
    )


def _node(error: Exception) -> str:
    """Return the node that one of Ray's errors names."""
    found = re.search(r"\bip[:=] ?([^\s,]+)", str(error))
    return found[1] if found else "unknown"


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


class _ImageStore:
    """Puts images into the cluster's store, each once, as they are asked for."""

    def __init__(self, ray: Any, *, size_px: int) -> None:
        self._ray = ray
        self._size_px = size_px
        self._put: dict[int, tuple[Record, _InStore]] = {}  # by identity; holding the record keeps it unique

    def put(self, cohort: Cohort) -> Cohort:
        """Return `cohort` with images read from the cluster's store."""
        new = [index for index, record in enumerate(cohort.records) if id(record) not in self._put]
        for start in range(0, len(new), BLOCK):
            block = new[start : start + BLOCK]
            images = [_on_grid(cohort, index, size_px=self._size_px) for index in block]
            ref = self._ray.put(images)
            for place, index in enumerate(block):
                record = cohort.records[index]
                self._put[id(record)] = record, _InStore([ref], place)
        records = [
            Record(record.case_id, record.label, record.sha256, self._put[id(record)][1]) for record in cohort.records
        ]
        return Cohort(cohort.name, cohort.classes, tuple(records), cohort.modality)


def portable_cell(cell: Cell, *, size_px: int) -> Cell:
    """Return `cell` with its images in it, on the grid of `size_px`, and pseudonyms in place of patient ids.

    Its rows are those of `cell`: an image on its grid is not resized again, and one that cannot be read fails again.
    """
    patients = cell.setting.patients
    records = []
    for index, record in enumerate(cell.shard.records):
        try:
            decoded = _on_grid(cell.shard, index, size_px=size_px)
        except (DosimeterError, OSError, ValueError) as error:
            log.warning("case %s left out: %s", record.case_id, error)
            decoded = None
        patient = None if record.patient_id is None else patients.get(record.patient_id)
        records.append(Record(record.case_id, record.label, record.sha256, _Carried(decoded), patient))
    shown = {record.patient_id: record.patient_id for record in records if record.patient_id is not None}
    shard = Cohort(cell.shard.name, cell.shard.classes, tuple(records), cell.shard.modality)
    return Cell(cell.cell_id, shard, replace(cell.setting, patients=shown))


def _on_grid(cohort: Cohort, index: int, *, size_px: int) -> Decoded:
    case = cohort[index]
    return Decoded(to_grid(Decoded(case.image, case.bits), size_px=size_px), case.bits)


def versions() -> dict[str, str]:
    """Return the versions that rows depend on."""
    return {
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "dosimeter": f"{dosimeter.__version__} (sources {_sources()})",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "Pillow": PIL.__version__,
    }


def _sources() -> str:
    """Return a digest of dosimeter's code: during development many states share one version."""
    folder = Path(dosimeter.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _cudnn_switches() -> dict[str, bool]:
    return {name: getattr(torch.backends.cudnn, name) for name in ("deterministic", "allow_tf32")}


# --- the workers' side --------------------------------------------------------------------------------------


class _Report(NamedTuple):
    """What a worker says of itself."""

    node: str
    versions: dict[str, str]


class _Served(NamedTuple):
    """The classifier that cells are for, and how it is computed."""

    fingerprint: str
    classifier: list[Any]  # one reference; in a list, so that Ray hands it over instead of what it refers to
    engine: str
    device: str


@dataclass(frozen=True)
class _Carried:
    """Reads an image that came with its record; None is one that the driver could not read."""

    decoded: Decoded | None = field(repr=False)

    def __call__(self) -> Decoded:
        if self.decoded is None:
            raise DosimeterError("the driver could not read this image; its log says why.")
        return self.decoded


@dataclass(frozen=True)
class _InStore:
    """Reads an image of a block in the cluster's store."""

    block: list[Any]  # one reference
    place: int

    def __call__(self) -> Decoded:
        image: Decoded = _import_ray().get(self.block[0])[self.place]
        return image


class Worker:
    """A process on a node of the cluster; its methods are called by the driver.

    Args:
        switches: of `torch.backends.cudnn`, as on the driver.
    """

    def __init__(self, switches: dict[str, bool]) -> None:
        for name, value in switches.items():
            setattr(torch.backends.cudnn, name, value)
        self._lock = threading.Lock()
        self._served: tuple[str, str] | None = None
        self._classifier: Classifier
        self._engine: Engine

    def report(self) -> _Report:
        """Return the node's address and the versions of its software."""
        return _Report(_import_ray().util.get_node_ip_address(), versions())

    def sweep(self, cell: Cell, served: _Served) -> list[Row]:
        """Return the rows of `cell`; the classifier is built when the first cell for it comes."""
        torch.set_num_threads(1)
        with self._lock:
            self._serve(served)
        return execute_cell(cell, self._classifier, self._engine)

    def fit(self, arguments: dict[str, Any], weights: list[Any]) -> tuple[State, dict[str, Any]]:
        """Return the state of the head and the card of the classifier that `models.fit.fit` makes."""
        torch.set_num_threads(1)
        classifier = fit(weights=_import_ray().get(weights[0]), **arguments)
        return {name: tensor.cpu() for name, tensor in classifier.head.state_dict().items()}, classifier.card

    def _serve(self, served: _Served) -> None:
        if self._served == (served.fingerprint, served.engine):
            return
        ray = _import_ray()
        classifier = ray.get(served.classifier[0]).to(served.device)
        try:
            engine = build_engine(served.engine, classifier, threads=1)
        except EngineUnavailable as error:
            node = ray.util.get_node_ip_address()
            raise DosimeterError(
                f"the {served.engine} engine, which this sweep is computed with, is not available on node {node}: "
                f"{error} Make it so there, or use --engine torch."
            ) from error
        self._classifier, self._engine = classifier, engine
        self._served = served.fingerprint, served.engine
