"""A network that a function of the user's makes: MODULE:FUNCTION."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.models.source import Brought, Source
from dosimeter.models.tensors import fill_tensors
from dosimeter.record.model_card import ModelCard


@contextmanager
def importing_from_here() -> Iterator[None]:
    """Find modules in the working folder too while the block runs."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)


def load(card: ModelCard) -> Brought:
    """Return what the function `card.architecture` returns, with the tensors of `card.weights` if there are any."""
    module, colon, name = card.architecture.partition(":")
    if not (module and colon and name):
        raise DosimeterError(f"architecture must be MODULE:FUNCTION of the source python, got '{card.architecture}'.")
    try:
        with importing_from_here():
            network = getattr(importlib.import_module(module), name)(**card.arguments)
    except (Exception, SystemExit) as error:  # the user's code may raise anything, and scripts end themselves
        raise DosimeterError(f"{card.architecture} cannot be called ({in_a_line(error)[:200]}).") from error
    if not isinstance(network, nn.Module):
        raise DosimeterError(f"{card.architecture} must return a torch.nn.Module, got {type(network).__name__}.")
    if card.weights is not None:
        fill_tensors(network, card)
    return Brought(network, built_by=card.architecture)


ENTRY = Source(
    "what a function returns (architecture = MODULE:FUNCTION); with --trust",
    load,
    trust="the source python imports a module of yours and calls it, and code may do anything.",
    takes_arguments=True,
)
