"""Subgroups in the audit: whether view, sex, age, scanner or source tells the label."""

from collections.abc import Sequence

from dosimeter.cohorts.audit import STRONG_ASSOCIATION, cramers_v
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.subgroups import NOT_STATED, told
from dosimeter.record.data_audit import DataCheck, Subgroup


def subgroups(cohort: Cohort) -> list[Subgroup]:
    """Return the images of each class by each value of every fact that the list has, and by source."""
    found = []
    for fact, values, order in told(cohort):
        rows = {value: dict.fromkeys(cohort.classes, 0) for value in order}
        for value, record in zip(values, cohort.records, strict=True):
            rows[value][cohort.classes[record.label]] += 1
        found += [Subgroup(fact=fact, value=value, counts=counts) for value, counts in rows.items()]
    return found


def check(found: Sequence[Subgroup]) -> DataCheck:
    """Return whether a fact other than the source, which has a check of its own, goes with the label."""
    tables: dict[str, list[list[int]]] = {}
    for row in found:
        if row.fact != "source" and row.value != NOT_STATED:
            tables.setdefault(row.fact, []).append(list(row.counts.values()))
    strengths = {fact: cramers_v(table) for fact, table in tables.items()}
    strong = [fact for fact, value in strengths.items() if value >= STRONG_ASSOCIATION]
    listed = ", ".join(f"{fact} {value:.2f}" for fact, value in strengths.items())
    return DataCheck(
        id="subgroups",
        title="Do view, sex, age or scanner go with the label?",
        level="warn" if strong else "pass" if strengths else "info",
        measured=f"Cramér's V: {listed}." if strengths else "The list has no column view, sex, age or scanner.",
        rule=f"warn if Cramér's V of a fact and the label is {STRONG_ASSOCIATION} or more",
        source="Cohen 1988, Statistical Power Analysis, 7.2 (0.3 medium, for one degree of freedom); DeGrave et al. "
        "2021",
        remedy=f"compare within each value of {' and '.join(strong)}, or balance the classes by it" if strong else "",
        numbers=strengths,
    )
