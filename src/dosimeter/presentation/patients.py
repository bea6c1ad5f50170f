"""Whose images intervals take together, and how a report says so: a patient's, a group's, or nobody's."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

Unit = Literal["patient", "group"]
"""Images of one patient, or those that patients and near duplicates connect (`cohorts.groups`)."""

_BY_PATIENT = re.compile(r"\b(intervals?|bootstrap|ranks|pairs|proportions|flips),?\s+by\s+patient\b")
_OF_PATIENTS = re.compile(
    r"(?P<by>\b(?:intervals?|bootstrap|ranks|pairs|proportions|flips),?\s+by\s+|“by\s+|\bimages\s+(?:of\s+one|or)\s+"
    r"|\bas\s+many\s+|\beach\s+|\beach\s+of\s+another\s+|\bthan\s+\d+\s+)patient"
    r"|\b(?P<first>p)atient(?=s\s+(?:have\s+several|who\s+count|are\s+few)\b)",
    re.IGNORECASE,
)


def unit_of(frame: pd.DataFrame, meta: Mapping[str, Any]) -> Unit | None:
    """Return what the ids in a run's column `patient_id` stand for; None where no image has one."""
    if not frame["patient_id"].notna().any():
        return None
    return "group" if any("groups" in card["provenance"] for card in meta["cohorts"]) else "patient"


def worded(text: str, *, unit: Unit | None) -> str:
    """Return a text, of which every interval is "by patient", as a run has it with such units.

    Every text of a report goes through here once, where it leaves: page, captions of figures and tables, methods.

    Example:
        >>> worded("Bands are 95 % Wilson intervals by patient; medians from ranks, by patient.", unit=None)
        'Bands are 95 % Wilson intervals; medians from ranks.'
        >>> worded("Patients have several images: intervals by patient.", unit="group")
        'Groups have several images: intervals by group.'
    """
    if unit is None:
        return _BY_PATIENT.sub(r"\1", text)
    return text if unit == "patient" else _OF_PATIENTS.sub(_of_group, text)


def _of_group(found: re.Match[str]) -> str:
    return "Group" if found["first"] == "P" else f"{found['by'] or ''}group"
