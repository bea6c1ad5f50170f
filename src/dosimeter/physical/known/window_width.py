"""Another window width: contrast about the middle grey, clipped."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random


@dataclass(frozen=True, kw_only=True)
class WindowWidth(Change):
    """The window's width is multiplied: below 1 more contrast, and what leaves the window is clipped; above 1 less."""

    name: str = "window_width"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images of `severity` times the width."""
        return ((images - 0.5) / severity + 0.5).clamp(0, 1)


ENTRY = Entry(
    build=lambda constants: WindowWidth(),
    title="window width",
    note="the window narrower or wider: below 1 more contrast",
    unit="times the width",
    severities=(1.0, 0.9, 0.8, 0.65, 0.5),
    bounds=(0.3, 3.0),
    reason="narrower than a third, or wider than three times, is another window and no slip",
    source="DICOM PS3.3, C.11.2.1.2",
    rank=70,
)
