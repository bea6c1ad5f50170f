"""The images that a defence learns on, as the classifier that it defends looks at them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier


def nothing(n: int) -> None:
    """Tell nobody of progress."""


class Training:
    """Training images on a classifier's grid, read when they are asked for: memory does not grow with them.

    Attributes:
        labels: (n,) classes; of findings (n, findings) 1, 0, or NaN where it is unknown.
        groups: (n,) a number for each patient, or for each image whose patient is unknown.
    """

    def __init__(self, classifier: Classifier, cohort: Cohort) -> None:
        self._classifier, self._cohort = classifier, cohort
        self._places = list(range(len(cohort)))
        labels = cohort.known_findings if cohort.findings else cohort.labels
        self.labels = torch.from_numpy(labels)
        units = [record.unit if record.unit is not None else (record.case_id,) for record in cohort.records]
        known = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
        self.groups = torch.tensor([known[unit] for unit in units])

    def __len__(self) -> int:
        return len(self._places)

    def take(self, places: Sequence[int]) -> "Training":
        """Return some of them, by their places here."""
        other = object.__new__(Training)
        other._classifier, other._cohort = self._classifier, self._cohort
        other._places = [self._places[place] for place in places]
        chosen = torch.as_tensor(list(places), dtype=torch.long)
        other.labels, other.groups = self.labels[chosen], self.groups[chosen]
        return other

    def images(self, places: Sequence[int]) -> Tensor:
        """Return the images (n, 3, H, W) in [0, 1] at `places`, on the classifier's device."""
        cases = [self._cohort[self._places[place]] for place in places]
        return torch.stack([self._classifier.prepare(case) for case in cases]).to(self._classifier.device)

    def batches(
        self, size: int, *, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield places (b,), images (b, 3, H, W) and labels (b, ...) of all, shuffled if there is a generator."""
        order = torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)
        for places in order.split(size):
            yield places, self.images(places.tolist()), self.labels[places].to(self._classifier.device)


def readable(classifier: Classifier, cohort: Cohort) -> Training:
    """Return the training images that can be read.

    Raises:
        DosimeterError: none can.
    """
    training = Training(classifier, cohort)
    kept = []
    for place in range(len(training)):
        try:
            training.images([place])
        except (DosimeterError, OSError, ValueError):
            continue  # the study named it when it trained
        kept.append(place)
    if not kept:
        raise DosimeterError(f"no training image of {cohort.name} can be read, so no defence can learn on them.")
    return training.take(kept)
