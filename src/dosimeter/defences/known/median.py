"""Defence: every pixel becomes the median of its neighbourhood before the network sees it."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from dosimeter.defences.base import Entry, InputDefence, whole_setting
from dosimeter.errors import DosimeterError


class Median(nn.Module):
    """The median of `size` x `size` pixels around each, the border mirrored; torch differentiates it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Return filtered images (batch, 3, H, W)."""
        reach = self.size // 2
        padded = functional.pad(images, (reach,) * 4, mode="reflect")
        windows = padded.unfold(2, self.size, 1).unfold(3, self.size, 1)  # (batch, 3, H, W, size, size)
        filtered: Tensor = windows.flatten(-2).median(dim=-1).values
        return filtered


@dataclass(frozen=True)
class MedianFilter(InputDefence):
    """Filters images by the median of `size` x `size` pixels."""

    size: int

    def transform(self) -> nn.Module:
        """Return the module of its setting."""
        return Median(self.size)


def build(setting: str) -> MedianFilter:
    """Return it of an odd number of pixels.

    Raises:
        DosimeterError: the number is even, or none.
    """
    size = whole_setting(setting, name="median", default=3, least=3, most=15)
    if size % 2 == 0:
        raise DosimeterError(f"defence median must have an odd number of pixels, got {size}. Write median:{size + 1}.")
    return MedianFilter(size)


ENTRY = Entry(
    build=build,
    note="each pixel the median of 3 x 3, or of the number behind the colon",
    title="median",
    kind="input",
    source="Xu et al. 2018 (arXiv 1704.01155)",
    broken_by="He et al. 2017 (arXiv 1706.04701)",
)
