"""What a study tells beside its rows: the facts of responses.parquet, and of an interrupted run those so far."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

import dosimeter
from dosimeter import registry
from dosimeter.attacks.presets import Preset
from dosimeter.attacks.registry import parameters
from dosimeter.cohorts.trials import Trial, cohorts_of, describe
from dosimeter.errors import DosimeterError
from dosimeter.plain import without_folders
from dosimeter.record.provenance import digest_of, environment, peak_memory_mib
from dosimeter.record.run import Run, keep
from dosimeter.record.table import read_meta
from dosimeter.study.config import StudyConfig
from dosimeter.study.presets import suits
from dosimeter.sweeps.kinds import changes_of, kinds_of
from dosimeter.sweeps.plan import Cell


class Swept(NamedTuple):
    """One classifier's share of a study; of one whose sweep has begun, what is there so far.

    Attributes:
        examined: the facts that each examination found, by its name.
    """

    cells: list[Cell]
    card: dict[str, Any]
    engine: dict[str, Any]
    examined: Mapping[str, list[dict[str, Any]]] = MappingProxyType({})


class Asked(NamedTuple):
    """What a study was asked to do; `incomplete` says, in sentences, what of it cannot be done."""

    config: StudyConfig
    command: str
    presets: Sequence[Preset]
    device: str
    trials: Sequence[Trial]
    incomplete: Sequence[str]
    data_audits: Sequence[dict[str, Any]] = ()


def run_id_of(swept: Sequence[Swept]) -> str:
    """Return the name of a run: a digest of its cells."""
    return digest_of([cell.cell_id for each in swept for cell in each.cells])[:12]


def gather(asked: Asked, swept: Sequence[Swept], run: Run) -> dict[str, Any]:
    """Return the facts that travel with the rows of `swept` (see `facts.Facts`)."""
    config = asked.config
    names = [cohort.name for cohort in cohorts_of(asked.trials)]
    shown_paths = {
        "cohort": names,
        "model": list(config.names),
        "weights": {model: file.name for model, file in config.weights.items()},
    }
    presets = [preset for preset in asked.presets if not preset.is_physical]
    attacks = [{"preset": preset.name, "effort": preset.effort, **parameters(preset.attack)} for preset in presets]
    return {
        "run_id": run_id_of(swept),
        "dosimeter_version": dosimeter.__version__,
        "command": asked.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "phantom": config.is_phantom,
        "config": config.identity() | shown_paths,
        "environment": environment(asked.device, gpu=torch.cuda.get_device_name() if asked.device == "cuda" else ""),
        "cohorts": [describe(trial) for trial in asked.trials],
        "classifiers": [each.card for each in swept],
        "engines": [each.engine for each in swept],
        "attacks": attacks,
        "kinds": {
            **kinds_of([preset.attack for preset in presets], _storages(asked), config.names, config.defence),
            "changes": changes_of(_made(asked), config.constants),
        },
        "data_audits": list(asked.data_audits),
        "incomplete": [without_folders(sentence) for sentence in asked.incomplete],
        "peak_memory_mib": peak_memory_mib(),
        "stages": [stage.model_dump() for stage in run.manifest.stages],
        **_examined(swept),
    }


_OWN = ("preflights", "convergence", "observer", "exemplars")
"""Examinations whose facts are typed in `record.facts.Facts`."""


def _examined(swept: Sequence[Swept]) -> dict[str, Any]:
    """Return what examinations found: ours under their names, those of other packages by name in `examined`."""
    found: dict[str, Any] = {}
    for name in registry.names("examinations"):
        place = found if name in _OWN else found.setdefault("examined", {})
        place[name] = [facts for each in swept for facts in each.examined.get(name, ())]
    return found


def _made(asked: Asked) -> list[Preset]:
    """Return the presets that fit any of the cohorts."""
    return [preset for preset in asked.presets if any(suits(preset, trial.cohort) for trial in asked.trials)]


def _storages(asked: Asked) -> list[str]:
    return list(dict.fromkeys(name for preset in asked.presets for name in preset.storages))


def leave(asked: Asked, swept: Sequence[Swept], run: Run) -> None:
    """Write what `report --partial` needs of a run whose rows are not all there (see `facts.Interim`)."""
    planned = [
        {
            **{name: each.engine[name] for name in ("cohort", "protocol", "model", "seed")},
            "preset": preset.name,
            "cells": [cell.cell_id for cell in each.cells if cell.setting.preset.name == preset.name],
        }
        for each in swept
        for preset in asked.presets
        if any(cell.setting.preset.name == preset.name for cell in each.cells)
    ]
    keep(run.interim, {"facts": gather(asked, swept, run), "planned": planned})


def joined(run: Run, run_id: str) -> dict[str, Any]:
    """Return the reader studies that were joined to these very rows, to be kept when they are merged again."""
    try:
        meta = read_meta(run.responses)
    except DosimeterError:  # not merged yet, or damaged
        return {}
    return {"readers": meta["readers"]} if meta.get("run_id") == run_id and meta.get("readers") else {}
