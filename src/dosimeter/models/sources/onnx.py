"""An ONNX file, made a torch network again, and checked against what onnxruntime answers."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.cohorts.base import FloatImage
from dosimeter.cohorts.grids import grid_of
from dosimeter.cohorts.images import read_image
from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import digest_of_file
from dosimeter.models.batches import any_batch
from dosimeter.models.identity import probes
from dosimeter.models.preprocessing import Preprocessing
from dosimeter.models.queried import Queried
from dosimeter.models.source import Brought, Source, size_of
from dosimeter.plain import named
from dosimeter.record.model_card import ModelCard

log = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Largest difference from onnxruntime's outputs, as a share of their spread, on patterns and the card's references."""


class Conversion(NamedTuple):
    """What a converter made of a file: a network that answers as onnxruntime does, or why there is none."""

    network: nn.Module | None
    by: str
    failures: tuple[str, ...]


def load(card: ModelCard) -> Brought:
    """Return the network in `card.weights`; as scores without gradients where no converter makes torch's of it.

    Raises:
        DosimeterError: packages are missing; or the file takes other than images one by one, or gives several outputs.
    """
    session = open_session(card)
    size_px = _size(card, session)
    assert card.weights is not None
    sha256 = digest_with_tensors(card.weights)
    asked = partial(_scores, session, card.weights.name)
    by = f"onnxruntime {version('onnxruntime')}"
    answering: dict[str, Any] = {"size_px": size_px, "built_by": by, "identity": f"{sha256} by {by}", "sha256": sha256}
    if card.outputs == "labels":
        return Brought(Queried(asked, "decisions"), **answering)
    made = convert(card, session, size_px)
    if made.network is not None:
        identity = f"{sha256} by {made.by}"
        return Brought(made.network, size_px=size_px, built_by=made.by, identity=identity, sha256=sha256)
    note = (
        f"It has no gradients, because no converter makes a torch network of it ({'; '.join(made.failures)}): exported "
        "again with torch.onnx.export(network, (images,), FILE, dynamo=True) it may have."
    )
    log.warning("%s: %s", card.name, note)
    return Brought(Queried(asked), note=note, **answering)


class ChannelsLast(nn.Module):
    """A network of images (n, H, W, channels) as one of images (n, channels, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return outputs (n, n_outputs)."""
        outputs: Tensor = self.network(images.permute(0, 2, 3, 1))
        return outputs


def _takes_channels_last(session: Any) -> bool:
    """Whether a file takes images (n, H, W, channels), as those that were TensorFlow's do."""
    _, first, _, last = session.get_inputs()[0].shape
    return last in (1, 3) and first not in (1, 3)


def _scores(session: Any, name: str, images: FloatImage) -> FloatImage:
    """Return what onnxruntime answers about images (n, channels, H, W), one by one: a file may have a batch of one.

    Raises:
        DosimeterError: it fails, or answers other than with an array of numbers.
    """
    given = session.get_inputs()[0].name
    ready = images.transpose(0, 2, 3, 1) if _takes_channels_last(session) else images
    try:
        answers = [session.run(None, {given: np.ascontiguousarray(image[None])})[0] for image in ready]
    except Exception as error:  # a graph may fail in many ways on images that it does not expect
        raise DosimeterError(
            f"{name} fails on an image of {' x '.join(map(str, images.shape[2:]))}, channels {images.shape[1]} "
            f"({in_a_line(error)[:200]}). Does its card say the size_px and channels that it was trained with?"
        ) from error
    if not all(isinstance(answer, np.ndarray) and answer.dtype.kind in "fiu" for answer in answers):
        raise DosimeterError(f"{name} must answer with an array of numbers, got {session.get_outputs()[0].type}.")
    return np.concatenate(answers)


def open_session(card: ModelCard) -> Any:
    """Return what onnxruntime answers with, of a file with one image as its input.

    Raises:
        DosimeterError: there is no such file, no such package; or it takes or gives something else (see `load`).
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing(error) from error
    if card.weights is None or not card.weights.is_file():
        raise DosimeterError(f"the model card of {card.name} must name its weights, an .onnx file beside it.")
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is said in a sentence
        session = onnxruntime.InferenceSession(str(card.weights), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DosimeterError(f"{card.weights.name} cannot be read as ONNX ({in_a_line(error)[:200]}).") from error
    _check_signature(session, card.weights.name)
    channels = session.get_inputs()[0].shape[3 if _takes_channels_last(session) else 1]
    if isinstance(channels, int) and channels != card.channels:
        raise DosimeterError(f"the model card of {card.name} says channels {card.channels}, its file {channels}.")
    return session


def _check_signature(session: Any, name: str) -> None:
    """Raise DosimeterError unless a file takes images of 32-bit floats, one at a time, and gives one output."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise DosimeterError(
            f"{name} must take one input (n, channels, height, width) or (n, height, width, channels), got "
            f"{[each.shape for each in inputs]}."
        )
    if inputs[0].type != "tensor(float)":
        raise DosimeterError(
            f"{name} must take images of 32-bit floats, got {inputs[0].type}. Export it again for such images."
        )
    batch = inputs[0].shape[0]
    if isinstance(batch, int) and batch != 1:
        raise DosimeterError(
            f"{name} must take images one at a time or any number of them, got a batch of {batch}. Export it again "
            "with a batch of 1, or a dynamic one."
        )
    if len(outputs) != 1:
        raise DosimeterError(
            f"{name} must give one output, got {named(', '.join(each.name for each in outputs))}. Export it again with "
            "the scores alone."
        )


def convert(card: ModelCard, session: Any, size_px: int | tuple[int, int]) -> Conversion:
    """Return what the first converter makes whose network answers as onnxruntime does.

    Where there is none, `session` still answers with scores: a classifier without gradients begins here.

    Raises:
        DosimeterError: no converter is installed.
    """
    assert card.weights is not None
    images = _images(card, size_px)
    wanted = _scores(session, card.weights.name, images.numpy())
    failures, missing = [], []
    for name, build in CONVERTERS.items():
        try:
            made = build(card.weights).eval()
            network, off = _compared(ChannelsLast(made) if _takes_channels_last(session) else made, images, wanted)
        except ImportError as error:
            missing.append(error)
            continue
        except Exception as error:  # a converter may raise anything about what it does not know
            failures.append(f"{name}: {in_a_line(error)[:160]}")
            continue
        if off <= TOLERANCE:
            return Conversion(network, f"{name} {version(name)}", tuple(failures))
        failures.append(f"{name}: off by {off:.2g} of the outputs' spread")
    if not failures:
        raise _missing(missing[0])
    return Conversion(None, "", (*failures, *(f"{error.name} is not installed" for error in missing)))


def digest_with_tensors(path: Path) -> str:
    """Return the SHA-256 of an ONNX file; with tensors stored beside it, that of all their files' names and digests.

    Raises:
        DosimeterError: a file of tensors is not there.
    """
    try:
        import onnx
    except ImportError as error:
        raise _missing(error) from error
    places = sorted(set(_places(onnx.load(path, load_external_data=False))))
    if not places:
        return digest_of_file(path)
    for place in places:
        if not (path.parent / place).is_file():
            raise DosimeterError(f"{path.name} must have its tensors beside it, but {named(place)} is not there.")
    lines = [f"{place} {digest_of_file(path.parent / place)}\n" for place in (path.name, *places)]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def _places(message: Any) -> Iterator[str]:
    """Yield the names of the files in which tensors of a message stand, in whatever part of a graph they are."""
    for field, value in message.ListFields():
        if field.name == "external_data":
            yield from (entry.value for entry in value if entry.key == "location")
        elif field.message_type is not None:
            for part in value if isinstance(value, Sequence) else [value]:
                yield from _places(part)


def _read(path: Path) -> Any:
    """Return a file's graph, tensors that it has under two names under one: converters stumble over the second.

    The older exporter gives tensors that happen to be equal, such as biases of zeros, one name and `Identity` nodes.
    """
    import onnx

    model = onnx.load(path)
    nodes, tensors = model.graph.node, {each.name for each in model.graph.initializer}
    second = {
        each.output[0]: each.input[0] for each in nodes if each.op_type == "Identity" and each.input[0] in tensors
    }
    kept = [each for each in nodes if not second.keys() & set(each.output)]
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = second.get(name, name)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def _onnx2pytorch(path: Path) -> nn.Module:
    from onnx2pytorch import ConvertModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how experimental it is: its answers are compared
        network: nn.Module = ConvertModel(_read(path), experimental=True)
    return network


def _onnx2torch(path: Path) -> nn.Module:
    from onnx2torch import convert as converted

    network: nn.Module = converted(_read(path))
    return network


CONVERTERS: dict[str, Callable[[Path], nn.Module]] = {"onnx2pytorch": _onnx2pytorch, "onnx2torch": _onnx2torch}
"""What makes a torch network of a file, in the order in which they are tried."""


def _missing(error: ImportError) -> DosimeterError:
    return DosimeterError(f"the source onnx needs {error.name}: pip install 'dosimeter[onnx]'.")


def _size(card: ModelCard, session: Any) -> int | tuple[int, int]:
    """Return the size that the file says, else the card."""
    assert card.weights is not None
    shape = session.get_inputs()[0].shape
    sides = shape[1:3] if _takes_channels_last(session) else shape[2:]
    height, width = (side if isinstance(side, int) else None for side in sides)
    if height and width:
        return size_of(height, width, card.weights.name)
    if card.size_px is None:
        raise DosimeterError(f"the model card of {card.name} must say size_px: {card.weights.name} takes any.")
    return card.size_px


def _images(card: ModelCard, size_px: int | tuple[int, int]) -> Tensor:
    """Return patterns, and the card's references, as the network is given them, (n, channels, H, W)."""
    grid = grid_of(size_px)
    known = [torch.from_numpy(grid.put(read_image(each.image))).expand(3, -1, -1) for each in card.reference]
    images = torch.stack([*probes(*grid.shape), *known])
    if card.mean and card.std:
        images = Preprocessing("", card.scale or 1.0, card.mean, card.std, card.channel_order).apply(images)
    return images.mean(dim=1, keepdim=True) if card.channels == 1 else images


def _compared(network: nn.Module, images: Tensor, wanted: FloatImage) -> tuple[nn.Module, float]:
    """Return a network of any batch, and its largest difference from onnxruntime, as a share of the outputs' spread."""
    network = any_batch(network, images)
    with torch.inference_mode():
        found = network(images).numpy()
    if found.shape != wanted.shape:
        return network, float("inf")
    return network, float(np.nan_to_num(np.abs(found - wanted), nan=np.inf).max()) / (float(np.ptp(wanted)) or 1.0)


ENTRY = Source("an ONNX file (weights), verified against onnxruntime", load, suffixes=(".onnx",))
