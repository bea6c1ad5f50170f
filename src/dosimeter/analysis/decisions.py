"""Several findings together: means over those of which there are enough images, and which are left out.

A mean over findings gives a rare one as much weight as a common one. One with few images of either kind would add
little but noise, so it is left out, and named.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.auc import auc_components
from dosimeter.analysis.base import CURVE, GROUP, answered, groups
from dosimeter.analysis.intervals import FloatArray, bootstrap_by_group
from dosimeter.analysis.names import in_attack_order

FEWEST_OF_EITHER = 10
"""Images with a finding, and without it, below which it is in no mean over findings."""

MACRO = [
    *(*CURVE, "epsilon", "n_findings"),
    *(f"macro_{name}{end}" for name in ("sensitivity", "specificity") for end in ("", "_low", "_high")),
    *("macro_auc", "omitted", "modality"),
]
_ACROSS = [name for name in GROUP if name != "decision"]


def findings_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of findings that are each a decision of their own: not of several at once, as "(any)" is."""
    named = rows["decision"].astype(str)
    return rows[(named != "") & ~named.str.startswith("(")]


def macro_findings(frame: pd.DataFrame) -> pd.DataFrame:
    """Return sensitivity, specificity and AUC as means over findings, one row per (curve, seed, epsilon).

    Args:
        frame: a response table.

    Returns:
        n_findings that are in the means, those of at least 10 images that have them and 10 that do not; omitted, the
        others' names; macro_sensitivity and macro_specificity, each finding at its threshold, with an interval by
        bootstrap over patients; macro_auc. Under attack an image of either kind is pushed to the other side, so the AUC
        is a worst case over images, and no operating point's.
    """
    rows = findings_of(answered(frame))
    several = len(rows["seed"].unique()) > 1
    parts = [_means(group).assign(**names) for names, group in groups(rows, [*_ACROSS, "seed"], rows["on_grid"])]
    columns = [*MACRO[:3], "seed", *MACRO[3:]] if several else MACRO
    if not parts:
        return pd.DataFrame(columns=columns)
    return in_attack_order(pd.concat(parts, ignore_index=True), CURVE[:3])[columns]


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    kept: list[str] = []
    omitted: list[str] = []
    for names, group in groups(rows, ["decision"]):
        label = group.drop_duplicates("case_id")["label"].to_numpy()
        enough = min(int((label == 1).sum()), int((label == 0).sum())) >= FEWEST_OF_EITHER
        (kept if enough else omitted).append(str(names["decision"]))
    mine = rows[rows["decision"].isin(kept)]
    doses = np.unique(rows["epsilon"].to_numpy(np.float64))
    table: dict[str, Any] = {"epsilon": doses, "n_findings": len(kept), "omitted": ", ".join(omitted)}
    for name, truth in (("sensitivity", 1), ("specificity", 0)):
        share, low, high = _share(mine[mine["label"] == truth], doses)
        table |= {f"macro_{name}": share, f"macro_{name}_low": low, f"macro_{name}_high": high}
    table["macro_auc"] = [_area(mine[mine["epsilon"] == dose]) for dose in doses]
    return pd.DataFrame(table)


def _share(rows: pd.DataFrame, doses: FloatArray) -> Iterator[FloatArray]:
    """Return the mean over findings of the share answered correctly at each dose, and its bounds."""
    nothing = np.full(len(doses), np.nan)
    if rows.empty:
        return iter((nothing, nothing, nothing))
    dose = np.searchsorted(doses, rows["epsilon"].to_numpy(np.float64))
    asked, row = np.unique(rows[["decision", "case_id"]].astype(str).agg("|".join, axis=1), return_inverse=True)
    right = np.full((len(asked), len(doses)), np.nan)
    right[row, dose] = rows["correct"]
    decision, cluster = np.empty(len(asked), object), np.empty(len(asked), object)
    decision[row], cluster[row] = rows["decision"].to_numpy(object), rows["cluster"].to_numpy(object)
    of_each = [decision == name for name in sorted(set(decision))]

    def mean(weights: FloatArray) -> FloatArray:
        found = []
        for mine in of_each:
            drawn, answers = weights[:, mine], right[mine]
            n = drawn @ (~np.isnan(answers)).astype(np.float64)
            found.append((drawn @ np.nan_to_num(answers)) / np.where(n > 0, n, np.nan))
        return np.asarray(np.mean(found, axis=0), np.float64)

    low, high = bootstrap_by_group(mean, cluster)
    known = low < high  # without width it would claim to be certain
    return iter((mean(np.ones((1, len(asked))))[0], np.where(known, low, np.nan), np.where(known, high, np.nan)))


def _area(rows: pd.DataFrame) -> float:
    areas = [auc_components(group["label"], group["score"])[0] for _, group in groups(rows, ["decision"])]
    return float(np.mean(areas)) if areas else np.nan
