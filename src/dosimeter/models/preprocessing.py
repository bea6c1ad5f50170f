"""How pixels in [0, 1] become what a set of pretrained weights was trained on.

The classifier applies this inside itself, so a perturbation is always measured on the image, in [0, 1], and
never on normalised values.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dosimeter.errors import DosimeterError, did_you_mean


@dataclass(frozen=True)
class Preprocessing:
    """An affine map per channel: scale, reorder the channels, subtract the mean, divide by the deviation.

    Attributes:
        name: its key in `PREPROCESSINGS`.
        scale: white after scaling, 1 or 255.
        mean, std: per channel, in scaled units and in the network's channel order.
        channel_order: the order the network expects; images are always RGB.

    Example:
        >>> PREPROCESSINGS["minus1to1"].apply(torch.ones(1, 3, 1, 1)).flatten().tolist()
        [1.0, 1.0, 1.0]
    """

    name: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["rgb", "bgr"] = "rgb"

    def apply(self, images: Tensor) -> Tensor:
        """Return the network's input for RGB `images`, shape (B, 3, H, W) in [0, 1]; differentiable."""
        assert images.ndim == 4, images.shape
        assert images.shape[1] == 3, images.shape
        mean = torch.tensor(self.mean, dtype=images.dtype, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, dtype=images.dtype, device=images.device).view(3, 1, 1)
        scaled = images * self.scale
        ordered = scaled.flip(1) if self.channel_order == "bgr" else scaled
        return (ordered - mean) / std


PREPROCESSINGS = {
    chosen.name: chosen
    for chosen in (
        # ImageNet's statistics, as torchvision trains
        Preprocessing("torchvision", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        # the original VGG release: 8-bit BGR, mean subtracted, no division
        Preprocessing("caffe", 255.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "bgr"),
        # Inception-v3, from TensorFlow, expects [-1, 1]. torchvision's weights do too: its `transform_input`
        # undoes the ImageNet normalisation, ((x - m) / s) * (s / 0.5) + (m - 0.5) / 0.5 = 2 x - 1.
        Preprocessing("minus1to1", 1.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        # plain pixels, as a study without normalisation feeds them
        Preprocessing("unit", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    )
}
"""The preprocessings that exist, by name."""


def get_preprocessing(name: str) -> Preprocessing:
    """Return the preprocessing called `name`.

    Raises:
        DosimeterError: there is none of that name.
    """
    try:
        return PREPROCESSINGS[name]
    except KeyError:
        raise DosimeterError(
            f"preprocessing must be one that exists, got '{name}'. {did_you_mean(name, PREPROCESSINGS)}"
        ) from None
