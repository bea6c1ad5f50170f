"""Defence: images are rejected around which clean features fill more dimensions than around clean images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from dosimeter.defences.base import Entry
from dosimeter.defences.detectors import Detector, Score, distances, features_of, pooled
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.training import Training
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.rings import Inside, Seen

NO_DISTANCE = 1e-12  # squared: of what lies on a reference


class Dimensionality(Score):
    """The local intrinsic dimensionality of pooled features among references, by its maximum likelihood.

    Args:
        references: (n, C) features of clean images.
        neighbours: how many of the nearest count.
    """

    references: Tensor

    def __init__(self, references: Tensor, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.register_buffer("references", references)

    def forward(self, images: Tensor, seen: Seen, inside: Inside) -> Tensor:
        """Return dimensions (batch,): -1 / mean(log(r_i / r_k)) over the distances r_i to the k nearest."""
        del images, inside
        squared = distances(pooled(seen.maps()), self.references).square()  # (batch, n)
        nearest = squared.topk(self.neighbours, dim=1, largest=False).values.clamp(min=NO_DISTANCE)
        logarithms = 0.5 * (nearest.log() - nearest[:, -1:].log())
        return -1 / logarithms.mean(dim=1).clamp(max=-NO_DISTANCE)


@dataclass(frozen=True)
class Lid(Detector):
    """Local intrinsic dimensionality against a batch of clean features.

    Args:
        neighbours: how many of the nearest references count.
        references: clean images that are kept; all that are fitted on, if these are fewer.
    """

    neighbours: Annotated[int, Within(2, 1000)] = 20
    references: Annotated[int, Within(3, 100_000)] = 100

    name = "lid"

    def fit(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None]
    ) -> dict[str, Tensor]:
        """Return the references."""
        values = features_of(classifier, training, advance, name=self.name).values
        chosen = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))[: self.references]
        if len(chosen) <= self.neighbours:
            raise DosimeterError(
                f"defence lid must have more references than neighbours, got {len(chosen)} and {self.neighbours}. "
                f"Write lid:neighbours={max(2, len(chosen) // 2)}."
            )
        return {"references": values[chosen.sort().values]}

    def score(self, learned: Mapping[str, Tensor]) -> Score:
        """Return the dimensionality."""
        return Dimensionality(learned["references"], self.neighbours)


ENTRY = Entry(
    build=lambda setting: parse(Lid, setting, name=Lid.name),
    note=f"rejects images of high local intrinsic dimensionality among clean features; {described(Lid)}",
    title="local intrinsic dimensionality",
    kind="detector",
    source="Ma et al. 2018 (arXiv 1801.02613)",
    broken_by="Athalye et al. 2018 (arXiv 1802.00420); in medical images Yao et al. 2020 (arXiv 2012.09501)",
)
