"""The worst of a few placements: askew and off the middle, by chance and within bounds."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.geometry import moved

DEGREES, SHIFT = 5.0, 0.03
"""How far at most: to either side, and as a share of width and height."""

DRAWS = 10


@dataclass(frozen=True, kw_only=True)
class Placement(Change):
    """The k-th random placement: rotated within 5 degrees and shifted within 3 % of each side, evenly drawn.

    The share of right answers that any of the first k takes away is the worst of k.
    """

    name: str = "placement"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images at placement number `severity`, each at its own."""
        drawn = (2 * random.uniform(3) - 1).tolist()
        placed = [
            moved(image[None], degrees=DEGREES * turn, right=SHIFT * right, down=SHIFT * down)
            for image, (turn, right, down) in zip(images, drawn, strict=True)
        ]
        return torch.cat(placed)


ENTRY = Entry(
    build=lambda constants: Placement(),
    title="placement, worst of 10",
    note="ten random placements within 5 degrees and 3 % of each side",
    unit="th placement",
    severities=tuple(map(float, range(DRAWS + 1))),
    bounds=(0.0, 100.0),
    reason="more draws than that are a search, which is an attack's",
    source="Engstrom et al. 2019, arXiv 1712.02779 (worst of 10)",
    whole=True,
    ordered=False,
    rank=155,
)
