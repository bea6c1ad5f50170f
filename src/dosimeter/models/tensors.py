"""The tensors of a trained network, read from a file without running code, and put into a network that takes them."""

import logging
import pickle
import random
import re
from argparse import Namespace
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.models.archives import require_plain
from dosimeter.plain import named
from dosimeter.record.model_card import ModelCard

log = logging.getLogger(__name__)

STATE_DICTS = ("state_dict", "model_state_dict", "model")
"""Keys under which checkpoints of usual trainers have the tensors, the first of them that is there."""

HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [Namespace]
"""Classes that a checkpoint may hold beside its tensors, as the settings of a script; reading one calls nothing."""

_FOREIGN = re.compile(r"GLOBAL (\S+)")
"""How torch names what a file holds beside tensors."""

N_COMPARED = 5
"""Keys that a sentence names of tensors that do not fit."""


def fill_tensors(network: nn.Module, card: ModelCard, read: Callable[[Path], dict[str, Tensor]] | None = None) -> None:
    """Load the tensors of a card's file, read without running code, into a network; or leave random ones.

    Args:
        read: what reads the file; by default `read_tensors`.

    Raises:
        DosimeterError: there is no file, it cannot be read without running code, or its tensors are not the network's.
    """
    if card.random_weights:
        return
    if card.weights is None:
        raise DosimeterError(
            f"the model card of {card.name} must name its weights, a file beside it; or say random_weights = true."
        )
    own = network.state_dict()
    found = unprefixed((read or read_tensors)(card.weights), own)
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
        with torch.serialization.safe_globals(HARMLESS):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except DosimeterError:
        raise
    except Exception as error:
        raise DosimeterError(
            f"{path.name} cannot be read as tensors alone ({_why(error)}). Save them with safetensors, or as "
            "torch.save(network.state_dict(), FILE)."
        ) from error
    found = _taken(found, path.name)
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise DosimeterError(f"{path.name} must hold a state dict, tensors by name. Save network.state_dict().")
    return found


def _why(error: Exception) -> str:
    """Return why torch cannot read a file as tensors alone: it speaks of its own options at length."""
    if not isinstance(error, pickle.UnpicklingError):
        return in_a_line(error)[:160]
    found = _FOREIGN.search(str(error))
    return f"it holds {named(found[1])}, which is no tensor" if found else "it is no such file, or holds code"


def _taken(found: Any, name: str) -> Any:
    """Return the state dict of a checkpoint; what is none as it is."""
    for key in STATE_DICTS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            others = [str(other) for other, value in found.items() if other != key and _is_state(value)]
            if others:
                log.warning("%s: the tensors of '%s' are taken, not those of %s.", name, key, ", ".join(others))
            found = found[key]
    return found


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(each, Tensor) for each in value.values())


def unprefixed(tensors: dict[str, Tensor], own: Collection[str] = ()) -> dict[str, Tensor]:
    """Return tensors without the prefix that wrappers put before every name.

    Args:
        tensors: by name.
        own: names that the network has for them, by which other prefixes than those of usual wrappers are known.
    """
    for first in list(own)[:1]:
        for prefix in {name.removesuffix(first) for name in tensors if name.endswith(f".{first}")}:
            if all(name.startswith(prefix) for name in tensors):
                return {name.removeprefix(prefix): value for name, value in tensors.items()}
    for prefix in ("module.", "model.", "_orig_mod."):
        if all(name.startswith(prefix) for name in tensors):
            return unprefixed({name.removeprefix(prefix): value for name, value in tensors.items()})
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
