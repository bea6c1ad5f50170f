"""`RayExecutor`: trains and sweeps on the cores or GPUs of a Ray cluster.

The driver decodes images and writes rows, workers only compute: one for each core, computing alone, as the threads of
`LocalExecutor` do. So the rows of a classifier are the same. `crew.py` shares work among workers, `worker.py` is their
side.
"""

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import torch

from dosimeter.engines.choose import EnginePlan, engine_versions
from dosimeter.errors import DosimeterError
from dosimeter.models.backbones import get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.fit import assemble
from dosimeter.parallel import AHEAD
from dosimeter.sweeps.crew import Crew, handing_out
from dosimeter.sweeps.executor import JOB, Advance, Done, FitJob
from dosimeter.sweeps.plan import Cell
from dosimeter.sweeps.worker import ImageStore, Served, import_ray, portable_cell

log = logging.getLogger(__name__)

ANSWER_S = 20.0
"""A cluster that has not answered for so long is out of reach."""

_PROBE = """
import logging, sys, ray
try:
    ray.init(sys.argv[1], logging_level=logging.CRITICAL, log_to_driver=False)
except Exception as error:
    print(" ".join(str(error.__cause__ or error).split()))
    sys.exit(1)
"""
"""Joins the cluster in a process of its own: where nothing answers, `ray.init` can be given no time limit."""


class RayExecutor:
    """Trains and sweeps on a Ray cluster; see docs/cluster.md.

    A worker that is lost is replaced where there is room, and what it was doing is handed out again. Use it as a
    context manager, or call `close`.

    Args:
        address: "auto" for the cluster that this machine belongs to, its head's HOST:PORT, or ray://HOST:10001 from
            outside the cluster.
        workers: cores or GPUs used at once; by default all that the cluster has, also those that join later.

    Raises:
        DosimeterError: ray is not installed, the cluster does not answer, or this process has joined another one.
    """

    def __init__(self, address: str = "auto", workers: int | None = None) -> None:
        self._ray = import_ray()
        self._address = address
        self._workers = workers
        self._crews: dict[str, Crew] = {}
        self._connected_here = not self._ray.is_initialized()
        if self._connected_here:
            _connect(self._ray, address)
        elif address not in ("auto", joined := self._ray.get_runtime_context().gcs_address):
            raise DosimeterError(
                f"address must be 'auto' or '{joined}', the Ray cluster that this process has joined, got '{address}'. "
                "Call ray.shutdown() to leave that one."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers, whatever they are doing, and leave the cluster if this executor joined it."""
        if self._ray.is_initialized():
            for crew in self._crews.values():
                crew.dismiss()
        self._crews.clear()
        if self._connected_here:
            self._ray.shutdown()
            self._ray._private.worker._worker_logs_enabled = True

    def fit(self, jobs: Sequence[FitJob], *, device: str, advance: Advance) -> Iterator[tuple[int, Classifier]]:
        """Yield the place of each job and its classifier as it is done, each trained by one worker with one thread.

        Feature maps stay in the workers' cache folders, for the jobs on the same images that come later; those that run
        at once on one machine each begin elsewhere (see `FeatureStore.compute`) and share the work. `advance` is called
        once a job, with all its images.
        """
        with handing_out(self._ray):
            weights = {id(job.weights): self._ray.put(job.weights) for job in jobs}
        stores = {job.model: ImageStore(size_px=get_backbone(job.model).size_px) for job in jobs}

        def hand_out(worker: Any, job: FitJob) -> Any:
            train, test = (stores[job.model].portable(cohort) for cohort in (job.split.train, job.split.test))
            arguments = {name: getattr(job, name) for name in JOB if name != "weights"}
            arguments |= {"split": replace(job.split, train=train, test=test), "device": device}
            return worker.fit.remote(arguments, [weights[id(job.weights)]])

        for place, (state, card) in self._crew(device).share(jobs, hand_out, ahead=1):
            job = jobs[place]
            untrained = torch.Generator()  # its initial values are replaced
            classes = job.split.train.classes
            classifier = assemble(get_backbone(job.model), job.weights, job.head, classes=classes, generator=untrained)
            classifier.head.load_state_dict(state)
            classifier.card = card
            advance(len(job.split.train) + len(job.split.test))
            yield place, classifier.to(device)

    def run(self, cells: Sequence[Cell], classifier: Classifier, plan: EnginePlan) -> Iterator[Done]:
        """Yield each cell with its rows as it is done; leaving the loop stops the workers."""
        if not cells:
            return
        device = classifier.device.type
        crew = self._crew(device)
        portable = classifier if device == "cpu" else copy.deepcopy(classifier).cpu()
        with handing_out(self._ray):
            stored = [self._ray.put(portable)]
        served = Served(classifier.fingerprint, stored, plan.name, engine_versions(plan.name), device)

        def hand_out(worker: Any, cell: Cell) -> Any:
            return worker.sweep.remote(portable_cell(cell, size_px=classifier.size_px), served)

        for place, (rows, notes) in crew.share(cells, hand_out, ahead=AHEAD):
            for note in notes:
                log.warning("cell %s: %s", cells[place].cell_id, note)
            yield Done(cells[place], rows, notes)

    def _crew(self, device: str) -> Crew:
        """Return the workers for `device`; they stay for what comes next."""
        if device not in ("cpu", "cuda"):
            raise DosimeterError(f"the ray executor computes on cpu or cuda, got '{device}'. Use --device cpu.")
        if device not in self._crews:
            self._crews[device] = Crew(self._ray, device, limit=self._workers)
        return self._crews[device]


def _connect(ray: Any, address: str) -> None:
    """Join the cluster, silently and without usage statistics, or raise DosimeterError."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    remedy = (
        "Start one with `ray start --head`, or give --address HOST:PORT of one that this machine is a node of; if it "
        "has a token, set RAY_AUTH_MODE=token."
    )
    try:
        command = [sys.executable, "-c", _PROBE, address]
        probe = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
        if probe.returncode != 0:
            raise ConnectionError(probe.stdout.strip() or f"exit code {probe.returncode}")
        ray.init(address, logging_level=logging.CRITICAL, log_to_driver=False)
    except subprocess.TimeoutExpired:
        raise DosimeterError(f"no Ray cluster answered at '{address}' within {ANSWER_S:g} s. {remedy}") from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise DosimeterError(f"the Ray cluster at '{address}' cannot be joined ({reason}). {remedy}") from error
    ray._private.worker._worker_logs_enabled = False  # the only switch of "(raylet) A worker died": we say so ourselves
