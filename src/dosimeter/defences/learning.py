"""The training loop that all defences which train share.

A defence gives a `Method`: the loss of one batch. The loop gives it shuffled batches, the epsilon of the epoch and
random numbers, and steps (Adam).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dosimeter.defences.pools import Inputs
from dosimeter.defences.students import Student
from dosimeter.defences.training import nothing
from dosimeter.errors import DosimeterError
from dosimeter.models.training import loss_of
from dosimeter.surroundings import plain_torch


class Batch(NamedTuple):
    """What a method makes a loss of.

    Attributes:
        places: (b,) of the inputs in all that are learned on.
        inputs: (b, 3, H, W) images, or maps.
        labels: (b,) classes, or findings (b, findings).
        epsilon: of this epoch.
        noise: draws all that is random but the order and dropout.
    """

    places: Tensor
    inputs: Tensor
    labels: Tensor
    epsilon: float
    noise: torch.Generator


class Method:
    """Plain training; others change the loss, or what happens around a step.

    Attributes:
        replays: steps on each batch.
    """

    replays: int = 1

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss of a batch, a mean over its images."""
        with student.practising():
            return loss_of(student(batch.inputs), batch.labels, "mean")

    def stepped(self, batch: Batch) -> None:
        """Be told that the weights have made a step."""

    def epoch_done(self) -> None:
        """Be told that all images were gone through."""

    def learned(self) -> dict[str, Tensor]:
        """Return what it learned beside the weights, by names of its own."""
        return {}


@dataclass(frozen=True)
class Plan:
    """How long and how fast.

    Attributes:
        rate: of Adam, halfway constant and then falling linearly to nothing.
        epsilon, ramp: it grows linearly to `epsilon` over the first `ramp` of the epochs.
    """

    epochs: int
    rate: float
    batch: int = 8
    epsilon: float = 0.0
    ramp: float = 0.0

    def rate_of(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.rate * min(1.0, 2 * (1 - epoch / self.epochs))

    def epsilon_of(self, epoch: int) -> float:
        """Return the epsilon of an epoch, counted from 0."""
        rising = self.ramp * self.epochs
        return self.epsilon * min(1.0, (epoch + 1) / rising) if rising > 1 else self.epsilon


class Watch(Protocol):
    """What looks at a student after every epoch, and may take it back to the best in the end."""

    def check(self, student: Student) -> None:
        """Look at the student."""

    def restore(self, student: Student) -> None:
        """Take it back."""


@plain_torch()
def teach(
    student: Student,
    inputs: Inputs,
    method: Method,
    plan: Plan,
    *,
    seed: int,
    advance: Callable[[int], None] = nothing,
    guard: Watch | None = None,
) -> None:
    """Train a student in place.

    Args:
        advance: called after every batch with its number of images.
        guard: checked after every epoch; the student ends as it was after the best.

    Raises:
        DosimeterError: the loss is not finite.
    """
    order, noise = (torch.Generator().manual_seed(2 * seed + place) for place in range(2))
    optimizer = torch.optim.Adam(student.learning.values(), lr=plan.rate)
    with torch.random.fork_rng():  # dropout knows only the global generator: borrow it and give it back
        torch.manual_seed(seed)
        for epoch in range(plan.epochs):
            for group in optimizer.param_groups:
                group["lr"] = plan.rate_of(epoch)
            for places, given, labels in inputs.batches(plan.batch, generator=order):
                batch = Batch(places, given, labels, plan.epsilon_of(epoch), noise)
                for _ in range(method.replays):
                    loss = method.loss(student, batch)
                    if not torch.isfinite(loss):
                        raise DosimeterError(
                            f"training must have a finite loss, got {loss.item()} in epoch {epoch + 1}. Set a rate "
                            f"below {plan.rate:g}."
                        )
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    method.stepped(batch)
                advance(len(places))
            method.epoch_done()
            if guard is not None:
                guard.check(student)
    if guard is not None:
        guard.restore(student)
