"""A network of torchvision's, with weights from a file."""

import torch
import torchvision
from torch import nn

from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.models.source import Brought, Source
from dosimeter.models.tensors import fill_tensors, seeded
from dosimeter.record.model_card import ModelCard


def load(card: ModelCard) -> Brought:
    """Return the network of `card.architecture`, with an output for each class, and ImageNet's normalisation."""
    known = torchvision.models.list_models(module=torchvision.models)
    if card.architecture not in known:
        raise DosimeterError(
            f"architecture '{card.architecture}' is none of torchvision's. {did_you_mean(card.architecture, known)}"
        )

    def build() -> nn.Module:
        extra = {"aux_logits": False} if card.architecture in ("googlenet", "inception_v3") else {}
        built: nn.Module = torchvision.models.get_model(
            card.architecture, weights=None, num_classes=card.n_outputs, **extra
        )
        return built

    network = seeded(build)
    fill_tensors(network, card)
    return Brought(
        network,
        size_px=299 if card.architecture == "inception_v3" else card.size_px or 224,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        built_by=f"torchvision {torchvision.__version__}, torch {torch.__version__}",
    )


ENTRY = Source(
    "a network of torchvision's (architecture), tensors in .safetensors, .pt or .pth", load, needs_tensors=True
)
