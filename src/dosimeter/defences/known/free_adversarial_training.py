"""Defence: the network is trained on images that the passes of the training itself attack."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from dosimeter.defences.ascent import tied
from dosimeter.defences.base import Entry
from dosimeter.defences.learning import Batch, Method, Plan
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.students import Student
from dosimeter.defences.taught import Guarded
from dosimeter.models.training import loss_of


class Replayed(Method):
    """Several steps on each batch, whose backward passes move the images too; what they moved stays for the next."""

    def __init__(self, replays: int) -> None:
        self.replays = replays
        self.shift = torch.zeros(())  # (batch, 3, H, W), of the image at that place of whatever batch

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss of moved images; its backward pass leaves their gradient."""
        if self.shift.shape[1:] != batch.inputs.shape[1:] or len(self.shift) < len(batch.inputs):
            self.shift = torch.zeros_like(batch.inputs)
        shift = self.shift[: len(batch.inputs)].clamp(-batch.epsilon, batch.epsilon)
        self._moved = (batch.inputs + shift).clamp(0, 1).requires_grad_(True)
        with student.practising():
            return loss_of(student(self._moved), batch.labels, "mean")

    def stepped(self, batch: Batch) -> None:
        """Move the images along the gradient that the step had."""
        assert self._moved.grad is not None
        n = len(batch.inputs)
        step = batch.epsilon * tied(self._moved.grad).sign()
        self.shift = self.shift.clone()
        self.shift[:n] = (self.shift[:n] + step).clamp(-batch.epsilon, batch.epsilon)


@dataclass(frozen=True)
class FreeAdversarialTraining(Guarded):
    """Trains on images that its own steps attack; `epochs` count the passes over the images, replays included.

    Attributes:
        replays: steps on each batch.
    """

    name: ClassVar[str] = "free_adversarial_training"

    replays: Annotated[int, Within(2, 20)] = 4

    def method(self, n_images: int) -> Method:
        """Return the loss on images that are moved on the way."""
        return Replayed(self.replays)

    @property
    def plan(self) -> Plan:
        """Fewer epochs, by the number of replays."""
        plan = super().plan
        return replace(plan, epochs=math.ceil(plan.epochs / self.replays))

    @property
    def per_image(self) -> float:
        """Passes of an image in an epoch: the guard looks after so many of them."""
        return 1.0 + self.watched / self.replays


ENTRY = Entry(
    build=lambda setting: parse(FreeAdversarialTraining, setting, name=FreeAdversarialTraining.name),
    note=f"trained on images that its steps move, guarded; behind the colon {described(FreeAdversarialTraining)}",
    title="free adversarial training",
    kind="training",
    source="Shafahi et al. 2019 (arXiv 1904.12843)",
)
