"""Defence: the network is trained to be right on images, and to say the same of images nearby."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div, log_softmax

from dosimeter.defences.ascent import ascend, normal
from dosimeter.defences.base import Entry
from dosimeter.defences.learning import Batch, Method
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.students import Student
from dosimeter.defences.taught import Attacked
from dosimeter.models.training import loss_of

START = 1 / 31
"""Deviation of the first images, of epsilon: at the image itself the divergence has no gradient."""

STEP = 1 / 4.4
"""Of epsilon."""


def divergence(logits: Tensor, others: Tensor, *, of_findings: bool) -> Tensor:
    """Return Kullback and Leibler's divergence of `others` from `logits` (batch, n_classes), summed over all.

    Of findings, which are answered one by one, it is the sum of each finding's.
    """
    if not of_findings:
        return kl_div(log_softmax(others, dim=1), log_softmax(logits, dim=1), reduction="sum", log_target=True)
    said = torch.sigmoid(logits)
    return binary_cross_entropy_with_logits(others, said, reduction="sum") - binary_cross_entropy_with_logits(
        logits, said, reduction="sum"
    )


class Trading(Method):
    """The loss, and `beta` times the divergence of what is said of the worst image nearby."""

    def __init__(self, beta: float, steps: int) -> None:
        self.beta, self.steps = beta, steps

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss of images and of their neighbours."""
        of_findings = batch.labels.ndim == 2
        with torch.no_grad():
            said = student(batch.inputs)
        moved = ascend(
            lambda images: divergence(said, student(images), of_findings=of_findings),
            batch.inputs,
            start=batch.inputs + START * batch.epsilon * normal(batch.inputs, batch.noise),
            epsilon=batch.epsilon,
            steps=self.steps,
            step=STEP * batch.epsilon,
        )
        with student.practising():
            logits = student(batch.inputs)
            apart = divergence(logits, student(moved), of_findings=of_findings) / len(logits)
            return loss_of(logits, batch.labels, "mean") + self.beta * apart


@dataclass(frozen=True)
class Trades(Attacked):
    """Trades accuracy for the same answer nearby.

    Attributes:
        beta: the weight of the divergence; 0 is plain training.
        steps: of each attack.
    """

    name: ClassVar[str] = "trades"

    beta: Annotated[float, Within(0, 1000)] = 6.0
    steps: Annotated[int, Within(1, 100)] = 10

    def method(self, n_images: int) -> Method:
        """Return the loss with its divergence."""
        return Trading(self.beta, self.steps)

    @property
    def per_image(self) -> float:
        """Passes of an image in an epoch."""
        return self.steps + 2.5


ENTRY = Entry(
    build=lambda setting: parse(Trades, setting, name=Trades.name),
    note=f"trained to answer alike within epsilon; behind the colon {described(Trades)}",
    title="TRADES",
    kind="training",
    source="Zhang et al. 2019 (arXiv 1901.08573)",
)
