"""Where cells are executed. `LocalExecutor` uses this machine's cores; `ray.RayExecutor` those of a cluster."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from itertools import islice
from threading import Event
from typing import NamedTuple, Protocol

import torch

from dosimeter.cohorts.split import Split
from dosimeter.engines.choose import EnginePlan, build_engine
from dosimeter.models.backbones import HeadSpec
from dosimeter.models.base import Classifier
from dosimeter.models.fit import fit
from dosimeter.models.training import FitOptions
from dosimeter.models.weights import Weights
from dosimeter.sweeps.execute import Row, execute_cell
from dosimeter.sweeps.plan import Cell

AHEAD = 2
"""Cells handed out for each worker: it never waits for the next one, and memory stays flat."""

GPU_WORKERS = 2
"""One prepares images while the other's are on the GPU."""


Advance = Callable[[int], None]


class Done(NamedTuple):
    """A cell and its rows."""

    cell: Cell
    rows: list[Row]


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

    def fit(self, jobs: Sequence[FitJob], *, device: str, advance: Advance) -> Iterator[tuple[int, Classifier]]:
        """Yield the place of each job and its classifier as it is done, calling `advance(1)` for each image seen."""

    def run(self, cells: Sequence[Cell], classifier: Classifier, plan: EnginePlan) -> Iterator[Done]:
        """Yield each cell with its rows as it is done."""


class LocalExecutor:
    """Executes cells in threads, one for each core, each thread computing on its own.

    Convolutions, image decoding and digests all leave Python's lock, and a core that computes alone never waits for
    another: two cells at once are faster than two cores on one convolution.

    Args:
        workers: cells at once; by default one for each of torch's threads (OMP_NUM_THREADS limits them).
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def fit(self, jobs: Sequence[FitJob], *, device: str, advance: Advance) -> Iterator[tuple[int, Classifier]]:
        """Yield the place of each job and its classifier, one after the other: each uses all cores."""
        for place, job in enumerate(jobs):
            yield place, fit(**{name: getattr(job, name) for name in JOB}, device=device, advance=advance)

    def run(self, cells: Sequence[Cell], classifier: Classifier, plan: EnginePlan) -> Iterator[Done]:
        """Yield each cell with its rows as it is done; leaving the loop stops the others soon."""
        if not cells:
            return
        n_cores = torch.get_num_threads()
        workers = min(self._workers or (n_cores if classifier.device.type == "cpu" else GPU_WORKERS), len(cells))
        threads = max(1, n_cores // workers)
        engine = plan.engine or build_engine(plan.name, classifier, threads=threads)
        stop = Event()
        waiting = iter(cells)
        pool = ThreadPoolExecutor(workers, "sweep", initializer=torch.set_num_threads, initargs=(threads,))
        try:
            running: dict[Future[list[Row]], Cell] = {}
            while True:
                for cell in islice(waiting, AHEAD * workers - len(running)):
                    running[pool.submit(execute_cell, cell, classifier, engine, stop=stop)] = cell
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield Done(running.pop(future), future.result())
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(n_cores)  # the matrix library counts its threads for the whole process
