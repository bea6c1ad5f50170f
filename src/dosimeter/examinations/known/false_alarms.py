"""Examination: how small a change makes a detector refuse an image that is answered rightly.

Whoever wants work to pile up attacks the alarm and leaves the diagnosis alone.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.pgd import PGD
from dosimeter.errors import DosimeterError
from dosimeter.examinations.base import N_IMAGES, Examination, Examined, Facts, Question
from dosimeter.models.base import Classifier, answer
from dosimeter.models.rings import excess_of
from dosimeter.sweeps.search import search

ATTACK = PGD(steps=20, loss="margin")
BATCH = 4


class Refusal(nn.Module):
    """A classifier that rejects as one of two classes: accepted, rejected; their margin is the alarm's."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, 2) for images (batch, 3, H, W)."""
        excess = excess_of(self.classifier(images))
        return torch.stack([torch.zeros_like(excess), excess], dim=1)


def ask(examined: Examined) -> Iterator[Question]:
    """Ask of a classifier that may refuse to answer, about the images on its grid."""
    if examined.classifier.rejects and examined.classifier.findings is None:
        epsilons = examined.cells[0].setting.epsilons
        n_images = N_IMAGES[examined.settings.effort]
        key = [str(epsilons), str(ATTACK), str(n_images)]
        yield Question("attacking its alarm", key, partial(_found, examined, epsilons, n_images), {})


def _found(examined: Examined, epsilons: tuple[float, ...], n_images: int) -> list[Facts]:
    """Return for each image that is right and accepted the smallest epsilon at which it is refused; None: at none."""
    classifier, cohort = examined.classifier, examined.trial.split.test
    found: list[Facts] = []
    waiting: list[tuple[str, Tensor]] = []
    for place, record in enumerate(cohort.records[:n_images]):
        try:
            image = classifier.prepare(cohort[place])
        except (DosimeterError, OSError, ValueError):
            continue  # the sweep reports it
        outputs = answer(classifier, image[None], alarm=True)
        if int(outputs[0, :-1].argmax()) == record.label and float(excess_of(outputs)) <= 0:
            waiting.append((record.case_id, image))
    for start in range(0, len(waiting), BATCH):
        names, images = zip(*waiting[start : start + BATCH], strict=True)
        batch = torch.stack(images).to(classifier.device)
        accepted = torch.zeros(len(batch), dtype=torch.long, device=batch.device)
        problem = Problem(Refusal(classifier), batch, accepted, seed=examined.trial.split.seed)
        for case_id, path in zip(names, search(ATTACK, problem, epsilons), strict=True):
            first = next((epsilon for epsilon in epsilons if epsilon and path.found(epsilon)), None)
            found.append({"case_id": case_id, "epsilon": first, "epsilon_max": max(epsilons)})
    return found


ENTRY = Examination(note="how small a change makes a detector refuse an image that is answered rightly", ask=ask)
