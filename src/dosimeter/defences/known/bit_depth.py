"""Defence: grey levels are reduced to so many bits before the network sees them."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from dosimeter.defences.base import Entry, Gradient, InputDefence, whole_setting
from dosimeter.models.transforms import Transform


class Rounded(Transform):
    """Images on the grey levels of so many bits; the gradient passes straight through."""

    exact = False

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def value(self, images: Tensor) -> Tensor:
        """Return `images` rounded to `bits`."""
        levels = 2**self.bits - 1
        rounded: Tensor = (images * levels).round() / levels
        return rounded


@dataclass(frozen=True)
class BitDepth(InputDefence):
    """Reduces grey levels to `bits`."""

    bits: int
    gradient: ClassVar[Gradient] = "approximate"

    def transform(self) -> nn.Module:
        """Return the module of its setting."""
        return Rounded(self.bits)


ENTRY = Entry(
    build=lambda setting: BitDepth(whole_setting(setting, name="bit_depth", default=5, least=1, most=16)),
    note="grey levels reduced to 5 bits, or to those behind the colon",
    title="bit depth",
    kind="input",
    source="Xu et al. 2018 (arXiv 1704.01155)",
    broken_by="Sharma and Chen 2018 (arXiv 1803.09868)",
)
