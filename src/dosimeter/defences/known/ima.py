"""Defence: every training image is attacked within a margin of its own, which grows as long as it is answered rightly.

The margins end near the images' distances to the decision boundary: their distribution is learned beside the weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from dosimeter.defences.ascent import ascend, uniform, within
from dosimeter.defences.base import Entry
from dosimeter.defences.learning import Batch, Method
from dosimeter.defences.settings import Dose, Within, described, parse
from dosimeter.defences.students import Student
from dosimeter.defences.taught import Taught
from dosimeter.models.training import answered, loss_of

BISECTIONS = 10
SPEED = 4.0
"""Of margin / steps, each step."""

LEAST_NOISE = 1e-4
"""Epsilon of the random start at least."""


class GrowingMargins(Method):
    """The loss of images, and of those just inside the decision boundary that attacks within their margins crossed.

    Attributes:
        margins: (n,) epsilon of each training image, from `delta` to `most`.
        history: `margins` at the beginning and after every epoch.
    """

    def __init__(self, n_images: int, *, delta: float, most: float, beta: float, steps: int) -> None:
        self.delta, self.most, self.beta, self.steps = delta, most, beta, steps
        self.margins = torch.full((n_images,), min(delta, most))
        self.history = [self.margins.clone()]

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss, and move the margins of the batch on."""
        right = all_right(student, batch.inputs, batch.labels)
        crossed, found = self._attacked(student, batch)
        inside = just_inside(student, batch.inputs, crossed, batch.labels)
        counted = found & right
        self._move(batch, inside, right=right, found=found)
        with student.practising():
            plain = loss_of(student(batch.inputs), batch.labels, "mean")
            if not counted.any():
                return (1 - self.beta) * plain
            near = loss_of(student(inside[counted]), batch.labels[counted], "sum") / len(inside)
            return (1 - self.beta) * plain + self.beta * near

    def epoch_done(self) -> None:
        """Remember the margins."""
        self.history.append(self.margins.clone())

    def learned(self) -> dict[str, Tensor]:
        """Return the history of the margins, (1 + epochs, n)."""
        return {"margins": torch.stack(self.history)}

    def _attacked(self, student: Student, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return images within their margins, the last that was answered wrongly if one was, and where (b,) one was."""
        images = batch.inputs
        epsilon = self.margins[batch.places].to(images).view(-1, 1, 1, 1)
        crossed, found = images.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device)

        def objective(moved: Tensor) -> Tensor:
            nonlocal crossed, found
            logits = student(moved)
            wrong = ~rightly(logits, batch.labels)
            crossed = torch.where(wrong.view(-1, 1, 1, 1), moved.detach(), crossed)
            found = found | wrong
            return loss_of(logits, batch.labels, "sum")

        spread = torch.minimum(epsilon, (epsilon - self.delta).clamp(min=LEAST_NOISE))
        start = within(images + spread * uniform(images, batch.noise), images, epsilon)
        last = ascend(
            objective, images, start=start, epsilon=epsilon, steps=self.steps, step=SPEED / self.steps * epsilon
        )
        with torch.no_grad():
            objective(last)
        return crossed, found

    def _move(self, batch: Batch, inside: Tensor, *, right: Tensor, found: Tensor) -> None:
        """Let margins grow where no attack succeeded, and go halfway to the boundary where one did."""
        old = self.margins[batch.places]
        distance = (inside - batch.inputs).abs().flatten(1).amax(dim=1).cpu()
        new = torch.where(found.cpu(), (old + distance) / 2, old + self.delta).clamp(0, self.most)
        self.margins[batch.places] = torch.where(right.cpu(), new, old)


def rightly(logits: Tensor, labels: Tensor) -> Tensor:
    """Return where (b,) an answer is right, of findings all that are known."""
    right, known = answered(logits, labels)
    return right if right.ndim == 1 else (right | ~known).all(dim=1)


def all_right(student: Student, images: Tensor, labels: Tensor) -> Tensor:
    """Return where (b,) images are answered rightly."""
    with torch.no_grad():
        return rightly(student(images), labels)


def just_inside(student: Callable[[Tensor], Tensor], images: Tensor, crossed: Tensor, labels: Tensor) -> Tensor:
    """Return the last images (b, 3, H, W) on the way to `crossed` that are answered rightly, by bisection."""
    low = torch.zeros(len(images), 1, 1, 1).to(images)
    high = torch.ones_like(low)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        with torch.no_grad():
            right = rightly(student(images + middle * (crossed - images)), labels).view(-1, 1, 1, 1)
        low, high = torch.where(right, middle, low), torch.where(right, high, middle)
    return images + low * (crossed - images)


@dataclass(frozen=True)
class IncreasingMargins(Taught):
    """Trains with margins that grow.

    Attributes:
        epsilon: the largest that a margin can be.
        delta: what a margin grows by in an epoch; by default a tenth of epsilon.
        beta: the weight of images at the boundary.
        steps: of each attack.
    """

    first: ClassVar[str] = "epsilon"
    name: ClassVar[str] = "ima"

    epochs: Annotated[int, Within(1, 1000)] = 25
    epsilon: Dose = 0.003
    delta: Annotated[float, Within(0, 1, above=True)] | None = None
    beta: Annotated[float, Within(0, 1)] = 0.5
    steps: Annotated[int, Within(1, 100)] = 10

    def method(self, n_images: int) -> GrowingMargins:
        """Return the loss with margins that begin at delta."""
        delta = self.epsilon / 10 if self.delta is None else self.delta
        return GrowingMargins(n_images, delta=delta, most=self.epsilon, beta=self.beta, steps=self.steps)

    def told(self, learned: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the least, the quartiles and the largest of the margins, at the beginning and after every epoch."""
        quantiles = torch.quantile(learned["margins"].double(), torch.linspace(0, 1, 5).double(), dim=1)
        return {"n_margins": learned["margins"].shape[1], "margins": quantiles.T.tolist()}

    @property
    def per_image(self) -> float:
        """Passes of an image in an epoch: the attack's, the bisection's answers, and the step's."""
        return 2 + 2 * self.steps + BISECTIONS + 2 * self.step_passes


ENTRY = Entry(
    build=lambda setting: parse(IncreasingMargins, setting, name=IncreasingMargins.name),
    note=f"trained within margins that grow for each image; {described(IncreasingMargins)}",
    title="IMA",
    kind="training",
    source="Ma and Liang 2023 (arXiv 2005.09147)",
)
