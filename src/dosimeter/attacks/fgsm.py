"""The fast gradient sign method and its two presets."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dosimeter.attacks.base import Attack, Direction
from dosimeter.attacks.losses import LOSSES
from dosimeter.errors import DosimeterError, did_you_mean


@dataclass(frozen=True)
class FGSM:
    """One step of epsilon along the sign of the loss's gradient with respect to the image, true label known.

    Use it to reproduce published FGSM figures and as the cheapest upper bound on robustness; an iterative attack
    bounds it tighter.

    Args:
        loss: "margin" (default), "cross_entropy" or "keras_bce" (the paper's framework); see `losses`.
        channels: "tied" sums the gradient over the three planes before its sign, so that a grey image stays grey;
            "free" lets each plane move apart, which no grey file can hold (the paper).

    Source: the paper, equations 1 and 2; Goodfellow et al. 2014 (arXiv 1412.6572).
    """

    loss: str = "margin"
    channels: Literal["tied", "free"] = "tied"
    name: str = "fgsm"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise DosimeterError(f"loss '{self.loss}' is not known. {did_you_mean(self.loss, LOSSES)}")
        if self.channels not in ("tied", "free"):
            raise DosimeterError(f"channels must be 'tied' or 'free', got '{self.channels}'.")

    def direction(self, classifier: nn.Module, images: Tensor, labels: Tensor) -> Direction:
        """Return the gradient's sign from one forward and one backward pass.

        Args:
            images: (batch, 3, H, W) in [0, 1].
            labels: (batch,) true labels.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        images = images.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = classifier(images)
            loss = LOSSES[self.loss](logits, labels).sum()  # a sum: batching changes no gradient
        (gradient,) = torch.autograd.grad(loss, images)  # (batch, 3, H, W)
        if not torch.isfinite(gradient).all():
            raise FloatingPointError(f"the gradient of {self.loss} is not finite")
        if self.channels == "tied":
            gradient = gradient.sum(dim=1, keepdim=True).expand_as(images)
        grad_zero = (gradient == 0).flatten(1).all(dim=1)
        return Direction(gradient.sign(), grad_zero, logits.detach())


@dataclass(frozen=True)
class Preset:
    """An attack and how its images are stored: what one curve of the report shows."""

    name: str
    attack: Attack
    storages: tuple[str, ...]
    note: str


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "paper",
            FGSM(loss="keras_bce", channels="free"),
            ("float",),
            "as published: clipped Keras loss, three free planes, images never stored",
        ),
        Preset(
            "sound",
            FGSM(loss="margin", channels="tied"),
            ("float", "png8"),
            "margin loss, grey stays grey, as floats and as an 8-bit file",
        ),
    )
}
