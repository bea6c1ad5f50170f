"""Heads that do not give one logit a class, as two logits: what attacks, verdicts and tables are about.

Put one behind a network: `nn.Sequential(network, OneLogit())`.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dosimeter.errors import DosimeterError


class Output(nn.Module):
    """One output of a network that returns several, in a dictionary, tuple or object: the logits.

    Args:
        key: its name, or its place from 0.

    Example:
        >>> Output("logits")({"logits": torch.zeros(1, 2), "maps": torch.ones(1, 8)}).tolist()
        [[0.0, 0.0]]
    """

    def __init__(self, key: str | int) -> None:
        super().__init__()
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise DosimeterError(f"key must be a name or a place, got {key!r}: Output('logits'), or Output(0).")
        self.key = key

    def forward(self, outputs: Any) -> Any:
        """Return the output called, or at, `key`.

        Raises:
            DosimeterError: there is none.
        """
        if isinstance(outputs, Mapping):
            if self.key not in outputs:
                raise DosimeterError(
                    f"key must be an output of the network, got {self.key!r}; it has none of that name: "
                    f"{', '.join(map(str, outputs))}."
                )
            return outputs[self.key]
        if isinstance(self.key, str):
            if not hasattr(outputs, self.key):
                raise DosimeterError(
                    f"key must be an output of the network, got {self.key!r}, but it returns a "
                    f"{type(outputs).__name__} without it. Give a place: Output(0)."
                )
            return getattr(outputs, self.key)
        if not isinstance(outputs, tuple | list) or not -len(outputs) <= self.key < len(outputs):
            many = len(outputs) if isinstance(outputs, tuple | list) else f"no tuple but a {type(outputs).__name__} of"
            raise DosimeterError(f"key must be a place among the outputs, got {self.key}; there are {many} outputs.")
        return outputs[self.key]


class OneLogit(nn.Module):
    """One logit, of the positive class, as two: (0, z), whose softmax is the sigmoid of z.

    A sweep refuses it behind a probability, which is above 0 for every image: leave out the network's sigmoid.

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

    The findings of such a head are decisions of their own, so each is attacked by itself. It takes logits: a sweep
    refuses it behind a sigmoid.

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


class Probabilities(nn.Module):
    """Probabilities as logits: their logarithms, of one alone the logit beside 0.

    Take the logits themselves where the network has them: a probability that rounds to 1 has no gradient.

    Example:
        >>> Probabilities()(torch.tensor([[0.5, 0.5]])).softmax(dim=1).tolist()
        [[0.5, 0.5]]
    """

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return logits (batch, n_classes) for probabilities of as many classes, or (batch, 2) for one, (batch, 1)."""
        least = torch.finfo(torch.float32).tiny
        if probabilities.ndim == 1 or probabilities.shape[1] == 1:
            positive = probabilities.reshape(-1)
            logit = positive.clamp(min=least).log() - (1 - positive).clamp(min=least).log()
            return torch.stack([torch.zeros_like(logit), logit], dim=1)
        return probabilities.clamp(min=least).log()
