"""What every detector shares: a score of images, a threshold on clean ones, and an alarm that every attack knows.

The threshold is split-conformal. Of n clean images that the score was not fitted on it is the
ceil((n + 1)(1 - rate))-th smallest score, so that of new images like these no more than the share `rate` is rejected by
mistake. That says nothing of how many attacked images are: no rule of clean images can. Where the classifier itself was
trained on the n images, and the score looks at what it learned there, new ones are less like them, and more may be
rejected.

Source: Vovk et al. 2005, Lei et al. 2018 (arXiv 1604.04173), section 2.2; selective gradients for the alarm, Bryniarski
et al. 2021 (arXiv 2106.15023).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dosimeter.attacks.losses import margin
from dosimeter.defences.base import Defence
from dosimeter.defences.settings import Within
from dosimeter.defences.training import Training, nothing
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.parting import parted
from dosimeter.models.rings import Inside, Ring, Seen, with_alarm

SHARE = {"all": 0.25, "class": 0.5}
"""Of the training images that a threshold is set on, at least; of one for each class, whose images must do for each."""

BATCH = 8
THRESHOLD, KAPPA = "threshold", "kappa"

Rate = Annotated[float, Within(0, 0.5, above=True, unit="of clean images")]


class Score(nn.Module, ABC):
    """How suspicious images are. Torch differentiates it, so an attack that knows it can follow it."""

    @abstractmethod
    def forward(self, images: Tensor, seen: Seen, inside: Inside) -> Tensor:
        """Return scores (batch,), larger ones more suspicious.

        Args:
            images: (batch, 3, H, W) in [0, 1].
            seen: what is inside the detector says of them.
            inside: answers about others.
        """


class Alarm(Ring):
    """Rejects images whose score is above a threshold.

    Args:
        threshold: (1,), or (n_classes,) one for each class that may be answered.
        kappa: () logits for one unit of the score.
        n_classes: of the logits.
    """

    alarms = True
    threshold: Tensor
    kappa: Tensor

    def __init__(self, score: Score, threshold: Tensor, kappa: Tensor, *, n_classes: int) -> None:
        super().__init__()
        self.score = score
        self.n_classes = n_classes
        self.register_buffer("threshold", threshold.float())
        self.register_buffer("kappa", kappa.float())

    def forward(self, images: Tensor, inside: Inside) -> Tensor:
        """Return outputs (batch, n_classes + 1), the alarm last: kappa times what the score is above the threshold."""
        seen = inside(images)
        score = self.score(images, seen, inside)
        return with_alarm(seen.outputs, self.kappa * (score - self._limits(seen.outputs)), self.n_classes)

    def _limits(self, outputs: Tensor) -> Tensor:
        predicted = outputs[:, : self.n_classes].argmax(dim=1)
        limits: Tensor = self.threshold.expand(self.n_classes)[predicted]
        return limits


@dataclass(frozen=True)
class Detector(Defence):
    """Rejects what looks unlike clean images.

    Args:
        rate: share of clean images that may be rejected.
        threshold: one for all images, or one for each class that is answered.
    """

    rate: Rate = 0.05
    threshold: Literal["all", "class"] = "all"

    name: ClassVar[str]
    looks_at: ClassVar[Literal["maps", "scores"]] = "maps"
    fits: ClassVar[bool] = True  # else all training images are left for the threshold

    def fit(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None]
    ) -> dict[str, Tensor]:
        """Return what the score is made of, from images that no threshold is set on."""
        del classifier, training, seed, advance
        return {}

    @abstractmethod
    def score(self, learned: Mapping[str, Tensor]) -> Score:
        """Return the score of what `fit` returned."""

    def learn(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None] = nothing
    ) -> dict[str, Tensor]:
        """Fit the score on some patients and set its threshold on the others.

        Raises:
            DosimeterError: there are too few images or patients, or the classifier cannot be looked at.
        """
        classifier = self._looked_at(classifier)
        parts = self.parted(training, seed=seed)
        learned = self.fit(classifier, parts.fitted, seed=seed, advance=advance)
        clean = measure(classifier, self.score(learned), parts.calibrated, advance)
        return learned | {THRESHOLD: self._thresholds(clean, len(classifier.classes)), KAPPA: clean.kappa}

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the classifier inside of the alarm."""
        del seed
        classifier = self._looked_at(classifier)
        own = {name: tensor for name, tensor in learned.items() if name not in (THRESHOLD, KAPPA)}
        alarm = Alarm(self.score(own), learned[THRESHOLD], learned[KAPPA], n_classes=len(classifier.classes))
        return classifier.around(alarm.to(classifier.device))

    def passes(self, n_images: int) -> float:
        """Return a pass for each image."""
        return float(n_images)

    def parted(self, training: Training, *, seed: int) -> "Parts":
        """Return the images that the score is fitted on and those of its threshold, no patient among both.

        Raises:
            DosimeterError: there are too few.
        """
        least = least_images(self.rate)
        if not self.fits:
            parts = Parts(training, training)
        else:
            groups = training.groups.unique()
            order = groups[torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))]
            wanted, taken, n = max(least, math.ceil(SHARE[self.threshold] * len(training))), [], 0
            for group in order.tolist():
                if n >= wanted:
                    break
                taken.append(group)
                n += int((training.groups == group).sum())
            of_limit = torch.isin(training.groups, torch.tensor(taken, dtype=training.groups.dtype))
            parts = Parts(*(training.take(which.nonzero()[:, 0].tolist()) for which in (~of_limit, of_limit)))
        if len(parts.calibrated) < least or len(parts.fitted) < min(least, len(training)):
            raise DosimeterError(self._wanting(len(training)))
        return parts

    def too_few(self, n_images: int) -> str:
        """Return the sentence where a threshold of this rate cannot be set on so many images."""
        return self._wanting(n_images) if n_images < least_images(self.rate) * (1 + self.fits) else ""

    def _wanting(self, n_images: int) -> str:
        least = least_images(self.rate)
        return (
            f"defence {self.name} with rate={self.rate:g} must learn on {least * (1 + self.fits)} images or more, "
            f"{least} of them for the threshold{' and of other patients' if self.fits else ''}, got {n_images}. "
            "Give more, or a higher rate."
        )

    def _looked_at(self, classifier: Classifier) -> Classifier:
        if classifier.findings is not None:
            raise DosimeterError(
                f"defence {self.name} must have a classifier of classes, got one of findings. Take one of them, "
                "classifier.deciding(NAME)."
            )
        if self.looks_at == "maps":
            return parted(classifier, why=f"defence {self.name}")
        if classifier.access == "decisions":
            raise DosimeterError(f"defence {self.name} looks at scores, got one that tells its decision alone.")
        return classifier

    def _thresholds(self, clean: "Measured", n_classes: int) -> Tensor:
        if self.threshold == "all":
            return conformal(clean.scores, self.rate)[None]
        least = least_images(self.rate)
        counts = clean.predicted.bincount(minlength=n_classes).tolist()
        if min(counts) < least:
            raise DosimeterError(
                f"defence {self.name} with threshold=class and rate={self.rate:g} must have {least} images for the "
                f"threshold of each class, got {min(counts)} of one. Give more, or threshold=all."
            )
        return torch.stack([conformal(clean.scores[clean.predicted == place], self.rate) for place in range(n_classes)])


class Parts(NamedTuple):
    """Training images that a score is fitted on, and others that its threshold is set on."""

    fitted: Training
    calibrated: Training


class Measured(NamedTuple):
    """Scores and margins (n,) of clean images, and the classes (n,) that they are given."""

    scores: Tensor
    margins: Tensor
    predicted: Tensor

    @property
    def kappa(self) -> Tensor:
        """How many logits a unit of the score is worth, (): the two then vary alike over clean images."""
        spread = self.scores.double().std()
        least = torch.finfo(torch.float32).eps * self.scores.double().abs().max()
        return (self.margins.double().std() / torch.maximum(spread, least).clamp(min=1e-30)).clamp(1e-30, 1e30).float()


def measure(classifier: Classifier, score: Score, images: Training, advance: Callable[[int], None]) -> Measured:
    """Return what a classifier and a score say of clean images."""
    found: list[tuple[Tensor, ...]] = []
    score = score.to(classifier.device).eval()
    n_classes = len(classifier.classes)
    for _, batch, labels in images.batches(BATCH):
        with torch.no_grad():
            seen = classifier.seen(batch)
            scores = score(batch, seen, classifier.seen)
        logits = seen.outputs[:, :n_classes].float()
        found.append((scores.cpu(), -margin(logits, labels).cpu(), logits.argmax(dim=1).cpu()))
        advance(len(batch))
    scores, margins, predicted = (torch.cat(column) for column in zip(*found, strict=True))
    return Measured(scores, margins, predicted)


def least_images(rate: float) -> int:
    """Return how many clean images a threshold needs at least for this rate of false alarms: 19 for 5 %, 99 for 1 %."""
    return max(1, math.ceil(1 / rate - 1 - 1e-9))


def conformal(scores: Tensor, rate: float) -> Tensor:
    """Return the threshold () above which no more than the share `rate` of clean images is expected.

    Args:
        scores: (n,) of clean images, n at least `least_images(rate)`.
    """
    place = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    assert 1 <= place <= len(scores), (place, len(scores))
    return scores.sort().values[place - 1]


def pooled(maps: Tensor) -> Tensor:
    """Return features (batch, C): maps (batch, C, H, W) averaged over their places, tokens (batch, n, C) likewise."""
    maps = maps.float()
    if maps.ndim == 3:
        return maps.mean(dim=1)
    return maps.flatten(2).mean(dim=2) if maps.ndim > 2 else maps.flatten(1)


def distances(features: Tensor, references: Tensor) -> Tensor:
    """Return Euclidean distances (batch, n) of features (batch, C) to references (n, C), exact where they are small."""
    return torch.cdist(features, references, compute_mode="donot_use_mm_for_euclid_dist")


class Features(NamedTuple):
    """Pooled features (n, C), classes (n,) and patients (n,) of images."""

    values: Tensor
    labels: Tensor
    groups: Tensor


def features_of(classifier: Classifier, images: Training, advance: Callable[[int], None], *, name: str) -> Features:
    """Return the pooled features of clean images, on the CPU.

    Raises:
        DosimeterError: a class has fewer than two images.
    """
    n_classes = len(classifier.classes)
    counts = images.labels.bincount(minlength=n_classes).tolist()
    if min(counts) < 2:
        raise DosimeterError(
            f"defence {name} must be fitted on two images of each class or more, got {min(counts)} of one. Give more."
        )
    found = []
    for _, batch, _ in images.batches(BATCH):
        with torch.no_grad():
            found.append(pooled(classifier.seen(batch).maps()).cpu())
        advance(len(batch))
    return Features(torch.cat(found), images.labels, images.groups)
