"""Attacks of other libraries in the sweep: a Foolbox or ART attack object becomes one of ours.

The framework checks their images as it checks everyone's. They attack one image at a time: then what they ask is
counted, their random numbers are the image's own, and one image's failure is its own.
"""

import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.attacks.base import (
    Attack,
    AttackError,
    Candidate,
    Direction,
    Problem,
    check_attack,
    lacks_gradient,
    no_gradient,
)
from dosimeter.errors import DosimeterError

BEYOND = (1.0, *(1 + 0.01 * 2**doubling for doubling in range(13)))
"""How much farther than its own end an attack's image may have to go to count: an image whose margin is hardly more
than rounding flips long before it does so by more than rounding."""

_randomness = threading.Lock()  # these libraries draw from the process's generators


class Planes(nn.Module):
    """A problem of one image as the network that another library sees: what may move in, logits out, all counted.

    Attributes:
        start: (1, 1 or 3, H, W), one plane if the planes of the image move together.
    """

    def __init__(self, problem: Problem, channels: str) -> None:
        super().__init__()
        self._problem = problem
        planes = 1 if channels == "tied" else problem.images.shape[1]
        self.start = problem.images[:, :planes].contiguous()

    def images(self, planes: Tensor) -> Tensor:
        """Return images (n, 3, H, W) for `planes` (n, 1 or 3, H, W)."""
        problem = self._problem
        moved = (problem.images + (planes - self.start)).clamp(0, 1)
        return moved if problem.mask is None else torch.where(problem.mask, moved, problem.images)

    def forward(self, planes: Tensor) -> Tensor:
        """Return logits; differentiable where a gradient is asked for."""
        images = self.images(planes)
        if not (torch.is_grad_enabled() and images.requires_grad):
            return self._problem.ask(images)
        self._problem.cost.gradients.index_add_(0, self._problem.places, torch.ones_like(self._problem.places))
        return self._problem.folded(self._problem.network(images))


def _alone(problem: Problem) -> list[Problem]:
    return [problem.take(torch.tensor([place])) for place in range(len(problem))]


def _seeded(problem: Problem, run: Any, *, name: str) -> Any:
    """Return what `run` returns, its random numbers being those of the problem's one image."""
    seed = int(torch.randint(2**31, (1,), generator=problem.generators[0]))
    device = problem.images.device
    with _randomness, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        before = np.random.get_state()  # noqa: NPY002 - the libraries draw from it
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            return run()
        except (ValueError, TypeError, ImportError) as error:  # what it cannot do is known only once it runs
            said = str(error).rstrip(".")
            raise AttackError(f"the attack {name} cannot be used here: {said}. Choose another one.") from error
        except RuntimeError as error:
            if lacks_gradient(error):
                raise no_gradient() from error
            raise
        finally:
            np.random.set_state(before)  # noqa: NPY002


@dataclass(frozen=True)
class _Wrapped:
    """An attack object of another library, under its own name."""

    attack: Any = field(repr=False)
    description: str
    channels: Literal["tied", "free"] = "tied"
    name: str = "wrapped"
    loss: str = "none"


def nearest_of_each(problem: Problem, channels: str, moved: Callable[[Problem, Planes], Tensor]) -> Direction:
    """Return the way to each image's nearest adversarial image, and how far it is.

    Args:
        moved: how far it is from a problem's one image (1, 3, H, W), given that image's planes; 0 if there is none.
    """
    moves, reaches, hits = [], [], []
    for each in _alone(problem):
        planes = Planes(each, channels).eval()
        move, hit = _over(each, moved(each, planes))
        reach = float(move.abs().amax())
        moves.append(move / reach if reach else move)
        reaches.append(reach)
        hits.append(hit)
    none = torch.zeros(len(problem), dtype=torch.bool)
    found = torch.tensor(hits)
    return Direction(torch.cat(moves), none, reach=torch.tensor(reaches) * found, found=found)


@dataclass(frozen=True)
class FoolboxMinimum(_Wrapped):
    """A minimum-norm attack of Foolbox (`foolbox.attacks.base.MinimizationAttack`), of any norm."""

    norm: str = "linf"

    def direction(self, problem: Problem) -> Direction:
        """Return the way to the nearest adversarial image that the attack finds, and how far it is."""
        return nearest_of_each(problem, self.channels, self._moved)

    def _moved(self, problem: Problem, planes: Planes) -> Tensor:
        run = partial(run_foolbox, self.attack, problem, planes)
        try:
            return _seeded(problem, run, name=self.name)  # type: ignore[no-any-return]
        except AttackError as error:
            if "init_attack failed" not in str(error) and "Initialization" not in str(error):
                raise
            return torch.zeros_like(problem.images)  # it has no image to start from


def run_foolbox(attack: Any, problem: Problem, planes: Planes, **how: Any) -> Tensor:
    """Return how far `attack`, a minimum-norm attack of Foolbox, moves a problem's one image, (1, 3, H, W).

    Args:
        how: further arguments of the attack's call.
    """
    import foolbox

    model = foolbox.PyTorchModel(planes, bounds=(0, 1), device=problem.images.device)
    adversarial, _, _ = attack(model, planes.start, _criterion(problem), epsilons=None, **how)
    return planes.images(adversarial.detach()) - problem.images


def _searched(
    problem: Problem, epsilon: Tensor, attack: _Wrapped, run: Callable[[Problem, Planes, float], Tensor]
) -> Candidate:
    """Return what `run` makes of each image alone: of its planes (1, 1 or 3, H, W), within its epsilon."""
    images = []
    for each, dose in zip(_alone(problem), epsilon.tolist(), strict=True):
        planes = Planes(each, attack.channels).eval()
        images.append(planes.images(_seeded(each, partial(run, each, planes, dose), name=attack.name)))
    found = problem.project(torch.cat(images), epsilon)
    return Candidate(found, problem.fooled(problem.ask(found)))


@dataclass(frozen=True)
class FoolboxBudget(_Wrapped):
    """An attack of Foolbox on one ball (`foolbox.attacks.base.FixedEpsilonAttack`)."""

    def perturb(self, problem: Problem, epsilon: Tensor) -> Candidate:
        """Return what the attack makes of each image within its epsilon."""
        import foolbox

        def run(each: Problem, planes: Planes, dose: float) -> Tensor:
            model = foolbox.PyTorchModel(planes, bounds=(0, 1), device=each.images.device)
            _, (adversarial,), _ = self.attack(model, planes.start, _criterion(each), epsilons=[dose])
            return adversarial.detach()  # type: ignore[no-any-return]

        return _searched(problem, epsilon, self, run)


@dataclass(frozen=True)
class ArtBudget(_Wrapped):
    """An evasion attack of the Adversarial Robustness Toolbox that takes `eps`; it is given our network."""

    def perturb(self, problem: Problem, epsilon: Tensor) -> Candidate:
        """Return what the attack makes of each image within its epsilon."""
        from art.estimators.classification import PyTorchClassifier

        def run(each: Problem, planes: Planes, dose: float) -> Tensor:
            n_classes = int(each.ask(each.images).shape[1])
            shape = tuple(planes.start.shape[1:])
            estimator = PyTorchClassifier(planes, nn.CrossEntropyLoss(), shape, n_classes, clip_values=(0, 1))
            attack = _on(estimator, self.attack)
            attack.set_params(eps=dose)
            if "targeted" in attack.attack_params:
                attack.set_params(targeted=each.targets is not None)
            elif each.targets is not None:
                raise ValueError("it cannot aim at a class.")
            true = (each.labels if each.targets is None else each.targets).cpu().numpy()
            return torch.from_numpy(attack.generate(planes.start.cpu().numpy(), y=true)).to(planes.start)

        return _searched(problem, epsilon, self, run)


def _on(estimator: Any, attack: Any) -> Any:
    """Return an attack of ART made anew on `estimator`, with the settings of `attack`.

    A copy would not do: some attacks keep the estimator they were made on in an attack of their own, or in a method.
    """
    known = vars(getattr(attack, "_attack", attack)) | vars(attack)  # PGD keeps some in an attack of its own
    names = [name for name in inspect.signature(type(attack)).parameters if name in attack.attack_params]
    settings = {name: known[name] for name in names if name in known}
    given = {name: value for name, value in settings.items() if getattr(value, "__self__", None) is not attack}
    return type(attack)(estimator, **given)


def _over(problem: Problem, moved: Tensor) -> tuple[Tensor, bool]:
    """Return `moved`, as little longer as it takes to be over the boundary by more than rounding, and whether it is.

    Decision-based attacks end on the boundary itself.
    """
    for factor in BEYOND:
        longer = (problem.images + factor * moved).clamp(0, 1) - problem.images
        if bool(problem.fooled(problem.ask(problem.images + longer))[0]):
            return longer, True
    return moved, False


def _criterion(problem: Problem) -> Any:
    import foolbox

    if problem.targets is None:
        return foolbox.criteria.Misclassification(problem.labels)
    return foolbox.criteria.TargetedMisclassification(problem.targets)


def adapt(attack: Any, *, channels: Literal["tied", "free"] = "tied") -> Attack:
    """Return `attack` as one of ours: itself, or an attack object of Foolbox or ART in a wrapper.

    Args:
        attack: ours, one of `foolbox.attacks`, or an evasion attack of ART that was made on any estimator and takes
            `eps`.
        channels: of a wrapped attack: "tied" shows it one plane of a grey image.

    Raises:
        DosimeterError: it is none of these, or its epsilon is not the largest change of a pixel.

    Example:
        >>> adapt(foolbox.attacks.LinfPGD(steps=20))  # doctest: +SKIP
    """
    library = type(attack).__module__.partition(".")[0]
    name = f"{library}.{type(attack).__name__}"
    if library == "foolbox":
        from foolbox.attacks.base import FixedEpsilonAttack, MinimizationAttack

        if isinstance(attack, MinimizationAttack):
            return FoolboxMinimum(attack, _described(attack), channels, name, norm=f"l{_order(attack):g}")
        if isinstance(attack, FixedEpsilonAttack):
            _check_norm(name, _order(attack))
            return FoolboxBudget(attack, _described(attack), channels, name)
    if library == "art" and hasattr(attack, "generate"):
        if "eps" not in getattr(attack, "attack_params", ()):
            raise DosimeterError(f"attack {name} must have a parameter eps to be swept, but has none. Use another.")
        _check_norm(name, float(getattr(attack, "norm", math.inf)))
        return ArtBudget(attack, _described(attack), channels, name)
    check_attack(attack)
    return attack  # type: ignore[no-any-return]


def _order(attack: Any) -> float:
    """Return the order of the norm that an attack of Foolbox makes small, infinite where it leaves that open."""
    try:
        return float(getattr(attack.distance, "p", math.inf))
    except ValueError:  # it wants to be told
        return math.inf


def _check_norm(name: str, order: float) -> None:
    if not math.isinf(order):
        raise DosimeterError(
            f"attack {name} must bound the largest change of a pixel (L-infinity), which is what epsilon means here, "
            f"but bounds L{order:g}. Use its L-infinity form."
        )


def _described(attack: Any) -> str:
    """Return an attack's settings, for the record and for the identity of its rows."""
    simple = {key: value for key, value in sorted(vars(attack).items()) if isinstance(value, bool | int | float | str)}
    return f"{type(attack).__name__}({', '.join(f'{key}={value!r}' for key, value in simple.items())})"
