"""`sweep`: the study's sweep for any classifier and cohort, in memory."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

import torch

from dosimeter.attacks.adapters import adapt
from dosimeter.attacks.base import Attack
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.attacks.learner import Learner
from dosimeter.attacks.presets import Preset, changed
from dosimeter.attacks.registry import build, check_effort, passes, require_access
from dosimeter.attacks.registry import names as attack_names
from dosimeter.attacks.threat import ThreatModel
from dosimeter.cohorts.base import Cohort
from dosimeter.engines.choose import plan_engine
from dosimeter.errors import DosimeterError
from dosimeter.examinations.doubts import doubts
from dosimeter.executors.local import LocalExecutor
from dosimeter.models.base import LEARNING, Classifier, answer
from dosimeter.physical.registry import Chosen, change
from dosimeter.physical.registry import names as changes
from dosimeter.record.table import Responses, to_frame
from dosimeter.storage.base import get_storage
from dosimeter.study.compute import Compute, is_whole
from dosimeter.study.planning import physical, require_classes
from dosimeter.study.presets import unsuited
from dosimeter.study.rules import check_native, costly_epsilons, fills
from dosimeter.study.settings import VISIBILITY_EPSILONS
from dosimeter.surroundings import plain_torch
from dosimeter.sweeps.execute import Row
from dosimeter.sweeps.kinds import changes_of, kinds_of
from dosimeter.sweeps.learning import learn
from dosimeter.sweeps.plan import Setting, plan_cells, pseudonymise_patients
from dosimeter.units import DEFAULT_EPSILONS, parse_epsilons

log = logging.getLogger(__name__)


@plain_torch()
def sweep(
    classifier: Classifier,
    cohort: Cohort,
    attack: Attack | Chosen | str | None = None,
    *,
    effort: str = "standard",
    epsilons: str | Sequence[float | str] = DEFAULT_EPSILONS,
    storages: str | Sequence[str] = ("float",),
    threat: ThreatModel | None = None,
    training: Cohort | None = None,
    visibility: Sequence[float] | Literal["all", "none"] = VISIBILITY_EPSILONS,
    seed: int = 0,
    refine: bool = True,
    compute: Compute | None = None,
    **former: Any,
) -> Responses:
    """Attack every case of `cohort` at every epsilon and return the responses.

    Use it in a notebook; `run_study` does the same to disk, resumes, and draws the report. A few images are tried
    first: of outputs that are probabilities, answers that change between passes and gradients that are not there a
    warning is logged, and kept in the responses' `meta["doubts"]`. `examine` looks closer.

    Args:
        classifier: what is attacked.
        cohort: its test images.
        attack: one of `dosimeter list attacks`, or an attack object, also of Foolbox or ART; by default `FGSM()`:
            margin loss, tied channels. Or a physical change, by its name or as `change` makes it: its rows have a
            severity and a unit, and no epsilon.
        effort: how long an attack given by its name searches: "quick", "standard" or "thorough". With "thorough" it
            looks into the ball of every epsilon.
        epsilons: fractions of the image range, numbers or text such as "4/255"; 0 is always asked. A physical change
            has severities instead.
        storages: how images are stored (`dosimeter list storages`).
        threat: what the attacker may do; by default anything within epsilon, to any end. See `ThreatModel`.
        training: the images that an attack learns on which learns (universal); other attacks need none.
        visibility: epsilons at which SSIM, MS-SSIM and HaarPSI are measured; "all" or "none".
        seed: of the attack's random choices.
        refine: bisect each image's flip epsilon to 1e-5; without it, flips are known to a step of the grid.
        compute: by which engine and how many workers, and who is told how far it is; by default the fastest engine.
        former: arguments that `threat` and `compute` have now.

    Returns:
        `frame`, a row for each case, storage and epsilon or severity, those of a flip's refinement with `on_grid`
        False, and `meta`, the facts that tables need beside it. `accuracy_table` reads attacks;
        `dosimeter.analysis.physical.physical_accuracy(frame)` physical changes.

    Raises:
        DosimeterError: an argument cannot be used, or the classifier does not answer the images.

    Example:
        >>> import dosimeter as dm
        >>> cohort = dm.load_cohort("phantom-xray", limit=40)
        >>> halves = dm.split(cohort, "patient")
        >>> classifier = dm.fit("vgg16", halves)  # doctest: +SKIP
        >>> responses = dm.sweep(classifier, halves.test, epsilons=["1/255", 0.009])  # doctest: +SKIP
        >>> dm.accuracy_table(responses)  # doctest: +SKIP
    """
    _check_subjects(classifier, cohort)
    threat, compute = _formerly(threat or ThreatModel(), compute or Compute(), former)
    storages = (storages,) if isinstance(storages, str) else tuple(dict.fromkeys(storages or ()))
    if not storages:
        raise DosimeterError("storages must name at least one, got none. Try ['float', 'png8'].")
    for storage in storages:
        get_storage(storage)
    if not is_whole(seed) or not 0 <= seed < 2**31:
        raise DosimeterError(f"seed must be a whole number from 0 to {2**31 - 1}, got {seed!r}.")
    seed = int(seed)  # numpy's do not go into JSON
    require_classes(classifier, cohort)
    check_effort(effort)
    preset, constants = _preset(attack, effort, storages)
    chosen = preset.attack
    for sentence in unsuited([preset], [cohort]):
        log.warning(sentence)
    require_access([chosen], classifier.access, "the classifier")
    if threat.native:
        check_native(mask=threat.mask is not None, attacks=[chosen.name])
    declared = threat.against(
        classes=cohort.classes, size_px=classifier.size_px, fill=fills(storages), exhaustive=effort == "thorough"
    )
    if isinstance(chosen, Learner):
        chosen = learn(chosen, classifier, _training(training), seed=seed, threat=declared)
        preset = replace(preset, attack=chosen)
    doses = preset.severities or parse_epsilons(epsilons)
    n_passes = round(len(cohort) * (passes(chosen) + len(doses) * len(storages)))
    doubtful = doubts(classifier, cohort, seed=seed)
    for sentence in doubtful:
        log.warning(sentence)
    plan = plan_engine(compute.engine, classifier, cohort, n_passes=n_passes, refine=refine)
    for sentence in plan.refused.values():
        log.warning(sentence)
    plan = plan if compute.batch_size is None else replace(plan, batch_size=int(compute.batch_size))
    setting = Setting(
        protocol=classifier.card.get("protocol", ""),
        preset=preset,
        epsilons=doses,
        seed=seed,
        patients=pseudonymise_patients(cohort),
        split=None,
        refine=refine,
        threat=declared,
        visibility=costly_epsilons(doses, _visible(visibility)),
    )
    setting = physical(setting) if preset.is_physical else setting
    cells = list(plan_cells(cohort, classifier, setting.computed_by(plan)))
    rows: dict[str, list[Row]] = {}
    for done in LocalExecutor(compute.workers).run(cells, classifier, plan):
        rows[done.cell.cell_id] = done.rows
        compute.advance(len(done.cell.shard))
    frame = to_frame(row for cell in cells for row in rows[cell.cell_id])
    name = cells[0].classifier
    cards = [{**classifier.card, "classifier": name}]
    attacks = [] if preset.is_physical else [chosen]
    kinds = kinds_of(attacks, storages, [str(classifier.card.get("model", ""))])
    kinds["changes"] = changes_of([preset], constants)
    engines = [{"classifier": name, **plan.to_dict()}]
    return Responses(frame, {"classifiers": cards, "engines": engines, "kinds": kinds, "doubts": doubtful})


def _formerly(threat: ThreatModel, compute: Compute, former: dict[str, Any]) -> tuple[ThreatModel, Compute]:
    """Return the threat model and the compute options with what arguments of former releases say of them."""
    mine, theirs = ({each.name for each in fields(kind)} for kind in (ThreatModel, Compute))
    for name in former:
        if name not in mine | theirs:
            raise TypeError(f"sweep() got an unexpected keyword argument '{name}'")
    of_threat, of_compute = ({name: former[name] for name in former if name in known} for known in (mine, theirs))
    for name, kind, said in (("threat", ThreatModel, of_threat), ("compute", Compute, of_compute)):
        if said:
            given = ", ".join(f"{argument}=..." for argument in said)
            warnings.warn(
                f"sweep({given}) is now sweep({name}=dosimeter.{kind.__name__}({given})), and goes with the next "
                "release.",
                DeprecationWarning,
                stacklevel=4,
            )
    return replace(threat, **of_threat), replace(compute, **of_compute)


def _check_subjects(classifier: object, cohort: object) -> None:
    """Raise DosimeterError unless both are what they should be, and the classifier answers, in evaluation mode."""
    if not isinstance(classifier, Classifier):
        kind = type(classifier).__name__
        raise DosimeterError(
            f"classifier must be a dosimeter.Classifier, got {kind}. A network of your own becomes one by "
            "dosimeter.classifier(network, size_px=..., classes=...)."
        )
    if not isinstance(cohort, Cohort):
        raise DosimeterError(f"cohort must be a Cohort, got {type(cohort).__name__}. Load it with load_cohort(...).")
    training = sum(module.training and isinstance(module, LEARNING) for module in classifier.modules())
    if training:
        raise DosimeterError(
            f"classifier must be in evaluation mode, but {training} of its dropouts and batch normalisations are in "
            "training mode: answers would be random, or change it. Call classifier.eval()."
        )
    wrong = [label for label in cohort.labels.tolist() if not 0 <= label < len(cohort.classes)]
    if wrong:
        raise DosimeterError(
            f"label must be an index into the classes {cohort.classes}, got {wrong[0]} ({len(wrong)} such). Number the "
            "classes from 0."
        )
    answer(classifier, torch.full((2, 3, *classifier.grid.shape), 0.5))


def _visible(visibility: str | Sequence[float]) -> tuple[float, ...] | str:
    if isinstance(visibility, str) and visibility in ("all", "none"):
        return visibility
    return parse_epsilons(visibility)


def _training(cohort: Cohort | None) -> Cohort:
    if cohort is None:
        raise DosimeterError("training must be given for an attack that learns on images. Give split(...).train.")
    return cohort


def _preset(
    attack: Attack | Chosen | str | None, effort: str, storages: Sequence[str]
) -> tuple[Preset, Mapping[str, float]]:
    """Return what is asked of every image, an attack or a physical change, and the constants declared of a change."""
    if isinstance(attack, str) and attack not in attack_names() and {*attack.split("+")} <= {*changes()}:
        attack = change(attack)
    if isinstance(attack, Chosen):
        return replace(changed(attack), storages=tuple(storages)), attack.constants
    chosen = FGSM() if attack is None else build(attack, effort) if isinstance(attack, str) else adapt(attack)
    asked = effort if isinstance(attack, str) else None
    return Preset(_name(attack, chosen), chosen, tuple(storages), "", asked), {}


def _name(asked: Attack | str | None, attack: Attack) -> str:
    """Return the name of the curve: the attack's as it was asked for, or how FGSM is set."""
    if isinstance(asked, str):
        return asked
    return f"{attack.loss}, {attack.channels}" if attack.name == FGSM.name else attack.name
