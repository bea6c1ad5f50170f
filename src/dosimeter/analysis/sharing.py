"""Whether two runs may be compared: rows of one schema, and the same images with the same labels in both."""

from typing import NamedTuple

import pandas as pd

from dosimeter.analysis.base import answered, plain
from dosimeter.errors import DosimeterError
from dosimeter.plain import named
from dosimeter.record.table import Responses

_KEYS = ["cohort", "decision", "case_id"]


class Shared(NamedTuple):
    """How many test images two runs share, and how many each has."""

    n: int
    n_first: int
    n_other: int

    def __str__(self) -> str:
        """Return it in words."""
        if self.n == self.n_first == self.n_other:
            return f"all {self.n} test images are shared"
        return f"{self.n} test images are shared, of {self.n_first} and {self.n_other}"


def shared_cases(first: Responses, other: Responses, *, names: tuple[str, str]) -> Shared:
    """Return which test images two runs share, known by their cohort and by the digest in their case id.

    Args:
        first: a run.
        other: another.
        names: what the two are called in a sentence.

    Raises:
        DosimeterError: their schema versions differ, they share no image, or an image has another label in each.
    """
    versions = [int(each.meta["schema_version"]) for each in (first, other)]
    one, two = map(named, names)
    if versions[0] != versions[1]:
        raise DosimeterError(
            f"runs to compare must have one schema version, {one} has {versions[0]} and {two} {versions[1]}. Run the "
            "older study again with this version of dosimeter."
        )
    cases, others = (_cases(each) for each in (first, other))
    both = cases.merge(others, on=_KEYS, suffixes=("", "_other"))
    if both.empty:
        cohorts = [", ".join(map(named, each["cohort"].unique())) for each in (cases, others)]
        raise DosimeterError(
            f"runs to compare must share test images, {one} ({cohorts[0]}) and {two} ({cohorts[1]}) share none. Run "
            "both on the same cohort with the same split and limits."
        )
    if changed := int((both["label"] != both["label_other"]).sum()):
        raise DosimeterError(
            f"images that two runs share must have one label, {changed} of {len(both)} have another in {two} than in "
            f"{one}. Run both with the same labels."
        )
    return Shared(len(both), len(cases), len(others))


def _cases(responses: Responses) -> pd.DataFrame:
    rows = answered(responses.frame, [*_KEYS, "label", "epsilon"])
    return plain(rows.loc[rows["epsilon"] == 0, [*_KEYS, "label"]].drop_duplicates(_KEYS))
