"""What a study's settings mean for one classifier on one trial: the cells that sweep it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dosimeter.attacks.presets import Preset
from dosimeter.attacks.registry import parameters
from dosimeter.attacks.threat import Threat, ThreatModel
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.trials import Trial
from dosimeter.engines.choose import EnginePlan
from dosimeter.errors import DosimeterError
from dosimeter.models.backbones import get_backbone
from dosimeter.models.base import Classifier
from dosimeter.record.provenance import digest_of
from dosimeter.study.config import StudyConfig
from dosimeter.study.presets import presets_of, suits
from dosimeter.study.rules import fills
from dosimeter.sweeps.learning import learn
from dosimeter.sweeps.plan import Cell, Setting, plan_cells, pseudonymise_patients


def plan_trial(
    config: StudyConfig,
    folder: Path,
    trial: Trial,
    classifier: Classifier,
    plan: EnginePlan,
    listeners: Sequence[tuple[str, EnginePlan]] = (),
) -> Iterator[Cell]:
    """Yield the cells that attack `classifier` on the test images of `trial`, with every preset of the settings.

    The same arguments give the same cells, in a study, in its resume, and in a replay of it.

    Args:
        folder: of the run, which keeps what an attack learned.
        plan: how the sweep is computed.
        listeners: fingerprint and plan of each classifier that is asked about the same images.
    """
    patients = pseudonymise_patients(trial.cohort)
    threat = threat_of(config, trial.cohort.classes, classifier.size_px)
    for preset in presets_of(config):
        if not suits(preset, trial.cohort):
            continue
        setting = Setting(
            protocol=trial.split.protocol,
            preset=_learned(preset, folder, trial, classifier, threat),
            epsilons=config.epsilons,
            seed=trial.split.seed,
            patients=patients,
            threat=threat,
            visibility=config.costly_epsilons,
            audience=tuple(f"{fingerprint} {theirs.identity}" for fingerprint, theirs in listeners),
        )
        setting = physical(setting) if preset.is_physical else setting
        yield from plan_cells(trial.split.test, classifier, setting.computed_by(plan))


def physical(setting: Setting) -> Setting:
    """Return the setting of a physical change: it is after nothing, and has no epsilons, flips and listeners."""
    threat = Threat(native=setting.threat.native)
    return replace(setting, epsilons=(), visibility=(), audience=(), refine=False, threat=threat)


def threat_of(config: StudyConfig, classes: Sequence[str], size_px: int | tuple[int, int]) -> Threat:
    """Return what the settings let an attacker do to images of `size_px` pixels a side, of `classes`."""
    declared = ThreatModel(config.target, config.mask, config.bits, config.native, config.fill)
    fill = fills(config.storages, shown=config.shares_images)
    return declared.against(classes=classes, size_px=size_px, fill=fill, exhaustive=config.effort == "thorough")


def require_classes(classifier: Classifier, cohort: Cohort) -> None:
    """Raise DosimeterError unless a cohort's labels mean the classifier's outputs."""
    if classifier.findings is not None:
        if cohort.findings != classifier.classes:
            raise DosimeterError(
                f"the cohort's findings {list(cohort.findings)} must be the classifier's {list(classifier.classes)}, "
                "in that order: labels go by their places. Name and order them so."
            )
    elif cohort.classes != classifier.classes:
        raise DosimeterError(
            f"the cohort's classes {list(cohort.classes)} must be the classifier's {list(classifier.classes)}, in that "
            "order: a label is an index into them. Name them alike in the card, or choose another positive class."
        )


def check_limits(config: StudyConfig, trials: Sequence[Trial]) -> None:
    """Raise DosimeterError if what the settings forbid attacks is unusable: before anything is trained or written."""
    if config.brought:
        return  # what size a trained network wants is known once it is there
    sizes = {get_backbone(model).size_px for model in config.model}
    for classes in {trial.cohort.classes for trial in trials}:
        for size_px in sizes:
            threat_of(config, classes, size_px)


def _learned(preset: Preset, folder: Path, trial: Trial, classifier: Classifier, threat: Threat) -> Preset:
    """Return `preset` with what its attack learned on the training images, if it is one that learns."""
    settings = [str(parameters(preset.attack)), str(trial.split.seed), classifier.fingerprint]
    limits = [str(threat.target), str(threat.mask_sha256)]
    key = digest_of([*settings, *limits, trial.split.train.sha256, torch.__version__])
    file = folder / "learned" / f"{key}.safetensors"
    seed, train = trial.split.seed, trial.split.train
    attack = learn(preset.attack, classifier, train, seed=seed, threat=threat, file=file)
    return replace(preset, attack=attack)
