"""A whole network that torch.save pickled: reading it runs what the file says."""

import torch
from torch import nn

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.models.source import Brought, Source, file_of
from dosimeter.models.sources.python import importing_from_here
from dosimeter.record.model_card import ModelCard


def load(card: ModelCard) -> Brought:
    """Return the network in `card.weights`; the modules of its classes are looked for in the working folder too.

    Raises:
        DosimeterError: the file cannot be read, or holds no network.
    """
    path = file_of(card)
    try:
        with importing_from_here():
            network = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # its code may raise anything
        raise DosimeterError(f"{path.name} cannot be unpickled ({in_a_line(error)[:200]}).") from error
    if isinstance(network, dict):
        raise DosimeterError(
            f"{path.name} holds tensors without their network: name a source that has its architecture (torchvision, "
            "timm, monai, python), which reads them without running code."
        )
    if not isinstance(network, nn.Module):
        raise DosimeterError(f"{path.name} must hold a torch.nn.Module, got {type(network).__name__}.")
    return Brought(network, built_by=f"torch {torch.__version__}, {type(network).__name__}")


ENTRY = Source(
    "a whole network that torch.save pickled (weights); with --trust",
    load,
    trust="a pickled network is a program, which runs when it is read and may do anything.",
)
