"""Opens a model of which only its file or name is known: what its source says of it, before there is a card."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dosimeter import registry
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.models.evidence import Outputs, ask
from dosimeter.models.source import Brought, Source
from dosimeter.models.tensors import read_tensors
from dosimeter.plain import named
from dosimeter.record.model_card import NETWORK_FILES, SHORTHANDS, ModelCard, checked

KINDS = ("logits", "probabilities", "one logit", "one probability", "findings")


class Opened(NamedTuple):
    """A model that its source could load.

    Attributes:
        facts: of a card, what is certain: source, architecture or weights.
        card: a card with which it could be loaded.
        brought: what the source knows.
        outputs: what it gives for noise; None if the size of its images is not known.
    """

    facts: dict[str, Any]
    card: ModelCard
    brought: Brought
    outputs: Outputs | None


def facts_of(model: str, *, weights: Path | None = None, random_weights: bool = False) -> dict[str, Any]:
    """Return the source of a model, with its architecture or its file.

    Args:
        model: SHORTHAND:NAME, see `SHORTHANDS`, or a file or folder.
        weights: the tensors of a network that is named.

    Raises:
        DosimeterError: it is neither, or does not say what network it is of.
    """
    shorthand, colon, name = model.partition(":")
    if colon and shorthand in SHORTHANDS and name:
        found: dict[str, Any] = {"source": SHORTHANDS[shorthand], "architecture": name}
        source: Source = registry.get("sources", SHORTHANDS[shorthand])
        if weights is None and not random_weights and source.needs_tensors:
            raise DosimeterError(
                f"{named(model)} must come with --weights FILE, or with --random-weights to try things."
            )
        if weights is not None:
            found["weights"] = str(weights)
        return found | ({"random_weights": True} if random_weights else {})
    path = Path(model)
    if not path.is_file() and not path.is_dir():  # a pipe would be waited for
        there = "is no file" if path.exists() else "is not there"
        shorthands = ", ".join(f"{each}:NAME" for each in SHORTHANDS)
        raise DosimeterError(
            f"model must be a file, a folder or one of {shorthands}, got '{named(model)}', which {there}."
            + (f" {did_you_mean(shorthand, SHORTHANDS)}" if colon else "")
        )
    return {"source": _source_of(path), "weights": str(path)}


def _source_of(path: Path) -> str:
    if path.is_dir():
        for file, source in (("configs/metadata.json", "monai"), ("config.json", "huggingface")):
            if (path / file).is_file():
                return source
        raise DosimeterError(
            f"{named(path.name)} must be a folder with config.json (Hugging Face) or configs/metadata.json (MONAI)."
        )
    for name in registry.names("sources"):
        if path.suffix in registry.get("sources", name).suffixes:
            return name
    if path.suffix in (".pt", ".pth") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.partition("/")[2].startswith("code/") for name in archive.namelist()):
                return "torchscript"
    if path.suffix not in NETWORK_FILES:
        raise DosimeterError(f"{named(path.name)} must be a folder, or end in one of {', '.join(NETWORK_FILES)}.")
    try:
        read_tensors(path)
    except DosimeterError:
        if path.suffix == ".safetensors":
            raise
        return "pickle"
    raise DosimeterError(
        f"{named(path.name)} holds tensors, not their network: name it, as in dosimeter init timm:NAME DATA --weights "
        f"{named(path.name)}."
    )


def open_model(
    facts: dict[str, Any], names: Sequence[str], *, size_px: int | tuple[int, int] | None = None, trust: bool = False
) -> Opened:
    """Return a model as its source loads it, with the first channels and kind of outputs with which it answers.

    Args:
        facts: see `facts_of`.
        names: the classes or findings that the data has; a network that is built gets so many outputs.
        size_px: of its images, where its file does not say.
        trust: let the source run code that comes with the model.

    Raises:
        DosimeterError: its source cannot load it, or asks for trust; or it does not answer.
    """
    source: Source = registry.get("sources", facts["source"])
    said: dict[str, DosimeterError] = {}
    for card in _cards(facts, names, size_px):
        reason = source.why_trust(card)
        if reason and not trust:
            raise DosimeterError(f"{named(card.name)} must be trusted: {reason} Add --trust if you do.")
        try:
            brought = source.load(card)
            outputs = ask(card, brought) if card.size_px or brought.size_px else None
        except DosimeterError as error:
            said.setdefault(str(error), error)
            continue
        named_so = card if brought.classes is None else card.model_copy(update={"classes": brought.classes})
        return Opened(facts, named_so, brought, outputs)
    raise next((error for text, error in said.items() if "model card" not in text), next(iter(said.values())))


def _cards(facts: dict[str, Any], names: Sequence[str], size_px: int | tuple[int, int] | None) -> Iterator[ModelCard]:
    """Yield cards that differ in what a file may contradict."""
    classes = list(names) if len(names) > 1 else ["output 0", "output 1"]
    for channels in (3, 1):
        for outputs in KINDS:
            if outputs.startswith("one ") and len(classes) != 2:
                continue
            own = {"name": "model", "outputs": outputs, "classes": classes, "channels": channels}
            yield checked(facts | own | ({} if size_px is None else {"size_px": size_px}), "model")
