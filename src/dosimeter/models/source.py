"""The contract of a source, a way to bring a trained network; and the classifier that a model card makes of it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dosimeter import registry
from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import digest_of_file
from dosimeter.models.archives import require_plain
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import Findings
from dosimeter.models.outputs import OneLogit, Probabilities
from dosimeter.models.preprocessing import Preprocessing
from dosimeter.models.saved import load_classifier
from dosimeter.record.model_card import MEMORY, ModelCard, checked, name_of, read_model_card

N_COMPARED = 5
"""Keys that a sentence names of tensors that do not fit."""


@dataclass(frozen=True)
class Brought:
    """A network, and what its source knows of the images it wants; what is None the card must say.

    Attributes:
        network: images (n, channels, size_px, size_px), normalised, to outputs.
        size_px: side of its input.
        scale, mean, std: see `ModelCard`.
        built_by: the package and version that made it, for the record.
        identity: what answers, by name, where its code cannot be read; "": it is read.
        note: what its source does that dosimeter does not, for the record.
    """

    network: nn.Module
    size_px: int | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    built_by: str = ""
    identity: str = ""
    note: str = ""


@dataclass(frozen=True)
class Source:
    """A way to bring a trained network.

    Attributes:
        note: what it reads, for `dosimeter list sources`.
        load: makes the network that a card describes.
        trust: why it runs code of the user's, so that it is asked for with --trust; "" if it runs none.
    """

    note: str
    load: Callable[[ModelCard], Brought]
    trust: str = ""


def bring(model: str | Path, *, trust: bool = False, device: str = "cpu") -> Classifier:
    """Return the trained classifier that a model card describes, or that dosimeter saved.

    Args:
        model: a card (.toml), see `record.model_card.ModelCard`; or a folder that `save_classifier` wrote.
        trust: let the source run code that comes with the model.
        device: where it answers.

    Raises:
        DosimeterError: the card, its file or its network cannot be used; or it needs `trust`.
    """
    if str(model).startswith(MEMORY):
        raise DosimeterError(f"the model '{name_of(str(model))}' is of a Python session: audit it there again.")
    path = Path(model)
    if path.suffix != ".toml":
        return load_classifier(path, device=device)
    card = read_model_card(path)
    source: Source = registry.get("sources", card.source)
    if source.trust and not trust:
        raise DosimeterError(f"the model card {path.name} must be trusted: {source.trust} Add --trust if you do.")
    return classifier_of(card, source.load(card)).to(device)


def classifier(
    network: nn.Module,
    *,
    size_px: int,
    classes: Sequence[str],
    channels: int = 3,
    scale: float = 1.0,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    channel_order: str = "rgb",
    outputs: str = "logits",
    thresholds: Sequence[float] = (),
    name: str = "classifier",
) -> Classifier:
    """Return a network of your own as a classifier of images in [0, 1], for `sweep`, `examine` and `attack`.

    The network is copied; yours is left as it is.

    Args:
        network: images (n, channels, size_px, size_px) to outputs (n, n_classes), or (n, 1).
        size_px: side of its square input; larger and smaller images are resized.
        classes: names, in the order of its outputs.
        channels: 1 for a network of grey images; it gets the mean of the three planes.
        scale: white, as it was trained: 1 or 255.
        mean, std: by channel, on that scale, in the network's own order of channels; by default pixels as they are.
        channel_order: "rgb" or "bgr".
        outputs: "logits", "probabilities", "one logit", "one probability", or of a multi-label network "findings".
        thresholds: of findings, the probability from which each counts as there; by default 0.5.
        name: in tables.

    Raises:
        DosimeterError: an argument is unusable, or the network cannot be copied.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 2))
        >>> classifier(net, size_px=32, classes=("clear", "opacity"), channels=1)(torch.rand(5, 3, 32, 32)).shape
        torch.Size([5, 2])
    """
    if not isinstance(network, nn.Module):
        raise DosimeterError(f"network must be a torch.nn.Module, got {type(network).__name__}.")
    images = {"size_px": size_px, "channels": channels, "channel_order": channel_order}
    values = {"scale": scale, "mean": tuple(mean), "std": tuple(std)}
    answers = {"classes": tuple(classes), "outputs": outputs, "thresholds": tuple(thresholds)}
    card = checked({"name": name, "source": "memory", **images, **values, **answers}, "classifier(...)")
    return classifier_of(card, Brought(network, built_by=type(network).__name__), copy=True)


def classifier_of(card: ModelCard, brought: Brought, *, copy: bool = False) -> Classifier:
    """Return a network as a classifier of images in [0, 1]; with `copy` the network is left as it is.

    Raises:
        DosimeterError: neither card nor network say how large its images are or what is subtracted from them.
    """
    size_px = card.size_px or brought.size_px
    mean, std = card.mean or brought.mean, card.std or brought.std
    missing = [name for name, value in (("size_px", size_px), ("mean and std", mean)) if value is None]
    if size_px is None or mean is None or std is None:
        raise DosimeterError(
            f"the model card of {card.name} must say {' and '.join(missing)}: the source {card.source} does not know. "
            "A network that takes pixels as they are has mean = [0, 0, 0] and std = [1, 1, 1]."
        )
    if card.size_px and brought.size_px and card.size_px != brought.size_px:
        raise DosimeterError(
            f"the model card of {card.name} says size_px {card.size_px}, its file {brought.size_px}. Mend the card."
        )
    preprocessing = Preprocessing(
        f"{card.name}'s own", card.scale or brought.scale or 1.0, _three(mean), _three(std), card.channel_order
    )
    layers = [Grey()] if card.channels == 1 else []
    heads = {"one logit": OneLogit(), "one probability": Probabilities(), "probabilities": Probabilities()}
    made = Classifier(
        nn.Sequential(*layers, brought.network if copy else brought.network.eval()),
        heads.get(card.outputs, nn.Identity()),
        preprocessing=preprocessing,
        size_px=size_px,
        classes=Findings(card.classes, card.thresholds) if card.outputs == "findings" else card.classes,
        identity=brought.identity or None,
        adopt=not copy,
    )
    made.card = {
        "model": card.name,
        "weights": _weights_of(card, brought),
        "preprocessing": f"{size_px} x {size_px}, {_words_of(preprocessing)}",
        "head": {"outputs": card.outputs, "channels": card.channels},
        "fit": {},
        "history": [],
        "built_by": brought.built_by,
    }
    return made


class Grey(nn.Module):
    """The mean of three planes as one, for a network of grey images."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, 1, H, W) for images (n, 3, H, W)."""
        return images.mean(dim=1, keepdim=True)


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    first, second, third = values if len(values) == 3 else values * 3
    return first, second, third


def _words_of(preprocessing: Preprocessing) -> str:
    mean, std = (", ".join(f"{value:g}" for value in each) for each in (preprocessing.mean, preprocessing.std))
    return f"white is {preprocessing.scale:g}, mean ({mean}), deviation ({std}), {preprocessing.channel_order}"


def _weights_of(card: ModelCard, brought: Brought) -> dict[str, Any]:
    """Return what the record says of the weights: their file's digest, without its folder."""
    return {
        "name": "random weights" if card.random_weights else card.weights.name if card.weights else card.architecture,
        "source": f"{card.source}{f', {brought.built_by}' if brought.built_by else ''}",
        "sha256": "" if card.weights is None else digest_of_file(card.weights),
        "licence": card.licence,
        "stand_in": False,
        "note": " ".join(filter(None, [card.note, brought.note])),
        "layers": card.source,
    }


def fill_tensors(network: nn.Module, card: ModelCard) -> None:
    """Load the tensors of a card's file, read without running code, into a network; or leave random ones.

    Raises:
        DosimeterError: there is no file, it cannot be read without running code, or its tensors are not the network's.
    """
    if card.random_weights:
        return
    if card.weights is None:
        raise DosimeterError(
            f"the model card of {card.name} must name its weights, a file beside it; or say random_weights = true."
        )
    found = _unprefixed(read_tensors(card.weights))
    own = network.state_dict()
    missing, unknown = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    shapes = [
        f"{name} {tuple(found[name].shape)} for {tuple(own[name].shape)}"
        for name in sorted(own.keys() & found.keys())
        if found[name].shape != own[name].shape
    ]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    said = [
        f"{what}: {', '.join(names[:N_COMPARED])}{' ...' if len(names) > N_COMPARED else ''}"
        for what, names in (("missing", missing), ("not of this network", unknown), ("of other shapes", shapes))
        if names
    ]
    if said:
        raise DosimeterError(
            f"{card.weights.name} does not hold the tensors of {card.architecture} for {len(card.classes)} outputs; "
            f"{'; '.join(said)}. Is it of another architecture, or of other classes?"
        )
    network.load_state_dict(found, strict=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .pt or .pth file; no code of the file runs.

    Raises:
        DosimeterError: it is none, or would run code.
    """
    if not path.is_file():
        raise DosimeterError(f"the weights {path.name} are not beside the model card. Put the file there.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        require_plain(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except DosimeterError:
        raise
    except Exception as error:
        raise DosimeterError(
            f"{path.name} cannot be read as tensors alone ({in_a_line(error)[:160]}). Save "
            "them with safetensors, or as torch.save(network.state_dict(), FILE)."
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):  # checkpoints of usual trainers
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise DosimeterError(f"{path.name} must hold a state dict, tensors by name. Save network.state_dict().")
    return found


def _unprefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without the prefix that a wrapper put before every name."""
    for prefix in ("module.", "model.", "_orig_mod."):
        if all(name.startswith(prefix) for name in tensors):
            return {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a network whose initial values are the same each time, and leave the global generators as they were."""
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random.seed(0)
            return build()
    finally:
        random.setstate(state)
