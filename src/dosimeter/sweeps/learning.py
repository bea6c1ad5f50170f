"""What an attack learns on the training images before it is swept over the test images."""

import time
from pathlib import Path

import torch
from torch import Tensor

from dosimeter.attacks.base import Attack
from dosimeter.attacks.learner import Learner
from dosimeter.attacks.threat import Threat
from dosimeter.cohorts.base import Case, Cohort
from dosimeter.defences.keeping import Learned, keep, read_kept
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier

LEARNED = "learned"
"""The name of what an attack learned, in its file."""


def learn(
    attack: Attack | Learner,
    classifier: Classifier,
    training: Cohort,
    *,
    seed: int,
    threat: Threat,
    file: Path | None = None,
) -> Attack:
    """Return `attack`, or what it becomes by learning on `training`.

    Args:
        threat: what the attacker may do.
        file: where what is learned is kept, and taken from if it is there and whole.

    Raises:
        DosimeterError: no training image can be read.
    """
    if not isinstance(attack, Learner):
        return attack
    if file is not None and (kept := read_kept(file)) is not None:
        return attack.knowing(kept.tensors[LEARNED])

    def batch_of(places: list[int]) -> tuple[Tensor, Tensor]:
        cases = [_readable(training, place) for place in places]
        images = torch.stack([classifier.prepare(case) for case in cases]).to(classifier.device)
        return images, torch.tensor([case.label for case in cases], device=classifier.device)

    started = time.perf_counter()
    learned = attack.learn(classifier, batch_of, n_images=len(training), seed=seed, threat=threat)
    if file is not None:
        keep(Learned({LEARNED: learned.contiguous()}, time.perf_counter() - started), file)
    return attack.knowing(learned)


def _readable(cohort: Cohort, place: int) -> Case:
    """Return the case at `place`, or the next one whose image can be read."""
    for step in range(len(cohort)):
        try:
            return cohort[(place + step) % len(cohort)]
        except (DosimeterError, OSError, ValueError):
            continue  # the study named it when it trained
    raise DosimeterError(f"no training image of {cohort.name} can be read, so no attack can learn on it.")
