"""Streaks of two pieces of metal."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.constants import Constants
from dosimeter.physical.projection import back_project, project

RADIUS = 0.03
"""Of a piece of metal, as a share of the image's side."""

_HIGHEST = 0.98  # the share of pixels outside metal whose streaks are below the severity


@dataclass(frozen=True, kw_only=True)
class Streaks(Change):
    """Two discs of metal and the streaks that beam hardening draws between and beyond them.

    A ray through metal of integral m lacks what grows as m^2; that is reconstructed alone (parallel beam) and added, so
    strong that the streaks reach the severity. Where the discs lie is drawn anew for each image, within its middle.

    Args:
        field_mm, width_hu: see `Constants`.
    """

    name: str = "streaks"
    field_mm: float
    width_hu: float

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images with streaks of `severity` HU."""
        height, width = images.shape[2:]
        side = max(height, width)
        metal = _discs(random.place(2, 2), side)  # (batch, 1, side, side)
        pixel_mm = self.field_mm / side
        lacking = -back_project(project(metal, pixel_mm=pixel_mm).square(), pixel_mm=pixel_mm)
        size = torch.quantile((lacking * (1 - metal)).abs().flatten(1), _HIGHEST, dim=1).view(-1, 1, 1, 1)
        made = (lacking / size * severity / self.width_hu)[..., :height, :width]
        shown = functional.relu(metal[..., :height, :width])
        return torch.where(shown > 0, torch.ones_like(images), images + made).clamp(0, 1)


def _discs(places: Tensor, side: int) -> Tensor:
    """Return discs, 1 on 0, at `places` (batch, 2, 2) of which 0 and 1 are a quarter and three quarters of the side."""
    steps = (torch.arange(side, device=places.device) + 0.5) / side
    centres = (0.25 + places / 2).view(*places.shape, 1, 1)
    distance = ((steps[:, None] - centres[:, :, 0]) ** 2 + (steps[None] - centres[:, :, 1]) ** 2).sqrt()
    return (distance <= RADIUS).any(dim=1, keepdim=True).to(places.dtype)


def build(constants: Constants) -> Streaks:
    """Return it of an apparatus."""
    return Streaks(field_mm=constants.field_mm, width_hu=constants.window_width_hu)


ENTRY = Entry(
    build=build,
    title="metal streaks",
    note="two pieces of metal and the streaks of beam hardening between them, their height in HU",
    unit="HU",
    severities=(0.0, 50.0, 100.0, 200.0, 400.0),
    bounds=(0.0, 600.0),
    reason="stronger streaks leave nothing to be classified",
    source="De Man et al., IEEE Trans. Nucl. Sci. 46 (1999) 691",
    modalities=("ct",),
    constants=("field_mm", "window_width_hu"),
    rank=240,
)
