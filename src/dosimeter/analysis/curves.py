"""Accuracy against epsilon: tables 4 and 8, with what the paper does not show beside it."""

import numpy as np
import pandas as pd

from dosimeter.analysis import paper
from dosimeter.analysis.bands import simultaneous_band
from dosimeter.analysis.base import CURVE, GROUP, answered, each_seed, groups, joined
from dosimeter.analysis.shares import by_patient, shares

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
    rows = rows.sort_values("epsilon", kind="stable")
    rows = rows.assign(
        envelope=rows.groupby("case_id", observed=True)["correct"].cummin(),
        rank=rows.groupby("epsilon")["score"].rank(),
        is_positive=_where_known(rows["label"] == rows["positive"], rows),
        unchanged=rows["unchanged"].astype(np.float64),  # pandas adds up float32 in float32
        grad_zero=rows["grad_zero"].astype(np.float64),
    )
    rows["positive_rank"] = rows["rank"] * rows["is_positive"]
    rows["positive_correct"] = rows["correct"] * rows["is_positive"]
    cleared = (rows["predicted"] != rows["positive"]) & (rows["abstained"] != 1)
    rows["negative_called"] = _where_known(cleared, rows) * (1 - rows["is_positive"])
    by_dose = rows.groupby("epsilon")
    counts: pd.DataFrame = by_dose.agg(
        n=("correct", "size"),
        correct=("correct", "sum"),
        accuracy_envelope=("envelope", "mean"),
        unchanged_share=("unchanged", "mean"),
        grad_zero_share=("grad_zero", "mean"),
    )
    summed = by_dose[["is_positive", "positive_correct", "negative_called", "positive_rank"]].sum(min_count=1)
    counts = counts.join(summed.rename(columns={"is_positive": "positives"})).reset_index()  # of NaN alone it is NaN
    right, zero = (shares(rows, ["epsilon"], name) for name in ("correct", "grad_zero"))
    _, hits, trials = by_patient(rows, ["epsilon"], "correct")
    low, high = simultaneous_band(hits, trials)
    return counts.assign(
        ci_low=right["low"], ci_high=right["high"], band_low=low, band_high=high,
        grad_zero_low=zero["low"], grad_zero_high=zero["high"],
    )  # fmt: skip


def _where_known(said: "pd.Series[bool]", rows: pd.DataFrame) -> "pd.Series[float]":
    """Return 1 or 0, as `said` of each row; NaN where no class is positive."""
    return said.where(rows["positive"] >= 0).astype(np.float64)
