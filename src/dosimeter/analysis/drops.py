"""Probability drop: tables 5 and 9, and the same without their survivor bias."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis import paper
from dosimeter.analysis.base import CURVE, GROUP, answered, each_seed, groups, joined, unperturbed
from dosimeter.analysis.clusters import per_patient
from dosimeter.analysis.intervals import FloatArray, mean_interval

_VALUES = ["original", "adversarial", "decrease", "decrease_low", "decrease_high"]
_GROUPS = {"": "n", "_fixed": "n_fixed", "_all": "n_all"}  # suffix of the values, name of the count
COLUMNS = [
    *(*CURVE, "epsilon"),
    *(name for suffix, n in _GROUPS.items() for name in (n, *(value + suffix for value in _VALUES))),
    *("paper_original", "paper_adversarial", "paper_decrease", "modality"),
]


@each_seed
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
        Means in [0, 1], `decrease_low` and `decrease_high` (`intervals.mean_interval`), and the paper's
        values where model and epsilon match. Null where no image remains.
    """
    asked = ["on_grid", "case_id", "cluster", "label", "epsilon", "correct", "truth"]
    rows = answered(frame, [*GROUP, *asked])
    parts = [(names, _group_drop(group)) for names, group in groups(rows, GROUP, rows["on_grid"])]
    own = COLUMNS[: COLUMNS.index("paper_original")]
    table = joined(parts) if parts else pd.DataFrame(columns=[*own, "modality"])
    published = paper.probability_drop().rename(columns=lambda name: f"paper_{name}" if name in _VALUES else name)
    return paper.beside(table.astype({"epsilon": float}), published)[COLUMNS]


def _group_drop(rows: pd.DataFrame) -> pd.DataFrame:
    at_zero, case = unperturbed(rows)
    clean = rows.iloc[at_zero]
    attacked, case = rows[(rows["epsilon"] > 0) & (case >= 0)], case[(rows["epsilon"] > 0) & (case >= 0)]
    doses, dose = np.unique(attacked["epsilon"].to_numpy(), return_inverse=True)
    adversarial = np.full((len(clean), len(doses)), np.nan)
    adversarial[case, dose] = attacked["truth"]
    after = np.zeros(adversarial.shape, dtype=bool)
    after[case, dose] = attacked["correct"]
    there = ~np.isnan(adversarial)  # a case may have failed at one epsilon only
    original, before = clean[["truth"]].to_numpy(), clean[["correct"]].to_numpy()  # (cases, 1)
    decrease = original - adversarial
    table: dict[str, npt.ArrayLike] = {"epsilon": doses}
    cluster = clean["cluster"].to_numpy(object)
    for included, (suffix, n) in zip((before & after, before & there, there), _GROUPS.items(), strict=True):
        low, high = mean_interval(per_patient(np.where(included, decrease, 0), cluster), per_patient(included, cluster))
        table |= {
            n: included.sum(axis=0),
            f"original{suffix}": _mean(np.broadcast_to(original, there.shape), included),
            f"adversarial{suffix}": _mean(adversarial, included),
            f"decrease{suffix}": _mean(decrease, included),
            f"decrease_low{suffix}": np.maximum(low, -1.0),  # t's may leave what a difference of probabilities can be
            f"decrease_high{suffix}": np.minimum(high, 1.0),
        }
    return pd.DataFrame(table)


def _mean(values: FloatArray, included: npt.NDArray[np.bool_]) -> FloatArray:
    counts = included.sum(axis=0)
    means: FloatArray = np.where(included, values, 0.0).sum(axis=0) / np.where(counts > 0, counts, np.nan)  # (doses,)
    return means
