"""The alarm of a network that may reject, as attacks meet it: folded into the true class.

The true class's logit becomes the larger of its own and the alarm's. The gradient of any loss is then that of whichever
of the two is still missing: another class, or silence. Source: Bryniarski et al. 2021 (arXiv 2106.15023), selective
gradients, without their choice of a weight.

Where both are about as large, a step along one sign undoes what the last did along the other wherever the two disagree,
and an attack of signs gets no farther. So its gradient goes smoothly from the one to the other, over a share of the
logits' spread: it is a mean of both, and a step along its sign gains on both.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

BLEND = 0.1
"""That share: with a tenth PGD needs little more than the least epsilon that wins against a linear classifier with a
linear detector; without any it may need three times as much, or not win at all."""

NO_WIDTH = 1e-12  # of logits that are all the same


def folded(outputs: Tensor, labels: Tensor, larger: Callable[[Tensor, Tensor], Tensor] = torch.maximum) -> Tensor:
    """Return logits (n, n_classes) of outputs with an alarm (n, n_classes + 1), which counts for the true class.

    Args:
        outputs: the alarm last.
        labels: (n,) true classes.
        larger: of the true class's logit and the alarm.
    """
    logits, alarm = outputs[:, :-1], outputs[:, -1:]
    true = one_hot(labels, logits.shape[1]).bool()
    return torch.where(true, larger(logits, alarm), logits)


def blended(outputs: Tensor, labels: Tensor, spreads: Tensor, *, share: float = BLEND) -> Tensor:
    """Return `folded` with a smooth maximum: above it by `share` log 2 of the spread at most.

    Args:
        outputs: the alarm last.
        labels: (n,) true classes.
        spreads: (n,) of each image's logits so far; that of `outputs` counts where it is larger.
        share: of the spread.
    """
    logits = outputs[:, :-1].detach()
    spread = torch.maximum(spreads, logits.amax(dim=1) - logits.amin(dim=1))
    width = (share * spread).clamp(min=NO_WIDTH)[:, None]
    return width * folded(outputs / width, labels, torch.logaddexp)
