"""Intervals and bands in the report's tables, and what is said of them: only where there are any."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dosimeter.presentation.numbers import percent_range
from dosimeter.presentation.style import has_band

BAND = (
    "the simultaneous band, which is wider: in 95 % of studies it holds the accuracies at all epsilons of the curve at "
    "once"
)

BAND_CAPTION = (
    "The simultaneous band, band_low to band_high, holds the accuracies at all epsilons of a curve at once in 95 % of "
    "studies; the interval, ci_low to ci_high, that at its own epsilon."
)
"""Of a table's file."""

WHOLE_CURVE = "Pale bands are simultaneous: in 95 % of studies they hold the whole curve at once."
"""Of a figure."""


def has_interval(table: pd.DataFrame, *names: str) -> bool:
    """Whether any row has the interval of any of the columns `names`."""
    return any(has_band(table, f"{name}_low", f"{name}_high") for name in names)


def accuracy_ranges(row: Mapping[Any, Any]) -> tuple[str, str]:
    """Return the interval of an accuracy and the band of its curve, in percent; "" where there is none."""
    return percent_range(row["ci_low"], row["ci_high"], 0), percent_range(row["band_low"], row["band_high"], 0)


def accuracy_said(curves: pd.DataFrame) -> list[str]:
    """Return what `accuracy_ranges` are, of those that any row has."""
    said = []
    if has_interval(curves, "ci"):
        said.append("in percent, the 95 % Wilson interval by patient, of this epsilon alone")
    if has_interval(curves, "band"):
        said.append(BAND)
    return said


def share_said(table: pd.DataFrame) -> list[str]:
    """Return what the interval of a column `share` is, if any row has one."""
    return ["the 95 % Wilson interval by patient, in percent"] if has_interval(table, "share") else []


def ranks_said(table: pd.DataFrame, *names: str) -> str:
    """Return ", with 95 % intervals from ranks, by patient" if any of these medians has one."""
    return ", with 95 % intervals from ranks, by patient" if has_interval(table, *names) else ""
