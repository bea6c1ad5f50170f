"""How many images one forward pass takes."""

import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from dosimeter.models.base import Classifier

LAYER_BYTES = {"cpu": 64 << 20, "cuda": 2 << 30, "mps": 512 << 20}
"""Input and output of the largest layer that one batch may take: on a CPU larger ones fall out of the caches."""

MAX_BATCH = 64


def find_batch_size(classifier: Classifier) -> int:
    """Return how many images to ask at once: as many as keep the largest layer's maps within `LAYER_BYTES`.

    Layers of a scripted or traced graph cannot be watched: the largest is then taken for VGG16's, 64 maps in and out.
    """
    graphs = any(isinstance(layer, torch.jit.ScriptModule | fx.GraphModule) for layer in classifier.modules())
    largest = 2 * 64 * 4 * math.prod(classifier.grid.shape) if graphs else 1

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        tensors = [tensor for tensor in (*inputs, output) if isinstance(tensor, Tensor)]
        largest = max(largest, sum(tensor.nbytes for tensor in tensors))

    leaves = [layer for layer in classifier.modules() if not any(layer.children())]
    leaves = [layer for layer in leaves if not isinstance(layer, torch.jit.ScriptModule)]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    try:
        with torch.inference_mode():
            classifier(torch.zeros(1, 3, *classifier.grid.shape, device=classifier.device))
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, min(MAX_BATCH, LAYER_BYTES[classifier.device.type] // largest))
