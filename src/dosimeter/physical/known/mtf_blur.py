"""A blunter detector: Gaussian blur by its modulation transfer function."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.filters import blurred


@dataclass(frozen=True, kw_only=True)
class MtfBlur(Change):
    """Each frequency f keeps exp(-2 (pi sigma f)^2) of its contrast: focal spot and detector of that spread."""

    name: str = "mtf_blur"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images blurred with a sigma of `severity` pixels."""
        return blurred(images, severity).clamp(0, 1)


ENTRY = Entry(
    build=lambda constants: MtfBlur(),
    title="detector blur",
    note="Gaussian blur of a sigma in pixels of the image that is asked about",
    unit="px",
    severities=(0.0, 0.5, 1.0, 2.0, 4.0),
    bounds=(0.0, 8.0),
    reason="beyond it nodules themselves are gone, which is no fault of a classifier",
    source="the frequency response of a Gaussian; Samei & Flynn, Med. Phys. 30 (2003) 608 (MTFs measured)",
    rank=80,
)
