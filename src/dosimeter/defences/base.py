"""The contract of a defence, and pipelines of them.

A defended classifier is a `Classifier` like any other, so every attack attacks all of it, the defence included: what is
not differentiable says in its own module how a gradient comes back (`models.transforms.Transform`). What an attacker
can do who does not know the defence is asked with the images made on the undefended classifier.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dosimeter import registry
from dosimeter.cohorts.base import Cohort
from dosimeter.defences.keeping import Learned, digest_of_tensors, keep, read_kept
from dosimeter.defences.training import Training, nothing, readable
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.progress import Progress
from dosimeter.record.provenance import digest_of

Kind = Literal["training", "input", "vote", "detector"]
ORDER: tuple[Kind, ...] = ("training", "input", "vote", "detector")
"""Kinds of defences in the order in which a pipeline may have them."""


Gradient = Literal["exact", "approximate", "averaged"]
"""What an attacker's gradient is of a defended classifier's answers: their derivative, a stand-in for one (see
`models.transforms.Transform.exact`), or the mean over draws that are not the answers' (see `models.rings.draws`)."""


class Defence(ABC):
    """A frozen dataclass, whose fields are its settings.

    What it learns is apart from what it does with it, so that a run keeps the one and makes the other again.

    Attributes:
        gradient: what an attacker has of it.
    """

    gradient: ClassVar[Gradient] = "exact"
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def learns(self) -> bool:
        """Whether it needs training images."""
        return type(self).learn is not Defence.learn

    def learn(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None] = nothing
    ) -> dict[str, Tensor]:
        """Return what it learns, tensors by name; nothing by default.

        Args:
            classifier: the one that is to be defended, which stays as it is.
            training: the images that it was trained on, and no others.
            seed: of all that is drawn.
            advance: told how many images were gone through.

        Raises:
            DosimeterError: it cannot learn on these images, or of this classifier.
        """
        del classifier, training, seed, advance
        return {}

    @abstractmethod
    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the defended classifier; the one given stays as it is.

        Args:
            classifier: as `learn` was given it.
            learned: what `learn` returned.
            seed: of what the defended classifier draws.
        """

    def too_few(self, n_images: int) -> str:
        """Return why it cannot learn on so many training images, a sentence with the remedy; "" if it can."""
        del n_images
        return ""

    def told(self, learned: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what a card says of what was learned, as JSON types; nothing by default."""
        del learned
        return {}

    def passes(self, n_images: int) -> float:
        """Return about how many forward and backward passes of one image `learn` takes on `n_images`."""
        del n_images
        return 0.0

    @property
    def answer_passes(self) -> float:
        """About how many passes of the undefended network an answer of the defended one takes."""
        return 1.0

    @property
    def gradient_passes(self) -> float:
        """About how many gradients of the undefended network one of the defended one takes."""
        return self.answer_passes

    def apply(self, classifier: Classifier, training: Training, *, seed: int) -> Classifier:
        """Return the classifier defended by what is learned now."""
        return self.put(classifier, self.learn(classifier, training, seed=seed), seed=seed)


class InputDefence(Defence):
    """A defence that is a transform of the images, before the base sees them; it learns nothing and draws nothing."""

    @abstractmethod
    def transform(self) -> nn.Module:
        """Return images (batch, 3, H, W) in [0, 1] to images in [0, 1]; see `Classifier.behind`."""

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the classifier of transformed images."""
        del learned, seed
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


def defend(
    classifier: Classifier,
    text: str,
    training: Cohort,
    *,
    seed: int = 0,
    kept: Path | None = None,
    progress: Progress | None = None,
) -> Classifier:
    """Return a classifier defended by a pipeline, as "median:3+jpeg:75".

    Args:
        classifier: the undefended one, which stays as it is.
        text: names of defences, each with its setting behind a colon if it has one, in the order of `ORDER`.
        training: the images that the classifier was trained on; a defence that learns learns on them alone.
        seed: of what is drawn.
        kept: the folder where what is learned is kept, and taken from if it is there and whole.
        progress: told of every defence that learns.

    Raises:
        DosimeterError: a defence is not known, its setting is unusable, or they stand in another order; it learns, and
            there are no images; or the classifier is defended already.
    """
    return train(classifier, text, training, seed=seed, kept=kept, progress=progress).classifier


class Trained(NamedTuple):
    """A defended classifier, the undefended one, and what each defence of the pipeline learned."""

    classifier: Classifier
    bare: Classifier
    text: str
    names: tuple[str, ...]
    learned: tuple[Learned, ...]


def train(
    classifier: Classifier,
    text: str,
    training: Cohort,
    *,
    seed: int = 0,
    kept: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Defend a classifier as `defend` does, and return what was learned too."""
    defended, parts, all_learned = classifier, [], []
    made = pipeline(text)
    if before := classifier.card.get("defence"):
        raise DosimeterError(
            f"defence '{text}' must be put on an undefended classifier, got one behind {before}: what would come first "
            "is not said. Defend the undefended one by all of them, joined by plus signs."
        )
    for name, entry, defence in made:
        learned = learned_by(defence, name, defended, training, seed=seed, kept=kept, progress=progress or Progress())
        defended = defence.put(defended, learned.tensors, seed=seed)
        parts.append(part_of(name, entry, defence, learned))
        all_learned.append(learned)
    names = tuple(name for name, _, _ in made)
    return Trained(named_after(defended, classifier, text, parts), classifier, text, names, tuple(all_learned))


def learned_by(
    defence: Defence,
    name: str,
    classifier: Classifier,
    training: Cohort,
    *,
    seed: int,
    kept: Path | None,
    progress: Progress,
) -> Learned:
    """Return what a defence learns of a classifier on training images, or what is kept of an earlier time."""
    if not defence.learns:
        return Learned({}, 0.0)
    require_images(defence, name, len(training))
    settings = [name, repr(defence), str(seed), classifier.fingerprint, training.sha256, torch.__version__]
    file = None if kept is None else kept / f"{name}-{digest_of(settings)[:16]}.safetensors"
    if file is not None and (found := read_kept(file)) is not None:
        return found
    images = readable(classifier, training)
    progress.begin(f"{classifier.card.get('model', 'classifier')}: {name} learns on {len(images)} images", 0)
    started = time.perf_counter()
    tensors = defence.learn(classifier, images, seed=seed, advance=progress.advance)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    learned = Learned(tensors, time.perf_counter() - started)
    if file is not None:
        keep(learned, file)
    return learned


def require_images(defence: Defence, name: str, n_images: int) -> None:
    """Raise if a defence learns, and there are no images for it, or too few."""
    if defence.learns and not n_images:
        raise DosimeterError(
            f"defence {name} learns on training images, and there are none: all are tested. Defend the classifier "
            "first, with `dosimeter defend --model MODEL --data IMAGES --defence ... --out FOLDER`, and audit that."
        )
    if why := defence.too_few(n_images):
        raise DosimeterError(why)


def part_of(name: str, entry: "Entry", defence: Defence, learned: Learned) -> dict[str, Any]:
    """Return what a defended classifier's card says of one of its defences."""
    told = {"name": name, "kind": entry.kind, "source": entry.source, "broken_by": entry.broken_by, **asdict(defence)}
    if defence.gradient != "exact":
        told["gradient"] = defence.gradient
    if learned.tensors:
        told |= {"sha256": digest_of_tensors(learned.tensors), "fit_s": learned.seconds}
        told |= defence.told(learned.tensors)
    return told


def named_after(defended: Classifier, bare: Classifier, text: str, parts: list[dict[str, Any]]) -> Classifier:
    """Return a defended classifier under its name, its defences on its card."""
    model = str(bare.card.get("model", "classifier"))
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
