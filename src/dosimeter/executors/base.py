"""Where a study is computed: by which executor, on which device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dosimeter.errors import DosimeterError
from dosimeter.executors.local import Executor, LocalExecutor


@contextmanager
def open_executor(name: str, *, workers: int | None, address: str) -> Iterator[Executor]:
    """Give the executor of that name, "local" or "ray", connected while the block runs.

    Args:
        workers: cells computed at once; None: as many as fit.
        address: of the Ray cluster.
    """
    if name == "local":
        yield LocalExecutor(workers)
    else:
        from dosimeter.executors.ray import RayExecutor

        with RayExecutor(address, workers) as executor:
            yield executor


def pick_device(name: str) -> str:
    """Return `name`, or for "auto" a GPU if there is one; raise DosimeterError if it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    torch.backends.cudnn.deterministic = True  # the same seed gives the same tables
    torch.backends.cudnn.allow_tf32 = False  # and an epsilon of 1e-4 is not lost in a 10-bit mantissa
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there[name]:
        raise DosimeterError(f"device '{name}' is not on this machine. Use --device cpu.")
    return name
