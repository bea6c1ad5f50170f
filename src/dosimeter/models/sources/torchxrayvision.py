"""A network of TorchXRayVision's: raw logits of grey images in [-1024, 1024], its thresholds as those of findings."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from dosimeter.errors import DosimeterError, did_you_mean, in_a_line
from dosimeter.models.archives import require_plain
from dosimeter.models.source import Brought, Source
from dosimeter.models.tensors import fill_tensors, read_tensors, seeded
from dosimeter.record.model_card import ModelCard

WIDTH = 2048.0  # from -1024, black, to 1024, white

LAYERS = (
    *(nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.Linear, nn.Dropout, set),
)
"""What a published file, which is a pickle, may hold beside the package's own layers and tensors."""

OWN = ("DenseNet", "_DenseLayer", "_DenseBlock", "_Transition", "ResNet")


def load(card: ModelCard) -> Brought:
    """Return the network of `card.architecture`, one of TorchXRayVision's sets of weights, with its named findings.

    A card may take some of them, in any order. The tensors are those of `card.weights`, else of the file that the
    package fetched earlier.

    Raises:
        DosimeterError: the package or the file is missing, or the card says otherwise.
    """
    xrv = import_xrv()
    known = xrv.models.model_urls
    if card.architecture not in known:
        raise DosimeterError(
            f"architecture '{card.architecture}' is none of torchxrayvision's. {did_you_mean(card.architecture, known)}"
        )
    facts = known[card.architecture]
    if card.outputs != "findings" or card.channels != 1:
        raise DosimeterError(
            f"the model card of {card.name} must say outputs = 'findings' and channels = 1, got '{card.outputs}' and "
            f"{card.channels}: TorchXRayVision's networks have a logit for each finding of a grey image."
        )
    if card.weights is None and not card.random_weights:
        card = card.model_copy(update={"weights": _fetched(xrv, facts)})
    network = seeded(lambda: build(xrv, card.architecture, len(facts["labels"])))
    fill_tensors(network, card, read=lambda path: read(path, xrv))
    named, thresholds = findings(facts, card.classes)
    places = tuple(facts["labels"].index(name) for name in named)
    return Brought(
        nn.Sequential(_plain(network), Pick(places)),
        size_px=int(facts.get("input_resolution", 224)),
        resize="crop",
        mean=(0.5,),
        std=(1 / WIDTH,),
        classes=named,
        thresholds=thresholds,
        built_by=f"torchxrayvision {xrv.__version__}, {card.architecture}",
        note="TorchXRayVision's own loader shrinks with scikit-image's Gaussian; here it is Pillow's bilinear filter.",
    )


def import_xrv() -> Any:
    """Return the package; the process's filters of warnings stay as they were, which it would switch off.

    Raises:
        DosimeterError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            import torchxrayvision
            import torchxrayvision.models
    except ImportError as error:
        raise DosimeterError(f"the source torchxrayvision needs {error.name}: pip install 'dosimeter[xrv]'.") from error
    return torchxrayvision


def findings(facts: dict[str, Any], wanted: Sequence[str] = ()) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    """Return findings of a set of weights, and the probability from which each counts, or None.

    They are those that are wanted, if all are there, else all that have a name.
    """
    published = facts.get("op_threshs") or [math.nan] * len(facts["labels"])
    known = {label: float(each) for label, each in zip(facts["labels"], published, strict=True) if label}
    named = tuple(wanted) if wanted and set(wanted) <= known.keys() else tuple(known)
    if "op_threshs" not in facts:
        return named, None
    return named, tuple(0.5 if math.isnan(known[name]) else known[name] for name in named)


def build(xrv: Any, name: str, n_outputs: int) -> nn.Module:
    """Return the network that a set of weights belongs to, its tensors named as in its file."""
    if not name.startswith("resnet"):
        dense: nn.Module = xrv.models.DenseNet(weights=None, num_classes=n_outputs)
        return dense
    network: nn.Module = getattr(torchvision.models, name.partition("-")[0])(num_classes=n_outputs, weights=None)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def _plain(network: nn.Module) -> nn.Module:
    """Return a network without what TorchXRayVision's `forward` adds: resizing, warnings, calibration of outputs."""
    if "features" not in dict(network.named_children()):
        return network
    layers = network.get_submodule("features"), network.get_submodule("classifier")
    return nn.Sequential(layers[0], nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), layers[1])


class Pick(nn.Module):
    """Those of several outputs that have a name."""

    def __init__(self, places: tuple[int, ...]) -> None:
        super().__init__()
        self.places = places

    def forward(self, outputs: Tensor) -> Tensor:
        """Return (n, findings) for outputs (n, n_outputs)."""
        return outputs[:, list(self.places)]


def read(path: Path, xrv: Any) -> dict[str, Tensor]:
    """Return the tensors of a published file, a pickled network of which only known layers are built, or of any other.

    Raises:
        DosimeterError: it holds anything else.
    """
    if not path.is_file() or path.suffix == ".safetensors":
        return read_tensors(path)
    own = [getattr(xrv.models, name) for name in OWN if hasattr(xrv.models, name)]
    try:
        require_plain(path)
        with torch.serialization.safe_globals([*LAYERS, *own]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except DosimeterError:
        raise
    except Exception as error:
        raise DosimeterError(
            f"{path.name} cannot be read as tensors and layers alone ({in_a_line(error)[:160]})."
        ) from error
    if not isinstance(found, nn.Module):
        return read_tensors(path)
    try:
        for part in nn.Module.modules(found):  # of files from before torch 1.6
            vars(part).setdefault("_non_persistent_buffers_set", set())
        tensors = nn.Module.state_dict(found)
    except Exception as error:  # its parts may be anything
        raise DosimeterError(f"{path.name} holds no whole network ({in_a_line(error)[:160]}).") from error
    return {name: value for name, value in tensors.items() if name != "op_threshs"}


def _fetched(xrv: Any, facts: dict[str, Any]) -> Path:
    """Return the file of the weights where the package keeps what it fetched."""
    file = str(facts["weights_url"]).rpartition("/")[2]
    path = Path(xrv.utils.get_cache_dir()).expanduser() / file
    if not path.is_file():
        raise DosimeterError(
            f"the weights {file} must be named by the card or lie in TorchXRayVision's cache, but are in neither: "
            f"fetch {facts['weights_url']} and put it beside the card as weights = '{file}'."
        )
    return path


ENTRY = Source("a network of TorchXRayVision's (architecture = its weights' name), findings and thresholds", load)
