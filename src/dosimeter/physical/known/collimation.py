"""A border that the collimator, or the display's shutter, leaves black."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random


@dataclass(frozen=True, kw_only=True)
class Collimation(Change):
    """A black border on all four sides, as wide as a share of each side, in whole pixels."""

    name: str = "collimation"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images with `severity` % of each side black at either end."""
        height, width = images.shape[2:]
        rows, columns = round(severity / 100 * height), round(severity / 100 * width)
        made = torch.zeros_like(images)
        seen = (..., slice(rows, height - rows), slice(columns, width - columns))
        made[seen] = images[seen]
        return made


ENTRY = Entry(
    build=lambda constants: Collimation(),
    title="collimation",
    note="a black border, its width as a share of each side",
    unit="% of each side",
    severities=(0.0, 2.0, 5.0, 10.0, 15.0),
    bounds=(0.0, 20.0),
    reason="a wider border cuts off lung fields, and what it hides is no fault of a classifier",
    source="DICOM PS3.3, C.7.6.11 (display shutter)",
    modalities=("xray",),
    rank=110,
)
