"""Lines of an anti-scatter grid that the software left in the image."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.constants import Constants
from dosimeter.units import GREY_LEVELS_8BIT


@dataclass(frozen=True, kw_only=True)
class GridLines(Change):
    """A sinusoid across the image's width.

    Args:
        period_px: see `Constants.grid_period_px`.
    """

    name: str = "grid_lines"
    period_px: float

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images with lines of an amplitude of `severity` grey levels of 255."""
        across = torch.arange(images.shape[3], device=images.device)
        lines = severity / GREY_LEVELS_8BIT * torch.sin(2 * math.pi * across / self.period_px)
        return (images + lines).clamp(0, 1)


def build(constants: Constants) -> GridLines:
    """Return it of an apparatus."""
    return GridLines(period_px=constants.grid_period_px)


ENTRY = Entry(
    build=build,
    title="grid lines",
    note="lines of a grid across the image, their amplitude in grey levels of 255",
    unit="grey levels",
    severities=(0.0, 2.0, 5.0, 10.0, 20.0),
    bounds=(0.0, 40.0),
    reason="stronger lines would be noticed before an image is sent",
    source="Lin et al., J. Digit. Imaging 19 (2006) 351",
    modalities=("xray",),
    constants=("grid_period_px",),
    rank=100,
)
