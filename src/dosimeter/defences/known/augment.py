"""Defence: the network is trained on images that an apparatus, a patient or a file changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from dosimeter.defences.base import Entry
from dosimeter.defences.learning import Batch, Method
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.students import Student
from dosimeter.defences.taught import Taught
from dosimeter.errors import DosimeterError
from dosimeter.models.training import loss_of
from dosimeter.physical.base import changed
from dosimeter.physical.registry import Chosen, chosen

BETWEEN = "/"
"""What stands between the names of changes."""

_SEEDS = 2**31


class OnChanged(Method):
    """The loss of images of which a share is changed, each by one change at one of its severities, drawn anew."""

    def __init__(self, changes: Sequence[Chosen], share: float) -> None:
        self.changes, self.share = changes, share

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss of changed images."""
        inputs = torch.cat([self._changed(image[None], batch.noise) for image in batch.inputs])
        with student.practising():
            return loss_of(student(inputs), batch.labels, "mean")

    def _changed(self, image: Tensor, noise: torch.Generator) -> Tensor:
        """Return an image (1, 3, H, W), changed or as it is."""
        happens, which, how_far, seed = torch.rand(4, generator=noise).tolist()
        if happens >= self.share:
            return image
        change, _, (identity, *severities), _ = self.changes[int(which * len(self.changes))]
        severity = severities[int(how_far * len(severities))]
        return changed(change, image, severity, identity=identity, seed=int(seed * _SEEDS))


@dataclass(frozen=True)
class Augment(Taught):
    """Trains on changed images, with the constants of an apparatus that are assumed.

    Attributes:
        changes: names of physical changes, with slashes between.
        share: of the images that are changed.
    """

    first: ClassVar[str] = "changes"
    name: ClassVar[str] = "augment"

    changes: str = "rotation/shift/gamma"
    share: Annotated[float, Within(0, 1, above=True)] = 0.5

    def __post_init__(self) -> None:
        self.chosen()

    def chosen(self) -> list[Chosen]:
        """Return the changes with their severities.

        Raises:
            DosimeterError: one is not known.
        """
        names = [name.strip() for name in self.changes.split(BETWEEN)]
        try:
            return chosen(names, {}, {})
        except DosimeterError as error:
            raise DosimeterError(f"defence {self.name}: {error}") from error

    def method(self, n_images: int) -> Method:
        """Return the loss on changed images."""
        return OnChanged(self.chosen(), self.share)


ENTRY = Entry(
    build=lambda setting: parse(Augment, setting, name=Augment.name),
    note=f"trained on images with physical changes (dosimeter list physical); {described(Augment)}",
    title="augmentation",
    kind="training",
    source="Hendrycks & Dietterich 2019 (arXiv 1903.12261); Engstrom et al. 2019 (arXiv 1712.02779)",
)
