"""What an attack is that learns on training images before it is swept over the test images."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from dosimeter.attacks.base import Attack
from dosimeter.attacks.threat import Threat

BatchOf = Callable[[list[int]], tuple[Tensor, Tensor]]
"""Places of training images to images (batch, 3, H, W) and labels (batch,)."""


@runtime_checkable
class Learner(Protocol):
    """It learns one tensor, which a run keeps, and becomes an attack by it."""

    @property
    def name(self) -> str:
        """Name in the table's `attack` column."""

    @property
    def n_learning(self) -> int:
        """Gradients of training images that learning takes."""

    def learn(
        self,
        network: nn.Module,
        batch_of: BatchOf,
        *,
        n_images: int,
        seed: int,
        threat: Threat,
    ) -> Tensor:
        """Return what it learns about `network`, float32, the same for the same arguments.

        Args:
            batch_of: places of training images to images (batch, 3, H, W) and labels (batch,).
            n_images: training images there are.
            seed: of the order.
            threat: what the attacker may do.
        """

    def knowing(self, learned: Tensor) -> Attack:
        """Return the attack that uses what was learned."""
