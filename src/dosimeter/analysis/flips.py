"""The flip epsilon of each image, and its median over images."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dosimeter.analysis.base import CURVE, GROUP, answered, each_seed, groups, joined, names_of, unperturbed
from dosimeter.analysis.intervals import median_interval
from dosimeter.units import GREY_LEVELS_8BIT

ASKED = ["case_id", "cluster", "label", "epsilon", "predicted", "correct", "abstained"]
"""What `flips_of` looks at."""


@each_seed
def flip_epsilon(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the smallest epsilon that changes the answer, one row per (group, case).

    Looked for among all rows, of the grid and of its refinement, of the cases answered correctly at epsilon
    0.

    Args:
        frame: a response table.

    Returns:
        label; correct_at_zero; flip_epsilon, null if the answer never changed or was wrong from the start;
        censored, True if it was right and never changed; uncertainty, the gap down to the largest epsilon
        asked that did not change the answer.
    """
    columns = ["label", "correct_at_zero", "flip_epsilon", "censored", "uncertainty", "modality"]
    parts = [(names, flips_of(group)) for names, group in _groups(frame)]
    if not parts:
        return pd.DataFrame(columns=[*CURVE, "case_id", *columns])
    return joined(parts)[[*CURVE, "case_id", *columns]]


@each_seed
def epsilon50(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the epsilon at which half of the correctly answered images have flipped, one row per group.

    It is the lower median of the flip epsilons, a censored image counting as infinite.

    Args:
        frame: a response table.

    Returns:
        n images correct at epsilon 0; n_censored; epsilon50 with `_low` and `_high`, see
        `intervals.median_interval`, and `grey_levels` with the same, in steps of an 8-bit image. A value beyond
        `epsilon_max`, the largest epsilon asked, is null and its flag (censored, low_censored, high_censored)
        True; with too few images for an interval its bounds are null and their flags False.
    """
    rows = [{**names, **_median(flips_of(group))} for names, group in _groups(frame)]
    names = [prefix + suffix for prefix in ("epsilon50", "grey_levels") for suffix in ("", "_low", "_high")]
    flags = ["censored", "low_censored", "high_censored"]
    return pd.DataFrame(rows, columns=[*CURVE, "n", "n_censored", *names, *flags, "epsilon_max", "modality"])


def _groups(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    for names, group in groups(answered(frame, [*GROUP, *ASKED]), GROUP):
        if (group["epsilon"] == 0).any():
            yield names, group


def flips_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each case of one group: the columns of `flip_epsilon`, its cluster and largest epsilon."""
    epsilon, predicted = rows["epsilon"].to_numpy(), rows["predicted"].to_numpy()
    clean, case = unperturbed(rows)
    rows_of_one = case >= 0
    case, asked, given = case[rows_of_one], epsilon[rows_of_one], rows["abstained"].to_numpy()[rows_of_one] != 1
    correct = rows["correct"].to_numpy()[clean]
    changed = correct[case] & given & (predicted[rows_of_one] != predicted[clean][case])
    flip, below, largest = np.full(len(clean), np.inf), np.full(len(clean), -np.inf), np.zeros(len(clean))
    np.minimum.at(flip, case[changed], asked[changed])
    lower = asked < flip[case]
    np.maximum.at(below, case[lower], asked[lower])
    np.maximum.at(largest, case, asked)
    flipped = np.isfinite(flip)
    return pd.DataFrame(
        {
            "case_id": names_of(rows["case_id"], clean),
            "cluster": names_of(rows["cluster"], clean),
            "label": rows["label"].to_numpy()[clean].astype(np.int64),
            "correct_at_zero": correct,
            "flip_epsilon": np.where(flipped, flip, np.nan),
            "censored": correct & ~flipped,
            "uncertainty": np.where(flipped, flip - below, np.nan),
            "epsilon_max": largest,
        }
    )


def _median(cases: pd.DataFrame) -> dict[str, Any]:
    correct = cases[cases["correct_at_zero"]]
    median = censored_median(correct["flip_epsilon"], correct["cluster"])
    return {
        "n": len(correct),
        "n_censored": int(correct["censored"].sum()),
        **{f"epsilon50{suffix}": value for suffix, value in median.finite.items()},
        **{f"grey_levels{suffix}": value * GREY_LEVELS_8BIT for suffix, value in median.finite.items()},
        **median.flags,
        "epsilon_max": float(cases["epsilon_max"].max()),
    }


class CensoredMedian(NamedTuple):
    """A lower median and its interval, by suffix: "" itself, "_low" and "_high" its bounds.

    Attributes:
        finite: the values, NaN where they lie beyond what was asked.
        flags: "censored", "low_censored" and "high_censored", whether they do.
    """

    finite: dict[str, float]
    flags: dict[str, bool]


def censored_median(doses: "pd.Series[float]", clusters: "pd.Series[str]") -> CensoredMedian:
    """Return the lower median of `doses` (n,), NaN counting as infinite, with its interval by `clusters`."""
    values = np.sort(np.asarray(doses.fillna(np.inf), np.float64))
    middle = float(values[(len(values) - 1) // 2]) if len(values) else np.nan
    low, high = median_interval(np.asarray(doses.fillna(np.inf), np.float64), clusters.to_numpy(object))
    found = {"": middle, "_low": float(low), "_high": float(high)}
    finite = {suffix: value if np.isfinite(value) else np.nan for suffix, value in found.items()}
    flags = {f"{suffix[1:]}_censored".lstrip("_"): bool(np.isinf(value)) for suffix, value in found.items()}
    return CensoredMedian(finite, flags)
