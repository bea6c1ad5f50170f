"""What speaks against a classifier, seen on a few images before they are swept; `preflight` measures it in full."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dosimeter.attacks.base import AttackError, Problem
from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier, ClassifierFailed, answer
from dosimeter.models.outputs import Finding, OneLogit

N_IMAGES = 4
PASSES = 3
ROUNDING = 1e-4  # of the logits' size: more is not rounding
SUM_TOLERANCE = 1e-5
FAR = 1000.0
"""Pixels far outside the image range, where logits leave [0, 1] and probabilities cannot."""


def doubts(classifier: Classifier, cohort: Cohort, *, seed: int = 0) -> list[str]:
    """Return a sentence for everything that speaks against what a sweep of `cohort` will find.

    Raises:
        DosimeterError: no image can be read, or `OneLogit` or `Finding` stands behind probabilities: each image would
            count as positive.
    """
    images, labels = _sample(classifier, cohort)
    with _overheard(classifier) as heard:
        logits = answer(classifier, images)
        beyond = _ask_beyond(classifier, seed)
    _refuse_probabilities(heard)
    return [
        *_of_outputs(logits, beyond),
        *_of_passes(classifier, images, logits),
        *_of_gradients(classifier, images, labels),
    ]


def _sample(classifier: Classifier, cohort: Cohort) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, H, W) and labels (n,) from all over the cohort."""
    images: list[Tensor] = []
    labels: list[int] = []
    reason = ""
    spread = np.linspace(0, max(len(cohort) - 1, 0), N_IMAGES).round().astype(int).tolist()
    for index in dict.fromkeys((*spread, *range(len(cohort)))):
        try:
            case = cohort[index]
            images.append(classifier.prepare(case))
        except (DosimeterError, OSError, ValueError) as error:
            reason = reason or str(error)  # the sweep names it
            continue
        labels.append(case.label)
        if len(images) == N_IMAGES:
            break
    if not images:
        raise DosimeterError(f"none of the {len(cohort)} images of {cohort.name} can be read. {reason}".rstrip())
    return torch.stack(images), torch.tensor(labels)


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


def _ask_beyond(classifier: Classifier, seed: int) -> Tensor:
    """Return logits (n, n_classes) of black, white, noise, and noise far outside the range, as far as it answers."""
    shape = (2, 3, classifier.size_px, classifier.size_px)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    flat = torch.stack([torch.zeros(shape[1:]), torch.ones(shape[1:])])
    found = [torch.empty(0, len(classifier.classes))]
    for images in (flat, noise, FAR * (2 * noise - 1)):
        with suppress(ClassifierFailed):  # it may refuse what is no image
            found.append(answer(classifier, images))
    return torch.cat(found)


def _are_shares(values: Tensor) -> bool:
    """Whether all finite values are in [0, 1], and not one and the same."""
    values = values[torch.isfinite(values)]
    return len(values) > 0 and bool(((values >= 0) & (values <= 1)).all()) and bool((values != values[0]).any())


def _refuse_probabilities(heard: list[tuple[str, Tensor]]) -> None:
    for name in dict.fromkeys(name for name, _ in heard):
        values = torch.cat([given for each, given in heard if each == name])
        if _are_shares(values):
            low, high = float(values.min()), float(values.max())
            raise DosimeterError(
                f"{name} must be given logits, got {low:.3g} to {high:.3g} for all images, also far outside [0, 1]: "
                "these are probabilities, and above 0 each image would be positive. Leave the network's sigmoid or "
                "softmax out, and hand over what goes into it."
            )


def _of_outputs(logits: Tensor, beyond: Tensor) -> Iterator[str]:
    rows = torch.cat([logits, beyond])
    if not torch.isfinite(logits).all():
        yield f"The classifier's outputs are not finite for {int((~torch.isfinite(logits)).any(dim=1).sum())} images."
    rows = rows[torch.isfinite(rows).all(dim=1)]
    if not len(rows) or not _are_shares(rows):
        return
    summed = bool(((rows.sum(dim=1) - 1).abs() <= SUM_TOLERANCE).all())
    yield (
        f"The classifier's outputs look like probabilities of a {'softmax' if summed else 'sigmoid'}, not like logits: "
        "near 0 and 1 they hardly have a gradient, and attacks then seem weaker than they are. Hand over what goes "
        f"into the {'softmax' if summed else 'sigmoid'}."
    )


def _of_passes(classifier: Classifier, images: Tensor, logits: Tensor) -> Iterator[str]:
    size = logits.norm(dim=1)
    size = size.clamp(min=max(float(size.nan_to_num().median()), 1e-12))
    again = [answer(classifier, images) for _ in range(PASSES - 1)]
    largest = max(float(((other - logits).norm(dim=1) / size).nan_to_num().max()) for other in again)
    changed = torch.stack([other.argmax(dim=1) != logits.argmax(dim=1) for other in again]).any(dim=0)
    if largest > ROUNDING:
        yield (
            f"The classifier's answers change between {PASSES} passes of the same images: logits by up to "
            f"{largest:.2g} of their size, the prediction of {int(changed.sum())} of {len(images)}. Switch the "
            "randomness off; attacks on random answers say little."
        )


def _of_gradients(classifier: Classifier, images: Tensor, labels: Tensor) -> Iterator[str]:
    device = classifier.device
    problem = Problem(classifier, images.to(device), labels.to(device))
    try:
        _, _, gradient = problem.gradient(problem.images, "margin", "free")
    except AttackError as error:
        yield f"No gradient of the classifier reaches the image, so that only black-box attacks can be tried: {error}"
        return
    except FloatingPointError:
        yield f"The classifier's gradient is not finite for some of {len(images)} images: attacks fail there."
        return
    zero = int((gradient == 0).flatten(1).all(dim=1).sum())
    if zero:
        yield (
            f"The gradient of the classifier's margin is exactly zero for {zero} of {len(images)} images: attacks that "
            "follow it do not move them, which is no robustness."
        )
