"""What an attack maximises: one loss per image, from logits and true labels.

Each is a function (logits (batch, classes), labels (batch,)) -> (batch,).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.nn.functional import one_hot

from dosimeter.errors import DosimeterError, did_you_mean

KERAS_EPSILON = 1e-7


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest other logit minus the true one: above 0 the image is misclassified.

    For two classes the cross-entropy's gradient is this one times a positive number, as long as softmax does not
    saturate in float32; this one does not vanish when it does. Source: Carlini and Wagner 2017 (arXiv 1608.04644), f6
    without its floor.
    """
    true = logits.gather(1, labels[:, None])[:, 0]
    others = logits.masked_fill(one_hot(labels, logits.shape[1]).bool(), -torch.inf)
    return others.amax(dim=1) - true


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy, computed stably from logits.

    Where softmax rounds to exactly 1 the true logit's part of the gradient is exactly 0: what is left points along the
    other logit alone, no longer along the margin, and later vanishes too.
    """
    return torch_cross_entropy(logits, labels, reduction="none")


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference-of-logits ratio: the margin over how far the largest logit is above the third.

    It does not change with the logits' scale, nor vanish with it. It needs three classes.

    Raises:
        DosimeterError: there are two.

    Source: Croce and Hein 2020 (arXiv 2003.01690), equation 6.
    """
    if logits.shape[1] < 3:
        raise DosimeterError(f"loss 'dlr' needs three classes or more, got {logits.shape[1]}. Use 'margin'.")
    best = logits.topk(3, dim=1).values
    return margin(logits, labels) / (best[:, 0] - best[:, 2]).clamp(min=torch.finfo(logits.dtype).tiny)


def keras_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Return Keras's binary cross-entropy on softmax outputs, the paper's loss.

    Softmax in float32, clipped to [1e-7, 1 - 1e-7], then the mean over outputs of the binary cross-entropy. Where
    the clip acts the gradient is exactly 0, so `sign` leaves the image as it was.
    """
    probabilities = torch.softmax(logits.float(), dim=1).clamp(KERAS_EPSILON, 1 - KERAS_EPSILON)
    targets = one_hot(labels, logits.shape[1]).to(probabilities)
    terms = targets * probabilities.log() + (1 - targets) * (1 - probabilities).log()
    return -terms.mean(dim=1)


Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {"margin": margin, "cross_entropy": cross_entropy, "dlr": dlr, "keras_bce": keras_bce}


def check_loss(loss: str, channels: str) -> None:
    """Raise DosimeterError unless there is such a loss and such a way to move an image's planes."""
    if loss not in LOSSES:
        raise DosimeterError(f"loss '{loss}' is not known. {did_you_mean(loss, LOSSES)}")
    check_channels(channels)


def check_channels(channels: str) -> None:
    """Raise DosimeterError unless there is such a way to move an image's planes."""
    if channels not in ("tied", "free"):
        raise DosimeterError(f"channels must be 'tied' or 'free', got '{channels}'.")
