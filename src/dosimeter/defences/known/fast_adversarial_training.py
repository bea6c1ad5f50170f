"""Defence: the network is trained on images of one step from a random start, and watched with more steps."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dosimeter.defences.ascent import pgd
from dosimeter.defences.base import Entry
from dosimeter.defences.learning import Batch, Method
from dosimeter.defences.settings import described, parse
from dosimeter.defences.students import Student
from dosimeter.defences.taught import Guarded
from dosimeter.models.training import loss_of

STEP = 1.25
"""Of epsilon, the one step; what leaves the ball is brought back."""


class OnOneStep(Method):
    """The loss of images after one step of FGSM from a random start."""

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss of attacked images."""
        moved = pgd(
            student,
            batch.inputs,
            batch.labels,
            epsilon=batch.epsilon,
            steps=1,
            noise=batch.noise,
            step=STEP * batch.epsilon,
        )
        with student.practising():
            return loss_of(student(moved), batch.labels, "mean")


@dataclass(frozen=True)
class FastAdversarialTraining(Guarded):
    """Trains on images of one step."""

    name: ClassVar[str] = "fast_adversarial_training"

    def method(self, n_images: int) -> Method:
        """Return the loss on images of one step."""
        return OnOneStep()

    @property
    def per_image(self) -> float:
        """Passes of an image in an epoch."""
        return 2.0 + self.watched


ENTRY = Entry(
    build=lambda setting: parse(FastAdversarialTraining, setting, name=FastAdversarialTraining.name),
    note=f"trained on images of one FGSM step, guarded; behind the colon {described(FastAdversarialTraining)}",
    title="fast adversarial training",
    kind="training",
    source="Wong et al. 2020 (arXiv 2001.03994)",
)
