"""What is said of patients: nothing where no image of a run has a patient id."""

import re

import pandas as pd

_BY_PATIENT = re.compile(r"\b(intervals?|bootstrap|ranks|pairs|proportions|flips),?\s+by\s+patient\b")


def has_patients(frame: pd.DataFrame) -> bool:
    """Whether any image of a run has a patient id."""
    return bool(frame["patient_id"].notna().any())


def worded(text: str, *, patients: bool) -> str:
    """Return a text of which every interval is "by patient" as a run has it whose images have no patient id.

    Every text of a report goes through here once, where it leaves: page, captions of figures and tables, methods.

    Example:
        >>> worded("Bands are 95 % Wilson intervals by patient; medians from ranks, by patient.", patients=False)
        'Bands are 95 % Wilson intervals; medians from ranks.'
    """
    return text if patients else _BY_PATIENT.sub(r"\1", text)
