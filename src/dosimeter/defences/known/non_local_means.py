"""Defence: every pixel becomes a mean of pixels whose surroundings look like its own, before the network sees it."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad
from torch.utils.checkpoint import checkpoint

from dosimeter.defences.base import Entry, InputDefence
from dosimeter.defences.settings import Within, described, parse
from dosimeter.errors import DosimeterError


class NonLocalMeans(nn.Module):
    """Means weighted by how alike patches are; torch differentiates it.

    The weight of a pixel is exp(-d / strength^2), d the mean squared difference of the patches around both, over all
    planes. Borders are mirrored.

    Args:
        strength: difference of patches at which a weight has fallen to 1/e, in the image range.
        search, patch: pixels a side of the window that is searched, and of a patch.
    """

    def __init__(self, *, strength: float, search: int, patch: int) -> None:
        super().__init__()
        self.strength, self.search, self.patch = strength, search, patch

    def forward(self, images: Tensor) -> Tensor:
        """Return filtered images (batch, 3, H, W)."""
        reach, around = self.search // 2, self.patch // 2
        height, width = images.shape[2:]
        wide = pad(images, (reach + around,) * 4, mode="reflect")
        total, weights = torch.zeros_like(images), torch.zeros_like(images[:, :1])
        for down in range(self.search):
            row = wide[:, :, down : down + height + 2 * around]
            own = wide[:, :, reach : reach + height + 2 * around, reach : reach + width + 2 * around]
            if torch.is_grad_enabled() and images.requires_grad:  # a row's maps are made again on the way back
                more, heavier = checkpoint(self._row, own, row, use_reentrant=False)
            else:
                more, heavier = self._row(own, row)
            total, weights = total + more, weights + heavier
        return total / weights

    def _row(self, own: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted sum (batch, 3, H, W) of the pixels at one height of the window, and their weights."""
        around = self.patch // 2
        total, weights = torch.zeros(()), torch.zeros(())
        for across in range(self.search):
            other = row[..., across : across + own.shape[3]]
            unlike = (own - other).square().mean(dim=1, keepdim=True)
            weight = torch.exp(-avg_pool2d(unlike, self.patch, stride=1) / self.strength**2)
            inner = other[..., around : other.shape[2] - around, around : other.shape[3] - around]
            total, weights = total + weight * inner, weights + weight
        return total, weights


@dataclass(frozen=True)
class NonLocalMeansFilter(InputDefence):
    """Filters images by non-local means.

    Args:
        strength: how unlike patches may be, in the image range.
        search, patch: pixels a side of window and patch, odd.
    """

    strength: Annotated[float, Within(0, 1, above=True, unit="of the image range")] = 0.03
    search: Annotated[int, Within(3, 21)] = 7
    patch: Annotated[int, Within(1, 9)] = 3

    def __post_init__(self) -> None:
        for key in ("search", "patch"):
            if (value := getattr(self, key)) % 2 == 0:
                raise DosimeterError(
                    f"defence non_local_means: {key} must be odd, got {value}. Write {key}={value - 1}."
                )

    def transform(self) -> nn.Module:
        """Return the module of its settings."""
        return NonLocalMeans(strength=self.strength, search=self.search, patch=self.patch)


ENTRY = Entry(
    build=lambda setting: parse(NonLocalMeansFilter, setting, name="non_local_means"),
    note=f"each pixel a mean of those whose surroundings look alike; {described(NonLocalMeansFilter)}",
    title="non-local means",
    kind="input",
    source="Buades et al. 2005; as a defence Xu et al. 2018 (arXiv 1704.01155)",
    broken_by="He et al. 2017 (arXiv 1706.04701)",
)
