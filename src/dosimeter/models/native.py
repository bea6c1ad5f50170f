"""Attacks on images of their own size: the classifier behind the loader's own resize.

The network that an attack differentiates here gives exactly what the loader and the classifier give. Only its gradient
is ours: that of the loader's filter, as if what it rounds were not rounded (straight-through).
"""

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.cohorts.base import Case, Decoded
from dosimeter.cohorts.grids import Grid
from dosimeter.errors import DosimeterError
from dosimeter.models.transforms import Transform

MAX_NATIVE_PIXELS = 16_000_000
"""Width x height above which an image is not attacked at its own size: an attack holds many copies of it."""


class ImageTooLarge(DosimeterError):
    """An image has more pixels than may be attacked."""


def native_image(case: Case) -> Tensor:
    """Return a case's image as it was decoded, (3, H, W) in [0, 1].

    Raises:
        ImageTooLarge: it has more than `MAX_NATIVE_PIXELS`.
    """
    height, width = case.image.shape[1:]
    if height * width > MAX_NATIVE_PIXELS:
        raise ImageTooLarge(
            f"a native attack takes images of at most {MAX_NATIVE_PIXELS} pixels, got {width} x {height}. Resize them "
            "first, or run without --native."
        )
    return torch.from_numpy(case.image).expand(3, -1, -1).contiguous()


def shrink(images: Tensor, *, grid: Grid, bits: int) -> Tensor:
    """Return `images` (batch, 3, H, W) on the classifier's grid (batch, 3, *grid.shape), as the loader gives them.

    Args:
        bits: depth to which the loader rounds what it resized. What has the size already is left as it is.
    """
    if grid.leaves(*images.shape[2:]):
        return images
    pixels = images.detach().cpu().numpy()
    resized = np.stack([grid.put(Decoded(image, bits)) for image in pixels])
    return torch.from_numpy(resized).to(images.device)


class Shrinking(nn.Module):
    """A network behind `shrink`: images (batch, 3, H, W) in [0, 1] to logits; differentiable once.

    Args:
        network: takes images on `grid`.
        bits: see `shrink`.
    """

    def __init__(self, network: nn.Module, *, grid: Grid, bits: int) -> None:
        super().__init__()
        self.network = network
        self.shrink = Shrink(grid=grid, bits=bits)

    @property
    def rejects(self) -> bool:
        """Whether the network has an alarm behind its logits (see `models.rings`)."""
        return getattr(self.network, "rejects", False)

    @property
    def random(self) -> bool:
        """Whether the network draws at random (see `models.rings`)."""
        return getattr(self.network, "random", False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's outputs for the images on its grid."""
        on_grid = images if self.shrink.grid.leaves(*images.shape[2:]) else self.shrink(images)
        return self.network(on_grid)  # type: ignore[no-any-return]


class Shrink(Transform):
    """`shrink` with the gradient of the filter."""

    def __init__(self, *, grid: Grid, bits: int) -> None:
        super().__init__()
        self.grid = grid
        self.bits = bits

    def value(self, images: Tensor) -> Tensor:
        """Return `images` on the grid."""
        return shrink(images, grid=self.grid, bits=self.bits)

    def pull_back(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient of the filter, as if what it rounds were not rounded."""
        down, across = (gradient.new_tensor(weights) for weights in self.grid.weights(*images.shape[2:]))
        return down.T @ gradient @ across  # (batch, 3, H, W)
