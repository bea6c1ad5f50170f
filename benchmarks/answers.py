"""What a party says of perturbed images, in one form for all, and how far two parties agree."""

from typing import NamedTuple

import torch
from torch import Tensor


class Answers(NamedTuple):
    """Answers to n images at K epsilons.

    Attributes:
        predicted: (n, K), the predicted classes.
        logits: (n, K, n_classes), None where a party does not give them.
    """

    predicted: Tensor
    logits: Tensor | None

    @classmethod
    def of(cls, logits: Tensor) -> "Answers":
        """Return the answers whose logits (n, K, n_classes) these are."""
        return cls(logits.argmax(dim=2), logits)

    @classmethod
    def joined(cls, parts: "list[Answers]") -> "Answers":
        """Return the answers to the images of all `parts`."""
        logits = [part.logits for part in parts if part.logits is not None]
        return cls(torch.cat([part.predicted for part in parts]), torch.cat(logits) if logits else None)


class Agreement(NamedTuple):
    """How far answers agree with those of the floor.

    Attributes:
        n: answers compared.
        n_differing: of these, predicted classes that differ.
        logit_error: the largest difference in a logit, None where there are none to compare.
    """

    n: int
    n_differing: int
    logit_error: float | None


def agreement(found: Answers, expected: Answers) -> Agreement:
    """Compare two answers to the same images and epsilons."""
    error = None
    if found.logits is not None and expected.logits is not None:
        error = float((found.logits - expected.logits).abs().max())
    return Agreement(found.predicted.numel(), int((found.predicted != expected.predicted).sum()), error)
