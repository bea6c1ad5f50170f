"""Networks that can only be asked: a function, another runtime's session, an endpoint. They have no gradient."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.cohorts.base import FloatImage
from dosimeter.errors import DosimeterError

Access = Literal["scores", "decisions"]
"""What a classifier that is only asked tells: a number for each class, or a class alone."""

LABEL_LOGIT = 10.0
"""The logit of the class that a network answers which tells no scores; the others' are 0."""


class Queried(nn.Module):
    """What answers about images and is not torch's.

    Args:
        ask: images (n, C, H, W), float32, normalised as the classifier's preprocessing says, to (n, n_outputs) scores,
            or (n,) places of classes; a MAITE model, which gives a sequence of scores, is one.
        access: what it tells.
    """

    def __init__(self, ask: Callable[[FloatImage], Any], access: Access = "scores") -> None:
        super().__init__()
        self.ask = ask
        self.access = access

    def forward(self, images: Tensor) -> Tensor:
        """Return what it answers, (n, n_outputs); without a gradient.

        Raises:
            DosimeterError: it answers other than with numbers, as many for each image.
        """
        answers = self.ask(images.detach().cpu().float().numpy())
        try:
            outputs = np.asarray([np.asarray(each, dtype=np.float32) for each in answers])
        except (TypeError, ValueError) as error:
            raise DosimeterError(
                f"the network must answer with numbers, as many for every image, got {type(answers).__name__}."
            ) from error
        if outputs.ndim == 1:
            outputs = outputs[:, None]
        if outputs.ndim != 2 or len(outputs) != len(images):
            raise DosimeterError(
                f"the network must answer (n, n_outputs) for n images, got {outputs.shape} for {len(images)}."
            )
        return torch.from_numpy(outputs).to(images.device)


class Labels(nn.Module):
    """The place of a class as logits, for a network that tells no scores.

    Args:
        n_classes: places are 0 to n_classes - 1.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes

    def forward(self, places: Tensor) -> Tensor:
        """Return logits (n, n_classes) for places (n, 1): `LABEL_LOGIT` for the class, 0 for the others.

        Raises:
            DosimeterError: an answer is no place.
        """
        whole = places[:, 0].round()
        off = (whole != places[:, 0]) | (whole < 0) | (whole >= self.n_classes)
        if places.shape[1] != 1 or bool(off.any()):
            said = places.shape[1:] if places.shape[1] != 1 else float(places[off][0, 0])
            raise DosimeterError(
                f"a network that answers labels must give one place of a class from 0 to {self.n_classes - 1}, got "
                f"{said}."
            )
        return LABEL_LOGIT * nn.functional.one_hot(whole.long(), self.n_classes).float()


def access_of(network: nn.Module) -> Literal["gradients", "scores", "decisions"]:
    """Return what an attacker can have of a network: its gradients, unless a part of it is only asked."""
    found = {each.access for each in network.modules() if isinstance(each, Queried)}
    return "decisions" if "decisions" in found else "scores" if found else "gradients"
