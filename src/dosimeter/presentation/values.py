"""Numbers as files have them: as summary.json, None for what is undefined, the interval beside the value; as CSV."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.wording import records
from dosimeter.presentation.numbers import is_missing


def of_keys(table: pd.DataFrame, keys: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows whose columns have these values."""
    chosen = np.ones(len(table), np.bool_)
    for name, value in keys.items():
        chosen &= (table[name] == value).to_numpy(np.bool_)
    return table[chosen]


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write a table as CSV, its numbers with ten digits; the same table always gives the same bytes."""
    table.to_csv(file, index=False, float_format="%.10g", lineterminator="\n")


def number(value: Any) -> float | None:
    """Return a number, None for one that is missing."""
    return None if is_missing(value) else float(value)


def estimate(row: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """Return a value with its interval and, of a number under attack, the verdict on its evaluation."""
    numbers = {"value": number(row[name]), "low": number(row[f"{name}_low"]), "high": number(row[f"{name}_high"])}
    return numbers | ({"evaluation": row["evaluation"] or None} if "evaluation" in row else {})


def points(curve: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, for each epsilon: n, the accuracy with its interval and the band of its curve, and the verdict on it."""
    return [
        {
            "epsilon": row["epsilon"],
            "n": int(row["n"]),
            "value": number(row["accuracy"]),
            **ranges(row),
            "evaluation": row["evaluation"] or None,
        }
        for row in records(curve)
    ]


def ranges(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the interval of an accuracy (low, high) and the band of its whole curve (band_low, band_high)."""
    names = {"low": "ci_low", "high": "ci_high", "band_low": "band_low", "band_high": "band_high"}
    return {name: number(row[column]) for name, column in names.items()}


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    return [{name: _plain_value(name, value) for name, value in row.items()} for row in records(table)]


def _plain_value(name: str, value: Any) -> Any:
    return None if is_missing(value) or (name == "evaluation" and not value) else value


def at_reported_doses(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows without attack and at 0.001, 0.003 and 0.009, or the epsilons of the grid that are nearest."""
    return plain(table[table["epsilon"].isin([0.0, *reported_doses(table["epsilon"])])])


def finite(facts: Any) -> Any:
    """Return facts of JSON types, with None for numbers that are not finite."""
    if isinstance(facts, dict):
        return {name: finite(value) for name, value in facts.items()}
    if isinstance(facts, list):
        return [finite(value) for value in facts]
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts


def roc_points(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates over all thresholds, from (0, 0) to (1, 1); NaN where a class is absent.

    Args:
        labels: (n,) of 0 and 1.
        scores: (n,), larger for class 1. Equal scores share a threshold.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # end of each run of equal scores
    hits = np.cumsum(labels[order] == 1)[last]
    false = np.cumsum(labels[order] == 0)[last]
    with np.errstate(invalid="ignore"):
        return np.append(0, false) / false[-1], np.append(0, hits) / hits[-1]
