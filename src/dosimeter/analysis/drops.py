"""Probability drop: tables 5 and 9, and the same without their survivor bias."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis import paper
from dosimeter.analysis.base import GROUP, answered
from dosimeter.analysis.intervals import FloatArray, bootstrap_by_group, weighted_mean

_VALUES = ["original", "adversarial", "decrease", "decrease_low", "decrease_high"]
_GROUPS = {"": "n", "_fixed": "n_fixed", "_all": "n_all"}  # suffix of the values, name of the count
COLUMNS = [
    *("cohort", "protocol", "model", "preset", "storage", "epsilon"),
    *(name for suffix, n in _GROUPS.items() for name in (n, *(value + suffix for value in _VALUES))),
    *("paper_original", "paper_adversarial", "paper_decrease", "modality"),
]


def probability_drop(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how much the true class's mean probability falls, one row per (group, epsilon above 0).

    Three answers, because the paper's has survivor bias (as epsilon grows fewer and more confident images
    remain):

    - `original`, `adversarial`, `decrease`: over the `n` images answered correctly both before and after, as
      the paper defines it;
    - `..._fixed`: over the same `n_fixed` images at every epsilon, those answered correctly at epsilon 0;
    - `..._all`: over all `n_all` images.

    Args:
        frame: a response table.

    Returns:
        Means in [0, 1], `decrease_low` and `decrease_high` from a bootstrap by patient, and the paper's
        values where model and epsilon match. Null where no image remains.
    """
    rows = answered(frame)
    rows = rows[rows["on_grid"]]
    truth = np.where(rows["label"] == 1, rows["probability"], 1 - rows["probability"])
    rows = rows.assign(truth=truth)
    parts = [_group_drop(group) for _, group in rows.groupby(GROUP)]
    own = COLUMNS[: COLUMNS.index("paper_original")]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*own, "modality"])
    published = paper.probability_drop().rename(columns=lambda name: f"paper_{name}" if name in _VALUES else name)
    return paper.beside(table.astype({"epsilon": float}), published)[COLUMNS]


def _group_drop(rows: pd.DataFrame) -> pd.DataFrame:
    clean = rows[rows["epsilon"] == 0].sort_values("case_id")
    attacked = rows[(rows["epsilon"] > 0) & rows["case_id"].isin(clean["case_id"])]
    doses, dose = np.unique(attacked["epsilon"].to_numpy(), return_inverse=True)
    case = np.searchsorted(clean["case_id"].to_numpy(object), attacked["case_id"].to_numpy(object))
    adversarial = np.full((len(clean), len(doses)), np.nan)
    adversarial[case, dose] = attacked["truth"]
    after = np.zeros(adversarial.shape, dtype=bool)
    after[case, dose] = attacked["correct"]
    there = ~np.isnan(adversarial)  # a case may have failed at one epsilon only
    original, before = clean[["truth"]].to_numpy(), clean[["correct"]].to_numpy()  # (cases, 1)
    patients = clean["cluster"].to_numpy(object)
    table: dict[str, npt.ArrayLike] = {name: np.repeat(rows[name].iloc[0], len(doses)) for name in GROUP}
    table["epsilon"] = doses
    for included, suffix in zip((before & after, before & there, there), _GROUPS, strict=True):
        table |= _means(np.broadcast_to(original, there.shape), adversarial, included, patients, suffix)
    return pd.DataFrame(table)


def _means(
    original: FloatArray,
    adversarial: FloatArray,
    included: npt.NDArray[np.bool_],
    patients: npt.NDArray[np.object_],
    suffix: str,
) -> dict[str, npt.ArrayLike]:
    once = np.ones((1, len(original)))
    decrease = weighted_mean(original - adversarial, included)
    low, high = bootstrap_by_group(decrease, patients)
    return {
        _GROUPS[suffix]: included.sum(axis=0),
        f"original{suffix}": weighted_mean(original, included)(once)[0],
        f"adversarial{suffix}": weighted_mean(adversarial, included)(once)[0],
        f"decrease{suffix}": decrease(once)[0],
        f"decrease_low{suffix}": low,
        f"decrease_high{suffix}": high,
    }
