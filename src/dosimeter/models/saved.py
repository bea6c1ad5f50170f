"""A trained classifier on disk: `head.safetensors` and a readable `card.json`.

The base is not copied: the card names its weights by digest, and loading refuses any others.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from dosimeter.atomic import write_text
from dosimeter.errors import DosimeterError
from dosimeter.models.backbones import HeadSpec, get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.fit import assemble
from dosimeter.models.weights import Weights, load_weights

CARD_VERSION = 1


class ClassifierDamaged(DosimeterError):
    """A saved classifier's files are not what was saved; training again gives the same one."""


def save_classifier(classifier: Classifier, folder: str | Path) -> None:
    """Write `classifier`, as `fit` made it, into `folder`; the card comes last, so a folder with a card is whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    head = {name: tensor.cpu().contiguous() for name, tensor in classifier.head.state_dict().items()}
    (folder / "head.safetensors").write_bytes(save(head))  # a full disk is then an OSError like any other
    card = {
        "card_version": CARD_VERSION,
        **classifier.card,
        "classifier": classifier.name,
        "sha256": classifier.fingerprint,
        "classes": list(classifier.classes),
    }
    write_text(folder / "card.json", json.dumps(card, indent=2) + "\n")


def load_classifier(folder: str | Path, *, weights: Weights | None = None, device: str = "cpu") -> Classifier:
    """Return the classifier in `folder`; its logits are bit-identical to those of the one saved, on one machine.

    Args:
        weights: of its base; by default those that `load_weights` finds.

    Raises:
        DosimeterError: no classifier there, or the base's weights are not those it was trained on.
    """
    folder = Path(folder)
    card_file = folder / "card.json"
    if not card_file.is_file():
        raise DosimeterError(f"{folder} holds no classifier: card.json is missing. Train one with `dosimeter study`.")
    damaged = f"{folder} is damaged: its tensors do not match card.json. Delete it and train again."
    try:
        card = json.loads(card_file.read_text(encoding="utf-8"))
        head = load_file(folder / "head.safetensors")
        backbone = get_backbone(card["model"])
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise ClassifierDamaged(damaged) from error
    weights = weights or load_weights(backbone.name, preprocessing=card["preprocessing"])
    trained_in = card["weights"].get("layers", "torchvision")  # not said by versions that knew no other
    if weights.layers != trained_in:
        raise DosimeterError(
            f"{folder} was trained on a base with {trained_in}'s layers, but its weights belong to {weights.layers}'s: "
            "an earlier version took them for the same. Train it again."
        )
    if weights.sha256 != card["weights"]["sha256"]:
        raise DosimeterError(
            f"{folder} was trained on the weights '{card['weights']['name']}', but '{weights.name}' were found. "
            f"Give its own with --weights {backbone.name}=FILE."
        )
    if weights.preprocessing.name != card["preprocessing"]:
        raise DosimeterError(
            f"{folder} was trained with the preprocessing '{card['preprocessing']}', the weights given come with "
            f"'{weights.preprocessing.name}'. Load them with preprocessing='{card['preprocessing']}'."
        )
    spec = HeadSpec(**card["head"])
    classifier = assemble(backbone, weights, spec, classes=card["classes"], generator=torch.Generator())
    try:
        classifier.head.load_state_dict(head)
    except RuntimeError as error:
        raise ClassifierDamaged(damaged) from error
    classifier.card = card
    if classifier.fingerprint != card["sha256"]:
        raise ClassifierDamaged(damaged)
    return classifier.to(device)
