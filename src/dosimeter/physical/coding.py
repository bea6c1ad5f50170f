"""Images that were 8-bit files on their way: encoded, and decoded by Pillow."""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dosimeter.cohorts.base import FloatImage
from dosimeter.units import GREY_LEVELS_8BIT


def through_file(images: Tensor, encode: Callable[[FloatImage], bytes]) -> Tensor:
    """Return what is read of the file that each image was written to, in the shape of `images` (batch, C, H, W).

    Args:
        images: C 1 or 3.
        encode: an image (3, H, W) in [0, 1] to a file's bytes.
    """
    rows = []
    for image in images.detach().cpu():
        content = encode(image.expand(3, -1, -1).contiguous().numpy())
        with Image.open(io.BytesIO(content)) as picture:
            read = np.asarray(picture, np.float32) / GREY_LEVELS_8BIT
        planes = torch.from_numpy(read[None] if read.ndim == 2 else read.transpose(2, 0, 1).copy())
        rows.append(planes.expand_as(image))
    return torch.stack(rows).to(images)
