"""A network that costs next to nothing, so that a study's time and memory are those of everything around it."""

from collections import OrderedDict

import torch
from torch import nn

from dosimeter import registry
from dosimeter.cohorts import phantom
from dosimeter.models import backbones
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.weights import Weights, digest

SIZE_PX = 64


def install_small_network() -> None:
    """Put a network of two convolutions in VGG16's place, and draw phantoms of its size."""

    def build() -> nn.Module:
        layers = OrderedDict(first=nn.Conv2d(3, 8, 5, stride=4), relu=nn.ReLU(), second=nn.Conv2d(8, 16, 3, stride=2))
        return nn.Sequential(layers)

    def weights(network: str, **_: object) -> Weights:
        generator = torch.Generator().manual_seed(0)
        shapes = {
            "first.weight": (8, 3, 5, 5),
            "first.bias": (8,),
            "second.weight": (16, 8, 3, 3),
            "second.bias": (16,),
        }
        state = {name: torch.randn(shape, generator=generator) / 8 for name, shape in shapes.items()}
        preprocessing = PREPROCESSINGS["minus1to1"]
        return Weights(network, "small", "made here", "none", digest(state), state, preprocessing, True, "random")

    phantom.SIZE_PX = SIZE_PX
    head = backbones.HeadSpec(pool="none", hidden=8, dropout=0.0)
    backbone = backbones.Backbone("vgg16", SIZE_PX, (16, 7, 7), build, head, "small", load=weights)
    registry.add("backbones", "vgg16", backbone)
