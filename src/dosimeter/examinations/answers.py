"""What the pre-flight measures of answers: what the outputs look like, and whether they are the same again.

Outputs that are probabilities are known by this, that they stay in [0, 1] also where pixels lie far outside the image
range; logits leave it there.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.examinations.gradients import BATCH, N_REPEATED, Facts, Subject
from dosimeter.models.base import Classifier, ClassifierFailed, answer
from dosimeter.models.outputs import Finding, OneLogit

PASSES = 5
ROUNDING = 1e-4  # of the logits' size: more is not rounding

UNIT_TOLERANCE = 1e-5
SATURATED = 1e-6
FAR = (1e3, 1e8)  # pixels: also the smallest logits leave [0, 1] at one of them


def draw(classifier: Classifier, cohort: Cohort, n_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, H, W) and labels (n,) of cases drawn from the cohort, those that can be read."""
    images: list[Tensor] = []
    labels: list[int] = []
    reason = ""
    for index in np.random.default_rng(seed).permutation(len(cohort)).tolist():
        if len(images) == n_images:
            break
        try:
            case = cohort[index]
            images.append(classifier.prepare(case))
            labels.append(case.label)
        except (DosimeterError, OSError, ValueError) as error:
            reason = reason or str(error)  # the sweep names it
    if not images:
        why = reason or "See `dosimeter data`."
        raise DosimeterError(f"none of the {len(cohort)} images of {cohort.name} can be read. {why}")
    return torch.stack(images), torch.tensor(labels)


class Asked(NamedTuple):
    """Logits of a subject's images (n, n_classes), and of images that are none (m, n_classes)."""

    logits: Tensor
    beyond: Tensor


def ask(subject: Subject) -> Asked:
    """Return what a classifier answers, once it is known that `OneLogit` and `Finding` stand behind logits.

    Raises:
        DosimeterError: one of them stands behind probabilities: each image would count as positive.
    """
    with _overheard(subject.classifier) as heard:
        asked = Asked(subject.logits(subject.images), _beyond(subject))
    for name in dict.fromkeys(name for name, _ in heard):
        values = torch.cat([given for each, given in heard if each == name])
        if _are_shares(values):
            low, high = float(values.min()), float(values.max())
            raise DosimeterError(
                f"{name} must be given logits, got {low:.3g} to {high:.3g} for all images, also far outside [0, 1]: "
                "these are probabilities, and above 0 each image would be positive. Leave the network's sigmoid or "
                "softmax out, and hand over what goes into it."
            )
    return asked


@contextmanager
def _overheard(classifier: Classifier) -> Iterator[list[tuple[str, Tensor]]]:
    """Collect what each `OneLogit` and `Finding` of the classifier is given while the block runs."""
    heard: list[tuple[str, Tensor]] = []

    def note(module: Any, inputs: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            heard.append((type(module).__name__, inputs[0].detach().float().flatten().cpu()))

    modules = [module for module in classifier.modules() if isinstance(module, OneLogit | Finding)]
    hooks = [module.register_forward_pre_hook(note) for module in modules]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _beyond(subject: Subject) -> Tensor:
    """Return logits (m, n_classes) of black, white, noise, and noise far outside the range, as far as it answers."""
    shape = (2, *subject.images.shape[1:])
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(subject.seed))
    flat = torch.stack([torch.zeros(shape[1:]), torch.ones(shape[1:])])
    found = [torch.empty(0, len(subject.classifier.classes))]
    device = subject.classifier.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # what follows draws the same
        for images in (flat, noise, *(far * (2 * noise - 1) for far in FAR)):
            with suppress(ClassifierFailed):  # it may refuse what is no image
                found.append(answer(subject.classifier, images))
    return torch.cat(found)


def _are_shares(values: Tensor) -> bool:
    """Whether all finite values are in [0, 1], and not one and the same."""
    values = values[torch.isfinite(values)]
    return len(values) > 0 and bool(((values >= 0) & (values <= 1)).all()) and bool((values != values[0]).any())


def outputs(asked: Asked) -> Facts:
    """Return whether the outputs look like probabilities, and how many of them are 1 in all but name."""
    logits = asked.logits
    finite = torch.isfinite(logits).all(dim=1)
    rows = logits[finite]
    beyond = asked.beyond[torch.isfinite(asked.beyond).all(dim=1)]
    look = "logits"
    if _sum_to_one(rows):
        look = "softmax"
    elif len(rows) and _are_shares(torch.cat([rows, beyond])):
        look = "sigmoid"  # one for each class, or one beside a column of zeros
    saturated = int((torch.softmax(rows, dim=1).amax(dim=1) > 1 - SATURATED).sum())
    constant = len(rows) > 1 and bool((rows == rows[0]).all())
    facts = {"n": len(logits), "not_finite": int((~finite).sum()), "look": look, "saturated": saturated}
    return {**facts, "constant": constant}


def _sum_to_one(rows: Tensor) -> bool:
    unit = (rows >= -UNIT_TOLERANCE) & (rows <= 1 + UNIT_TOLERANCE)
    return len(rows) > 0 and bool(unit.all() and ((rows.sum(dim=1) - 1).abs() <= UNIT_TOLERANCE).all())


def apart(first: Tensor, second: Tensor) -> Facts:
    """Return how far two sets of logits (n, n_classes) for the same images are apart.

    n: those that are finite; changed: images whose prediction differs; largest: the largest difference, as a share of
    the logits' size.
    """
    finite = (torch.isfinite(first) & torch.isfinite(second)).all(dim=1)
    if not finite.any():
        return {"n": 0, "changed": 0, "largest": 0.0}
    first, second = first[finite], second[finite]
    size = first.norm(dim=1)
    size = size.clamp(min=max(float(size.median()), 1e-12))  # logits near zero are all rounding
    largest = float(((first - second).norm(dim=1) / size).max())
    changed = int((first.argmax(dim=1) != second.argmax(dim=1)).sum())
    return {"n": len(first), "changed": changed, "largest": largest}


def randomness(subject: Subject, logits: Tensor, alone: Tensor | None = None, *, passes: int = PASSES) -> Facts:
    """Return whether images that were answered with `logits` are answered so again.

    Args:
        subject: what is asked.
        logits: (n, n_classes) of its images.
        alone: (m, n_classes) of the first `N_REPEATED` of them, one by one: what a classifier draws at random it draws
            anew for each. If these are alike but for rounding, they are the second pass and the last.
        passes: otherwise, the first among them.
    """
    first, images = logits[:N_REPEATED], subject.images[:N_REPEATED]
    if alone is not None:
        again = apart(first, alone)
        if again["n"] == len(first) and not again["changed"] and again["largest"] < ROUNDING:
            return {"n": len(first), "passes": 2, "changed": 0, "largest": again["largest"]}
    others = [subject.logits(images) for _ in range(passes - 1)]
    changed = torch.stack([other.argmax(dim=1) != first.argmax(dim=1) for other in others]).any(dim=0)
    largest = max(apart(first, other)["largest"] for other in others)
    return {"n": len(first), "passes": passes, "changed": int(changed.sum()), "largest": largest}


def one_by_one(subject: Subject) -> Tensor:
    """Return logits (m, n_classes) of the first `N_REPEATED` images, each asked alone."""
    return subject.logits(subject.images[:N_REPEATED], batch=1)


def batching(logits: Tensor, alone: Tensor) -> Facts:
    """Return whether images that were answered together are answered alike one by one."""
    return {**apart(logits[:N_REPEATED], alone), "batch": min(BATCH, len(logits))}
