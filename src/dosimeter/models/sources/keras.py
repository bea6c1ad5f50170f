"""A Keras file, .keras or .h5, answered by torch: no TensorFlow, and no code of the file's runs."""

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import digest_of_file, json_of
from dosimeter.models.archives import require_plain
from dosimeter.models.source import Brought, Source, size_of
from dosimeter.plain import named
from dosimeter.record.model_card import ModelCard

ADAPTER = 1
"""Raised whenever the same file would get other answers."""

BACKEND = "KERAS_BACKEND"
SUFFIXES = (".keras", ".h5", ".hdf5")
SEED = "seed_generator_state"
RUNS_CODE = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"})
LOGITS = {("softmax", "probabilities"): "logits", ("sigmoid", "one probability"): "one logit"}
LOGITS |= {("sigmoid", "findings"): "findings"}
"""(last activation, outputs that a card says) -> what the network gives once the activation is left out."""

UNKNOWN = re.compile(r"Unknown \w+: '?([^'.]+)")
"""What Keras says of a class of an .h5 file, whose description does not tell whose it is."""


def load(card: ModelCard) -> Brought:
    """Return the network in `card.weights`, its last softmax or sigmoid left out, so that logits answer.

    Raises:
        DosimeterError: Keras is missing or has another backend, the file cannot be read without running code, takes
            no image, or contradicts the card.
    """
    path = card.weights
    if path is None or not path.is_file() or path.suffix not in SUFFIXES:
        raise DosimeterError(f"the model card of {card.name} must name its weights, a .keras or .h5 file beside it.")
    keras = import_keras()
    require_plain(path, "Save it with model.save, which does not compress.")
    refuse_code(path)
    try:
        with keras.device("cpu"):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        if foreign := UNKNOWN.search(str(error)):
            raise _foreign(path, foreign[1], "(a class that Keras does not have)") from error
        raise DosimeterError(f"{path.name} cannot be read by Keras in safe mode ({in_a_line(error)[:200]}).") from error
    size_px, channels_first = _input(model, path, card)
    model, activation = without_activation(keras, model)
    outputs = _outputs(activation, card)
    built_by = f"keras {keras.__version__}, torch backend"
    return Brought(
        ChannelsLast(model, channels_first=channels_first),
        size_px=size_px,
        outputs=outputs,
        built_by=built_by,
        identity=f"{digest_of_file(path)} by {built_by}, adapter {ADAPTER}, without {activation or 'nothing'}",
        hints=_hints(model),
        note=f"Its last {activation} is left out: attacks and tables have the logits before it." if activation else "",
    )


def import_keras() -> Any:
    """Return Keras 3 on torch.

    Raises:
        DosimeterError: it is not installed, or was imported with another backend.
    """
    os.environ.setdefault(BACKEND, "torch")
    try:
        import h5py  # noqa: F401
        import keras
    except ImportError as error:
        raise DosimeterError(f"the source keras needs {error.name}: pip install 'dosimeter[keras]'.") from error
    if keras.backend.backend() != "torch":
        raise DosimeterError(
            f"Keras must have the backend torch, got {keras.backend.backend()}. Set {BACKEND}=torch before it is "
            "imported."
        )
    return keras


class ChannelsLast(nn.Module):
    """A Keras model as a torch network of images (n, channels, H, W), always in inference mode."""

    def __init__(self, model: Any, *, channels_first: bool) -> None:
        super().__init__()
        self.model = model
        self.channels_first = channels_first
        for part in model.modules():
            for name in [name for name in part if SEED in name] if isinstance(part, nn.ParameterDict) else []:
                del part[name]  # new in every process, and of no use in inference

    def forward(self, images: Tensor) -> Tensor:
        """Return outputs (n, n_outputs)."""
        import keras

        ready = images if self.channels_first else images.permute(0, 2, 3, 1)
        with keras.device(str(images.device)):
            outputs: Tensor = self.model(ready, training=False)
        return outputs


def _hints(model: Any) -> tuple[str, ...]:
    """Return a sentence for each layer that prepares images within the model."""
    found = []
    for layer in model._flatten_layers(include_self=False):
        kind = type(layer).__name__
        if kind == "Rescaling":
            found.append(f"Within the file images are multiplied by {layer.scale} and {layer.offset} is added.")
        elif kind in ("Normalization", "Resizing"):
            found.append(f"Within the file is a layer {kind}.")
    return tuple(found)


def refuse_code(path: Path) -> None:
    """Raise DosimeterError if a file's description names a layer that is code, or a class that is not Keras's."""
    for part in _parts(description(path)):
        name, module = part.get("class_name"), part.get("module") or "keras"
        if name in RUNS_CODE or str(module).partition(".")[0] not in ("keras", "builtins"):
            raise _foreign(path, name, f"of {named(module)}, whose code would run")
        if part.get("registered_name") and not part.get("module"):
            raise _foreign(path, name, "(a class that Keras does not have)")


def _foreign(path: Path, name: object, what: str) -> DosimeterError:
    return DosimeterError(
        f"{path.name} must hold Keras's own layers alone, got {named(name)} {what}. "
        "Save the model without it, or write a function and take the source python with --trust."
    )


def description(path: Path) -> Any:
    """Return the JSON that describes the model in a file; nothing of it is built.

    The suffix decides how a file is read, as it does in Keras: what is looked through is what Keras would build.

    Raises:
        DosimeterError: it is no such file, is two at once, or has weights alone.
    """
    import h5py

    if path.suffix != ".keras" and zipfile.is_zipfile(path):
        raise DosimeterError(
            f"{path.name} must be HDF5 alone, but a zip archive is in it too. Save the model again: model.save(FILE)."
        )
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return json_of(archive.read("config.json"))
        with h5py.File(path, "r") as file:
            found = file.attrs.get("model_config")
        if found is None:
            raise DosimeterError(f"{path.name} holds weights without their model. Save the whole: model.save(FILE).")
        return json_of(found)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DosimeterError(f"{path.name} cannot be read as a Keras file ({in_a_line(error)[:160]}).") from error


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in a description that names a class."""
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            if "class_name" in each:
                yield each
            pending += each.values()
        elif isinstance(each, list):
            pending += each


def _input(model: Any, path: Path, card: ModelCard) -> tuple[int | tuple[int, int] | None, bool]:
    """Return the size of the model's images, None if it takes any, and whether channels come first."""
    inputs = getattr(model, "inputs", None) or []
    shapes = [tuple(each.shape) for each in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or len(model.outputs) != 1:
        raise DosimeterError(
            f"{path.name} must take one image (n, height, width, channels) and give one output, got inputs {shapes}."
        )
    first, *between, last = shapes[0][1:]
    channels_first = last not in (1, 3) and first in (1, 3)
    channels = first if channels_first else last
    height, width = (between[0], last) if channels_first else (first, between[0])
    if channels is not None and channels != card.channels:
        raise DosimeterError(f"the model card of {card.name} says channels {card.channels}, its file {channels}.")
    if height is None or width is None:
        return None, channels_first
    return size_of(height, width, path.name), channels_first


def without_activation(keras: Any, model: Any) -> tuple[Any, str]:
    """Return a model without the softmax or sigmoid at its end, and the name of what was left out, or ""."""
    last, inner = model, model
    while isinstance(last, keras.Model):
        inner, last = last, last.outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Softmax):
        if inner is not model:
            return model, ""
        return keras.Model(model.inputs, last.input), "softmax"
    name = getattr(getattr(last, "activation", None), "__name__", "")
    if name not in ("softmax", "sigmoid"):
        return model, ""
    last.activation = keras.activations.linear
    return model, name


def _outputs(activation: str, card: ModelCard) -> str | None:
    """Return what the network gives without its last activation; None if it had none."""
    if not activation:
        return None
    found = LOGITS.get((activation, card.outputs))
    if found is None:
        right = [outputs for name, outputs in LOGITS if name == activation]
        raise DosimeterError(
            f"the model card of {card.name} says outputs '{card.outputs}', but its file ends in a {activation}: say "
            f"{' or '.join(right)}, and the logits before it are taken."
        )
    return found


ENTRY = Source(
    "a Keras file (weights), .keras or .h5, answered by torch; its last softmax or sigmoid is left out",
    load,
    suffixes=SUFFIXES,
)
