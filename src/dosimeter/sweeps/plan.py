"""Cells: the unit of work, of caching and of resume."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import PIL
import pydicom
import torch
from torch import Tensor, nn

from dosimeter.attacks.base import Problem
from dosimeter.attacks.presets import Preset
from dosimeter.attacks.registry import parameters
from dosimeter.attacks.threat import ANYTHING, Threat
from dosimeter.cohorts.base import Cohort
from dosimeter.engines.choose import EnginePlan
from dosimeter.models.base import Classifier
from dosimeter.sweeps.flips import FLIP_TOLERANCE, LEVEL_TOLERANCE

SWEEP_VERSION = 6
"""Raised whenever the same inputs would give other rows, so that old parts are not reused."""

SHARD_SIZE = 4
"""Cases in a cell: enough to fill a batch, few enough that many cores share a small cohort evenly. A killed run loses
at most the cells that were under way, a few for each core."""

GPU_SHARD_SIZE = 16
"""On a GPU, which is hardly busier with 16 images than with 4."""


@dataclass(frozen=True)
class Setting:
    """What is common to all cells of one curve family.

    Attributes:
        protocol: how the cohort was split.
        patients: pseudonym of each patient id of the whole cohort.
        engine: computes the answers. It and the batch size may move a logit's last bits, so they belong to a cell's
            identity.
        batch_size: images per forward pass.
        tolerance: of the engine, in logits: torch decides where the two best are closer.
        threat: what the attacker may do.
        audience: fingerprint and engine of each other classifier that answers about the same images.
        visibility: epsilons of the grid at which the costly metrics of visibility are measured; the others always are.
        refine: whether flips are bisected to `FLIP_TOLERANCE`; if not, they are known to a step of the grid.
    """

    protocol: str
    preset: Preset
    epsilons: tuple[float, ...]
    seed: int
    patients: Mapping[str, str]
    engine: str = "torch"
    batch_size: int = 4
    tolerance: float = 0.0
    split: str | None = "test"
    refine: bool = True
    threat: Threat = ANYTHING
    audience: tuple[str, ...] = ()
    visibility: tuple[float, ...] = ()

    @property
    def doses(self) -> tuple[float, ...]:
        """What is asked of each image: epsilons, or the severities of a physical change; first what leaves it alone."""
        return self.preset.severities or self.epsilons

    def computed_by(self, plan: EnginePlan) -> "Setting":
        """Return it with the engine, batch size and tolerance of a plan."""
        return replace(self, engine=plan.identity, batch_size=plan.batch_size, tolerance=plan.tolerance)

    def problem(self, network: nn.Module, images: Tensor, labels: Tensor, **how: Any) -> Problem:
        """Return the problem of `images` (batch, 3, H, W), which may be attacked as this setting says.

        Args:
            how: further fields of the problem.
        """
        return self.threat.problem(network, images, labels, seed=self.seed, **how)


@dataclass(frozen=True)
class Cell:
    """A shard of a test cohort, a classifier and a preset. `cell_id` digests everything that determines its rows.

    Attributes:
        classifier: its name when the sweep was planned.
    """

    cell_id: str
    shard: Cohort
    setting: Setting
    classifier: str


def plan_cells(test: Cohort, classifier: Classifier, setting: Setting) -> Iterator[Cell]:
    """Yield the cells that together sweep `test`, in order; an image of its own size has one for itself."""
    fingerprint = classifier.fingerprint
    name = classifier.named_by(fingerprint)
    size = 1 if setting.threat.native else SHARD_SIZE if classifier.device.type == "cpu" else GPU_SHARD_SIZE
    for start in range(0, len(test), size):
        shard = test.subset(range(start, min(start + size, len(test))))
        yield Cell(_cell_id(shard, fingerprint, classifier.device.type, setting), shard, setting, name)


def pseudonymise_patients(cohort: Cohort) -> dict[str, str]:
    """Return "p0001", "p0002"... for the patients of `cohort`, or its groups, by first appearance: no id remains."""
    ids = dict.fromkeys(record.unit for record in cohort.records if record.unit is not None)
    return {patient_id: f"p{index:04d}" for index, patient_id in enumerate(ids, start=1)}


def _cell_id(shard: Cohort, fingerprint: str, device: str, setting: Setting) -> str:
    threat = setting.threat
    identity = {
        "sweep": SWEEP_VERSION,
        "cohort": [shard.name, shard.modality, shard.sha256],
        "patients": [setting.patients.get(record.unit or "") for record in shard.records],
        "protocol": setting.protocol,
        "classifier": fingerprint,
        "preset": [setting.preset.name, parameters(setting.preset.attack), setting.preset.storages],
        "allowed": [threat.target, threat.mask_sha256, threat.levels, setting.audience, threat.native],
        "search": [threat.exhaustive, threat.fill],
        "epsilons": setting.epsilons,
        "visibility": setting.visibility,
        "flip_tolerance": [FLIP_TOLERANCE, LEVEL_TOLERANCE] if setting.refine else None,
        "seed": setting.seed,
        "engine": [setting.engine, setting.batch_size, setting.tolerance],
        "split": setting.split,
        # of what answers, resizes, stores and measures
        "versions": [torch.__version__, PIL.__version__, pydicom.__version__, version("torchmetrics")],
        "device": device,
    }
    if shard.positive is not None:
        identity["positive"] = shard.positive
    if shard.findings:
        identity["goal"] = threat.goal
    if setting.preset.severities:
        identity["severities"] = [setting.preset.severities, setting.preset.unit]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
