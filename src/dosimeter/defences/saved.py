"""A defended classifier on disk: `defended.json`, what each defence learned, and the way to the undefended one."""

import json
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from dosimeter.defences.base import Trained, named_after, part_of, pipeline
from dosimeter.defences.keeping import Learned, digest_of_tensors, keep, read_kept
from dosimeter.errors import DosimeterError
from dosimeter.files import json_in, write_text
from dosimeter.models import source
from dosimeter.models.base import Classifier
from dosimeter.plain import named
from dosimeter.record.facts import reasons
from dosimeter.record.model_card import DEFENDED
from dosimeter.record.provenance import digest_of
from dosimeter.record.typed import Typed

VERSION = 1
TRAINED = "trained"
REMEDY = "Defend again with `dosimeter defend`."


class Part(Typed):
    """One of the defences: its name and, if it learns, the file of its tensors and their digest."""

    name: str
    file: str | None = None
    sha256: str | None = None


class DefendedCard(Typed):
    """defended.json: what loading needs.

    Attributes:
        undefended: the model that was defended, a model card or a folder, from here.
        undefended_sha256: its fingerprint.
        sha256: of the defended classifier's fingerprint and its defence's text, whose settings may be no part of it.
    """

    version: Annotated[int, Field(ge=1)]
    name: str
    defence: str
    seed: Annotated[int, Field(ge=0)]
    undefended: str
    undefended_sha256: str
    parts: list[Part]
    sha256: str


def save_defended(
    folder: Path, trained: Trained, *, undefended: Path, name: str, seed: int, training: list[str]
) -> None:
    """Write a defended classifier into `folder`; its card comes last, so a folder with a card is whole.

    Args:
        folder: made if it is not there.
        trained: the classifier, and what its defences learned.
        undefended: the model that was defended: a card or a folder.
        name: what tables call that model.
        seed: of what the defences draw.
        training: digests of the images that were learned on, which an audit leaves out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for place, (part, learned) in enumerate(zip(trained.names, trained.learned, strict=True)):
        if not learned.tensors:
            parts.append(Part(name=part))
            continue
        file = f"{place}-{part}.safetensors"
        keep(learned, folder / file)
        parts.append(Part(name=part, file=file, sha256=digest_of_tensors(learned.tensors)))
    write_text(folder / TRAINED, "".join(f"{digest}\n" for digest in dict.fromkeys(training)))
    card = DefendedCard(
        version=VERSION,
        name=name,
        defence=trained.text,
        seed=seed,
        undefended=os.path.relpath(undefended, folder),
        undefended_sha256=trained.bare.fingerprint,
        parts=parts,
        sha256=digest_of([trained.classifier.fingerprint, trained.text]),
    )
    write_text(folder / DEFENDED, json.dumps(card.model_dump(), indent=2) + "\n")


def bring(model: str | Path, *, trust: bool = False, device: str = "cpu") -> Classifier:
    """Return the trained classifier that a model card describes, or that dosimeter saved, defended or not.

    Args:
        model: a card (.toml), see `record.model_card.ModelCard`; or a folder that `save_classifier` or `dosimeter
            defend` wrote.
        trust: let the source run code that comes with the model.
        device: where it answers.

    Raises:
        DosimeterError: as `models.source.bring`; or a part of a defended classifier is missing, or is not what was
            saved.
    """
    folder = Path(model)
    if not (folder / DEFENDED).is_file():
        return source.bring(model, trust=trust, device=device)
    card = read_defended(folder)
    undefended = folder / card.undefended
    if not undefended.exists():
        raise DosimeterError(
            f"{named(folder.name)} lacks the model that it defends, {named(undefended.name)}. Put it back, or "
            "defend it again with `dosimeter defend`."
        )
    if (undefended / DEFENDED).is_file():
        raise DosimeterError(f"{named(folder.name)} defends a model that is defended itself. {REMEDY}")
    bare = source.bring(undefended, trust=trust, device=device)
    if bare.fingerprint != card.undefended_sha256:
        raise DosimeterError(f"{named(folder.name)} defends {card.name}, which is another network now. {REMEDY}")
    bare = bare.with_card(model=card.name)
    defended, parts = bare, []
    for (name, entry, defence), part in zip(pipeline(card.defence), card.parts, strict=True):
        if part.name != name or (part.file is None and defence.learns):
            raise DosimeterError(
                f"{named(folder.name)} is damaged: {DEFENDED} lacks what its defence {named(name)} learned. {REMEDY}"
            )
        learned = _learned(folder, part)
        defended = defence.put(defended, learned.tensors, seed=card.seed)
        parts.append(part_of(name, entry, defence, learned))
    defended = named_after(defended, bare, card.defence, parts)
    if digest_of([defended.fingerprint, card.defence]) != card.sha256:
        raise DosimeterError(f"{named(folder.name)}: {card.defence} makes another network now. {REMEDY}")
    return defended.to(device)


def read_defended(folder: Path) -> DefendedCard:
    """Return the card of the defended classifier in `folder`.

    Raises:
        DosimeterError: it is not what `save_defended` writes, or of a newer version.
    """
    try:
        card = DefendedCard.model_validate(json_in(folder / DEFENDED))
    except (OSError, ValueError) as error:
        reason = reasons(error) if isinstance(error, ValidationError) else f"{DEFENDED} cannot be read"
        raise DosimeterError(f"{named(folder.name)} is damaged: {reason}. {REMEDY}") from error
    if card.version > VERSION:
        raise DosimeterError(f"{named(folder.name)} is of a newer dosimeter. Upgrade dosimeter.")
    if len(card.parts) != len(pipeline(card.defence)):
        raise DosimeterError(f"{named(folder.name)} is damaged: {DEFENDED} lacks a part of its defence. {REMEDY}")
    return card


def _learned(folder: Path, part: Part) -> Learned:
    """Return what a part learned.

    Raises:
        DosimeterError: its file is missing, or holds something else.
    """
    if part.file is None:
        return Learned({}, 0.0)
    if Path(part.file).name != part.file:
        raise DosimeterError(f"{named(folder.name)} is damaged: {named(part.file)} must lie in the folder. {REMEDY}")
    found = read_kept(folder / part.file)
    if found is None or digest_of_tensors(found.tensors) != part.sha256:
        raise DosimeterError(
            f"{named(folder.name)} lacks what its defence {named(part.name)} learned: {named(part.file)} is missing or "
            f"is not what was saved. {REMEDY}"
        )
    return found
