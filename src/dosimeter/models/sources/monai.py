"""A network of MONAI's with its tensors, or a bundle, whose metadata.json is read as a card.

A bundle's configuration is code: `$` begins an expression, `_target_` names what is called. Only a network of
`monai.networks.nets` with literal arguments is built here; for anything else trust is asked for.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from dosimeter.errors import DosimeterError, did_you_mean, in_a_line
from dosimeter.files import read_json_object
from dosimeter.models.source import Brought, Source, size_of
from dosimeter.models.tensors import fill_tensors, seeded
from dosimeter.plain import named, shown
from dosimeter.record.model_card import ModelCard

NETS = "monai.networks.nets"
METADATA = Path("configs", "metadata.json")
CONFIGS = tuple(Path("configs", name) for name in ("inference.json", "evaluate.json", "train.json"))
TENSORS = tuple(Path("models", name) for name in ("model.safetensors", "model.pt", "model.pth"))
FETCHES = re.compile(r"pretrain|url|weights|(?<!drop_)(?<!dropout_)path|^checkpoint$")
"""Names of arguments by which a constructor of MONAI's would fetch tensors; a drop path is none."""

FETCHING = "transchex"
"""The module of MONAI's whose networks fetch a language model while they are made, whatever the arguments say."""


def load(card: ModelCard) -> Brought:
    """Return a network of `monai.networks.nets`, or that of the bundle in the folder `card.weights`.

    Raises:
        DosimeterError: MONAI is missing, there is no such network, its tensors are another's, or the card contradicts
            the bundle.
    """
    if card.weights is not None and card.weights.is_dir():
        return _bundle(card, card.weights)
    network = _build(card.architecture, card.arguments, card)
    fill_tensors(network, card)
    return Brought(_with_one_output(network), built_by=_version(card.architecture))


def _with_one_output(network: nn.Module) -> nn.Module:
    """Return a network that answers with the first of several outputs: some also return what is within."""
    network.register_forward_hook(_first_of)
    return network


def _first_of(_: nn.Module, __: Any, outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, tuple | list) else outputs


def import_nets() -> Any:
    """Return `monai.networks.nets`, or raise DosimeterError."""
    try:
        import monai.networks.nets
    except ImportError as error:
        raise DosimeterError(f"the source monai needs {error.name}: pip install 'dosimeter[monai]'.") from error
    return monai.networks.nets


def _version(name: str) -> str:
    import monai

    return f"monai {monai.__version__}, {name}"


def _build(name: str, arguments: dict[str, Any], card: ModelCard) -> nn.Module:
    """Return a network by its name, with random tensors; what a card says of it fills the arguments of that name."""
    nets = import_nets()
    known = {each for each in dir(nets) if _is_network(getattr(nets, each))}
    if name not in known:
        raise DosimeterError(f"architecture '{named(name)}' is no class of {NETS}. {did_you_mean(name, known)}")
    made = getattr(nets, name)
    if made.__module__.endswith(f".{FETCHING}"):
        raise DosimeterError(f"architecture must be a network that is made without fetching tensors, got {name}.")
    for argument, value in arguments.items():
        if value and FETCHES.search(argument):
            raise DosimeterError(
                f"arguments of {name} must not fetch tensors, got {named(argument)}. Name a file as weights."
            )
    taken = inspect.signature(made).parameters
    said: dict[str, Any] = {"spatial_dims": 2, "pretrained": False, "img_size": card.size_px}
    said |= dict.fromkeys(("in_channels", "n_input_channels"), card.channels)
    said |= dict.fromkeys(("out_channels", "num_classes"), card.n_outputs)
    options = {key: value for key, value in said.items() if key in taken and value is not None} | arguments
    try:
        network: nn.Module = seeded(lambda: made(**options))
    except Exception as error:  # constructors raise nearly anything about arguments
        raise DosimeterError(
            f"{name} cannot be made with arguments {shown(options)} ({in_a_line(error)[:160]}). Mend them in the card."
        ) from error
    if not isinstance(network, nn.Module):
        raise DosimeterError(f"{name} must make a torch.nn.Module, got {type(network).__name__}.")
    return network


def _is_network(value: Any) -> bool:
    """Whether that is a class of MONAI's networks; its functions may fetch tensors, or make something else."""
    return inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__.startswith(NETS)


# --- bundles ----------------------------------------------------------------------------------------------------------


def why_trust(card: ModelCard) -> str:
    """Return why a bundle's code would run, "" if it holds a literal network; nothing of it is built."""
    if card.weights is None or not card.weights.is_dir():
        return ""
    definition = network_of(card.weights)
    found = next(_code(definition, top=True), "")
    return f"the bundle's network_def has {found}, and a configuration of MONAI's is code." if found else ""


def network_of(folder: Path) -> dict[str, Any]:
    """Return the `network_def` of a bundle.

    Raises:
        DosimeterError: it has none in JSON.
    """
    for place in CONFIGS:
        definition = (
            read_json_object(folder / place, place.name).get("network_def") if (folder / place).is_file() else None
        )
        if isinstance(definition, dict):
            return definition
    raise DosimeterError(
        f"{named(folder.name)} must be a bundle with a network_def in {', '.join(place.name for place in CONFIGS)}."
    )


def _code(value: Any, *, top: bool = False) -> Iterator[str]:
    """Yield what would be called or evaluated in a definition, beside one network of `monai.networks.nets`."""
    if isinstance(value, dict):
        for key, each in value.items():
            target = str(each)
            literal = top and key == "_target_" and target.removeprefix(f"{NETS}.").isidentifier()
            if str(key).startswith("_") and not literal:
                yield f"{named(key)} {named(target)}"
            elif not literal:
                yield from _code(each)
    elif isinstance(value, list):
        for each in value:
            yield from _code(each)
    elif isinstance(value, str) and value.startswith(("$", "@", "%")):
        yield named(value)


def _bundle(card: ModelCard, folder: Path) -> Brought:
    definition, said = network_of(folder), read_metadata(folder)
    channels = said.pop("channels", card.channels)
    if channels != card.channels:
        raise DosimeterError(f"the model card of {card.name} says channels {card.channels}, its bundle {channels}.")
    if why_trust(card):
        network, name = _trusted(folder), "bundle"
    else:
        name = str(definition["_target_"]).removeprefix(f"{NETS}.")
        arguments = {key: value for key, value in definition.items() if key != "_target_"}
        network = _build(name, arguments, card)
    tensors = next((folder / place for place in TENSORS if (folder / place).is_file()), None)
    if tensors is None and not card.random_weights:
        raise DosimeterError(
            f"{named(folder.name)} has no tensors: put them into {' or '.join(str(place) for place in TENSORS)}."
        )
    fill_tensors(network, card.model_copy(update={"weights": tensors, "architecture": name}))
    return Brought(_with_one_output(network), **said, built_by=_version(name))


def _trusted(folder: Path) -> nn.Module:
    """Return the network that a bundle's own configuration makes: its code runs."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    place = next(place for place in CONFIGS if (folder / place).is_file())
    try:
        parser.read_config(str(folder / place))
        parser["bundle_root"] = str(folder)
        network = seeded(lambda: parser.get_parsed_content("network_def"))
    except Exception as error:  # the bundle's code may raise anything
        raise DosimeterError(f"{place.name}: network_def cannot be made ({in_a_line(error)[:200]}).") from error
    return network


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return what a bundle's metadata.json says, as `Brought` has it, and channels: size, range of values, classes.

    Raises:
        DosimeterError: it cannot be read.
    """
    if not (folder / METADATA).is_file():
        return {}
    data = read_json_object(folder / METADATA, METADATA.name).get("network_data_format", {})
    image, output = (_first(data, key) for key in ("inputs", "outputs"))
    found: dict[str, Any] = {}
    shape = image.get("spatial_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, int) for side in shape):
        found["size_px"] = size_of(shape[0], shape[1], METADATA.name)
    if image.get("num_channels") in (1, 3):
        found["channels"] = image["num_channels"]
    limits = image.get("value_range")
    if isinstance(limits, list) and len(limits) == 2 and all(isinstance(each, int | float) for each in limits):
        if not limits[0] < limits[1]:
            raise DosimeterError(f"value_range of {METADATA.name} must ascend, got {shown(limits)}.")
        low, width = float(limits[0]), float(limits[1]) - float(limits[0])
        found |= {"mean": (-low / width or 0.0,), "std": (1 / width,)}
    names = output.get("channel_def")
    if isinstance(names, dict) and all(str(key).isdecimal() for key in names) and len(names) > 1:
        found["classes"] = tuple(str(names[key]) for key in sorted(names, key=int))
    return found


def _first(data: Any, key: str) -> dict[str, Any]:
    """Return the first of the inputs or outputs that a metadata.json describes; {} if there is none."""
    described = data.get(key) if isinstance(data, dict) else None
    found = next(iter(described.values()), None) if isinstance(described, dict) else None
    return found if isinstance(found, dict) else {}


ENTRY = Source(
    "a network of monai.networks.nets (architecture, arguments) with its tensors, or a bundle's folder (weights); a "
    "bundle that is code with --trust",
    load,
    trust=why_trust,
    takes_arguments=True,
    needs_tensors=True,
)
