"""The contract of a source, a way to bring a trained network; and the classifier that a model card makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dosimeter import registry
from dosimeter.cohorts.base import FloatImage
from dosimeter.cohorts.grids import Grid, grid_of
from dosimeter.errors import DosimeterError
from dosimeter.files import digest_of
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import Findings
from dosimeter.models.outputs import OneLogit, Probabilities
from dosimeter.models.preprocessing import Preprocessing
from dosimeter.models.proof import check_answers, check_references
from dosimeter.models.queried import Access, Labels, Queried, access_of
from dosimeter.models.saved import load_classifier
from dosimeter.plain import named, shown
from dosimeter.record.model_card import MAX_SIDE_PX, MEMORY, ModelCard, checked, name_of, read_model_card
from dosimeter.record.resizing import Interpolation, Resize


@dataclass(frozen=True)
class Brought:
    """A network, and what its source knows of the images it wants; what is None the card must say.

    Attributes:
        network: images (n, channels, H, W), normalised, to outputs.
        size_px: side of its input, or (height, width).
        resize, interpolation, antialias, crop_pct, scale, mean, std: see `ModelCard`.
        classes, thresholds: what the file says of its outputs.
        outputs: what the network gives, where its source made it other than the card says of the file: logits, where
            the last activation could be left out.
        built_by: the package and version that made it, for the record.
        identity: what answers, by name, where its code cannot be read; "": it is read.
        note: what its source does that dosimeter does not, for the record.
        hints: what in the file speaks for a value that the card must say, as sentences.
        sha256: of all that was read, where that is more than the file that the card names; "": that file's.
    """

    network: nn.Module
    size_px: int | tuple[int, int] | None = None
    resize: Resize | None = None
    interpolation: Interpolation | None = None
    antialias: bool | None = None
    crop_pct: float | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    outputs: str | None = None
    built_by: str = ""
    identity: str = ""
    note: str = ""
    hints: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True)
class Source:
    """A way to bring a trained network.

    Attributes:
        note: what it reads, for `dosimeter list sources`.
        load: makes the network that a card describes.
        trust: why it runs code of the user's, so that it is asked for with --trust; "" if it runs none; or a function
            that says so of a card, without running any.
        takes_arguments: whether it hands a card's `arguments` to the network's constructor.
        needs_tensors: whether it builds networks by name, and a file gives them their tensors alone: what
            `dosimeter fit` takes.
        suffixes: of files that are this source's alone, by which `dosimeter init` knows them.
    """

    note: str
    load: Callable[[ModelCard], Brought]
    trust: str | Callable[[ModelCard], str] = ""
    takes_arguments: bool = False
    needs_tensors: bool = False
    suffixes: tuple[str, ...] = ()

    def why_trust(self, card: ModelCard) -> str:
        """Return why code of the user's would run to load a card's network; "" if none would."""
        return self.trust if isinstance(self.trust, str) else self.trust(card)


def bring(model: str | Path, *, trust: bool = False, device: str = "cpu") -> Classifier:
    """Return the trained classifier that a model card describes, or that dosimeter saved.

    Args:
        model: a card (.toml), see `record.model_card.ModelCard`; or a folder that `save_classifier` wrote.
        trust: let the source run code that comes with the model.
        device: what the network runs on: "cpu", "cuda" or "mps".

    Raises:
        DosimeterError: the card, its file or its network cannot be used, the network answers otherwise than the card
            says; or it needs `trust`.
    """
    if str(model).startswith(MEMORY):
        raise DosimeterError(f"the model '{name_of(str(model))}' is of a Python session: audit it there again.")
    path = Path(model)
    if path.suffix != ".toml":
        return load_classifier(path, device=device)
    card = read_model_card(path)
    source: Source = registry.get("sources", card.source)
    if card.arguments and not source.takes_arguments:
        raise DosimeterError(f"the model card {path.name} has arguments, which the source {card.source} does not take.")
    reason = source.why_trust(card)
    if reason and not trust:
        raise DosimeterError(f"the model card {path.name} must be trusted: {reason} Add --trust if you do.")
    made = classifier_of(card, source.load(card)).to(device)
    check_answers(made, card)
    check_references(made, card)
    return made


def classifier(
    network: nn.Module | Callable[[FloatImage], Any],
    *,
    size_px: int | tuple[int, int],
    classes: Sequence[str],
    resize: Resize = "squash",
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    crop_pct: float = 1.0,
    channels: int = 3,
    scale: float = 1.0,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    channel_order: str = "rgb",
    outputs: str = "logits",
    thresholds: Sequence[float] = (),
    name: str = "classifier",
    identity: str | None = None,
) -> Classifier:
    """Return a network of your own as a classifier of images in [0, 1], for `sweep`, `examine` and `attack`.

    The network is copied; yours is left as it is.

    Args:
        network: images (n, channels, H, W) to outputs (n, n_classes), or (n, 1). Or any function of such arrays, also
            a MAITE model: it has no gradient, and attacks that need answers alone are left.
        size_px: side of its square input, or (height, width); larger and smaller images are resized.
        resize: how an image is brought to that size: "squash", "crop" or "letterbox" (see `cohorts.grids.Grid`).
        interpolation: "bilinear", "nearest", "box", "bicubic" or "lanczos".
        antialias: whether images that shrink are averaged, as Pillow does.
        crop_pct: the share of the resized image that is kept, its middle.
        classes: names, in the order of its outputs.
        channels: 1 for a network of grey images; it gets the mean of the three planes.
        scale: white, as it was trained: 1 or 255.
        mean: by channel, on that scale, in the network's own order of channels; by default pixels as they are.
        std: likewise.
        channel_order: "rgb" or "bgr".
        outputs: "logits", "probabilities", "one logit", "one probability", of a multi-label network "findings", or
            of a function that tells no scores "labels", places of classes.
        thresholds: of findings, the probability from which each counts as there; by default 0.5.
        name: what tables call it.
        identity: of a function that asks something else: what answers, by name and version (see `Classifier`).

    Raises:
        DosimeterError: an argument is unusable, or the network cannot be copied.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 2))
        >>> classifier(net, size_px=32, classes=("clear", "opacity"), channels=1)(torch.rand(5, 3, 32, 32)).shape
        torch.Size([5, 2])
    """
    if not callable(network):
        raise DosimeterError(f"network must be a torch.nn.Module or a function, got {type(network).__name__}.")
    images = {"size_px": size_px, "channels": channels, "channel_order": channel_order}
    resized = {"resize": resize, "interpolation": interpolation, "antialias": antialias, "crop_pct": crop_pct}
    values = {"scale": scale, "mean": tuple(mean), "std": tuple(std)}
    answers = {"classes": tuple(classes), "outputs": outputs, "thresholds": tuple(thresholds)}
    card = checked({"name": name, "source": "memory", **images, **resized, **values, **answers}, "classifier(...)")
    built_by, is_network = type(network).__name__, isinstance(network, nn.Module)
    asked = network if isinstance(network, nn.Module) else Queried(network, _told(card))
    return classifier_of(card, Brought(asked, built_by=built_by, identity=identity or ""), copy=is_network)


def _told(card: ModelCard) -> Access:
    return "decisions" if card.outputs == "labels" else "scores"


def classifier_of(card: ModelCard, brought: Brought, *, copy: bool = False) -> Classifier:
    """Return a network as a classifier of images in [0, 1]; with `copy` the network is left as it is.

    Raises:
        DosimeterError: neither card nor network say how large its images are or what is subtracted from them, or they
            contradict each other.
    """
    mean, std = card.mean or brought.mean, card.std or brought.std
    missing = [
        name for name, value in (("size_px", card.size_px or brought.size_px), ("mean and std", mean)) if not value
    ]
    if missing or mean is None or std is None:
        raise DosimeterError(
            f"the model card of {card.name} must say {' and '.join(missing)}: the source {card.source} does not know. "
            "A network that takes pixels as they are has mean = [0, 0, 0] and std = [1, 1, 1]. Where `dosimeter fit` "
            "writes the card, say it by --size-px, --mean and --std."
        )
    for key in ("size_px", "classes"):
        said, found = getattr(card, key), getattr(brought, key)
        if said and found and said != found:
            said, found = (shown(list(each) if isinstance(each, tuple) else each) for each in (said, found))
            raise DosimeterError(f"the model card of {card.name} says {key} {said}, its file {found}. Mend the card.")
    preprocessing = Preprocessing(
        f"{card.name}'s own", card.scale or brought.scale or 1.0, _three(mean), _three(std), card.channel_order
    )
    layers = [Grey()] if card.channels == 1 else []
    heads = {
        "labels": Labels(len(card.classes)),
        "one logit": OneLogit(),
        "one probability": Probabilities(),
        "probabilities": Probabilities(),
    }
    outputs = brought.outputs or card.outputs
    if outputs == "labels" and access_of(brought.network) != "decisions":
        raise DosimeterError(
            f"outputs 'labels' of {card.name} must be of an endpoint, a function or an ONNX file: a network of torch's "
            "has scores. Bring it without what makes labels of them."
        )
    grid = _grid_of(card, brought)
    thresholds = card.thresholds or brought.thresholds or ()
    made = Classifier(
        nn.Sequential(*layers, brought.network),
        heads.get(outputs, nn.Identity()),
        preprocessing=preprocessing,
        size_px=grid,
        classes=Findings(card.classes, thresholds) if card.outputs == "findings" else card.classes,
        identity=brought.identity or None,
        adopt=not copy,
    )
    made.card = {
        "model": card.name,
        "weights": _weights_of(card, brought),
        "preprocessing": f"{grid.words}, {_words_of(preprocessing)}",
        "head": {"outputs": outputs, "channels": card.channels},
        "fit": {},
        "history": [],
        "built_by": brought.built_by,
    }
    return made


def facts_in_memory(classifier: Classifier) -> dict[str, Any]:
    """Return what `Classifier.card` says of a network of which no model card tells more."""
    weights = {"name": "the user's own", "source": "memory", "layers": "memory", "licence": "not stated"}
    return {
        "model": "classifier",
        "weights": weights | {"sha256": "", "stand_in": False, "note": ""},
        "preprocessing": f"{classifier.grid.words}, {_words_of(classifier.preprocessing)}",
        "head": {"outputs": "logits"},
        "fit": {},
        "history": [],
    }


def _grid_of(card: ModelCard, brought: Brought) -> Grid:
    """Return how images are resized: what the card says, else the source, else squashed, bilinear, antialiased."""
    keys = ("resize", "interpolation", "antialias", "crop_pct")
    said = {key: getattr(brought, key) if getattr(card, key) is None else getattr(card, key) for key in keys}
    size_px = card.size_px or brought.size_px
    assert size_px is not None
    return grid_of(size_px, **{key: value for key, value in said.items() if value is not None})


def file_of(card: ModelCard) -> Path:
    """Return the file that a card names.

    Raises:
        DosimeterError: it names none, or there is none.
    """
    if card.weights is None:
        raise DosimeterError(f"the model card of {card.name} must name its weights, a file beside it.")
    if not card.weights.is_file():
        raise DosimeterError(
            f"the weights {named(card.weights.name)} are not beside the model card. Put the file there."
        )
    return card.weights


def size_of(height: object, width: object, file: str) -> int | tuple[int, int]:
    """Return the size that a file says its images have: a side, or height and width.

    Raises:
        DosimeterError: it is none that images may have.
    """
    for side in (height, width):
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MAX_SIDE_PX:
            raise DosimeterError(
                f"{named(file)} must take images of 1 to {MAX_SIDE_PX} pixels a side, got {shown(side)}."
            )
    assert isinstance(height, int)
    assert isinstance(width, int)
    return height if height == width else (height, width)


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


def _told_weights(card: ModelCard) -> str:
    """Return the name of a card's weights: their file's, else what answers by itself."""
    if card.weights is not None:
        return card.weights.name
    return card.architecture or {"memory": "of a Python session", "http": "behind HTTP"}.get(card.source, card.source)


def _weights_of(card: ModelCard, brought: Brought) -> dict[str, Any]:
    """Return what the record says of the weights: their file's digest, without its folder."""
    return {
        "name": "random weights" if card.random_weights else _told_weights(card),
        "source": f"{card.source}{f', {brought.built_by}' if brought.built_by else ''}",
        "sha256": brought.sha256 or ("" if card.weights is None else digest_of(card.weights)),
        "licence": card.licence,
        "stand_in": False,
        "note": " ".join(filter(None, [card.note, brought.note])),
        "layers": card.source,
    }
