"""A trained classifier on disk: `head.safetensors` and a readable `card.json`.

The base is not copied: the card names its weights by digest, and loading refuses any others.
"""

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dosimeter.errors import DosimeterError
from dosimeter.files import json_in, replacing, require_file, write_text
from dosimeter.models.backbones import Backbone, HeadSpec, get_backbone, plan_head
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import Findings
from dosimeter.models.fit import assemble
from dosimeter.models.weights import Weights, load_weights
from dosimeter.record.facts import SavedCard, reasons

CARD_VERSION = 2
"""Raised whenever the same classifier would get another name."""

REMEDY = "Delete the folder and train again."


class ClassifierDamaged(DosimeterError):
    """A saved classifier's files are not what was saved; training again gives the same one."""


class OtherBase(DosimeterError):
    """The weights that were found are not those a saved classifier was trained on."""


def save_classifier(classifier: Classifier, folder: str | Path) -> None:
    """Write `classifier`, as `fit` made it, into `folder`; the card comes last, so a folder with a card is whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    head = {name: tensor.cpu().contiguous() for name, tensor in classifier.head.state_dict().items()}
    with replacing(folder / "head.safetensors") as temporary:
        temporary.write_bytes(save(head))  # a full disk is then an OSError like any other
    card = {
        "card_version": CARD_VERSION,
        **classifier.card,
        "classifier": classifier.name,
        "sha256": classifier.fingerprint,
        "classes": list(classifier.classes),
        **({} if classifier.findings is None else {"thresholds": list(classifier.findings.thresholds)}),
    }
    write_text(folder / "card.json", json.dumps(card, indent=2) + "\n")


def load_classifier(folder: str | Path, *, weights: Weights | None = None, device: str = "cpu") -> Classifier:
    """Return the classifier in `folder`; its logits are bit-identical to those of the one saved, on one machine.

    Args:
        weights: of its base; by default those that `load_weights` finds.

    Raises:
        DosimeterError: no classifier there; `OtherBase`: the base's weights are not those it was trained on.
    """
    folder = Path(folder)
    card = read_card(folder)
    backbone = get_backbone(card.model)
    head = _head(folder, card, backbone)
    weights = weights or load_weights(backbone.name, preprocessing=card.preprocessing)
    if weights.sha256 != card.weights.sha256:
        raise OtherBase(
            f"{folder} was trained on the weights '{card.weights.name}', but '{weights.name}' were found. "
            f"Give its own with --weights {backbone.name}=FILE."
        )
    if weights.preprocessing.name != card.preprocessing:
        raise OtherBase(
            f"{folder} was trained with the preprocessing '{card.preprocessing}', the weights given come with "
            f"'{weights.preprocessing.name}'. Load them with preprocessing='{card.preprocessing}'."
        )
    if weights.layers != card.weights.layers:
        raise OtherBase(
            f"{folder} was trained on a base with {card.weights.layers}'s layers, but its weights belong to "
            f"{weights.layers}'s: an earlier version took them for the same. Train it again."
        )
    spec = _spec(card)
    decided = Findings(tuple(card.classes), tuple(card.thresholds)) if card.thresholds else card.classes
    classifier = assemble(backbone, weights, spec, classes=decided, generator=torch.Generator())
    classifier.head.load_state_dict(head)
    classifier.card = card.model_dump(exclude_unset=True)
    if classifier.fingerprint != card.sha256:
        raise ClassifierDamaged(f"{folder} is damaged: its tensors or names are not those of card.json. {REMEDY}")
    return classifier.to(device)


def read_card(folder: Path) -> SavedCard:
    """Return the card of the classifier in `folder`.

    Raises:
        ClassifierDamaged: it is not what `save_classifier` writes.
        DosimeterError: there is none, or it is of a newer version.
    """
    file = folder / "card.json"
    if not file.is_file():
        raise DosimeterError(f"{folder} holds no classifier: card.json is missing. Train one with `dosimeter study`.")
    try:
        card = SavedCard.model_validate(json_in(file))
    except ValidationError as error:
        raise ClassifierDamaged(f"{folder} is damaged: in card.json, {reasons(error)}. {REMEDY}") from error
    except ValueError as error:
        raise ClassifierDamaged(f"{folder} is damaged: card.json is no JSON. {REMEDY}") from error
    if card.card_version > CARD_VERSION:
        raise DosimeterError(
            f"{folder}: card.json has version {card.card_version}, this dosimeter reads {CARD_VERSION}. Upgrade "
            "dosimeter."
        )
    if card.card_version < CARD_VERSION:
        raise ClassifierDamaged(
            f"{folder}: card.json has version {card.card_version}, of when classifiers had other names; this dosimeter "
            f"reads {CARD_VERSION}. {REMEDY}"
        )
    return card


def _spec(card: SavedCard) -> HeadSpec:
    return HeadSpec(pool=card.head.pool, hidden=card.head.hidden, dropout=card.head.dropout)


def _head(folder: Path, card: SavedCard, backbone: Backbone) -> dict[str, Tensor]:
    """Return the head's tensors, once their shapes are known to be those of the card: nothing is built before."""
    damaged = f"{folder} is damaged: head.safetensors does not match card.json. {REMEDY}"
    try:
        require_file(folder / "head.safetensors")
        tensors: dict[str, Tensor] = load_file(folder / "head.safetensors")
        planned = plan_head(backbone, _spec(card), n_classes=len(card.classes)).state_dict()
    except (ValueError, OSError, SafetensorError) as error:
        raise ClassifierDamaged(damaged) from error
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if shapes != {name: (tensor.shape, tensor.dtype) for name, tensor in planned.items()}:
        raise ClassifierDamaged(damaged)
    return tensors
