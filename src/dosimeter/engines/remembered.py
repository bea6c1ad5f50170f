"""Which engine was the fastest for networks of one architecture, with these packages, on this machine."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError
from torch import Tensor

from dosimeter.cache import cache_dir
from dosimeter.files import write_text
from dosimeter.models.base import Classifier
from dosimeter.record.provenance import digest_of, environment

log = logging.getLogger(__name__)

RULE = 1
"""Counts up with whatever changes how engines are compared, or how fast one is."""


class Choice(BaseModel):
    """What a comparison ended with; the attributes are those of `choose.EnginePlan`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    image_s: dict[str, NonNegativeFloat]
    refused: dict[str, str]


def recall(classifier: Classifier, *, refine: bool, versions: Mapping[str, str]) -> Choice | None:
    """Return what was the fastest for such a network here, or None where that is not known.

    It says nothing of how right an engine is, which depends on the weights.

    Args:
        classifier: what answers; its weights play no part.
        refine: whether the sweep refines flips (see `choose.plan_engine`).
        versions: of the packages of all engines.
    """
    try:
        return Choice.model_validate_json(_place(classifier, refine, versions).read_bytes())
    except (OSError, ValidationError):
        return None


def keep(choice: Choice, classifier: Classifier, *, refine: bool, versions: Mapping[str, str]) -> None:
    """Remember a choice in the user's cache; where that cannot be written, it is made again the next time."""
    place = _place(classifier, refine, versions)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, choice.model_dump_json())
    except OSError as error:
        log.info("the choice of an engine is not kept: %s", error)


def _place(classifier: Classifier, refine: bool, versions: Mapping[str, str]) -> Path:
    machine = environment(classifier.device.type)
    here = [f"{name} {machine[name]}" for name in ("platform", "cpu", "cores")]
    packages = [f"{name} {version}" for name, version in sorted(versions.items())]
    parts = [f"rule {RULE}", f"refine {refine}", f"torch {torch.__version__}", *packages, *here]
    return cache_dir() / "engines" / "chosen" / f"{digest_of([*parts, *_architecture(classifier)])}.json"


def _architecture(classifier: Classifier) -> list[str]:
    """What a pass takes depends on: the layers as they print, the tensors' shapes, and the image's."""
    tensors = [(name, value) for name, value in classifier.state_dict().items() if isinstance(value, Tensor)]
    shapes = [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in tensors]
    return [f"grid {tuple(classifier.grid.shape)}", repr(classifier), *shapes]
