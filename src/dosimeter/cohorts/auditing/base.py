"""`audit_cohort`: what may be wrong with images before a classifier is measured on them, with the evidence."""

import numpy as np

from dosimeter.cohorts.auditing import duplicates, known, outliers, probes, sampling, subgroups
from dosimeter.cohorts.auditing.seeing import see
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.groups import united
from dosimeter.cohorts.near_duplicates import near_duplicates
from dosimeter.cohorts.split import Split
from dosimeter.errors import DosimeterError
from dosimeter.plain import named
from dosimeter.record.data_audit import LEVELS, DataAudit


def audit_cohort(cohort: Cohort, *, split: Split | None = None, tuned: bool | None = None, seed: int = 0) -> DataAudit:
    """Audit a cohort: every image is read once, none is kept; a thousand take about half a minute on two cores.

    Not judged are labels that may be wrong where no near duplicate contradicts them: that needs the features of a
    network. Nothing found does not mean that nothing is there.

    Args:
        cohort: the images.
        split: the one in use; without it nothing is said of leaks between its sides, and all images count as tested.
        tuned: whether choices were made on the test images; None if that was not declared.
        seed: of the probes' folds, and of the labels that they are compared with.

    Raises:
        DosimeterError: the cohort has no image, or one has become unreadable since it was loaded.

    Example:
        >>> import dosimeter as dm
        >>> found = audit_cohort(dm.load_cohort("phantom-xray", limit=12))
        >>> next(check.level for check in found.checks if check.id == "near duplicates: labels")
        'pass'
    """
    if not len(cohort):
        raise DosimeterError(f"cohort must have an image, {named(cohort.name)} has none.")
    seen = see(cohort)
    pairs = near_duplicates([each.look for each in seen])
    told = duplicates.near_pairs(cohort, pairs, split)
    groups = united([record.unit for record in cohort.records], [(pair.first, pair.second) for pair in pairs])
    probed = probes.probes(cohort, seen, np.array(groups), seed=seed)
    parts = subgroups.subgroups(cohort)
    test = cohort if split is None else split.test
    checks = [
        *duplicates.checks(told, split),
        *known.checks(cohort, seen, split),
        *probes.checks(probed),
        subgroups.check(parts),
        outliers.check(cohort, seen),
        *sampling.checks(test, tuned=tuned),
    ]
    return DataAudit(
        cohort=cohort.name,
        protocol="" if split is None else split.protocol,
        seed=seed if split is None else split.seed,
        n=len(cohort),
        checks=sorted(checks, key=lambda check: LEVELS.index(check.level)),
        pairs=told,
        probes=probed,
        subgroups=parts,
    )
