"""Defence: the network is trained on images with random noise, which no attacker chose: the control of others."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from dosimeter.defences.ascent import normal
from dosimeter.defences.base import Entry
from dosimeter.defences.learning import Batch, Method
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.students import Student
from dosimeter.defences.taught import Taught
from dosimeter.models.training import loss_of


class OnNoisy(Method):
    """The loss of images with normal noise, drawn anew each time; they are not cut to [0, 1]."""

    def __init__(self, sigma: float, channels: str) -> None:
        self.sigma, self.channels = sigma, channels

    def loss(self, student: Student, batch: Batch) -> Tensor:
        """Return the loss of noisy images."""
        noise = (
            normal(batch.inputs, batch.noise)
            if self.channels == "tied"
            else torch.randn(batch.inputs.shape, generator=batch.noise).to(batch.inputs)
        )
        with student.practising():
            return loss_of(student(batch.inputs + self.sigma * noise), batch.labels, "mean")


@dataclass(frozen=True)
class NoiseTraining(Taught):
    """Trains on noisy images.

    Attributes:
        sigma: the noise's deviation, of the image range.
        channels: whether the three planes of an image have the same noise ("tied"), or each its own ("free").
    """

    first: ClassVar[str] = "sigma"
    name: ClassVar[str] = "noise_training"

    sigma: Annotated[float, Within(0, 1, above=True, unit="of the image range")] = 0.01
    channels: Literal["tied", "free"] = "tied"

    def method(self, n_images: int) -> Method:
        """Return the loss on noisy images."""
        return OnNoisy(self.sigma, self.channels)


ENTRY = Entry(
    build=lambda setting: parse(NoiseTraining, setting, name=NoiseTraining.name),
    note=f"trained on images with normal noise; behind the colon {described(NoiseTraining)}",
    title="noise training",
    kind="training",
    source="Cohen et al. 2019 (arXiv 1902.02918), section 3.3",
)
