"""The patient, or the detector, stood askew."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.geometry import moved


@dataclass(frozen=True, kw_only=True)
class Rotation(Change):
    """Anticlockwise about the image's middle, bilinear; what comes from outside is the border's own value."""

    name: str = "rotation"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images rotated by `severity` degrees."""
        return moved(images, degrees=severity)


ENTRY = Entry(
    build=lambda constants: Rotation(),
    title="rotation",
    note="anticlockwise about the middle; negative is clockwise",
    unit="degrees",
    severities=(0.0, 1.0, 2.0, 5.0, 10.0),
    bounds=(-15.0, 15.0),
    reason="a patient who stood more askew would be set right",
    source="Engstrom et al. 2019, arXiv 1712.02779",
    rank=130,
)
