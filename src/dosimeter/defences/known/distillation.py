"""Defence: a student learns what a teacher says at a temperature, and answers without it.

Its logits are large then, softmax saturates, and the gradient of a cross-entropy is rounded to nothing. It hides: an
attack on the margin of the logits, or on logits divided by the temperature, is not stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from dosimeter.defences.base import Entry
from dosimeter.defences.learning import Batch, Method, teach
from dosimeter.defences.pools import Inputs, Pool
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.students import Part, Student, maps_of, opened
from dosimeter.defences.taught import Taught
from dosimeter.defences.training import Training, nothing
from dosimeter.models.base import Classifier
from dosimeter.models.training import loss_of


class AtTemperature(Method):
    """The loss of logits divided by a temperature."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        with student.practising():
            return loss_of(student(batch.inputs) / self.temperature, batch.labels, "mean")


class OnSoftLabels(Method):
    """The cross-entropy to what a teacher says, both at a temperature.

    Attributes:
        said: (n, n_classes) the teacher's logits of all inputs, divided by the temperature.
        of_findings: whether outputs are answered one by one.
    """

    def __init__(self, said: Tensor, temperature: float, *, of_findings: bool) -> None:
        self.said, self.temperature, self.of_findings = said, temperature, of_findings

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss of a batch; not times the squared temperature, since there are no hard labels beside."""
        with student.practising():
            logits = student(batch.inputs) / self.temperature
        said = self.said[batch.places].to(logits)
        if self.of_findings:
            return binary_cross_entropy_with_logits(logits, said.sigmoid(), reduction="sum") / len(logits)
        return cross_entropy(logits, said.softmax(dim=1))


@dataclass(frozen=True)
class Distillation(Taught):
    """Trains a teacher and then a student of the same kind, both at a temperature.

    Attributes:
        temperature: what logits are divided by in training; 1 is plain training on a teacher's soft labels.
    """

    first: ClassVar[str] = "temperature"
    name: ClassVar[str] = "distillation"
    is_method: ClassVar[bool] = False

    part: Part = "head"
    epochs: Annotated[int, Within(1, 1000)] = 25
    temperature: Annotated[float, Within(1, 1000)] = 20.0

    def method(self, n_images: int) -> Method:
        """Return the teacher's loss."""
        return AtTemperature(self.temperature)

    def learn(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None] = nothing
    ) -> dict[str, Tensor]:
        """Return the student's parameters."""
        teacher, student = (opened(classifier, self.part, name=self.name, anew=seed + place) for place in range(2))
        inputs: Inputs = training
        if student.is_head:
            inputs = Pool.of(training, lambda images, _: maps_of(classifier, images), batch=self.batch)
            teacher, student = teacher.on_maps(), student.on_maps()
        self.set_precision(student, inputs)
        teacher.bfloat16 = student.bfloat16
        teach(teacher, inputs, AtTemperature(self.temperature), self.plan, seed=seed, advance=advance)
        said = torch.cat([answers_of(teacher, given) for _, given, _ in inputs.batches(self.batch)])
        method = OnSoftLabels(said / self.temperature, self.temperature, of_findings=training.labels.ndim == 2)
        teach(student, inputs, method, self.plan, seed=seed + 1, advance=advance)
        return student.learned()

    @property
    def per_image(self) -> float:
        """Passes of an image in an epoch; a head's, on maps that were computed once, are next to none."""
        return 1 / self.epochs if self.part == "head" else 2.0


def answers_of(student: Student, inputs: Tensor) -> Tensor:
    """Return what a student says of inputs (n, ...): logits (n, n_classes) on the CPU."""
    with torch.no_grad():
        return student(inputs).cpu()


ENTRY = Entry(
    build=lambda setting: parse(Distillation, setting, name=Distillation.name),
    note=f"a head learns from another's answers at a temperature; behind the colon {described(Distillation)}",
    title="distillation",
    kind="training",
    source="Papernot et al. 2016 (arXiv 1511.04508)",
    broken_by="Carlini and Wagner 2016 (arXiv 1607.04311)",
)
