"""What a patient id says: cells that stand for nothing, and ids that are one number written twice."""

from collections import defaultdict
from collections.abc import Iterable

from dosimeter.cohorts.tables import folded, meant

NOTHING = frozenset(
    {"unknown", "unk", "notknown", "notstated", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "missing", "nil"}
)
"""What people and programs write where a patient is not known, as `folded` has it."""


def patient_of(said: object) -> str | None:
    """Return a patient id, None where a cell or value says nothing of a patient: "unknown", "nan", "-", "?" or blank.

    Example:
        >>> patient_of(" p7 "), patient_of("N/A"), patient_of("--"), patient_of(float("nan")), patient_of(0)
        ('p7', None, None, None, '0')
    """
    text = str(said).strip()
    named = any(letter.isalnum() for letter in text) and folded(text) not in NOTHING
    return text if named else None


def twins(ids: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the ids that are one number or word written in several ways, together: "1", "01" and "1.0"."""
    alike = defaultdict(list)
    for each in dict.fromkeys(ids):
        alike[meant(each)].append(each)
    return [tuple(found) for found in alike.values() if len(found) > 1]
