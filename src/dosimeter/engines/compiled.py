"""`torch.compile` as an engine, for those who have a compiler and a long sweep."""

import torch
from torch import Tensor

from dosimeter.engines.base import EngineUnavailable
from dosimeter.models.base import Classifier


class CompiledEngine:
    """The classifier compiled by torch for its own device; gradients are taken through the original."""

    name = "compile"

    def __init__(self, classifier: Classifier) -> None:
        self.network = classifier
        self._device = classifier.device
        self._forward = torch.compile(classifier.forward)
        try:
            self.logits(torch.zeros(1, 3, *classifier.grid.shape))
        except Exception as error:  # a missing compiler, or code it cannot follow, raises anything
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise EngineUnavailable(
                f"The compile engine cannot compile this classifier here ({reason}). Use --engine torch."
            ) from error

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (batch, n_classes), float32 on the CPU."""
        with torch.inference_mode():
            logits: Tensor = self._forward(images.to(self._device, non_blocking=True))
            return logits.float().cpu()
