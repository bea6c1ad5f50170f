"""Adversarial training of a head in rounds: the base, which stays, is asked a few times and not in every epoch."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dosimeter.defences.learning import Method, Plan, teach
from dosimeter.defences.pools import Pool
from dosimeter.defences.students import Student, maps_of
from dosimeter.defences.training import Training
from dosimeter.models.base import Classifier


class Attack(Protocol):
    """What makes images (b, 3, H, W) of images."""

    def __call__(
        self, network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, *, noise: torch.Generator
    ) -> Tensor:
        """Return attacked images."""


def learn_in_rounds(
    classifier: Classifier,
    student: Student,
    training: Training,
    attack: Attack,
    *,
    rounds: int,
    plan: Plan,
    seed: int,
    advance: Callable[[int], None],
) -> dict[str, Tensor]:
    """Return a head's parameters, learned on the maps of clean images and of those that each round attacked.

    In each round all images are attacked through the head as it is, their maps join the pool, and the head goes on
    learning on all of them.

    Args:
        student: a copy of the classifier whose head is trained.
        plan: of the head's learning in each round.
        advance: called with the number of images of each pass of the base.
    """
    noise = torch.Generator().manual_seed(seed)

    def attacked(images: Tensor, labels: Tensor) -> Tensor:
        return maps_of(classifier, attack(student, images, labels, noise=noise))

    head = student.on_maps()
    pool = Pool.of(training, lambda images, _: maps_of(classifier, images), batch=plan.batch, advance=advance)
    for number in range(rounds):
        pool = pool.plus(Pool.of(training, attacked, batch=plan.batch, advance=advance))
        teach(head, pool, Method(), plan, seed=seed + number)
    return student.learned()
