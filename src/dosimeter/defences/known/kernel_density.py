"""Defence: images are rejected whose features have a low density among those of the class that they are given."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dosimeter.defences.base import Entry
from dosimeter.defences.detectors import Detector, Features, Score, distances, features_of, pooled
from dosimeter.defences.settings import described, parse
from dosimeter.defences.training import Training
from dosimeter.models.base import Classifier
from dosimeter.models.rings import Inside, Seen

WIDTHS = torch.logspace(-1.5, 0.5, 41).tolist()
"""Bandwidths tried, in multiples of the median distance between two features."""


class Density(Score):
    """Minus the logarithm of the kernel density of pooled features, among those of the class answered.

    Args:
        points: (n, C) features of clean images.
        labels: (n,) their classes.
        bandwidth: () of the Gaussian kernel.
    """

    points: Tensor
    labels: Tensor
    bandwidth: Tensor

    def __init__(self, points: Tensor, labels: Tensor, bandwidth: Tensor) -> None:
        super().__init__()
        self.n_classes = int(labels.max()) + 1
        self.register_buffer("points", points)
        self.register_buffer("labels", labels)
        self.register_buffer("bandwidth", bandwidth)

    def forward(self, images: Tensor, seen: Seen, inside: Inside) -> Tensor:
        """Return minus log densities (batch,)."""
        del images, inside
        predicted = seen.outputs[:, : self.n_classes].argmax(dim=1)
        squared = distances(pooled(seen.maps()), self.points).square()  # (batch, n)
        among = predicted[:, None] == self.labels
        return -log_density(squared, among, self.bandwidth, self.points.shape[1])


def log_density(squared: Tensor, among: Tensor, bandwidth: Tensor, n_features: int) -> Tensor:
    """Return log densities (batch,) under Gaussian kernels at some points.

    Args:
        squared: (batch, n) squared distances to the points.
        among: (batch, n), True for the points whose kernels count.
        bandwidth: () of a kernel.
    """
    kernels = (-squared / (2 * bandwidth.square())).masked_fill(~among, -torch.inf)
    norm = among.sum(dim=1).log() + n_features * (bandwidth.log() + 0.5 * math.log(2 * math.pi))
    return kernels.logsumexp(dim=1) - norm


def likeliest_bandwidth(features: Features) -> Tensor:
    """Return the bandwidth () of the largest likelihood of each image under the others' kernels.

    The others are those of its class and of other patients; an image without any says nothing.
    """
    values = features.values.double()
    squared = torch.cdist(values, values).square()
    alike = features.labels[:, None] == features.labels
    among = alike & (features.groups[:, None] != features.groups)
    heard = among.any(dim=1)
    if not heard.any():  # each class is one patient's
        among = alike & ~torch.eye(len(values), dtype=torch.bool)
        heard = among.any(dim=1)
    typical = squared[among].median().sqrt().clamp(min=1e-12)
    tried = [typical * width for width in WIDTHS]
    likelihoods = [float(log_density(squared[heard], among[heard], width, values.shape[1]).mean()) for width in tried]
    best: Tensor = tried[max(range(len(tried)), key=likelihoods.__getitem__)]
    return best.float()


@dataclass(frozen=True)
class KernelDensity(Detector):
    """Densities of the classes' features, by Gaussian kernels of one bandwidth."""

    name = "kernel_density"

    def fit(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None]
    ) -> dict[str, Tensor]:
        """Return the points and the bandwidth of their kernels."""
        del seed
        features = features_of(classifier, training, advance, name=self.name)
        return {"points": features.values, "labels": features.labels, "bandwidth": likeliest_bandwidth(features)}

    def score(self, learned: Mapping[str, Tensor]) -> Score:
        """Return minus the log density."""
        return Density(learned["points"], learned["labels"], learned["bandwidth"])


ENTRY = Entry(
    build=lambda setting: parse(KernelDensity, setting, name=KernelDensity.name),
    note=f"rejects images whose features are rare in the class answered; {described(KernelDensity)}",
    title="kernel density",
    kind="detector",
    source="Feinman et al. 2017 (arXiv 1703.00410)",
    broken_by="Carlini and Wagner 2017 (arXiv 1705.07263); in medical images Yao et al. 2020 (arXiv 2012.09501)",
)
