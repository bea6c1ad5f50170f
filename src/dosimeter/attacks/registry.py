"""Every attack by its name: the files of `attacks.known`, and those that other packages bring (see `registry`)."""

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor

from dosimeter import registry
from dosimeter.attacks.base import Attack
from dosimeter.errors import DosimeterError, did_you_mean

log = logging.getLogger(__name__)

KIND = "attacks"

EFFORTS = ("quick", "standard", "thorough")

GRADIENT_IN_PASSES = 2.5
"""A gradient costs a forward pass and a backward one."""

SEARCHES_THAT_FAIL = 2
"""Of the balls that an attack searches for an image, those in which it takes all its steps."""


Access = Literal["gradients", "scores", "decisions", "nothing"]
"""What an attacker must have of the classifier."""


@dataclass(frozen=True)
class Entry:
    """What is known of an attack before it is built.

    Attributes:
        build: makes it for an effort, one of `EFFORTS`.
        note: what it does, in a line.
        source: the paper.
        title: its name as people write it.
        family: how it looks for its image: "one step", "iterative", "minimum norm", "black box", "universal", "control"
            (no attack, but what an attack is compared with), or one of its own.
        access: what it must have of the classifier.
        rank: its place among those of its family in tables and legends.
        searches: "direction", "budget" or "minimum": one direction for all epsilons, each ball anew, or the nearest
            adversarial image.
        aware: it looks for images that survive being stored.
        exhaustive: with the effort "thorough" it searches every ball and follows a gradient in each, so that a rise of
            the accuracy is its own fault.
        learns: it learns on the training images first: what it builds is a `Learner`.
        extra: the optional dependency it needs, if any.
        storages: how its images are stored, unless the study says otherwise.
    """

    build: Callable[[str], Any]
    note: str
    source: str
    title: str
    family: str
    access: Access = "gradients"
    rank: int = 100
    searches: str = "direction"
    aware: bool = False
    exhaustive: bool = False
    learns: bool = False
    extra: str | None = None
    storages: tuple[str, ...] = ("float",)

    @property
    def needs_gradient(self) -> bool:
        """Whether it differentiates the classifier; if not, answers are enough."""
        return self.access == "gradients"

    @property
    def control(self) -> bool:
        """Whether it is no attack but what an attack is compared with."""
        return self.family == "control"


def names() -> tuple[str, ...]:
    """Return the names of all attacks, without importing them."""
    return registry.names(KIND)


def entries() -> dict[str, Entry]:
    """Return every attack of this version, and those of other packages that can be loaded, by its name."""
    found = {}
    for name in names():
        try:
            found[name] = entry(name)
        except DosimeterError as error:
            log.warning(error)
    return found


def entry(name: str) -> Entry:
    """Return an attack's entry.

    Raises:
        DosimeterError: there is none of that name, or what another package brings is not an entry.
    """
    found = registry.get(KIND, name)
    if not isinstance(found, Entry):
        raise DosimeterError(f"attack '{name}' must be a dosimeter.attacks.registry.Entry, got {type(found).__name__}.")
    return found


def entry_of(attack: Attack) -> Entry | None:
    """Return the entry of an attack, None if it is an object of the user's."""
    return entry(attack.name) if attack.name in names() else None


def fits(name: str, access: str) -> bool:
    """Whether an attack can do with what a classifier gives: "gradients", "scores" or "decisions"."""
    return _ACCESS.index(entry(name).access) <= _ACCESS.index(access)


_ACCESS = ("nothing", "decisions", "scores", "gradients")


def require_access(attacks: Sequence[Attack], access: str, who: str) -> None:
    """Raise DosimeterError if an attack needs more of a classifier, called `who`, than it gives."""
    known = [attack.name for attack in attacks if entry_of(attack) is not None]
    lacking = [name for name in dict.fromkeys(known) if not fits(name, access)]
    if lacking:
        ours = [name for name in names() if name in registry.names(KIND) and _loads(name) and fits(name, access)]
        gives = {"scores": "scores and no gradient", "decisions": "labels alone"}[access]
        raise DosimeterError(
            f"{who} gives {gives}, which {', '.join(lacking)} cannot attack. Use {', '.join(ours)}; a study takes "
            "them alone with --preset none."
        )


def _loads(name: str) -> bool:
    """Whether an attack of another package can be imported."""
    try:
        entry(name)
    except DosimeterError:
        return False
    return True


def kind(attack: Attack) -> dict[str, Any]:
    """Return what a run tells of an attack to those who read its table (see `record.facts.AttackKind`)."""
    found = entry_of(attack)
    told = {"name": attack.name}
    if found is None:
        return told
    wanted = ("title", "family", "access", "rank", "aware", "exhaustive", "learns")
    return told | {name: getattr(found, name) for name in wanted}


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
    known = entry_of(attack)
    if known is None or known.searches == "direction":
        return 1 + GRADIENT_IN_PASSES
    steps = steps_of(attack)
    balls = SEARCHES_THAT_FAIL if known.searches == "budget" else 1
    return float(balls * steps * (GRADIENT_IN_PASSES if known.needs_gradient else 1))


def steps_of(attack: Attack) -> int:
    """Return the steps that an attack takes for an image in one ball, or queries, all starts together."""
    settings = parameters(attack)
    return math.prod(settings[name] for name in ("steps", "queries", "restarts", "searches") if name in settings)


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
