"""`sweep`: the study's sweep for any classifier and cohort, in memory."""

from collections.abc import Callable, Sequence

from dosimeter.attacks.base import Attack
from dosimeter.attacks.fgsm import FGSM, Preset
from dosimeter.attacks.storage import STORAGES
from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.models.base import Classifier
from dosimeter.responses import Responses, to_frame
from dosimeter.sweeps.execute import execute_cell
from dosimeter.sweeps.plan import Setting, plan_cells, pseudonymise_patients
from dosimeter.units import DEFAULT_EPSILONS, parse_epsilons


def sweep(
    classifier: Classifier,
    cohort: Cohort,
    attack: Attack | None = None,
    *,
    epsilons: str | Sequence[float | str] = DEFAULT_EPSILONS,
    storages: Sequence[str] = ("float",),
    batch_size: int = 4,
    advance: Callable[[int], None] = lambda _: None,
) -> Responses:
    """Attack every case of `cohort` at every epsilon and return the responses.

    Use it in a notebook; `run_study` does the same to disk, resumes, and draws the report.

    Args:
        attack: by default `FGSM()`: margin loss, tied channels.
        epsilons: fractions of the image range, numbers or text such as "4/255"; 0 is always asked.
        storages: "float", "png8", or both.
        batch_size: images per forward pass.
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
    attack = attack or FGSM()
    setting = Setting(
        protocol=classifier.card.get("protocol", ""),
        preset=Preset(f"{attack.loss}, {attack.channels}", attack, tuple(storages), ""),
        epsilons=parse_epsilons(epsilons),
        seed=0,
        patients=pseudonymise_patients(cohort),
        batch_size=batch_size,
        split=None,
    )
    rows = []
    for cell in plan_cells(cohort, classifier, setting):
        rows += execute_cell(cell, classifier)
        advance(len(cell.shard))
    return Responses(to_frame(rows), {"classifiers": [{**classifier.card, "classifier": classifier.name}]})
