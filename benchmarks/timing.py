"""Timing several parties in one run, so that a machine that slows down slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Timed(NamedTuple, Generic[T]):
    """What a call returned, and how long it took."""

    seconds: float
    result: T


class Spread(NamedTuple):
    """A number measured several times."""

    median: float
    least: float
    most: float


def timed(call: Callable[[], T]) -> Timed[T]:
    """Call and take the time."""
    started = time.perf_counter()
    result = call()
    return Timed(time.perf_counter() - started, result)


def interleave(
    parties: Mapping[str, Callable[[int], T]], *, repeats: int, note: Callable[[str], None] = lambda _: None
) -> dict[str, list[Timed[T]]]:
    """Run every party once a repeat, the next repeat beginning one party later: A B C, B C A, C A B.

    Args:
        parties: by name, a function of the number of the repeat, from 0.
        note: told of each call when it is done.
    """
    runs: dict[str, list[Timed[T]]] = {name: [] for name in parties}
    names = list(parties)
    for repeat in range(repeats):
        first = repeat % max(len(names), 1)
        for name in names[first:] + names[:first]:
            run = timed(lambda name=name, repeat=repeat: parties[name](repeat))  # type: ignore[misc]
            runs[name].append(run)
            note(f"repeat {repeat + 1} of {repeats}: {name} {run.seconds:.2f} s")
    return runs


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the range of `values`."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(values: Sequence[float], references: Sequence[float]) -> Spread:
    """Return the ratio of the medians, and the range of the ratios within each repeat."""
    within = [value / reference for value, reference in zip(values, references, strict=True)]
    return Spread(statistics.median(values) / statistics.median(references), min(within), max(within))
