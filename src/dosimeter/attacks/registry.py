"""Every attack by its name: each module of this package that has an `ENTRY` is one.

Adding an attack is adding a file, which the sweep and the contract battery find here, and its name in `config.ATTACKS`,
which the command line reads without importing torch.
"""

import hashlib
import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from torch import Tensor

import dosimeter.attacks
from dosimeter.attacks.base import Attack
from dosimeter.errors import DosimeterError, did_you_mean

EFFORTS = ("quick", "standard", "thorough")

GRADIENT_IN_PASSES = 2.5
"""A gradient costs a forward pass and a backward one."""

SEARCHES_THAT_FAIL = 2
"""Of the balls that an attack searches for an image, those in which it takes all its steps."""


@dataclass(frozen=True)
class Entry:
    """What is known of an attack before it is built.

    Attributes:
        build: makes it for an effort, one of `EFFORTS`.
        note: what it does, in a line.
        needs_gradient: whether it differentiates the classifier; if not, answers are enough.
        source: the paper.
        searches: "direction", "budget" or "minimum": one direction for all epsilons, each ball anew, or the nearest
            adversarial image.
        control: it is no attack but what an attack is compared with.
        needs_training: it learns on the training images first (see `Learner`).
        extra: the optional dependency it needs, if any.
        storages: how its images are stored, unless the study says otherwise.
    """

    build: Callable[[str], Any]
    note: str
    needs_gradient: bool
    source: str
    searches: str = "direction"
    control: bool = False
    needs_training: bool = False
    extra: str | None = None
    storages: tuple[str, ...] = ("float",)


@cache
def entries() -> dict[str, Entry]:
    """Return every attack of this package, by the name of its module."""
    names = (module.name for module in pkgutil.iter_modules(dosimeter.attacks.__path__))
    modules = {name: importlib.import_module(f"dosimeter.attacks.{name}") for name in names if name != "registry"}
    return {name: module.ENTRY for name, module in modules.items() if hasattr(module, "ENTRY")}


def entry(name: str) -> Entry:
    """Return an attack's entry.

    Raises:
        DosimeterError: there is none of that name.
    """
    if name not in entries():
        raise DosimeterError(f"attack '{name}' is not known. {did_you_mean(name, entries())}")
    return entries()[name]


def build(name: str, effort: str = "standard") -> Attack:
    """Return an attack as hard as `effort` says.

    Raises:
        DosimeterError: there is no such attack or effort, or an optional package is missing.
    """
    check_effort(effort)
    attack: Attack = entry(name).build(effort)
    return attack


def check_effort(effort: str) -> None:
    """Raise DosimeterError unless there is such an effort."""
    if effort not in EFFORTS:
        raise DosimeterError(f"effort '{effort}' is not known. {did_you_mean(effort, EFFORTS)}")


def parameters(attack: Attack) -> dict[str, Any]:
    """Return all that determines what an attack does, as JSON types; of what it learned, the digest."""
    values = {each.name: getattr(attack, each.name) for each in fields(attack)}  # type: ignore[arg-type]
    values = {name: _digest(value) if isinstance(value, Tensor) else value for name, value in values.items()}
    return {name: value for name, value in values.items() if isinstance(value, str | bool | int | float | None)}


def passes(attack: Attack) -> float:
    """Return what an attack takes for an image, in forward passes, about: by its own word if it has one."""
    if own := getattr(attack, "passes", None):
        return float(own)
    known = entries().get(attack.name)
    if known is None or known.searches == "direction":
        return 1 + GRADIENT_IN_PASSES
    settings = parameters(attack)
    steps = math.prod(settings[name] for name in ("steps", "queries", "restarts", "searches") if name in settings)
    balls = SEARCHES_THAT_FAIL if known.searches == "budget" else 1
    return float(balls * steps * (GRADIENT_IN_PASSES if known.needs_gradient else 1))


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
