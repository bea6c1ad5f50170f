"""Defences that train a part of the network: their shared settings, and how one of a `Method` learns and is put on."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from dosimeter.defences.base import Defence
from dosimeter.defences.guard import STEPS, Guard, held_back
from dosimeter.defences.learning import Method, Plan, teach
from dosimeter.defences.pools import Inputs
from dosimeter.defences.precision import choose_precision
from dosimeter.defences.settings import Dose, Within
from dosimeter.defences.students import Part, Student, opened, with_learned
from dosimeter.defences.training import Training, nothing
from dosimeter.models.base import Classifier

RATES: dict[Part, float] = {"head": 1e-3, "last": 5e-5, "all": 2e-5}
"""Learning rates of parts that were trained before."""

TIMED = 2
"""Images that a precision is chosen by."""

Share = Annotated[float, Within(0, 1)]


@dataclass(frozen=True)
class Taught(Defence):
    """A defence that trains a part of the network.

    Attributes:
        part: "head", "last" (the last block of the base too) or "all".
        epochs: passes over the training images.
        rate: of learning (Adam); by default one for the part.
        batch: images in a step.
        precision: of passes in training; "auto" is bfloat16 where this machine is measured to be faster with it.
    """

    first: ClassVar[str] = "epochs"
    name: ClassVar[str]
    is_method: ClassVar[bool] = True
    """Whether its method is all of it, so that another network can be trained by it."""

    part: Part = "last"
    epochs: Annotated[int, Within(1, 1000)] = 10
    rate: Annotated[float, Within(0, 1, above=True)] | None = None
    batch: Annotated[int, Within(1, 256)] = 8
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @abstractmethod
    def method(self, n_images: int) -> Method:
        """Return what it does in training on so many images, anew."""

    @property
    def plan(self) -> Plan:
        """How long and how fast it trains."""
        return Plan(self.epochs, self.rate or RATES[self.part], self.batch)

    def learn(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None] = nothing
    ) -> dict[str, Tensor]:
        """Return the parameters of the part, trained."""
        student = opened(classifier, self.part, name=self.name)
        self.set_precision(student, training)
        return self.taught(student, training, seed=seed, advance=advance)

    def set_precision(self, student: Student, inputs: Inputs) -> None:
        """Let a student compute in the precision that is set, or in the one that a few inputs take less time in."""
        student.bfloat16 = self.precision == "bfloat16"
        if self.precision == "auto":
            choose_precision(student, inputs.images(range(min(TIMED, len(inputs)))))

    def taught(
        self, student: Student, inputs: Inputs, *, seed: int, advance: Callable[[int], None]
    ) -> dict[str, Tensor]:
        """Train a student by this defence's method, and return what it learned."""
        method = self.method(len(inputs))
        teach(student, inputs, method, self.plan, seed=seed, advance=advance)
        return student.learned() | method.learned()

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the classifier with the parameters that were trained."""
        del seed
        return with_learned(classifier, learned)

    def passes(self, n_images: int) -> float:
        """Return forward and backward passes: one an epoch, and those of `per_image`."""
        return float(n_images * self.epochs * self.per_image)

    @property
    def per_image(self) -> float:
        """Passes of an image in an epoch."""
        return 1.0


@dataclass(frozen=True)
class Attacked(Taught):
    """A defence that trains on images that it attacks.

    Attributes:
        epsilon: of the attacks.
        ramp: share of the epochs over which epsilon grows to that.
    """

    first: ClassVar[str] = "epsilon"

    epsilon: Dose = 0.003
    ramp: Share = 0.5

    @property
    def plan(self) -> Plan:
        """How long and how fast it trains, and against which epsilon."""
        return Plan(self.epochs, self.rate or RATES[self.part], self.batch, self.epsilon, self.ramp)


@dataclass(frozen=True)
class Guarded(Attacked):
    """A defence that trains against one step, with some patients' images held back as a guard (see `Guard`).

    Attributes:
        guard: share of the images that are held back; 0: none, and the last epoch is kept.
    """

    guard: Annotated[float, Within(0, 0.5)] = 0.15

    @property
    def watched(self) -> float:
        """Passes of the guard in an epoch, for each image."""
        return self.guard * (STEPS + 0.5)

    def taught(
        self, student: Student, inputs: Inputs, *, seed: int, advance: Callable[[int], None]
    ) -> dict[str, Tensor]:
        """Train a student, and return what it had learned after the epoch that withstood an attack best."""
        if not self.guard:
            return super().taught(student, inputs, seed=seed, advance=advance)
        kept, held = held_back(inputs, self.guard, seed=seed, name=self.name)
        watch = Guard(inputs.take(held), epsilon=self.epsilon, batch=self.batch, seed=seed)
        on = inputs.take(kept)
        method = self.method(len(on))
        teach(student, on, method, self.plan, seed=seed, advance=advance, guard=watch)
        return student.learned() | method.learned() | {"guard.accuracy": torch.tensor(watch.accuracies)}
