"""Defence: images are rejected that a small network takes for adversarial, by their features."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.attacks.known.pgd import PGD
from dosimeter.defences.base import Entry
from dosimeter.defences.detectors import BATCH, Detector, Score, pooled
from dosimeter.defences.settings import Dose, Within, described, parse
from dosimeter.defences.training import Training
from dosimeter.models.base import Classifier
from dosimeter.models.rings import Inside, Seen

HIDDEN = 32
PENALTY = 1e-3
LEARNING_RATE = 1e-2


class Suspicion(Score):
    """The logit of a network with one hidden layer, on standardised pooled features: above 0 it takes it for an attack.

    Args:
        mean, spread: (C,) of the features of clean images.
        weights: of both layers, (HIDDEN, C) and (1, HIDDEN), and their biases.
    """

    mean: Tensor
    spread: Tensor
    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor

    def __init__(self, mean: Tensor, spread: Tensor, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        for name, tensor in weights.items():
            self.register_buffer(name, tensor)

    def forward(self, images: Tensor, seen: Seen, inside: Inside) -> Tensor:
        """Return logits (batch,)."""
        del images, inside
        return self.logits(pooled(seen.maps()))

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (batch,) of features (batch, C)."""
        hidden = torch.relu((features - self.mean) / self.spread @ self.first.T + self.first_bias)
        return (hidden @ self.second.T + self.second_bias)[:, 0]


@dataclass(frozen=True)
class Supervised(Detector):
    """A head trained to tell clean images from their adversarial twins, FGSM's and PGD's.

    Every twin is of an image that the head is fitted on, so none of the threshold's images has one there. It knows the
    attacks that it was shown; others may pass.

    Args:
        epsilon: of the twins, which fill their ball.
        steps: of PGD.
        epochs: passes over all features.
    """

    epsilon: Dose = 0.009
    steps: Annotated[int, Within(1, 100)] = 10
    epochs: Annotated[int, Within(1, 10_000)] = 300

    name = "supervised"

    def fit(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None]
    ) -> dict[str, Tensor]:
        """Return the head's tensors."""
        seen = [pair for batch in self._twins(classifier, training, seed, advance) for pair in batch]
        features = torch.cat([each for each, _ in seen])
        attacked = torch.cat([torch.full((len(each),), flag) for each, flag in seen])
        clean = features[attacked == 0]
        mean, spread = clean.mean(dim=0), clean.std(dim=0).clamp(min=1e-6)
        weights = _initial(features.shape[1], torch.Generator().manual_seed(seed))
        with torch.enable_grad():
            self._train(Suspicion(mean, spread, weights), list(weights.values()), features, attacked)
        return {"mean": mean, "spread": spread} | {name: tensor.detach() for name, tensor in weights.items()}

    def score(self, learned: Mapping[str, Tensor]) -> Score:
        """Return the head's logit."""
        weights = {name: tensor for name, tensor in learned.items() if name not in ("mean", "spread")}
        return Suspicion(learned["mean"], learned["spread"], weights)

    def passes(self, n_images: int) -> float:
        """Return the passes of both attacks, a gradient counting three, and of all features."""
        return n_images * (3 * (2 + self.steps) + 4.0)

    def _twins(
        self, classifier: Classifier, training: Training, seed: int, advance: Callable[[int], None]
    ) -> Iterator[list[tuple[Tensor, float]]]:
        """Yield the features (b, C) of clean images, 0 beside them, and those of their twins, 1 beside them."""
        for _, images, labels in training.batches(BATCH):
            problem = Problem(classifier, images, labels, fill=True, seed=seed)
            stepped = (images + self.epsilon * FGSM().direction(problem).sign).clamp(0, 1)
            dose = images.new_full((len(images),), self.epsilon)
            climbed = PGD(steps=self.steps).perturb(problem, dose).images
            with torch.no_grad():
                yield [
                    (pooled(classifier.seen(each).maps()).cpu(), flag)
                    for each, flag in ((images, 0.0), (stepped, 1.0), (climbed, 1.0))
                ]
            advance(len(images))

    def _train(self, head: Suspicion, weights: list[Tensor], features: Tensor, attacked: Tensor) -> None:
        """Train the head's tensors in place by Adam, all features at once, both kinds weighing alike."""
        for tensor in weights:
            tensor.requires_grad_(True)
        weight = (attacked == 0).sum() / (attacked == 1).sum()
        optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE, weight_decay=PENALTY)
        for _ in range(self.epochs):
            loss = binary_cross_entropy_with_logits(head.logits(features), attacked, pos_weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _initial(n_features: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the tensors with which training begins."""
    return {
        "first": torch.randn(HIDDEN, n_features, generator=generator) / n_features**0.5,
        "first_bias": torch.zeros(HIDDEN),
        "second": torch.randn(1, HIDDEN, generator=generator) / HIDDEN**0.5,
        "second_bias": torch.zeros(1),
    }


ENTRY = Entry(
    build=lambda setting: parse(Supervised, setting, name=Supervised.name),
    note=f"rejects images that a small head takes for FGSM's or PGD's, by their features; {described(Supervised)}",
    title="supervised detector",
    kind="detector",
    source="Metzen et al. 2017 (arXiv 1702.04267)",
    broken_by="Carlini and Wagner 2017 (arXiv 1705.07263)",
)
