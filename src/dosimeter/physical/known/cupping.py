"""Cupping: the middle of a body too dark, as beam hardening leaves it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.constants import Constants


@dataclass(frozen=True, kw_only=True)
class Cupping(Change):
    """The middle is too low by the severity, and less so towards the border, as 1 - (r / R)^2; R is half the side.

    Args:
        width_hu: see `Constants.window_width_hu`.
    """

    name: str = "cupping"
    width_hu: float

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images whose middle is `severity` HU too low."""
        height, width = images.shape[2:]
        down, right = (torch.linspace(-1, 1, n, device=images.device) for n in (height, width))
        cup = (1 - down[:, None] ** 2 - right[None] ** 2).clamp(min=0)
        return (images - severity / self.width_hu * cup).clamp(0, 1)


def build(constants: Constants) -> Cupping:
    """Return it of an apparatus."""
    return Cupping(width_hu=constants.window_width_hu)


ENTRY = Entry(
    build=build,
    title="cupping",
    note="the middle of the body too dark by so many HU",
    unit="HU",
    severities=(0.0, 25.0, 50.0, 100.0, 150.0),
    bounds=(0.0, 300.0),
    reason="a scanner that is calibrated at all cups less",
    source="Brooks & Di Chiro, Phys. Med. Biol. 21 (1976) 390",
    modalities=("ct",),
    constants=("window_width_hu",),
    rank=250,
)
