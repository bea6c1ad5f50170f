"""Heads that do not give one logit a class, as two logits: what attacks, verdicts and tables are about.

Put one behind a network: `nn.Sequential(network, OneLogit())`.
"""

import math

import torch
from torch import Tensor, nn

from dosimeter.errors import DosimeterError


class OneLogit(nn.Module):
    """One logit, of the positive class, as two: (0, z), whose softmax is the sigmoid of z.

    Example:
        >>> OneLogit()(torch.tensor([[2.0]])).tolist()
        [[0.0, 2.0]]
    """

    def forward(self, logit: Tensor) -> Tensor:
        """Return logits (batch, 2) for a logit (batch,) or (batch, 1).

        Raises:
            DosimeterError: there are more.
        """
        if logit.ndim != 1 and logit.shape[1:] != (1,):
            raise DosimeterError(
                f"a head of one logit must give (batch,) or (batch, 1), got {tuple(logit.shape)}. Of a head of several "
                "findings choose one with Finding(place)."
            )
        positive = logit.reshape(-1)
        return torch.stack([torch.zeros_like(positive), positive], dim=1)


class Finding(nn.Module):
    """One finding of a multi-label head, there or not, as two logits: (0, z - z0).

    The findings of such a head are decisions of their own, so each is attacked by itself.

    Args:
        place: of the finding among the outputs.
        threshold: the probability from which the finding counts as there; z0 is its logit.

    Example:
        >>> Finding(1)(torch.tensor([[3.0, -1.0]])).tolist()
        [[0.0, -1.0]]
    """

    def __init__(self, place: int, threshold: float = 0.5) -> None:
        super().__init__()
        if place < 0:
            raise DosimeterError(f"place must be 0 or more, got {place}: it counts the outputs of the head.")
        if not 0 < threshold < 1:
            raise DosimeterError(f"threshold must be a probability between 0 and 1, got {threshold}.")
        self.place = place
        self.offset = math.log(threshold / (1 - threshold))

    def forward(self, logits: Tensor) -> Tensor:
        """Return logits (batch, 2) for one logit a finding, (batch, n_findings), before any sigmoid.

        Raises:
            DosimeterError: there is no output at `place`.
        """
        if logits.ndim != 2 or self.place >= logits.shape[1]:
            raise DosimeterError(
                f"place must be below the number of findings, got {self.place} for outputs {tuple(logits.shape)}."
            )
        positive = logits[:, self.place] - self.offset
        return torch.stack([torch.zeros_like(positive), positive], dim=1)
