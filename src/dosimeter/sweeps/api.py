"""`sweep`: the study's sweep for any classifier and cohort, in memory."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from dosimeter.attacks.base import Attack
from dosimeter.attacks.fgsm import FGSM, Preset
from dosimeter.attacks.storage import STORAGES
from dosimeter.cohorts.base import Cohort
from dosimeter.engines.choose import check_name, plan_engine
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.models.base import Classifier
from dosimeter.responses import Responses, to_frame
from dosimeter.sweeps.execute import Row
from dosimeter.sweeps.executor import LocalExecutor
from dosimeter.sweeps.plan import Setting, plan_cells, pseudonymise_patients
from dosimeter.units import DEFAULT_EPSILONS, parse_epsilons

log = logging.getLogger(__name__)


def sweep(
    classifier: Classifier,
    cohort: Cohort,
    attack: Attack | None = None,
    *,
    epsilons: str | Sequence[float | str] = DEFAULT_EPSILONS,
    storages: Sequence[str] = ("float",),
    refine: bool = True,
    engine: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Responses:
    """Attack every case of `cohort` at every epsilon and return the responses.

    Use it in a notebook; `run_study` does the same to disk, resumes, and draws the report.

    Args:
        attack: by default `FGSM()`: margin loss, tied channels.
        epsilons: fractions of the image range, numbers or text such as "4/255"; 0 is always asked.
        storages: "float", "png8", or both.
        refine: bisect each image's flip epsilon to 1e-5; without it, flips are known to a step of the grid.
        engine: what computes the answers (`dosimeter list engines`); "auto" is the fastest that agrees with torch.
        batch_size: images per forward pass; by default found from the network's largest layer.
        workers: cells computed at once, a thread each; by default one for each core.
        advance: called with the number of cases done.

    Example:
        >>> import dosimeter as dm
        >>> cohort = dm.load_cohort("phantom-xray", limit=40)
        >>> halves = dm.split(cohort, "patient")
        >>> classifier = dm.fit("vgg16", halves)  # doctest: +SKIP
        >>> responses = dm.sweep(classifier, halves.test, epsilons=["1/255", 0.009])  # doctest: +SKIP
        >>> dm.accuracy_table(responses)  # doctest: +SKIP
    """
    for storage in storages:
        if storage not in STORAGES:
            raise DosimeterError(f"storage '{storage}' is not known. {did_you_mean(storage, STORAGES)}")
    if cohort.classes != classifier.classes:
        raise DosimeterError(
            f"the cohort's classes {cohort.classes} must be the classifier's {classifier.classes}, in that order: "
            "a label is an index into them. Load the cohort with another `positive`."
        )
    check_name(engine)
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if value is not None and value < 1:
            raise DosimeterError(f"{name} must be 1 or more, got {value}. Leave it out, and it is found.")
    attack = attack or FGSM()
    doses = parse_epsilons(epsilons)
    plan = plan_engine(engine, classifier, cohort, n_passes=len(cohort) * len(doses) * len(storages), refine=refine)
    for sentence in plan.refused.values():
        log.warning(sentence)
    plan = plan if batch_size is None else replace(plan, batch_size=batch_size)
    setting = Setting(
        protocol=classifier.card.get("protocol", ""),
        preset=Preset(f"{attack.loss}, {attack.channels}", attack, tuple(storages), ""),
        epsilons=doses,
        seed=0,
        patients=pseudonymise_patients(cohort),
        engine=plan.identity,
        batch_size=plan.batch_size,
        tolerance=plan.tolerance,
        split=None,
        refine=refine,
    )
    cells = list(plan_cells(cohort, classifier, setting))
    rows: dict[str, list[Row]] = {}
    n_recomputed = 0
    for done in LocalExecutor(workers).run(cells, classifier, plan):
        rows[done.cell.cell_id] = done.rows
        n_recomputed += bool(done.notes)
        advance(len(done.cell.shard))
    frame = to_frame(row for cell in cells for row in rows[cell.cell_id])
    cards = [{**classifier.card, "classifier": classifier.name}]
    used = {"classifier": classifier.name, **plan.to_dict(), "n_recomputed": n_recomputed}
    return Responses(frame, {"classifiers": cards, "engines": [used]})
