"""The contract of a defence, and pipelines of them.

A defended classifier is a `Classifier` like any other, so every attack attacks all of it, the defence included: what is
not differentiable says in its own module how a gradient comes back (`models.transforms.Transform`). What an attacker
can do who does not know the defence is asked with the images made on the undefended classifier.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

from torch import nn

from dosimeter import registry
from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier

Kind = Literal["training", "input", "vote", "detector"]
ORDER: tuple[Kind, ...] = ("training", "input", "vote", "detector")
"""Kinds of defences in the order in which a pipeline may have them."""


class Defence(Protocol):
    """A frozen dataclass, whose fields are its settings."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def apply(self, classifier: Classifier, training: Cohort, *, seed: int) -> Classifier:
        """Return the defended classifier; the one given stays as it is.

        Args:
            training: the images that the classifier was trained on; a defence that learns learns on them alone.
            seed: of what it draws.
        """


class InputDefence(ABC):
    """A defence that is a transform of the images, before the base sees them; it learns nothing and draws nothing."""

    @abstractmethod
    def transform(self) -> nn.Module:
        """Return images (batch, 3, H, W) in [0, 1] to images in [0, 1]; see `Classifier.behind`."""

    def apply(self, classifier: Classifier, training: Cohort, *, seed: int) -> Classifier:
        """Return the classifier of transformed images."""
        del training, seed
        return classifier.behind(self.transform())


@dataclass(frozen=True)
class Entry:
    """What a file of `defences/known` has as its `ENTRY`, or another package's entry point names.

    Attributes:
        build: makes it from what stands behind the colon of its name, "" where nothing does.
        note: what it does, in a line, with what may stand behind the colon.
        title: what people call it.
        kind: one of `ORDER`.
        source: the paper.
        broken_by: the paper that broke it; "" if none did.
    """

    build: Callable[[str], Defence]
    note: str
    title: str
    kind: Kind
    source: str
    broken_by: str = ""


def defend(classifier: Classifier, text: str, training: Cohort, *, seed: int = 0) -> Classifier:
    """Return a classifier defended by a pipeline, as "median:3+jpeg:75".

    Args:
        classifier: the undefended one, which stays as it is.
        text: names of defences, each with its setting behind a colon if it has one, in the order of `ORDER`.
        training: see `Defence.apply`.

    Raises:
        DosimeterError: a defence is not known, its setting is unusable, or they stand in another order.
    """
    defended = classifier
    parts = []
    for name, entry, defence in pipeline(text):
        defended = defence.apply(defended, training, seed=seed)
        parts.append({"name": name, "kind": entry.kind, "broken_by": entry.broken_by, **asdict(defence)})
    model = str(classifier.card.get("model", "classifier"))
    return defended.with_card(model=defended_name(model, text), defence=text, defences=parts)


def pipeline(text: str) -> list[tuple[str, Entry, Defence]]:
    """Return the defences that `text` names, built.

    Raises:
        DosimeterError: see `defend`.
    """
    found = []
    for name, setting in named(text):
        entry: Entry = registry.get("defences", name)
        found.append((name, entry, entry.build(setting)))
    kinds = [entry.kind for _, entry, _ in found]
    if kinds != sorted(kinds, key=ORDER.index):
        raise DosimeterError(
            f"defence '{text}' must stand in the order {', '.join(ORDER)}, got {', '.join(kinds)}. Turn it round."
        )
    return found


def named(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and setting of every defence of a pipeline."""
    for part in text.split("+"):
        name, _, setting = part.strip().partition(":")
        yield name, setting


def defended_name(model: str, defence: str) -> str:
    """Return what tables call a model that is defended."""
    return f"{model} + {defence}"


def shows(card: Mapping[str, Any], other: Mapping[str, Any], *, transfer: bool) -> bool:
    """Whether a classifier shows its adversarial images to another on the same trial, by their cards.

    An attacker who does not know a defence attacks without it; with `transfer` everyone shows them to everyone.
    """
    text = other.get("defence")
    unaware = text is not None and other["model"] == defended_name(card["model"], text)
    return card["model"] != other["model"] and (transfer or unaware)


def whole_setting(setting: str, *, name: str, default: int, least: int, most: int) -> int:
    """Return the whole number behind a defence's colon.

    Raises:
        DosimeterError: it is none, or out of range.
    """
    if not setting:
        return default
    value = int(setting) if setting.isascii() and setting.isdigit() else None
    if value is None or not least <= value <= most:
        raise DosimeterError(
            f"defence {name} must have a whole number from {least} to {most} behind its colon, got '{setting}'. Write "
            f"{name}:{default}."
        )
    return value
