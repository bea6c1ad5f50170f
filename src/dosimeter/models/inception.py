"""Inception-v3's blocks as Keras computes them.

Three of its kinds of block average over 3 x 3 pixels. At the map's border torchvision's count the padded zeros, Keras's
do not, so a base whose weights were trained in one is another network in the other: a map of 5 x 5 is off by a third.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torchvision.models import inception


def average(maps: Tensor) -> Tensor:
    """Return the mean of each pixel's neighbours (batch, C, H, W), 9 of them, fewer at the border.

    Source: keras.layers.AveragePooling2D with padding "same".

    Example:
        >>> average(torch.ones(1, 1, 5, 5)).unique().tolist()
        [1.0]
    """
    return avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)


class _BlockA(inception.InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(average(x)),
        ]


class _BlockC(inception.InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(twice)),
            self.branch_pool(average(x)),
        ]


class _BlockE(inception.InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        once, twice = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return [
            self.branch1x1(x),
            torch.cat([self.branch3x3_2a(once), self.branch3x3_2b(once)], dim=1),
            torch.cat([self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)], dim=1),
            self.branch_pool(average(x)),
        ]


KERAS_BLOCKS: list[type[nn.Module]] = [
    inception.BasicConv2d,
    _BlockA,
    inception.InceptionB,
    _BlockC,
    inception.InceptionD,
    _BlockE,
    inception.InceptionAux,
]
"""What `torchvision.models.inception_v3(inception_blocks=...)` builds the network from."""
