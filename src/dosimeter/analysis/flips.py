"""The flip epsilon of each image, and its median over images."""

from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.base import GROUP, answered
from dosimeter.analysis.intervals import bootstrap_by_group, weighted_median
from dosimeter.units import GREY_LEVELS_8BIT

IDENTITY = ["cohort", "protocol", "model", "preset", "storage"]
_CASE = [*GROUP, "case_id"]


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
    return _flips(frame)[[*IDENTITY, "case_id", *columns]]


def epsilon50(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the epsilon at which half of the correctly answered images have flipped, one row per group.

    It is the lower median of the flip epsilons, a censored image counting as infinite.

    Args:
        frame: a response table.

    Returns:
        n images correct at epsilon 0; n_censored; epsilon50 with `_low` and `_high` from a bootstrap by
        patient, and `grey_levels` with the same, in steps of an 8-bit image. A value beyond `epsilon_max`,
        the largest epsilon asked, is null and its flag (censored, low_censored, high_censored) True.
    """
    rows = []
    for key, group in _flips(frame).groupby(GROUP):
        rows.append({**dict(zip(GROUP, key, strict=True)), **_median(group)})
    names = [prefix + suffix for prefix in ("epsilon50", "grey_levels") for suffix in ("", "_low", "_high")]
    flags = ["censored", "low_censored", "high_censored"]
    return pd.DataFrame(rows, columns=[*IDENTITY, "n", "n_censored", *names, *flags, "epsilon_max", "modality"])


def _flips(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of `flip_epsilon`, and each case's cluster and largest epsilon."""
    rows = answered(frame)
    at_zero = rows[rows["epsilon"] == 0]
    clean = at_zero[[*_CASE, "label", "cluster", "predicted", "correct"]]
    clean = clean.rename(columns={"predicted": "original", "correct": "correct_at_zero"})
    rows = rows[[*_CASE, "epsilon", "predicted"]].merge(clean, on=_CASE)
    changed = rows[rows["correct_at_zero"] & (rows["predicted"] != rows["original"])]
    flip = changed.groupby(_CASE, as_index=False).agg(flip_epsilon=("epsilon", "min"))
    rows = rows.merge(flip, on=_CASE, how="left")
    rows["below"] = rows["epsilon"].where(rows["epsilon"] < rows["flip_epsilon"])
    reach = rows.groupby(_CASE, as_index=False).agg(below=("below", "max"), epsilon_max=("epsilon", "max"))
    table = clean.merge(flip, on=_CASE, how="left").merge(reach, on=_CASE, how="left")
    table["censored"] = table["correct_at_zero"] & table["flip_epsilon"].isna()
    table["uncertainty"] = table["flip_epsilon"] - table["below"]
    return table.sort_values(_CASE, ignore_index=True)


def _median(cases: pd.DataFrame) -> dict[str, Any]:
    correct = cases[cases["correct_at_zero"]]
    flips = correct["flip_epsilon"].fillna(np.inf).to_numpy(np.float64)
    statistic = weighted_median(flips)
    values = {"": float(statistic(np.ones((1, len(flips))))[0])}
    low, high = bootstrap_by_group(statistic, correct["cluster"].to_numpy())
    values |= {"_low": float(low), "_high": float(high)}
    finite = {suffix: value if np.isfinite(value) else np.nan for suffix, value in values.items()}
    return {
        "n": len(correct),
        "n_censored": int(correct["censored"].sum()),
        **{f"epsilon50{suffix}": value for suffix, value in finite.items()},
        **{f"grey_levels{suffix}": value * GREY_LEVELS_8BIT for suffix, value in finite.items()},
        **{f"{suffix[1:]}_censored".lstrip("_"): bool(np.isinf(value)) for suffix, value in values.items()},
        "epsilon_max": float(cases["epsilon_max"].max()),
    }
