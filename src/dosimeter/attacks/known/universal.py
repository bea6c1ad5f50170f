"""One perturbation for every image of a cohort, learned on training images."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from dosimeter.attacks.base import Direction, Problem, check_positive
from dosimeter.attacks.learner import BatchOf
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.registry import Entry
from dosimeter.attacks.threat import Threat
from dosimeter.errors import DosimeterError


@dataclass(frozen=True)
class UniversalPerturbation:
    """Learns a `Universal`: projected sign descent of the mean loss over random batches of training images.

    An image that is misclassified already does not pull any more, so that the perturbation serves the others.

    Args:
        batches: steps, a batch of `batch_size` images each.
        epsilon: the ball in which it is learned; the direction found is then asked at every epsilon.
        step_size: as a share of `epsilon`.
        loss, channels: as `FGSM`.

    Source: Moosavi-Dezfooli et al. 2017 (arXiv 1610.08401); the descent is that of Shafahi et al. 2020 (arXiv
    1811.11304), algorithm 2.
    """

    batches: int = 40
    batch_size: int = 8
    epsilon: float = 0.02
    step_size: float = 0.1
    loss: str = "margin"
    channels: Literal["tied", "free"] = "tied"
    name: str = "universal"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(batches=self.batches, batch_size=self.batch_size, step_size=self.step_size, epsilon=self.epsilon)
        if self.epsilon > 1:
            raise DosimeterError(f"epsilon must be at most 1, black to white, got {self.epsilon}.")

    def learn(
        self,
        network: nn.Module,
        batch_of: BatchOf,
        *,
        n_images: int,
        seed: int,
        threat: Threat,
    ) -> Tensor:
        """Return the perturbation (3, H, W) for `network`, in [-1, 1] (see `Learner.learn`)."""
        generator = torch.Generator().manual_seed(seed)
        plane: Tensor | None = None
        for _ in range(self.batches):
            images, labels = batch_of(torch.randint(n_images, (self.batch_size,), generator=generator).tolist())
            plane = torch.zeros_like(images[0]) if plane is None else plane
            problem = replace(threat, levels=None).problem(network, images, labels)
            logits, _, gradient = problem.gradient((images + plane).clamp(0, 1), self.loss, self.channels)
            pull = gradient[~problem.fooled(logits)].sum(dim=0)
            plane = (plane + self.step_size * self.epsilon * pull.sign()).clamp(-self.epsilon, self.epsilon)
        assert plane is not None
        return plane.cpu() / self.epsilon

    @property
    def n_learning(self) -> int:
        """Gradients of training images that learning takes."""
        return self.batches * self.batch_size

    def knowing(self, learned: Tensor) -> "Universal":
        """Return the attack that adds the perturbation `learned` (3, H, W)."""
        return Universal(learned, n_learned=self.n_learning, channels=self.channels, loss=self.loss)


@dataclass(frozen=True)
class Universal:
    """A learned perturbation; the same for every image.

    Args:
        plane: (3, H, W), in [-1, 1].
        n_learned: gradients that learning it took.
    """

    plane: Tensor = field(repr=False)
    n_learned: int
    channels: Literal["tied", "free"] = "tied"
    loss: str = "margin"
    name: str = "universal"

    def direction(self, problem: Problem) -> Direction:
        """Return the plane, as far as the mask lets it."""
        sign = self.plane.to(problem.images).expand_as(problem.images)
        sign = sign if problem.mask is None else sign * problem.mask
        return Direction(sign, torch.zeros(len(problem), dtype=torch.bool))


EFFORT = {"quick": 10, "standard": 40, "thorough": 200}  # batches of 8 training images

ENTRY = Entry(
    build=lambda effort: UniversalPerturbation(EFFORT[effort]),
    note="one perturbation for all images, learned on the training images (10, 40 or 200 batches)",
    source="Moosavi-Dezfooli et al. 2017, arXiv 1610.08401; Shafahi et al. 2020, arXiv 1811.11304",
    title="universal",
    family="universal",
    rank=10,
    learns=True,
)
