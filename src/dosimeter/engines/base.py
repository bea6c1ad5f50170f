"""`Engine`: how a classifier's answers are computed. Torch is the reference; others are checked against it."""

from typing import Protocol

import torch
from torch import Tensor, nn

from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier


class EngineUnavailable(DosimeterError):
    """An engine cannot serve this classifier here; another one can."""


class Engine(Protocol):
    """Answers for a classifier. Called from several threads at once, each with its own images."""

    @property
    def name(self) -> str:
        """Name of the engine: "torch", "winograd", "ncnn"."""

    @property
    def network(self) -> nn.Module:
        """What attacks differentiate: images (batch, 3, H, W) on the classifier's device to logits."""

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (batch, n_classes), float32 on the CPU, for `images` (batch, 3, H, W) in [0, 1] on the CPU."""


class TorchEngine:
    """The reference: the classifier itself, in inference mode, on its own device."""

    name = "torch"

    def __init__(self, classifier: Classifier) -> None:
        self.network = classifier
        self._device = classifier.device

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (batch, n_classes), float32 on the CPU."""
        if self._device.type == "cuda":
            images = images.pin_memory()  # so that the copy runs beside the kernels
        with torch.inference_mode():
            logits: Tensor = self.network(images.to(self._device, non_blocking=True))
            return logits.float().cpu()
