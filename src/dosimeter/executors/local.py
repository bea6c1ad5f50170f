"""Where cells are executed. `LocalExecutor` uses this machine's cores; `cluster.RayExecutor` those of a cluster."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from threading import Event
from typing import NamedTuple, Protocol

import torch

from dosimeter.cohorts.split import Split
from dosimeter.engines.choose import EnginePlan, build_engine
from dosimeter.errors import DosimeterError
from dosimeter.models.backbones import HeadSpec
from dosimeter.models.base import Classifier
from dosimeter.models.fit import fit
from dosimeter.models.training import FitOptions
from dosimeter.models.weights import Weights
from dosimeter.parallel import default_workers, in_threads
from dosimeter.progress import Progress
from dosimeter.sweeps.execute import Listener, Row, execute_cell
from dosimeter.sweeps.plan import Cell

Audience = Sequence[tuple[Classifier, EnginePlan]]
"""Classifiers that are asked about the images made on another, and how they answer."""


class Done(NamedTuple):
    """A cell, its rows, and what there is to say of how they were computed."""

    cell: Cell
    rows: list[Row]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class FitJob:
    """The arguments of `models.fit.fit` for one classifier."""

    model: str
    split: Split
    seed: int
    weights: Weights
    head: HeadSpec
    options: FitOptions


JOB = tuple(field.name for field in fields(FitJob))


class Executor(Protocol):
    """Trains and sweeps anywhere, in any order; heads and rows are the same wherever they are made."""

    def fit(self, jobs: Sequence[FitJob], *, device: str, progress: Progress) -> Iterator[tuple[int, Classifier]]:
        """Yield the place of each job and its classifier as it is done, telling `progress` of the stages."""

    def run(
        self, cells: Sequence[Cell], classifier: Classifier, plan: EnginePlan, audience: Audience = ()
    ) -> Iterator[Done]:
        """Yield each cell with its rows as it is done, those of the `audience` among them."""


class LocalExecutor:
    """Executes cells in threads, a cell for each core (see `parallel.in_threads`).

    Args:
        workers: cells at once; by default as many as keep the machine busy. Training uses all cores anyway.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def fit(self, jobs: Sequence[FitJob], *, device: str, progress: Progress) -> Iterator[tuple[int, Classifier]]:
        """Yield the place of each job and its classifier, one after the other: each uses all cores."""
        for place, job in enumerate(jobs):
            yield place, fit(**{name: getattr(job, name) for name in JOB}, device=device, progress=progress)

    def run(
        self, cells: Sequence[Cell], classifier: Classifier, plan: EnginePlan, audience: Audience = ()
    ) -> Iterator[Done]:
        """Yield each cell with its rows as it is done; leaving the loop stops the others soon."""
        if not cells:
            return
        workers = min(self._workers or default_workers(classifier.device), len(cells))
        engine = plan.engine or build_engine(plan.name, classifier, threads=1)
        listeners = [
            Listener(other, theirs.engine or build_engine(theirs.name, other, threads=1), theirs.tolerance)
            for other, theirs in audience
        ]
        stop = Event()

        def execute(cell: Cell) -> Done:
            notes: list[str] = []
            try:
                rows = execute_cell(cell, classifier, engine, audience=listeners, stop=stop, note=notes.append)
            except torch.OutOfMemoryError as error:
                remedy = f"--workers {workers // 2}" if workers > 1 else "--device cpu"
                raise DosimeterError(
                    f"the GPU's memory must hold {workers} cells at once, but is full. Use {remedy}; what is done "
                    "is kept."
                ) from error
            return Done(cell, rows, notes)

        yield from in_threads(execute, cells, workers=workers, stop=stop)
