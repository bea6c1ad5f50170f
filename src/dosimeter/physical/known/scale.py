"""The patient stood nearer to the tube, or is larger."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.geometry import moved


@dataclass(frozen=True, kw_only=True)
class Scale(Change):
    """Enlarged about the image's middle, bilinear; where it is made smaller its border is drawn out."""

    name: str = "scale"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images `severity` times as large."""
        return moved(images, times=severity)


ENTRY = Entry(
    build=lambda constants: Scale(),
    title="scale",
    note="enlarged about the middle; below 1 made smaller",
    unit="times as large",
    severities=(1.0, 1.05, 1.1, 1.2),
    bounds=(0.8, 1.25),
    reason="enlarged by more a thorax leaves the image, and smaller it has a border as no radiograph has",
    source="Engstrom et al. 2019, arXiv 1712.02779",
    rank=150,
)
