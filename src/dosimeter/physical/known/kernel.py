"""A sharper or softer reconstruction kernel."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.filters import blurred

DETAIL_PX = 1.0
"""Sigma below which structure is detail."""


@dataclass(frozen=True, kw_only=True)
class Kernel(Change):
    """The detail of an image, which a Gaussian of one pixel takes away, is added again; below 0 taken out."""

    name: str = "kernel"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images with their detail added `severity` times."""
        return (images + severity * (images - blurred(images, DETAIL_PX))).clamp(0, 1)


ENTRY = Entry(
    build=lambda constants: Kernel(),
    title="kernel sharpness",
    note="a sharper kernel: the image's detail added again; below 0 softer",
    unit="times the detail",
    severities=(0.0, 0.5, 1.0, 2.0),
    bounds=(-1.0, 3.0),
    reason="no kernel in use is softer or sharper",
    source="Solomon & Samei, Med. Phys. 39 (2012) 6048 (kernels compared by their noise)",
    modalities=("ct",),
    rank=230,
)
