"""Several changes one after another, as "dose_fraction+motion": step by step, each at its next severity."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dosimeter.errors import DosimeterError
from dosimeter.physical.base import BOTH, Change, Entry, Random
from dosimeter.physical.constants import Constants

JOINS = "+"
"""What stands between the names of changes that are made one after another."""


@dataclass(frozen=True, kw_only=True)
class Composed(Change):
    """Changes one after another. Step k is the k-th severity of each; step 0 changes nothing.

    Args:
        parts: in the order in which they happen.
        grids: the severities of each, (parts, steps + 1).
        made_of: all that determines what the parts do, as text.
    """

    parts: tuple[Change, ...]
    grids: tuple[tuple[float, ...], ...]
    made_of: str

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images at step `severity`."""
        for part, grid in zip(self.parts, self.grids, strict=True):
            images = part.change(images, grid[int(severity)], random).clamp(0, 1)
        return images


def composed(name: str, entries: Sequence[Entry]) -> Entry:
    """Return the entry of changes one after another.

    Args:
        name: the names of all, with `JOINS` between them.
        entries: of each, in that order.

    Raises:
        DosimeterError: no image is of the modalities of all.
    """
    both = tuple(modality for modality in BOTH if all(modality in each.modalities for each in entries))
    if not both:
        raise DosimeterError(f"change '{name}' must be of one modality, and no image is of all its parts. Name others.")
    n_steps = min(len(each.severities) for each in entries)
    grids = tuple(each.severities[:n_steps] for each in entries)

    def build(constants: Constants) -> Composed:
        parts = tuple(each.build(constants) for each in entries)
        return Composed(name=name, parts=parts, grids=grids, made_of=f"{parts} {grids}")

    steps = "; ".join(
        f"{part} {', '.join(f'{severity:g}' for severity in grid[1:])}"
        for part, grid in zip(name.split(JOINS), grids, strict=True)
    )
    return Entry(
        build=build,
        title=" + ".join(each.title for each in entries),
        note=f"one after another, at each step the next severity: {steps}",
        unit="steps",
        severities=tuple(map(float, range(n_steps))),
        bounds=(0.0, float(n_steps - 1)),
        reason="the parts have no more severities of their own",
        source="; ".join(dict.fromkeys(each.source for each in entries)),
        modalities=both,
        constants=tuple(dict.fromkeys(name for each in entries for name in each.constants)),
        whole=True,
        rank=max(each.rank for each in entries) + 500,
    )
