"""Defence: images are rejected whose features lie far from those of every class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor

from dosimeter.defences.base import Entry
from dosimeter.defences.detectors import Detector, Score, features_of, pooled
from dosimeter.defences.settings import described, parse
from dosimeter.defences.training import Training
from dosimeter.models.base import Classifier
from dosimeter.models.rings import Inside, Seen


class Distance(Score):
    """The squared Mahalanobis distance of pooled features to the nearest class's mean.

    Args:
        means: (n_classes, C).
        whitening: (C, C), W with W^T W the inverse of the covariance that all classes share.
    """

    means: Tensor
    whitening: Tensor

    def __init__(self, means: Tensor, whitening: Tensor) -> None:
        super().__init__()
        self.register_buffer("means", means)
        self.register_buffer("whitening", whitening)

    def forward(self, images: Tensor, seen: Seen, inside: Inside) -> Tensor:
        """Return squared distances (batch,)."""
        del images, inside
        away = pooled(seen.maps())[:, None] - self.means  # (batch, n_classes, C)
        return (away @ self.whitening.T).square().sum(dim=2).amin(dim=1)


@dataclass(frozen=True)
class Mahalanobis(Detector):
    """Normal densities of the classes' features, with one covariance shrunk by Ledoit and Wolf's share."""

    name = "mahalanobis"

    def fit(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None]
    ) -> dict[str, Tensor]:
        """Return means and whitening."""
        del seed
        features = features_of(classifier, training, advance, name=self.name)
        values = features.values.double()
        means = torch.stack([values[features.labels == place].mean(dim=0) for place in range(len(classifier.classes))])
        shrunk = LedoitWolf(assume_centered=True).fit((values - means[features.labels]).numpy())
        precision = torch.linalg.inv(torch.from_numpy(shrunk.covariance_))
        whitening = torch.linalg.cholesky((precision + precision.T) / 2).T
        return {"means": means.float(), "whitening": whitening.float().contiguous()}

    def score(self, learned: Mapping[str, Tensor]) -> Score:
        """Return the distance."""
        return Distance(learned["means"], learned["whitening"])


ENTRY = Entry(
    build=lambda setting: parse(Mahalanobis, setting, name=Mahalanobis.name),
    note=f"rejects images whose features lie far from every class's; {described(Mahalanobis)}",
    title="Mahalanobis distance",
    kind="detector",
    source="Lee et al. 2018 (arXiv 1807.03888); covariance by Ledoit and Wolf 2004",
    broken_by="Carlini and Wagner 2017 (arXiv 1705.07263); in medical images Yao et al. 2020 (arXiv 2012.09501)",
)
