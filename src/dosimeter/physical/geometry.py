"""Where pixels go: rotation, shift and scale about the middle; what comes from outside is the border's own value."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def moved(images: Tensor, *, degrees: float = 0.0, right: float = 0.0, down: float = 0.0, times: float = 1.0) -> Tensor:
    """Return images rotated anticlockwise about their middle, enlarged and then shifted; bilinear.

    Args:
        images: (batch, C, H, W).
        degrees: of the rotation.
        right, down: the shift, as shares of width and height.
        times: the enlargement.
    """
    height, width = images.shape[2:]
    angle = math.radians(degrees)
    cos, sin = math.cos(angle) / times, math.sin(angle) / times
    aspect = height / width  # grid_sample's axes both go from -1 to 1
    x, y = -2 * right, -2 * down
    matrix = torch.tensor(
        [
            [cos, -sin * aspect, cos * x - sin * aspect * y],
            [sin / aspect, cos, sin / aspect * x + cos * y],
        ],
        dtype=images.dtype,
        device=images.device,
    )
    grid = functional.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
