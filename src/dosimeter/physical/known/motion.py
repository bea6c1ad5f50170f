"""The patient moved: a line of positions along the body."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.filters import filtered, line_response


@dataclass(frozen=True, kw_only=True)
class Motion(Change):
    """Even motion along the image's height while it was exposed, as of breathing: frequency v keeps sinc(length v)."""

    name: str = "motion"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images that moved by `severity` pixels."""
        moving = filtered(images, lambda size: line_response(size, severity, device=images.device))
        return moving.clamp(0, 1)


ENTRY = Entry(
    build=lambda constants: Motion(),
    title="motion",
    note="even motion along the body, its length in pixels of the image that is asked about",
    unit="px",
    severities=(0.0, 2.0, 4.0, 8.0, 16.0),
    bounds=(0.0, 24.0),
    reason="an image that moved farther would be taken again",
    source="the frequency response of a box, sinc(L v)",
    rank=90,
)
