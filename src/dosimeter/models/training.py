"""The training loop: a head on cached feature maps, in plain PyTorch.

Source: the paper, section 2.3: Adam, initial learning rate 1e-3, decayed every epoch, binary cross-entropy on two
softmax outputs (which for two classes is the cross-entropy; of more it is the cross-entropy too, of findings the binary
one of each, summed). The paper gives neither the decay's rule, nor epochs, nor
batch; see `FitOptions` for ours.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from dosimeter.errors import DosimeterError
from dosimeter.models.features import load_batch

log = logging.getLogger(__name__)
EVALUATION_BATCH = 64


@dataclass(frozen=True)
class FitOptions:
    """How a head is trained.

    Attributes:
        decay: d in the rate of epoch e (from 0), lr / (1 + d * e); None is d = lr / epochs. That is Keras's time-based
            rule with the usual choice of d, counted in epochs as the paper says, not in updates as Keras counts; the
            rate then hardly falls. To lower it, give a larger d.
    """

    epochs: int = 25
    batch_size: int = 8
    learning_rate: float = 1e-3
    decay: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("learning_rate", 1e-12)):
            if not getattr(self, name) >= least:
                raise DosimeterError(f"{name} must be positive, got {getattr(self, name)}.")

    def rate(self, epoch: int) -> float:
        """Learning rate of `epoch`, counted from 0."""
        decay = self.learning_rate / self.epochs if self.decay is None else self.decay
        return self.learning_rate / (1 + decay * epoch)


class Examples(NamedTuple):
    """Feature files and their labels: classes (n,), or of each finding (n, findings) 1, 0, or NaN where unknown."""

    paths: Sequence[Path]
    labels: Tensor


def train_head(
    head: nn.Module,
    train: Examples,
    test: Examples,
    *,
    options: FitOptions,
    generator: torch.Generator,
    device: str,
    advance: Callable[[int], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Train `head` in place and leave it frozen in evaluation mode; return one record per epoch.

    Args:
        advance: called after every batch with its number of images: `epochs` times the training images in all.
    """
    head.requires_grad_(True)
    optimizer = torch.optim.Adam(head.parameters(), lr=options.learning_rate, fused=True)
    history = []
    with torch.random.fork_rng():  # dropout knows only the global generator: borrow it and give it back
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        for epoch in range(options.epochs):
            for group in optimizer.param_groups:
                group["lr"] = options.rate(epoch)
            head.train()
            for rows in torch.randperm(len(train.labels), generator=generator).split(options.batch_size):
                maps = load_batch([train.paths[row] for row in rows]).to(device)  # (batch, C, H, W)
                loss = loss_of(head(maps), train.labels[rows].to(device), "mean")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                advance(len(rows))
            head.eval()
            record = {"epoch": epoch + 1, "learning_rate": options.rate(epoch)}
            for name, examples in (("train", train), ("test", test)):
                record[f"{name}_loss"], record[f"{name}_accuracy"] = evaluate(head, examples, device=device)
            history.append(record)
            log.info("epoch %(epoch)d: test accuracy %(test_accuracy).3f", record)
    head.requires_grad_(False)
    return history


def evaluate(head: nn.Module, examples: Examples, *, device: str) -> tuple[float, float]:
    """Return the mean loss and the accuracy over `examples`, without dropout; of findings over the known ones."""
    loss = correct = asked = 0.0
    with torch.inference_mode():
        for rows in torch.arange(len(examples.labels)).split(EVALUATION_BATCH):
            logits = head(load_batch([examples.paths[row] for row in rows]).to(device))
            labels = examples.labels[rows].to(device)
            loss += float(loss_of(logits, labels, "sum"))
            right, known = answered(logits, labels)
            correct, asked = correct + float(right.sum()), asked + float(known.sum())
    return loss / len(examples.labels), correct / asked


def loss_of(logits: Tensor, labels: Tensor, over_images: Literal["mean", "sum"]) -> Tensor:
    """Return the cross-entropy, or the binary one summed over the findings that are known, mean or sum over images."""
    if labels.ndim == 1:
        return cross_entropy(logits, labels, reduction=over_images)
    known = ~labels.isnan()
    each = binary_cross_entropy_with_logits(logits, labels.nan_to_num().to(logits), reduction="none")
    total = each.where(known, torch.zeros_like(each)).sum()
    return total / len(labels) if over_images == "mean" else total


def answered(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which answers are right, and which are to be counted; of findings at a probability of a half."""
    if labels.ndim == 1:
        right = logits.argmax(dim=1) == labels
        return right, torch.ones_like(right)
    known = ~labels.isnan()
    return ((logits > 0) == (labels > 0.5)) & known, known
