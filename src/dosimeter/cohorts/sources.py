"""Leave one source out: train on the images of some sources, test on those of another."""

from collections import Counter
from typing import NamedTuple

from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.split import Split
from dosimeter.errors import DosimeterError
from dosimeter.plain import named

PROTOCOL = "source"
"""What tables call such a split."""

FEWEST = 2
"""Images of each class that a source must have to be tested."""


class Sources(NamedTuple):
    """The sources of a cohort that can be left out, and why others cannot, in sentences."""

    names: list[str]
    refused: list[str]


def sources_of(cohort: Cohort) -> Sources:
    """Return which sources of a cohort can be left out one at a time.

    A source whose images all have one label says nothing: what tells it from others tells its label too, so that the
    cost of a new source cannot be told from the cost of a new label. Its images are in no training either.

    Raises:
        DosimeterError: fewer than two sources carry every class.
    """
    tally: dict[str, Counter[int]] = {}
    for record in cohort.records:
        if record.source is not None:
            tally.setdefault(record.source, Counter())[record.label] += 1
    wanted = range(len(cohort.classes))
    names = sorted(source for source, labels in tally.items() if all(labels[each] >= FEWEST for each in wanted))
    refused = [f"{named(each)} ({_told(cohort, tally[each])})" for each in sorted(tally) if each not in names]
    if len(names) >= 2:
        return Sources(names, refused)
    if not tally:
        raise DosimeterError(
            f"{cohort.name} must say where its images come from, and states no source. Give its list a column source."
        )
    alone = sum(len(labels) == 1 for labels in tally.values())
    raise DosimeterError(
        f"{cohort.name} must have two sources or more with {FEWEST} images of every class, and has {len(names)}: "
        f"{alone} of its {len(tally)} sources carry one label each, so that what a new source costs cannot be told "
        "from what a new label does. Bring a cohort whose sources hold every class."
    )


def _told(cohort: Cohort, labels: "Counter[int]") -> str:
    return ", ".join(f"{labels[each]} {name}" for each, name in enumerate(cohort.classes) if labels[each])


def leave_out(cohort: Cohort, source: str, *, seed: int) -> Split:
    """Return the split that tests on one source and trains on the others that carry every class.

    A patient of the source that is left out is in no training.

    Raises:
        DosimeterError: as `sources_of`; or there is no such source.
    """
    known = sources_of(cohort).names
    if source not in known:
        raise DosimeterError(f"{cohort.name} has no source '{named(source)}' with every class. Choose from: {known}.")
    test = [place for place, each in enumerate(cohort.records) if each.source == source]
    seen = {cohort.records[place].unit for place in test} - {None}
    train = [
        place
        for place, each in enumerate(cohort.records)
        if each.source in known and each.source != source and (each.unit is None or each.unit not in seen)
    ]
    n_unused = len(cohort) - len(test) - len(train)
    return Split(cohort.subset(train), cohort.subset(test), PROTOCOL, seed, n_unused)
