"""Defence: images are rejected that are answered otherwise once they are squeezed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from dosimeter.defences.base import Entry, Gradient
from dosimeter.defences.detectors import Detector, Score
from dosimeter.defences.known.bit_depth import Rounded
from dosimeter.defences.known.median import Median
from dosimeter.defences.settings import Within, described, parse
from dosimeter.errors import DosimeterError
from dosimeter.models.rings import Inside, Seen


class Squeezed(Score):
    """The largest L1 distance of an image's probabilities from those of its squeezed forms, from 0 to 2."""

    def __init__(self, bits: int, size: int) -> None:
        super().__init__()
        self.rounded, self.median = Rounded(bits), Median(size)

    def forward(self, images: Tensor, seen: Seen, inside: Inside) -> Tensor:
        """Return distances (batch,)."""
        own = torch.softmax(seen.outputs.float(), dim=1)
        distances = [
            (torch.softmax(inside(squeeze(images)).outputs.float(), dim=1) - own).abs().sum(dim=1)
            for squeeze in (self.rounded, self.median)
        ]
        return torch.stack(distances).amax(dim=0)


@dataclass(frozen=True)
class FeatureSqueezing(Detector):
    """Compares an image's answer with that of fewer grey levels and of a median filter.

    Args:
        bits: of the grey levels.
        size: of the filter's window, pixels a side.
    """

    bits: Annotated[int, Within(1, 16)] = 5
    size: Annotated[int, Within(3, 15)] = 3

    name = "feature_squeezing"
    looks_at = "scores"
    fits = False
    gradient: ClassVar[Gradient] = "approximate"

    def __post_init__(self) -> None:
        if self.size % 2 == 0:
            raise DosimeterError(
                f"defence feature_squeezing: size must be odd, got {self.size}. Write size={self.size - 1}."
            )

    def score(self, learned: Mapping[str, Tensor]) -> Score:
        """Return the distance."""
        del learned
        return Squeezed(self.bits, self.size)

    @property
    def answer_passes(self) -> float:
        """A pass for the image and one for each of its two squeezed forms."""
        return 3.0

    def passes(self, n_images: int) -> float:
        """Return three passes for each image."""
        return 3.0 * n_images


ENTRY = Entry(
    build=lambda setting: parse(FeatureSqueezing, setting, name=FeatureSqueezing.name),
    note=f"rejects images whose squeezed forms are answered otherwise; {described(FeatureSqueezing)}",
    title="feature squeezing",
    kind="detector",
    source="Xu et al. 2018 (arXiv 1704.01155)",
    broken_by="Sharma and Chen 2018 (arXiv 1803.09868)",
)
