"""Networks that were saved for a batch of one size."""

import torch
from torch import Tensor, nn


class OneByOne(nn.Module):
    """A network whose batch is fixed at one image, asked image by image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return outputs (n, n_outputs) for images (n, channels, H, W)."""
        return torch.cat([self.network(image[None]) for image in images])


def any_batch(network: nn.Module, images: Tensor) -> nn.Module:
    """Return a network that takes images (n, channels, H, W) at once: itself, or itself asked image by image.

    What fails either way is returned as it is: who asks next says why.
    """
    for tried in (network, OneByOne(network)):
        try:
            with torch.inference_mode():
                tried(images)
        except Exception:  # a program that somebody brings may raise anything
            continue
        return tried
    return network
