"""`RayExecutor`: trains and sweeps on the cores or GPUs of a Ray cluster.

The driver decodes images and writes rows, workers only compute: one for each core, computing alone, as the threads of
`LocalExecutor` do. So the rows are the same. `worker.py` is the workers' side.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import torch

from dosimeter.engines.choose import EnginePlan
from dosimeter.errors import DosimeterError
from dosimeter.executors.crew import Crew
from dosimeter.executors.joining import join
from dosimeter.executors.local import JOB, Audience, Done, FitJob
from dosimeter.executors.worker import ImageStore, Served, import_ray, portable_cell
from dosimeter.models.backbones import get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.fit import assemble, decided_by
from dosimeter.parallel import AHEAD
from dosimeter.progress import Progress
from dosimeter.sweeps.plan import Cell


class RayExecutor:
    """Trains and sweeps on a Ray cluster; see docs/cluster.md.

    A worker that is lost is replaced where there is room, and what it was doing is handed out again. Use it as a
    context manager, or call `close`.

    Args:
        address: "auto" for the cluster that this machine belongs to, its head's HOST:PORT, or ray://HOST:10001 from
            outside the cluster.
        workers: cores or GPUs used at once; by default all that the cluster has, also those that join later.

    Raises:
        DosimeterError: ray is not installed, or the cluster does not answer.
    """

    def __init__(self, address: str = "auto", workers: int | None = None) -> None:
        self._ray = import_ray()
        self._address = address
        self._workers = workers
        self._crews: dict[str, Crew] = {}
        self._connected_here = not self._ray.is_initialized()
        if self._connected_here:
            join(self._ray, address)
        elif address != "auto":
            raise DosimeterError(
                f"address must be 'auto' where Ray is connected already, got '{address}'. Call ray.shutdown() first, "
                "or leave the address out."
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

    def fit(self, jobs: Sequence[FitJob], *, device: str, progress: Progress) -> Iterator[tuple[int, Classifier]]:
        """Yield the place of each job and its classifier as it is done, each trained by one worker.

        A job's feature maps are computed by its one worker, and stay in the cache folder of that machine for later jobs
        on the same images. One stage covers all jobs, and advances by one for each that is done.
        """
        progress.begin(f"training {len(jobs)} classifiers on the cluster", len(jobs))
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
            classes = decided_by(job.split.train)
            classifier = assemble(get_backbone(job.model), job.weights, job.head, classes=classes, generator=untrained)
            classifier.head.load_state_dict(state)
            classifier.card = card
            progress.advance()
            yield place, classifier.to(device)

    def run(
        self, cells: Sequence[Cell], classifier: Classifier, plan: EnginePlan, audience: Audience = ()
    ) -> Iterator[Done]:
        """Yield each cell with its rows as it is done; leaving the loop stops the workers.

        Raises:
            DosimeterError: there is an audience, which is not sent to workers.
        """
        if audience:
            raise DosimeterError("transfer is measured by the local executor only. Leave out --executor ray.")
        if not cells:
            return
        device = classifier.device.type
        crew = self._crew(device)
        portable = classifier if device == "cpu" else copy.deepcopy(classifier).cpu()
        served = Served(classifier.fingerprint, [self._ray.put(portable)], plan.name, device)

        def hand_out(worker: Any, cell: Cell) -> Any:
            return worker.sweep.remote(portable_cell(cell, grid=classifier.grid), served)

        for place, (rows, notes) in crew.share(cells, hand_out, ahead=AHEAD):
            yield Done(cells[place], rows, notes)

    def _crew(self, device: str) -> Crew:
        """Return the workers for `device`; they stay for what comes next."""
        if device not in ("cpu", "cuda"):
            raise DosimeterError(f"the ray executor computes on cpu or cuda, got '{device}'. Use --device cpu.")
        if device not in self._crews:
            self._crews[device] = Crew(self._ray, device, limit=self._workers)
        return self._crews[device]
