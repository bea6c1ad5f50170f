"""The image mirrored: what a wrong orientation does, and situs inversus looks like."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random


@dataclass(frozen=True, kw_only=True)
class Flip(Change):
    """Left and right exchanged, pixel by pixel."""

    name: str = "flip"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images mirrored."""
        return images.flip(3)


ENTRY = Entry(
    build=lambda constants: Flip(),
    title="mirrored",
    note="left and right exchanged (1) or not (0)",
    unit="mirrored",
    severities=(0.0, 1.0),
    bounds=(0.0, 1.0),
    reason="an image is mirrored or not",
    source="DICOM PS3.3, C.7.6.1.1.1 (patient orientation)",
    whole=True,
    rank=160,
)
