"""Work on all cores: one item a core, each computing on its own, results in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from threading import Event
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Items handed out for each worker: it never waits for the next one, and memory stays flat."""

GPU_WORKERS = 4
"""Some prepare and measure images while others' are on the GPU: on an H200 PGD takes two thirds of 2 workers' time."""


def default_workers(device: torch.device) -> int:
    """Return how many workers keep the machine busy: one for each of torch's threads (OMP_NUM_THREADS limits them)."""
    return {"cpu": torch.get_num_threads(), "cuda": GPU_WORKERS}.get(device.type, 1)


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Let torch compute with `n_threads` threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, stop: Event | None = None
) -> Generator[Result]:
    """Yield `function(item)` for each item, in order, `workers` at a time.

    Each worker computes with one thread, however many there are, so that results depend on neither the machine's cores
    nor the number of workers. Convolutions, decoding and digests all leave Python's lock, and a core that computes
    alone never waits for another: two items at once are faster than two cores on one. Leaving the loop drops what was
    not begun, sets `stop` and waits for the rest.
    """
    n_threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "dosimeter", initializer=torch.set_num_threads, initargs=(1,))
    waiting = iter(items)
    running: deque[Future[Result]] = deque()
    try:
        while True:
            running.extend(pool.submit(function, item) for item in islice(waiting, AHEAD * workers - len(running)))
            if not running:
                return
            yield running.popleft().result()
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)  # the matrix library counts its threads for the whole process
