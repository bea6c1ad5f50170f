"""What the pre-flight measures of gradients, as attacks take them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dosimeter.attacks.alarms import folded
from dosimeter.attacks.base import AttackError, Problem, lacks_gradient
from dosimeter.attacks.doses import perturb
from dosimeter.attacks.known.pgd import PGD
from dosimeter.attacks.slopes import TOLERANCE, Slope, slope
from dosimeter.attacks.threat import ANYTHING, Threat
from dosimeter.errors import in_a_line
from dosimeter.models.base import Classifier, answer
from dosimeter.models.rings import Ring
from dosimeter.models.transforms import Transform
from dosimeter.plain import without_folders

BATCH = 4
"""Images per pass: what the sweep takes too."""

GRADIENT_PASSES = 5
N_REPEATED = 8  # images of the repeated passes, of the single ones and of finite differences
N_MOVED = 16  # images of the attacks
N_RANDOM = 2  # random directions of each image's finite differences

ALIKE = 0.9  # cosine of two gradients of one image
SAME = 0.999  # of two that differ by rounding alone, which may part equal values of a maximum
FEW = 0.01  # share of an image's values
ONE_LEVEL = 1 / 255
UNBOUNDED: list[dict[str, Any]] = [  # of epsilon 1; small steps meet small perturbations first
    {"steps": 50, "step_size": 0.02, "start": "image"},
    {"steps": 50, "step_size": 0.005, "start": "image"},
    {"steps": 20, "step_size": 0.1, "start": "random"},
]

Facts = dict[str, Any]


# --- asking -------------------------------------------------------------------------------------------------


class Subject(NamedTuple):
    """A classifier and the images that it is examined on: (n, 3, H, W) and (n,) on the CPU.

    Attributes:
        threat: what an attacker may do to them.
    """

    classifier: Classifier
    images: Tensor
    labels: Tensor
    loss: str
    channels: str
    seed: int
    threat: Threat = ANYTHING

    def under(self, threat: Threat) -> tuple["Subject", Tensor]:
        """Return it as that attacker meets it, and the places (m,) of the images left: not of the class aimed at."""
        attacked = torch.ones_like(self.labels, dtype=torch.bool) if threat.target is None else (
            self.labels != threat.target
        )  # fmt: skip
        subject = self._replace(images=self.images[attacked], labels=self.labels[attacked], threat=threat)
        return subject, attacked.nonzero()[:, 0]

    def logits(self, images: Tensor, batch: int = BATCH) -> Tensor:
        """Return logits (n, n_classes) as the sweep would have them, float32 on the CPU."""
        return torch.cat([answer(self.classifier, part) for part in images.split(batch)])

    def met(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return logits (n, n_classes) as attacks on images of `labels` (n,) meet them: see `Problem.folded`."""
        if not self.classifier.rejects:
            return self.logits(images)
        parts = zip(images.split(BATCH), labels.split(BATCH), strict=True)
        return torch.cat([folded(answer(self.classifier, part, alarm=True), true) for part, true in parts])

    def met_as(self, label: int) -> Callable[[Tensor], Tensor]:
        """Return what gives the logits of images of one label as attacks meet them."""
        return lambda images: self.met(images, torch.full((len(images),), label))

    def problem(self, places: Tensor) -> Problem:
        """Return what an attack is given of the images at `places` (m,)."""
        device = self.classifier.device
        images, labels = self.images[places].to(device), self.labels[places].to(device)
        return self.threat.problem(self.classifier, images, labels, seed=self.seed)


class Climbed(NamedTuple):
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

    def first(self, n: int) -> "Climbed":
        """Return the gradients of the first `n` images."""
        return Climbed(self.logits[:n], self.gradient[:n], self.losses[:n], self.finite[:n], self.error)

    @property
    def movable(self) -> Tensor:
        """Return (n,), True where the gradient leads anywhere."""
        return self.finite & (self.gradient != 0).flatten(1).any(dim=1)


def climb(subject: Subject, loss: str, channels: str, n: int | None = None, *, batch: int = BATCH) -> Climbed:
    """Return the gradients of the first `n` images, all by default, at epsilon 0."""
    images = subject.images[:n]
    n_images = len(images)
    logits, losses = torch.full((n_images, len(subject.classifier.classes)), torch.nan), torch.zeros(n_images)
    climbed = Climbed(logits, torch.zeros_like(images), losses, torch.zeros(n_images, dtype=torch.bool))
    waiting = list(torch.arange(n_images).split(batch))
    while waiting:
        places = waiting.pop()
        problem = replace(subject.problem(places), blend=0.0)  # what finite differences are compared with
        nowhere = torch.zeros(len(places), device=problem.images.device)
        try:
            answer, height, gradient = problem.gradient(problem.project(problem.images, nowhere), loss, channels)
        except FloatingPointError:
            waiting += places.split(1) if len(places) > 1 else ()
            continue
        except AttackError as error:
            cause = error.__cause__
            failed = isinstance(cause, RuntimeError) and not lacks_gradient(cause)
            return climbed._replace(error=_said(cause or error) if failed else "no gradient reaches the image")
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # it answered before: it cannot be differentiated
            return climbed._replace(error=_said(error))
        climbed.logits[places], climbed.losses[places] = answer.float().cpu(), height.float().cpu()
        climbed.gradient[places], climbed.finite[places] = gradient.float().cpu(), True
    return climbed


def _said(error: BaseException) -> str:
    """Return an error as a run's facts keep it: a torch error may name folders of this machine."""
    return without_folders(in_a_line(error))


def spread(logits: Tensor) -> float:
    """Return the distance of an image's largest logit (n_classes,) from its smallest."""
    return float(logits.amax() - logits.amin())


# --- measuring ----------------------------------------------------------------------------------------------


def gradients_there(climbed: Climbed, right: Tensor, channels: str, mask: Tensor | None = None) -> Facts:
    """Return the gradients that are not finite or exactly zero, of all and of the correctly classified images.

    Args:
        mask: (1, H, W), True where a pixel may move: the others are not counted. None: every pixel may.
    """
    if climbed.error:
        return {"n": 0}
    pixels = climbed.gradient[:, :1] if channels == "tied" else climbed.gradient
    flat = (pixels == 0).all(dim=1).flatten(1)  # (n, pixels): all planes of the pixel
    flat = flat if mask is None else flat[:, mask.flatten()]
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


def repeated_gradient(subject: Subject, first: Climbed) -> Facts:
    """Return how the gradient of the margin differs between passes.

    In the second pass each image is alone: what a network draws at random it draws anew for each. Only where that
    changes a gradient are there more passes, with the batches of the first.

    n: images that have one in all passes; changed: those whose gradient points elsewhere in another pass, the cosine of
    the two being below `ALIKE`; lowest: the lowest cosine.
    """
    found = _between([first, climb(subject, "margin", "free", N_REPEATED, batch=1)])
    if found["n"] == int(first.movable.sum()) and found.get("lowest", 1.0) >= SAME:
        return found
    more = (climb(subject, "margin", "free", N_REPEATED) for _ in range(GRADIENT_PASSES - 1))
    return _between([first, *more])


def _between(passes: Sequence[Climbed]) -> Facts:
    there = torch.stack([each.movable for each in passes]).all(dim=0)
    if not there.any():
        return {"n": 0}
    flat = [each.gradient[there].flatten(1).double() for each in passes]
    unit = [rows / rows.abs().amax(dim=1, keepdim=True) for rows in flat]  # tiny ones would vanish in their square
    cosines = torch.stack([torch.cosine_similarity(unit[0], other, dim=1) for other in unit[1:]]).amin(dim=0)
    changed = int((cosines < ALIKE).sum())
    return {"n": len(cosines), "passes": len(passes), "changed": changed, "lowest": float(cosines.min())}


def differences(subject: Subject, logits: Tensor, climbed: Climbed) -> Facts:
    """Return how the gradient of the margin agrees with finite differences, along its own sign and along random signs.

    Random signs along which the gradient says next to nothing are passed over.
    """
    generator = torch.Generator().manual_seed(subject.seed)
    own: list[Slope | None] = []
    random: list[Slope | None] = []
    for place in climbed.movable.nonzero()[:, 0].tolist():
        gradient = climbed.gradient[place]
        label = int(subject.labels[place])
        at = (subject.met_as(label), subject.images[place], label, gradient)
        scale = spread(logits[place])
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


def declared(classifier: Classifier) -> Facts:
    """Return the kinds of modules that say that the gradient through them is not the derivative of the answers."""
    modules = list(classifier.modules())
    approximate = {type(each).__name__ for each in modules if isinstance(each, Transform) and not each.exact}
    averaged = {type(each).__name__ for each in modules if isinstance(each, Ring) and each.random}
    n = len(approximate) + len(averaged)
    return {"n": n, "approximate": sorted(approximate), "averaged": sorted(averaged)}


def still(subject: Subject, logits: Tensor) -> Facts:
    """Return whether values without a gradient are without effect: the margin along random signs of these alone.

    The images are moved off their grid first, each pixel by up to half a grey level: equal neighbours, of which a
    maximum takes one, would have no derivative. n: directions, of images in which more than the share `FEW` are such
    values; moved: those along which the margin moves as if they had a gradient like the others'.
    """
    generator = torch.Generator().manual_seed(subject.seed)
    shape = subject.images[:N_REPEATED].shape
    jitter = (torch.rand(shape[0], 1, *shape[2:], generator=generator) - 0.5) * ONE_LEVEL
    images = (subject.images[:N_REPEATED] + jitter).clamp(0, 1)
    climbed = climb(subject._replace(images=images), "margin", "free")
    found: list[Slope | None] = []
    for place in climbed.movable.nonzero()[:, 0].tolist():
        gradient = climbed.gradient[place]
        still = gradient == 0  # (3, H, W)
        if not float(still.float().mean()) > FEW:
            continue
        typical = gradient[~still].square().mean().sqrt().expand_as(gradient)  # what such a value would have
        label = int(subject.labels[place])
        at = (subject.met_as(label), images[place], label, typical * still)
        for _ in range(N_RANDOM):
            signs = torch.randint(0, 2, gradient.shape, generator=generator) * 2.0 - 1
            found.append(slope(*at, signs * still, scale=spread(logits[place]), power=2, said=0.0))
    slopes = [each for each in found if each is not None]
    return {"n": len(slopes), "moved": sum(each.off for each in slopes)}


def one_level(subject: Subject, climbed: Climbed) -> Facts:
    """Return how the loss follows its gradient over a step of one grey level: its rise as a share of the promised."""
    places = climbed.movable.nonzero()[:, 0][:N_MOVED]
    if not len(places):
        return {"n": 0}
    images, gradient = subject.images[places], climbed.gradient[places]
    moved = perturb(images, gradient.sign(), ONE_LEVEL)
    if subject.channels == "tied":
        gradient = gradient / images.shape[1]  # each plane holds the sum of all
    promised = (gradient * (moved - images)).flatten(1).sum(dim=1)
    problem = subject.threat.problem(subject.classifier, images, subject.labels[places])
    risen = problem.losses(subject.met(moved, subject.labels[places]), subject.loss) - climbed.losses[places]
    ratio = risen / promised.clamp(min=1e-30)
    return {"n": len(places), "fallen": int((risen < 0).sum()), "median_ratio": float(ratio.median())}


def unbounded(subject: Subject, climbed: Climbed, right: Tensor) -> Facts:
    """Return how many correctly classified images an attack without a bound leaves, in each of several ways to walk.

    An image whose gradient is exactly zero, or not finite, cannot be moved: it is left without trying.
    """
    places = right.nonzero()[:, 0][:N_MOVED]
    if climbed.error or not len(places):
        return {"n": 0}
    left = places[climbed.movable[places]]
    n_left = len(places) - len(left)
    for walk in UNBOUNDED:
        attack = PGD(**walk, loss=subject.loss, channels=subject.channels)  # type: ignore[arg-type]
        parts = [_reached(attack, subject, part) for part in left.split(BATCH)] if len(left) else []
        left = left[~torch.cat(parts)] if parts else left
    return {"n": len(places), "left": n_left + len(left), "steps": sum(walk["steps"] for walk in UNBOUNDED)}


def _reached(attack: PGD, subject: Subject, places: Tensor) -> Tensor:
    """Return (m,) whether the attack succeeds within the whole range; it fails where its gradient overflows."""
    problem = subject.problem(places)
    try:
        everywhere = torch.ones(len(places), device=problem.images.device)
        return attack.perturb(problem, everywhere).found.cpu()
    except FloatingPointError:
        if len(places) == 1:
            return torch.zeros(1, dtype=torch.bool)
        return torch.cat([_reached(attack, subject, place) for place in places.split(1)])
