"""The worst of a grid of placements: askew and off the middle, at the bounds and between them."""

import itertools
from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.geometry import moved
from dosimeter.physical.known.placement import DEGREES, SHIFT

GRID = sorted(itertools.product((-1, 0, 1), repeat=3), key=lambda place: sum(map(abs, place)))
"""Turn, right and down, in parts of their bounds, the middle first."""


@dataclass(frozen=True, kw_only=True)
class PlacementGrid(Change):
    """The k-th of 26 placements: 5 degrees to either side or none, 3 % of each side to either side or none.

    The share of right answers that any of them takes away is the worst of the grid.
    """

    name: str = "placement_grid"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images at placement number `severity`."""
        turn, right, down = GRID[int(severity)]
        return moved(images, degrees=DEGREES * turn, right=SHIFT * right, down=SHIFT * down)


ENTRY = Entry(
    build=lambda constants: PlacementGrid(),
    title="placement, worst of a grid",
    note="26 placements of a grid within 5 degrees and 3 % of each side",
    unit="th placement",
    severities=tuple(map(float, range(len(GRID)))),
    bounds=(0.0, float(len(GRID) - 1)),
    reason="the grid ends there",
    source="Engstrom et al. 2019, arXiv 1712.02779 (worst of a grid)",
    whole=True,
    ordered=False,
    rank=156,
)
