"""How numbers are worded in sentences, and the curves they are taken from."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.units import GREY_LEVELS_8BIT

HALF_GREY_LEVEL = 0.5 / GREY_LEVELS_8BIT
"""The dose below which rounding to 8 bits restores the original pixels: 0.00196."""

MARKS = {"PASS": "✓", "CAUTION": "▲", "UNRELIABLE": "✕"}
"""A shape for each verdict on an evaluation, so that no reader depends on its colour."""

TO_A_STEP = "to a step of the grid"
"""What is said of an interval whose ends are the same or neighbouring epsilons of the grid."""


def unmet(because: str) -> str:
    """Return what speaks against an evaluation: a check is called by what should hold, and does not.

    Args:
        because: titles of checks, as `evaluation.overall` returns them.
    """
    return f"not passed: {because}"


def joined(names: Sequence[str]) -> str:
    """Return ["a", "b", "c"] as "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def in_run_order(table: pd.DataFrame, meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return `table` with its cohorts, protocols and models in the order in which the run had them."""
    trials = list(dict.fromkeys((card["cohort"], card["protocol"]) for card in meta.get("cohorts", [])))
    models = list(dict.fromkeys(card["model"] for card in meta.get("classifiers", [])))

    def place(row: Any) -> tuple[int, int]:
        trial, model = (row.cohort, row.protocol), row.model
        return (
            trials.index(trial) if trial in trials else len(trials),
            models.index(model) if model in models else len(models),
        )

    order = sorted(range(len(table)), key=[place(row) for row in table.itertuples()].__getitem__)
    return table.iloc[order]


def curve(rows: pd.DataFrame, preset: str, storage: str = "float") -> pd.DataFrame:
    """Return one curve of `curves.fgsm_accuracy` of one classifier, indexed by epsilon; empty if it was not run."""
    chosen = rows[(rows["preset"] == preset) & (rows["storage"] == storage)]
    return chosen.set_index("epsilon").sort_index()


def point(curve: pd.DataFrame, epsilon: float) -> dict[str, Any]:
    """Return one point of a `curve` as a mapping of its columns."""
    return {"epsilon": epsilon} | records(curve)[curve.index.tolist().index(epsilon)]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as mappings of its columns."""
    names = [str(name) for name in table]
    return [dict(zip(names, row, strict=True)) for row in zip(*_columns(table), strict=True)]


def _columns(table: pd.DataFrame) -> list[list[Any]]:
    return [table[name].tolist() for name in table]


def n_images(n: int, kind: str = "") -> str:
    """Return "1 image" or, with a kind, "54 test images"."""
    return f"{n} {kind + ' ' if kind else ''}image{'' if n == 1 else 's'}"


def percent(share: float) -> str:
    """Return 0.5556 as "55.6 %"."""
    return f"{100 * share:.1f} %"


def attacked_accuracy(row: Mapping[str, Any]) -> str:
    """Return the accuracy in a row of `curves.fgsm_accuracy` with its interval, its count and its `mark`."""
    return _proportion(row["accuracy"], row["ci_low"], row["ci_high"], row["n"]) + mark(row)


def is_marked(verdict: object) -> bool:
    """Whether a verdict on an evaluation must stand beside its numbers: CAUTION and UNRELIABLE must."""
    return verdict in ("CAUTION", "UNRELIABLE")


def mark(row: Mapping[str, Any]) -> str:
    """Return " [UNRELIABLE]" to stand behind a number of such an evaluation, "" where it passed or was not judged."""
    attacked = row.get("epsilon") != 0
    return f" [{row['evaluation']}]" if attacked and is_marked(row.get("evaluation")) else ""


def clean_accuracy(row: Mapping[str, Any]) -> str:
    """Return the accuracy in a row of `clean.clean_metrics` with its interval and count."""
    return _proportion(row["accuracy"], row["accuracy_low"], row["accuracy_high"], row["n"])


def interval_words(low: float, high: float) -> str:
    """Return the interval of a share in words, or that there is none."""
    if not low <= high:  # NaN
        return "too few for an interval"
    return f"95 % interval {100 * low:.0f} to {100 * high:.0f} %"


def _proportion(share: float, low: float, high: float, n: float) -> str:
    between = "" if pd.isna(low) else f"{100 * low:.0f} to {100 * high:.0f} %, "
    return f"{percent(share)} ({between}n = {n:.0f})"
