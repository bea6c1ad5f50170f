"""`audit_cohort`: what may be wrong with images before a classifier is measured on them, with the evidence."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dosimeter import registry
from dosimeter.cohorts.auditing import duplicates, known, labels, outliers, probes, sampling, subgroups
from dosimeter.cohorts.auditing.seeing import Seen, see
from dosimeter.cohorts.auditing.targets import Ids
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.groups import united
from dosimeter.cohorts.near_duplicates import near_duplicates
from dosimeter.cohorts.one_thread import one_thread
from dosimeter.cohorts.split import Split
from dosimeter.errors import DosimeterError
from dosimeter.plain import named
from dosimeter.record.data_audit import LEVELS, DataAudit, DataCheck, NearPair, Probe, Subgroup


class Evidence(NamedTuple):
    """What checks of the data look at.

    Attributes:
        cohort: the images.
        seen: what was kept of each when it was read.
        split: the one in use, None without one.
        test: the images tested.
        tuned: whether choices were made on them; None if that was not declared.
        pairs: near duplicates, but for those that are expected (see `duplicates.near_pairs`).
        probes: how well what should not tell the label tells it.
        subgroups: images of each class by each value of a fact.
        groups: (n,), number of what probes keep together: patients, and those who share a near duplicate.
        seed: of what is drawn.
    """

    cohort: Cohort
    seen: Sequence[Seen]
    split: Split | None
    test: Cohort
    tuned: bool | None
    pairs: Sequence[NearPair]
    probes: Sequence[Probe]
    subgroups: Sequence[Subgroup]
    groups: Ids
    seed: int


@dataclass(frozen=True)
class Entry:
    """Checks that belong together: a note for lists, and what judges the evidence."""

    note: str
    judge: Callable[[Evidence], Iterable[DataCheck]]


ENTRIES = {
    "duplicates": Entry(
        "near duplicates across patients, labels and the split", lambda of: duplicates.checks(of.pairs, of.split)
    ),
    "known": Entry(
        "classes, sizes, patients, copies, sources, contrast, both sides of the split",
        lambda of: known.checks(of.cohort, of.seen, of.split),
    ),
    "probes": Entry("what should not tell the label, and does", lambda of: probes.checks(of.probes)),
    "subgroups": Entry("view, sex, age or scanner that go with the label", lambda of: [subgroups.check(of.subgroups)]),
    "labels": Entry(
        "labels that speak against an image's looks",
        lambda of: [labels.check(of.cohort, of.seen, of.groups, seed=of.seed)],
    ),
    "outliers": Entry("images unlike the others of their class", lambda of: [outliers.check(of.cohort, of.seen)]),
    "sampling": Entry(
        "balance, width of intervals, what the test was used for",
        lambda of: sampling.checks(of.test, tuned=of.tuned),
    ),
}
"""Our checks of the data; another package brings an `Entry` by an entry point `dosimeter.data_checks`."""


@one_thread()
def audit_cohort(cohort: Cohort, *, split: Split | None = None, tuned: bool | None = None, seed: int = 0) -> DataAudit:
    """Audit a cohort: every image is read once, none is kept; a thousand take about half a minute on two cores.

    Labels are doubted where a coarse look at the images speaks against them, which sees no subtle finding. Nothing
    found does not mean that nothing is there.

    Args:
        cohort: the images.
        split: the one in use; without it nothing is said of leaks between its sides, and all images count as tested.
        tuned: whether choices were made on the test images; None if that was not declared.
        seed: of the probes' folds, and of the labels that they are compared with.

    Raises:
        DosimeterError: the cohort has no image, one has become unreadable since it was loaded, or a check of another
            package gives something else than checks.

    Example:
        >>> import dosimeter as dm
        >>> found = audit_cohort(dm.load_cohort("phantom-xray", limit=12))
        >>> next(check.level for check in found.checks if check.id == "near duplicates: labels")
        'pass'
    """
    if not len(cohort):
        raise DosimeterError(f"cohort must have an image, {named(cohort.name)} has none.")
    seen, looks = see(cohort)
    pairs = near_duplicates(looks)
    told = duplicates.near_pairs(cohort, pairs, split)
    units = united([record.unit for record in cohort.records], [(pair.first, pair.second) for pair in pairs])
    groups = np.array(units)
    probed = probes.probes(cohort, seen, groups, seed=seed)
    parts = subgroups.subgroups(cohort)
    test = cohort if split is None else split.test
    checks = list(_judged(Evidence(cohort, seen, split, test, tuned, told, probed, parts, groups, seed)))
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


def _judged(evidence: Evidence) -> Iterator[DataCheck]:
    """Yield what every check of the registry says; one of another package is held to its contract."""
    there: set[str] = set()
    for name in registry.names("data_checks"):
        for check in registry.get("data_checks", name).judge(evidence):
            if not isinstance(check, DataCheck):
                raise DosimeterError(f"data check '{name}' must give DataChecks, got {type(check).__name__}. Mend it.")
            if check.id in there:
                raise DosimeterError(f"data check '{name}' must have an id of its own, '{check.id}' is there. Mend it.")
            there.add(check.id)
            yield check
