"""Images in fewer pixels, before a network looks at them."""

import torch
from torch import Tensor, nn

from dosimeter.cohorts.grids import Grid, grid_weights


class Resized(nn.Module):
    """Images in another size, by the bilinear weights with which the loader resizes files; nothing is rounded.

    The weights are no less than 0 and add up to 1 in each row, so that no pixel of the result moves farther than
    epsilon if none of the image does. Attacks differentiate it.

    Args:
        given: height and width of the images.
        wanted: of what becomes of them.
    """

    def __init__(self, given: tuple[int, int], wanted: tuple[int, int]) -> None:
        super().__init__()
        down, across = (torch.tensor(grid_weights(n, size_px=to)) for n, to in zip(given, wanted, strict=True))
        self.register_buffer("down", down)  # (height, given height)
        self.register_buffer("across", across)

    def forward(self, images: Tensor) -> Tensor:
        """Return images (batch, 3, *wanted) of images (batch, 3, *given)."""
        return self.down.to(images) @ images @ self.across.to(images).T  # type: ignore[operator]


def smaller(grid: Grid, size_px: int) -> tuple[int, int]:
    """Return height and width of a grid whose shorter side is made `size_px`."""
    short = min(grid.shape)
    height, width = (max(1, round(side * size_px / short)) for side in grid.shape)
    return height, width
