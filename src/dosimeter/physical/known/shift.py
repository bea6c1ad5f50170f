"""The patient stood off the middle."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.geometry import moved


@dataclass(frozen=True, kw_only=True)
class Shift(Change):
    """To the right, bilinear between pixels; what comes from outside is the border's own value."""

    name: str = "shift"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images shifted by `severity` % of their width."""
        return moved(images, right=severity / 100)


ENTRY = Entry(
    build=lambda constants: Shift(),
    title="shift",
    note="to the right by a share of the width; negative is to the left",
    unit="% of the width",
    severities=(0.0, 1.0, 3.0, 5.0, 10.0),
    bounds=(-15.0, 15.0),
    reason="farther off the middle a lung leaves the image",
    source="Engstrom et al. 2019, arXiv 1712.02779",
    rank=140,
)
