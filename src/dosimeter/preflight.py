"""Pre-flight: what an attack will meet when it asks a classifier, measured before the sweep.

Numbers only, each with the count of images behind it; `analysis.evaluation` says what they mean. A gradient that is
not there is a finding; a classifier that does not answer at all is an error.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dosimeter.attacks.base import AttackError, Problem, perturb
from dosimeter.attacks.losses import LOSSES, check_loss
from dosimeter.attacks.pgd import PGD
from dosimeter.attacks.slopes import TOLERANCE, Slope, slope
from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.base import LEARNING, Classifier, answer, in_a_line

BATCH = 4
"""Images per pass: what the sweep takes too."""

PASSES = 5
N_REPEATED = 8  # images of the repeated passes, of the single ones and of finite differences
N_MOVED = 16  # images of the attacks
N_RANDOM = 2  # random directions of each image's finite differences

UNIT_TOLERANCE = 1e-5
SATURATED = 1e-6
ONE_LEVEL = 1 / 255
UNBOUNDED = {"steps": 50, "step_size": 0.02, "start": "image"}  # epsilon 1; small steps meet small perturbations first

Facts = dict[str, Any]


def examine(
    classifier: Classifier,
    cohort: Cohort,
    *,
    loss: str = "margin",
    channels: str = "tied",
    declared_accuracy: float | None = None,
    n_images: int = 32,
    seed: int = 0,
) -> Facts:
    """Return what can be known of a classifier before it is attacked, as JSON types.

    Args:
        loss, channels: of the attack that will follow, as `FGSM`.
        declared_accuracy: the user's own figure for the cohort, in [0, 1].
        n_images: drawn from the cohort; images that cannot be read are passed over.
        seed: of the draw and of random directions.

    Raises:
        DosimeterError: no image can be read, or the classifier does not answer images with logits.
    """
    check_loss(loss, channels)
    if n_images < 1:
        raise DosimeterError(f"n_images must be 1 or more, got {n_images}. 32 show most of what goes wrong.")
    if declared_accuracy is not None and not 0 <= declared_accuracy <= 1:
        raise DosimeterError(f"declared_accuracy must be a share from 0 to 1, got {declared_accuracy}.")
    images, labels = _draw(classifier, cohort, n_images, seed)
    subject = _Subject(classifier, images, labels, loss, channels, seed)
    logits = subject.logits(images)
    climbed = _climb(subject, loss, channels)
    right = logits.argmax(dim=1) == labels
    return {
        "cohort": cohort.name,
        "protocol": classifier.card.get("protocol", ""),
        "model": classifier.card.get("model", "classifier"),
        "classifier": classifier.name,
        "seed": seed,
        "loss": loss,
        "channels": channels,
        "n": len(images),
        "training": _training(classifier),
        "randomness": _randomness(subject, logits),
        "batching": _batching(subject, logits),
        "outputs": _outputs(logits),
        "accuracy": {
            "n": len(images),
            "n_cohort": len(cohort),
            "correct": int(right.sum()),
            "majority": int(labels.bincount().max()),
            "declared": declared_accuracy,
        },
        "graph": {"n": len(images), "error": climbed.error},
        "identity": _identity(logits, climbed),
        "gradient": _gradient(climbed, right, channels),
        "differences": _differences(subject, logits),
        "step": _step(subject, climbed),
        "unbounded": _unbounded(subject, climbed, right),
    }


# --- asking -------------------------------------------------------------------------------------------------


class _Subject(NamedTuple):
    """A classifier and the images that it is examined on: (n, 3, H, W) and (n,) on the CPU."""

    classifier: Classifier
    images: Tensor
    labels: Tensor
    loss: str
    channels: str
    seed: int

    def logits(self, images: Tensor, batch: int = BATCH) -> Tensor:
        """Return logits (n, n_classes) as the sweep would have them, float32 on the CPU."""
        return torch.cat([answer(self.classifier, part) for part in images.split(batch)])

    def problem(self, places: Tensor) -> Problem:
        """Return what an attack is given of the images at `places` (m,)."""
        device = self.classifier.device
        return Problem(self.classifier, self.images[places].to(device), self.labels[places].to(device), seed=self.seed)


def _draw(classifier: Classifier, cohort: Cohort, n_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, H, W) and labels (n,) of cases drawn from the cohort."""
    images: list[Tensor] = []
    labels: list[int] = []
    for index in np.random.default_rng(seed).permutation(len(cohort)).tolist():
        if len(images) == n_images:
            break
        try:
            case = cohort[index]
            images.append(classifier.prepare(case))
            labels.append(case.label)
        except (DosimeterError, OSError, ValueError):
            continue  # the sweep names it
    if not images:
        raise DosimeterError(f"none of the {len(cohort)} images of {cohort.name} can be read. See `dosimeter data`.")
    return torch.stack(images), torch.tensor(labels)


class _Climbed(NamedTuple):
    """One gradient an image, as an attack takes it.

    Attributes:
        logits: (n, n_classes), from the passes that were differentiated; NaN where there was none.
        gradient: (n, 3, H, W), 0 where `finite` is False.
        losses: (n,).
        finite: (n,), True where the gradient is there and finite.
        error: why there is none at all; None if there is.
    """

    logits: Tensor
    gradient: Tensor
    losses: Tensor
    finite: Tensor
    error: str | None = None

    @property
    def movable(self) -> Tensor:
        """Return (n,), True where the gradient leads anywhere."""
        return self.finite & (self.gradient != 0).flatten(1).any(dim=1)


def _climb(subject: _Subject, loss: str, channels: str, n: int | None = None) -> _Climbed:
    """Return the gradients of the first `n` images, all by default, at epsilon 0."""
    images = subject.images[:n]
    n_images = len(images)
    logits, losses = torch.full((n_images, len(subject.classifier.classes)), torch.nan), torch.zeros(n_images)
    climbed = _Climbed(logits, torch.zeros_like(images), losses, torch.zeros(n_images, dtype=torch.bool))
    waiting = list(torch.arange(n_images).split(BATCH))
    while waiting:
        places = waiting.pop()
        problem = subject.problem(places)
        nowhere = torch.zeros(len(places), device=problem.images.device)
        try:
            answer, height, gradient = problem.gradient(problem.project(problem.images, nowhere), loss, channels)
        except FloatingPointError:
            waiting += places.split(1) if len(places) > 1 else ()
            continue
        except AttackError:
            return climbed._replace(error="no gradient reaches the image")
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # it answered before: it cannot be differentiated
            return climbed._replace(error=in_a_line(error))
        climbed.logits[places], climbed.losses[places] = answer.float().cpu(), height.float().cpu()
        climbed.gradient[places], climbed.finite[places] = gradient.float().cpu(), True
    return climbed


# --- answers ------------------------------------------------------------------------------------------------


def _training(classifier: Classifier) -> Facts:
    """Return the modules that are in training mode, and how many of them answer differently there."""
    modules = [module for module in classifier.modules() if module.training]
    alive = [module for module in modules if isinstance(module, LEARNING)]
    kinds = sorted({type(module).__name__ for module in alive or modules})
    return {"n": len(list(classifier.modules())), "training": len(modules), "matter": len(alive), "kinds": kinds}


def _apart(first: Tensor, second: Tensor) -> Facts:
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


def _randomness(subject: _Subject, logits: Tensor) -> Facts:
    first, images = logits[:N_REPEATED], subject.images[:N_REPEATED]
    others = [subject.logits(images) for _ in range(PASSES - 1)]
    changed = torch.stack([other.argmax(dim=1) != first.argmax(dim=1) for other in others]).any(dim=0)
    largest = max(_apart(first, other)["largest"] for other in others)
    return {"n": len(first), "passes": PASSES, "changed": int(changed.sum()), "largest": largest}


def _batching(subject: _Subject, logits: Tensor) -> Facts:
    single = subject.logits(subject.images[:N_REPEATED], batch=1)
    return {**_apart(logits[:N_REPEATED], single), "batch": min(BATCH, len(logits))}


def _outputs(logits: Tensor) -> Facts:
    """Return whether the outputs look like probabilities, and how many of them are 1 in all but name."""
    finite = torch.isfinite(logits).all(dim=1)
    rows = logits[finite]
    unit = len(rows) > 0 and bool(((rows >= -UNIT_TOLERANCE) & (rows <= 1 + UNIT_TOLERANCE)).all())
    look = "logits"
    if unit and bool(((rows.sum(dim=1) - 1).abs() <= UNIT_TOLERANCE).all()):
        look = "softmax"
    elif unit and rows.shape[1] == 2 and bool((rows == 0).all(dim=0).any()):
        look = "sigmoid"  # one probability beside a column of zeros
    saturated = int((torch.softmax(rows, dim=1).amax(dim=1) > 1 - SATURATED).sum())
    return {"n": len(logits), "not_finite": int((~finite).sum()), "look": look, "saturated": saturated}


# --- gradients ----------------------------------------------------------------------------------------------


def _identity(logits: Tensor, climbed: _Climbed) -> Facts:
    """Return whether an attack of epsilon 0 meets the classifier that answers."""
    return _apart(logits[climbed.finite], climbed.logits[climbed.finite])


def _gradient(climbed: _Climbed, right: Tensor, channels: str) -> Facts:
    """Return the gradients that are not finite or exactly zero, of all and of the correctly classified images."""
    if climbed.error:
        return {"n": 0}
    pixels = climbed.gradient[:, :1] if channels == "tied" else climbed.gradient
    flat = (pixels == 0).all(dim=1).flatten(1)  # (n, pixels): all planes of the pixel
    zero = climbed.finite & flat.all(dim=1)
    there = climbed.finite & ~zero
    return {
        "n": len(right),
        "n_right": int(right.sum()),
        "not_finite": int((~climbed.finite).sum()),
        "zero": int(zero.sum()),
        "zero_right": int((zero & right).sum()),
        "n_pixels": int(there.sum()) * flat.shape[1],
        "zero_pixels": int(flat[there].sum()),
    }


def _differences(subject: _Subject, logits: Tensor) -> Facts:
    """Return how the gradient of the margin agrees with finite differences, along its own sign and along random signs.

    Random signs along which the gradient says next to nothing are passed over.
    """
    climbed = _climb(subject, "margin", "free", N_REPEATED)
    generator = torch.Generator().manual_seed(subject.seed)
    own: list[Slope | None] = []
    random: list[Slope | None] = []
    for place in climbed.movable.nonzero()[:, 0].tolist():
        gradient = climbed.gradient[place]
        at = (subject.logits, subject.images[place], int(subject.labels[place]), gradient)
        scale = float(logits[place].abs().max())
        own.append(slope(*at, gradient.sign(), scale=scale, power=1))
        for _ in range(N_RANDOM):
            signs = torch.randint(0, 2, gradient.shape, generator=generator) * 2.0 - 1
            random.append(slope(*at, signs, scale=scale, power=2))
    mine = [each for each in own if each is not None]
    others = [each for each in random if each is not None and abs(each.said) > each.size / 4]
    return {
        "n": len(mine),
        "wrong": sum(each.wrong for each in mine),
        "off": sum(each.off for each in mine),
        "n_random": len(others),
        "wrong_random": sum(each.wrong for each in others),
        "off_random": sum(each.off for each in others),
        "tolerance": TOLERANCE,
    }


def _step(subject: _Subject, climbed: _Climbed) -> Facts:
    """Return how the loss follows its gradient over a step of one grey level: its rise as a share of the promised."""
    places = climbed.movable.nonzero()[:, 0][:N_MOVED]
    if not len(places):
        return {"n": 0}
    images, gradient = subject.images[places], climbed.gradient[places]
    moved = perturb(images, gradient.sign(), ONE_LEVEL)
    if subject.channels == "tied":
        gradient = gradient / images.shape[1]  # each plane holds the sum of all
    promised = (gradient * (moved - images)).flatten(1).sum(dim=1)
    risen = LOSSES[subject.loss](subject.logits(moved), subject.labels[places]) - climbed.losses[places]
    ratio = risen / promised.clamp(min=1e-30)
    return {"n": len(places), "fallen": int((risen < 0).sum()), "median_ratio": float(ratio.median())}


def _unbounded(subject: _Subject, climbed: _Climbed, right: Tensor) -> Facts:
    """Return how many correctly classified images an attack without a bound leaves.

    An image whose gradient is exactly zero, or not finite, cannot be moved: it is left without trying.
    """
    places = right.nonzero()[:, 0][:N_MOVED]
    if climbed.error or not len(places):
        return {"n": 0}
    moved = places[climbed.movable[places]]
    attack = PGD(**UNBOUNDED, loss=subject.loss, channels=subject.channels)  # type: ignore[arg-type]
    reached = sum(_n_reached(attack, subject, part) for part in moved.split(BATCH)) if len(moved) else 0
    return {"n": len(places), "left": len(places) - reached, **UNBOUNDED}


def _n_reached(attack: PGD, subject: _Subject, places: Tensor) -> int:
    """Return for how many images the attack succeeds within the whole range; it fails where its gradient overflows."""
    problem = subject.problem(places)
    try:
        everywhere = torch.ones(len(places), device=problem.images.device)
        return int(attack.perturb(problem, everywhere).found.sum())
    except FloatingPointError:
        return 0 if len(places) == 1 else sum(_n_reached(attack, subject, place) for place in places.split(1))
