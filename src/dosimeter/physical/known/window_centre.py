"""Another window centre: all grey levels shifted and clipped."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random


@dataclass(frozen=True, kw_only=True)
class WindowCentre(Change):
    """The window's centre is moved by a share of its width: up and the image is darker. What leaves it is clipped."""

    name: str = "window_centre"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images whose centre is `severity` % of the width higher."""
        return (images - severity / 100).clamp(0, 1)


ENTRY = Entry(
    build=lambda constants: WindowCentre(),
    title="window centre",
    note="the window moved by a share of its width: up is darker",
    unit="% of the width",
    severities=(0.0, 2.0, 5.0, 10.0, 20.0),
    bounds=(-30.0, 30.0),
    reason="beyond a third of its width a window shows another tissue",
    source="DICOM PS3.3, C.11.2.1.2",
    rank=60,
)
