"""Facts of a list by which images fall into subgroups: view, sex, age and scanner, none of which names a person."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.tables import squeeze
from dosimeter.plain import one_line

FACTS: Mapping[str, tuple[str, ...]] = {
    "view": ("view", "view_position", "projection"),
    "sex": ("sex", "gender", "patient_sex"),
    "age": ("age", "patient_age"),
    "scanner": ("scanner", "manufacturer", "vendor"),
}
"""Each fact and the columns that hold it; no other column of a list is kept."""

COLUMNS = tuple(column for columns in FACTS.values() for column in columns)

MOST_VALUES = 12
"""Values of a fact that are told apart, the commonest; the others together are one more."""

OTHERS, NOT_STATED = "others", "not stated"
"""Values of what is not among the commonest, and of what the list does not say."""

_MOST_CHARACTERS = 40
_AGE = re.compile(r"(\d{1,3}(?:\.\d+)?)(?:(?:y|yr|yrs|year|years|yearold|yearsold)|([mwd]))?")
_BANDS = ((18, "0 to 17"), (40, "18 to 39"), (60, "40 to 59"), (80, "60 to 79"), (130, "80 and over"))
_SEXES = {"m": "male", "male": "male", "man": "male", "f": "female", "female": "female", "woman": "female"}


def facts_of(cells: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the facts among the cells of a line, by name; an age becomes a band, and is kept nowhere else.

    Example:
        >>> facts_of({"file": "a.png", "gender": "F", "age": "045Y", "view": "pa"})
        (('view', 'PA'), ('sex', 'female'), ('age', '40 to 59'))
    """
    found = {fact: next(filter(None, map(cells.get, columns)), "") for fact, columns in FACTS.items()}
    known = {fact: _worded(fact, text) for fact, text in found.items() if text}
    return tuple((fact, value) for fact, value in known.items() if value)


def _worded(fact: str, text: str) -> str:
    """Return a value as tables show it, "" for one that says nothing."""
    if fact == "age":
        return age_band(text)
    if fact == "sex":
        return _SEXES.get(squeeze(text), "")
    shown = one_line(text)[:_MOST_CHARACTERS]
    return shown.upper() if fact == "view" else shown


def age_band(text: str) -> str:
    """Return the band of an age in years, or of DICOM's "045Y", "006M"; "" if it is none.

    Example:
        >>> age_band("6 M"), age_band("71.5"), age_band("old")
        ('0 to 17', '60 to 79', '')
    """
    match = _AGE.fullmatch(squeeze(text))
    if match is None:
        return ""
    per_year = {"m": 12.0, "w": 52.2, "d": 365.2}.get(match[2] or "", 1.0)
    years = float(match[1]) / per_year
    return next((band for limit, band in _BANDS if years < limit), "")


class Told(NamedTuple):
    """What a cohort says of one fact: a value for each image, and the values in the order of tables."""

    fact: str
    values: list[str]
    order: list[str]


def told(cohort: Cohort) -> Iterator[Told]:
    """Yield every fact of which an image has a value, and the source: commonest first, others and not stated last."""
    for fact in (*FACTS, "source"):
        stated = [record.source if fact == "source" else dict(record.facts).get(fact) for record in cohort.records]
        tally = Counter(value for value in stated if value is not None)
        if not tally:
            continue
        kept = {value for value, _ in tally.most_common(MOST_VALUES)}
        values = [NOT_STATED if value is None else value if value in kept else OTHERS for value in stated]
        counts, last = Counter(values), (OTHERS, NOT_STATED)
        yield Told(fact, values, sorted(counts, key=lambda value: (value in last, value == NOT_STATED, -counts[value],
                                                                   value)))  # fmt: skip


def members(cohort: Cohort) -> dict[str, dict[str, list[str]]]:
    """Return the ids of the cases with each value of every fact that divides the cohort: two are stated at least."""
    found: dict[str, dict[str, list[str]]] = {}
    for fact, values, order in told(cohort):
        stated = [value for value in order if value != NOT_STATED]
        if len(stated) > 1:
            found[fact] = {value: [] for value in stated}
            for value, record in zip(values, cohort.records, strict=True):
                if value != NOT_STATED:
                    found[fact][value].append(record.case_id)
    return found
