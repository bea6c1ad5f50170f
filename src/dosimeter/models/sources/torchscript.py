"""A TorchScript file, as torch.jit.save writes it: a program, though no pickled one."""

import warnings

import torch

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import digest_of_file
from dosimeter.models.batches import any_batch
from dosimeter.models.source import Brought, Source, file_of
from dosimeter.record.model_card import ModelCard


def load(card: ModelCard) -> Brought:
    """Return the network in `card.weights`, scripted, traced or frozen.

    Raises:
        DosimeterError: the file cannot be read, or the card says no size.
    """
    path = file_of(card)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that other formats are to be preferred
            network = torch.jit.load(path, map_location="cpu").eval()
    except Exception as error:  # damaged archives raise nearly anything
        raise DosimeterError(f"{path.name} cannot be read as TorchScript ({in_a_line(error)[:200]}).") from error
    if card.size_px is None:
        raise DosimeterError(f"the model card of {card.name} must say size_px: a TorchScript file does not.")
    height, width = (card.size_px, card.size_px) if isinstance(card.size_px, int) else card.size_px
    built_by = f"torch {torch.__version__}"
    return Brought(
        any_batch(network, torch.full((3, card.channels, height, width), 0.5)),
        built_by=built_by,
        identity=f"{digest_of_file(path)} by {built_by}",
    )


ENTRY = Source(
    "a TorchScript file (weights); with --trust",
    load,
    trust="a TorchScript file is a program, which may read and write files while it answers.",
)
