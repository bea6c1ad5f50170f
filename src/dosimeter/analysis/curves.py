"""Accuracy against epsilon: tables 4 and 8, with what the paper does not show beside it."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from dosimeter.analysis import paper
from dosimeter.analysis.bands import simultaneous_band
from dosimeter.analysis.base import CURVE, GROUP, answered, each_seed, groups, joined
from dosimeter.analysis.checks import BoolArray
from dosimeter.analysis.clusters import FloatArray
from dosimeter.analysis.intervals import proportion_interval
from dosimeter.analysis.shares import by_patient

COLUMNS = [
    *(*CURVE, "epsilon"),
    *("n", "correct", "incorrect", "accuracy", "ci_low", "ci_high", "band_low", "band_high"),
    *(
        "accuracy_envelope",
        "unchanged_share",
        *("grad_zero_share", "grad_zero_low", "grad_zero_high"),
        "auc",
        "sensitivity",
        "specificity",
        "paper_accuracy",
        "modality",
    ),
]
_COUNTED = [
    "case_id",
    "cluster",
    "label",
    "predicted",
    "positive",
    "epsilon",
    "correct",
    "abstained",
    "score",
    "unchanged",
    "grad_zero",
]


@each_seed
def fgsm_accuracy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy and its companions at every epsilon of the grid, one row per (group, epsilon).

    Args:
        frame: a response table.

    Returns:
        The columns of `COLUMNS`. accuracy has an interval (ci_low, ci_high; see `shares`) and a band that holds all
        points of the curve at once (band_low, band_high; see `bands`); accuracy_envelope is the share of
        images not answered wrongly at this or any smaller epsilon of the grid, so it never rises; unchanged_share that
        of images identical to the unperturbed one; grad_zero_share that of images whose gradient is exactly zero, with
        its interval. Shares, also paper_accuracy (tables 4 and 8, where model and
        epsilon match), are in [0, 1]. auc, sensitivity and specificity are of the positive class against all others;
        null where no class is declared positive, or it or all others are absent.
    """
    rows = answered(frame, [*GROUP, "on_grid", *_COUNTED])
    curves = [(names, _curve(group)) for names, group in groups(rows, GROUP, rows["on_grid"])]
    if not curves:
        return pd.DataFrame(columns=COLUMNS)
    table = joined(curves)
    positives, negatives = table["positives"], table["n"] - table["positives"]
    pairs = (positives * negatives).replace(0, np.nan)
    table = table.assign(
        incorrect=table["n"] - table["correct"],
        accuracy=table["correct"] / table["n"],
        auc=(table["positive_rank"] - positives * (positives + 1) / 2) / pairs,
        sensitivity=table["positive_correct"] / positives.replace(0, np.nan),
        specificity=table["negative_called"] / negatives.replace(0, np.nan),
    )
    published = paper.fgsm_accuracy()[[*paper.KEY, "epsilon", "accuracy_pct"]]
    table = paper.beside(table, published)
    return table.assign(paper_accuracy=table["accuracy_pct"] / 100)[COLUMNS]


def _curve(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what is counted at every epsilon of one group."""
    doses, dose = np.unique(rows["epsilon"].to_numpy(), return_inverse=True)
    correct, label, positive = (rows[name].to_numpy(np.float64) for name in ("correct", "label", "positive"))
    declared = positive >= 0
    is_positive = label == positive
    cleared = (rows["predicted"].to_numpy() != positive) & (rows["abstained"].to_numpy() != 1)
    grad_zero = rows["grad_zero"].to_numpy(np.float64)

    def counted(value: FloatArray, known: BoolArray | None = None) -> FloatArray:
        """Return the sum of values at every epsilon; NaN where none is known."""
        known = ~np.isnan(value) if known is None else known
        sums = np.bincount(dose[known], value[known], len(doses))
        return np.where(np.bincount(dose[known], minlength=len(doses)) > 0, sums, np.nan)

    def mean(value: FloatArray) -> FloatArray:
        known = ~np.isnan(value)
        return counted(value) / np.maximum(np.bincount(dose[known], minlength=len(doses)), 1)

    right, zero = (by_patient(rows, ["epsilon"], name) for name in ("correct", "grad_zero"))
    low, high = proportion_interval(right.hits, right.trials)
    band_low, band_high = simultaneous_band(right.hits, right.trials)
    zero_low, zero_high = proportion_interval(zero.hits, zero.trials)
    return pd.DataFrame(
        {
            "epsilon": doses,
            "n": np.bincount(dose, minlength=len(doses)),
            "correct": np.bincount(dose, correct, len(doses)).astype(np.int64),
            "accuracy_envelope": mean(_envelope(rows, correct)),
            "unchanged_share": mean(rows["unchanged"].to_numpy(np.float64)),
            "grad_zero_share": mean(grad_zero),
            "positives": counted(is_positive.astype(np.float64), declared),
            "positive_correct": counted(correct * is_positive, declared),
            "negative_called": counted((cleared & ~is_positive).astype(np.float64), declared),
            "positive_rank": counted(_ranks(rows["score"].to_numpy(np.float64), dose) * is_positive, declared),
            "ci_low": low, "ci_high": high, "band_low": band_low, "band_high": band_high,
            "grad_zero_low": zero_low, "grad_zero_high": zero_high,
        }
    )  # fmt: skip


def _envelope(rows: pd.DataFrame, correct: FloatArray) -> FloatArray:
    """Return (rows,) 1 where a case is answered rightly at this and at every smaller epsilon, else 0."""
    case = rows["case_id"].cat.codes.to_numpy()
    order = np.lexsort((rows["epsilon"].to_numpy(), case))
    wrong = np.cumsum(correct[order] == 0)
    first = np.flatnonzero(np.diff(case[order], prepend=-1))
    before = np.repeat(wrong[first] - (correct[order][first] == 0), np.diff(first, append=len(order)))
    envelope = np.empty(len(rows))
    envelope[order] = wrong == before
    return envelope


def _ranks(score: FloatArray, dose: npt.NDArray[np.intp]) -> FloatArray:
    """Return the rank of each score (rows,) among those of its dose; ties share their mean, NaN has none."""
    ranks = np.full(len(score), np.nan)
    for each in range(dose.max(initial=-1) + 1):
        here = np.flatnonzero((dose == each) & ~np.isnan(score))
        ranks[here] = rankdata(score[here])
    return ranks
