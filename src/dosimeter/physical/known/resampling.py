"""An image that was made smaller on its way, and larger again."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from dosimeter.physical.base import Change, Entry, Random


@dataclass(frozen=True, kw_only=True)
class Resampling(Change):
    """Made smaller by area-weighted, and larger again by plain bilinear interpolation."""

    name: str = "resampling"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images that were `severity` times smaller a side in between."""
        height, width = images.shape[2:]
        small = (max(round(height / severity), 1), max(round(width / severity), 1))
        between = functional.interpolate(images, small, mode="bilinear", align_corners=False, antialias=True)
        return functional.interpolate(between, (height, width), mode="bilinear", align_corners=False).clamp(0, 1)


ENTRY = Entry(
    build=lambda constants: Resampling(),
    title="resampling",
    note="made smaller so many times a side, and larger again",
    unit="times smaller",
    severities=(1.0, 1.5, 2.0, 3.0, 4.0),
    bounds=(1.0, 8.0),
    reason="of an image eight times smaller nothing can be read",
    source="MedMNIST-C's pixelate: Di Salvo et al. 2024, arXiv 2406.17536",
    rank=170,
)
