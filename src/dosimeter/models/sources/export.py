"""An exported program, .pt2, as torch.export.save writes it."""

from pathlib import Path
from typing import Any

import torch

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import digest_of_file
from dosimeter.models.batches import any_batch
from dosimeter.models.source import Brought, Source, file_of, size_of
from dosimeter.record.model_card import ModelCard


def load(card: ModelCard) -> Brought:
    """Return the network in `card.weights`; it answers as it was exported, in that mode and at that size.

    Raises:
        DosimeterError: the file cannot be read, takes no image, or contradicts the card.
    """
    path = file_of(card)
    try:
        program = torch.export.load(path)
        network = program.module()
    except Exception as error:  # damaged archives raise nearly anything
        raise DosimeterError(
            f"{path.name} cannot be read as an exported program ({in_a_line(error)[:200]})."
        ) from error
    channels, height, width = _shape(program, path)
    size_px = size_of(height, width, path.name)
    if channels != card.channels:
        raise DosimeterError(f"the model card of {card.name} says channels {card.channels}, its file {channels}.")
    built_by = f"torch {torch.__version__}"
    return Brought(
        any_batch(network, torch.full((3, channels, height, width), 0.5)),
        size_px=size_px,
        built_by=built_by,
        identity=f"{digest_of_file(path)} by {built_by}",
    )


def _shape(program: Any, path: Path) -> tuple[int, int, int]:
    """Return channels, height and width of the one image that a program was exported with."""
    wanted = set(program.graph_signature.user_inputs)
    shapes = [tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name in wanted]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        found = [" x ".join(map(str, shape)) for shape in shapes]
        raise DosimeterError(f"{path.name} must take one input (n, channels, height, width), got {found}.")
    channels, height, width = (int(side) for side in shapes[0][1:])
    return channels, height, width


ENTRY = Source(
    "an exported program (weights), .pt2; with --trust",
    load,
    trust="torch reads what it does not know in a .pt2 file by unpickling it, which may do anything.",
    suffixes=(".pt2",),
)
