"""Defence: the network is trained on images that projected gradient descent makes of the training images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

from torch import Tensor

from dosimeter.defences.ascent import pgd
from dosimeter.defences.base import Entry
from dosimeter.defences.learning import Batch, Method
from dosimeter.defences.rounds import learn_in_rounds
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.students import Student, opened
from dosimeter.defences.taught import Attacked
from dosimeter.defences.training import Training, nothing
from dosimeter.models.base import Classifier
from dosimeter.models.training import loss_of


class OnAttacked(Method):
    """The loss of images after `steps` of projected gradient descent within epsilon."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss of attacked images."""
        moved = pgd(student, batch.inputs, batch.labels, epsilon=batch.epsilon, steps=self.steps, noise=batch.noise)
        with student.practising():
            return loss_of(student(moved), batch.labels, "mean")


@dataclass(frozen=True)
class AdversarialTraining(Attacked):
    """Trains on attacked images.

    Attributes:
        steps: of each attack.
        rounds: of a head alone: all images are attacked so many times, and the head learns on the maps of all rounds;
            0: every batch is attacked, as of other parts.
    """

    name: ClassVar[str] = "adversarial_training"

    steps: Annotated[int, Within(1, 100)] = 7
    rounds: Annotated[int, Within(0, 100)] = 3

    def method(self, n_images: int) -> Method:
        """Return the loss on attacked images."""
        return OnAttacked(self.steps)

    def learn(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None] = nothing
    ) -> dict[str, Tensor]:
        """Return the parameters of the part, trained; of a head in rounds, unless there are none."""
        student = opened(classifier, self.part, name=self.name)
        self.set_precision(student, training)
        if not (student.is_head and self.rounds):
            return self.taught(student, training, seed=seed, advance=advance)
        attack = partial(pgd, epsilon=self.epsilon, steps=self.steps)
        return learn_in_rounds(
            classifier, student, training, attack, rounds=self.rounds, plan=self.plan, seed=seed, advance=advance
        )

    @property
    def per_image(self) -> float:
        """Passes of an image in an epoch: its attack's, and the step's; in rounds those of all rounds, shared out."""
        if self.part == "head" and self.rounds:
            return (1 + self.rounds * (self.steps + 1)) / self.epochs
        return self.steps + 1.0


ENTRY = Entry(
    build=lambda setting: parse(AdversarialTraining, setting, name=AdversarialTraining.name),
    note=f"trained on images attacked by PGD; behind the colon {described(AdversarialTraining)}",
    title="adversarial training",
    kind="training",
    source="Madry et al. 2018 (arXiv 1706.06083)",
)
