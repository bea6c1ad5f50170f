"""Lists that say of several findings, one by one, whether an image has them: 1, 0, or nothing where nobody said."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dosimeter.cohorts.base import Cohort, Record
from dosimeter.cohorts.tables import folded
from dosimeter.errors import DosimeterError
from dosimeter.plain import named, one_line, shown

CLASSES = ("no finding", "any finding")
"""What the label of an image says that has findings."""

_KNOWN = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "": None}


def check_findings(findings: Sequence[str]) -> tuple[str, ...]:
    """Return names of findings, or raise DosimeterError if they are not different, or cannot be shown."""
    alike: set[str] = set()
    for name in findings:
        if not name or one_line(name) != name:
            raise DosimeterError(f"findings must be names that can be shown, got {shown(name)}: rename the column.")
        if folded(name) in alike:
            raise DosimeterError(f"findings must be different, {shown(name)} is there twice: name it once.")
        alike.add(folded(name))
    return tuple(findings)


def known_findings(
    cells: Mapping[str, str], findings: Sequence[str], *, path: Path, line: int
) -> tuple[int | None, ...]:
    """Return what a line says of each finding, None where its cell is empty.

    Raises:
        DosimeterError: a cell holds something else than 1, 0 or nothing.
    """
    for name in findings:
        if cells[name] not in _KNOWN:
            raise DosimeterError(
                f"the column {shown(name)} of {named(path)} must hold 1, 0 or nothing, got {shown(cells[name])} in "
                f"line {line}: leave the cell empty where the label is uncertain."
            )
    return tuple(_KNOWN[cells[name]] for name in findings)


def any_of(known: Sequence[int | None]) -> int:
    """Return the label of an image: 1 if it is known to have a finding, else 0."""
    return int(any(each == 1 for each in known))


def label_words(cohort: Cohort, record: Record) -> str:
    """Return what an image is labelled, in words: its class, or the findings that are there, and those not known."""
    if not cohort.findings:
        return cohort.classes[record.label]
    told = list(zip(cohort.findings, record.findings, strict=True))
    there = ", ".join(name for name, known in told if known == 1) or CLASSES[0]
    unknown = ", ".join(name for name, known in told if known is None)
    return f"{there} (unknown: {unknown})" if unknown else there


def require_known_findings(cohort: Cohort) -> None:
    """Raise DosimeterError unless some image is known to have each finding, and some not to."""
    for name, counts in cohort.finding_counts.items():
        for what in ("present", "absent"):
            if not counts[what]:
                raise DosimeterError(
                    f"{named(cohort.name)}: of each finding an image must be known to have it and one not to, none is "
                    f"known to have {named(name)} {what}: leave that finding out, or add images."
                )
