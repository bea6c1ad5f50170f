"""What physical changes do to a classifier's answers: against severity, paired to the unchanged image, and ranked.

Rows of physical changes have a severity in a unit of their own; the severity that changes nothing is asked too, so
every image is compared with itself.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.auc import auc_interval
from dosimeter.analysis.base import CURVE, GROUP, MODEL, each_seed, groups
from dosimeter.analysis.clean import expected_calibration_error
from dosimeter.analysis.flips import ASKED, CensoredMedian, censored_median, flips_of
from dosimeter.analysis.names import change_kind
from dosimeter.analysis.paired import compare
from dosimeter.analysis.shares import shares
from dosimeter.record.scores import class_probabilities

SERIES = ["change" if name == "preset" else name for name in CURVE]
"""What names a classifier under one change, stored one way."""

SEEN = ("linf", "l2", "ssim", "haarpsi", "jnd_p95")
"""How far the change moved images, medians over them."""

HALF = 0.5

_SHARES = ("accuracy", "sensitivity", "specificity")
ACCURACY = [
    *(*SERIES, "severity", "unit", "n", "n_failed"),
    *(f"{name}{end}" for name in _SHARES for end in ("", "_low", "_high")),
    *("auc", "auc_low", "auc_high", "ece"),
    *("difference", "difference_low", "difference_high", "p_patient", "method"),
    *("n_right", "lost", "gained", "missed", "false_alarms"),
    *(*SEEN, "modality"),
]
RANKING = [
    *(*SERIES, "unit", "place", "n", "n_censored"),
    *("severity50", "severity50_low", "severity50_high", "censored", "low_censored", "high_censored"),
    *("jnd50", "severity_max", "lost_max", "lost_any", "jnd_max", "mean_error", "clean_error", "modality"),
]


def identity_of(rows: pd.DataFrame) -> float:
    """Return the severity of one change that leaves images as they are: as the run tells, or as its rows show."""
    told = change_kind(str(rows["preset"].iloc[0]))
    if told is not None and told.severities:
        return told.severities[0]
    still = rows.groupby("severity")["unchanged"].min()
    return float(still.index[int(np.argmax(still.to_numpy()))])


@each_seed
def physical_accuracy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what is answered at every severity, one row per (classifier, change, storage, severity).

    Args:
        frame: rows of physical changes, compact.

    Returns:
        n images answered, n_failed that were not; accuracy and, of the positive class against all others,
        sensitivity and specificity, each with `_low` and `_high` (see `shares.shares`: by patient); auc with its
        interval; ece, the expected calibration error; difference, the accuracy less that of the unchanged images,
        with its interval and p_patient, paired image by image (`paired.compare`; without them at the severity that
        changes nothing); of the n_right images that are right unchanged how many are lost, of these missed (the
        positive class not called) and false_alarms (another called positive), of the others how many are gained;
        medians over images of what the change moved (`SEEN`). `change` is the preset of the rows.
    """
    rows = [row for names, group in groups(frame, GROUP) for row in _accuracies(names, group)]
    return pd.DataFrame(rows, columns=ACCURACY)


def _accuracies(names: dict[str, Any], rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    ok = rows[rows["status"] == "ok"]
    if ok.empty:
        return
    identity = identity_of(ok)
    clean = ok[ok["severity"] == identity].set_index("case_id")
    failed = rows[rows["status"] != "ok"]
    for severity, group in ok.groupby("severity"):
        mine = group.set_index("case_id")
        n_failed = failed.loc[failed["severity"].isna() | (failed["severity"] == severity), "case_id"].nunique()
        yield {
            **_named(names),
            "severity": severity,
            "unit": str(group["unit"].iloc[0]),
            "n": len(mine),
            "n_failed": int(n_failed),
            **_rates(group),
            **_paired(mine, clean),
            **(_NO_INTERVAL if severity == identity else {}),
            **{name: float(group[name].median()) for name in SEEN},
        }


_NO_INTERVAL = {"difference_low": np.nan, "difference_high": np.nan, "p_patient": np.nan, "method": ""}
"""Of the images that are unchanged: their difference from themselves is 0, and no estimate."""


def _named(names: dict[str, Any]) -> dict[str, Any]:
    return {"change" if name == "preset" else name: value for name, value in names.items()}


def _rates(rows: pd.DataFrame) -> dict[str, float]:
    """Return accuracy, sensitivity, specificity and AUC with their intervals, and the calibration error."""
    known = rows["positive"] >= 0
    positive = (rows["label"] == rows["positive"]) & known
    cleared = (rows["predicted"] != rows["positive"]) & (rows["abstained"] != 1)
    hits = {
        "accuracy": rows["correct"].astype(np.float64),
        "sensitivity": rows["correct"].where(positive).astype(np.float64),
        "specificity": cleared.where(known & ~positive).astype(np.float64),
    }
    found: dict[str, float] = {}
    for name, hit in hits.items():
        share = shares(rows.assign(_all=0, _hit=hit), ["_all"], "_hit").iloc[0]
        found |= {name: share["share"], f"{name}_low": share["low"], f"{name}_high": share["high"]}
    scored = rows[known]
    area = auc_interval((scored["label"] == scored["positive"]).astype(int), scored["score"], scored["cluster"])
    found |= {"auc": area.auc, "auc_low": area.low, "auc_high": area.high}
    right = rows["correct"].to_numpy(np.float64)
    return found | {"ece": expected_calibration_error(class_probabilities(rows), right)}


def _paired(mine: pd.DataFrame, clean: pd.DataFrame) -> dict[str, Any]:
    """Return how the answers to changed images differ from those to the same images unchanged."""
    both = mine.index.intersection(clean.index)
    now, before = mine.loc[both], clean.loc[both]
    right = before["correct"].to_numpy()
    lost, gained = right & ~now["correct"].to_numpy(), ~right & now["correct"].to_numpy()
    known = (now["positive"] >= 0).to_numpy()
    positive = (now["label"] == now["positive"]).to_numpy() & known
    called = (now["predicted"] == now["positive"]).to_numpy() & (now["abstained"] != 1).to_numpy() & known
    first, other = (each["correct"].to_numpy(np.float64)[:, None] for each in (now, before))
    found = compare(first, other, now["cluster"].astype(str).to_numpy())
    return {
        "difference": float(found.right[0] - found.right_other[0]),
        "difference_low": float(found.low[0]),
        "difference_high": float(found.high[0]),
        "p_patient": float(found.p_patient[0]),
        "method": str(found.method[0]),
        "n_right": int(right.sum()),
        "lost": int(lost.sum()),
        "gained": int(gained.sum()),
        "missed": int((lost & positive).sum()),
        "false_alarms": int((lost & ~positive & called).sum()),
    }


@each_seed
def physical_ranking(frame: pd.DataFrame) -> pd.DataFrame:
    """Return which change breaks a classifier first, one row per (classifier, change, storage).

    Args:
        frame: rows of physical changes, compact.

    Returns:
        n images right unchanged, n_censored of them that stay so at every severity; severity50 with `_low` and `_high`,
        the lower median of the first severity at which an image's answer changes, see `flips.epsilon50`: null and its
        flag (censored, low_censored, high_censored) True where it lies beyond severity_max, the farthest asked;
        lost_any, the share of right answers that some severity takes away (of tries, the worst case);
        jnd50, how far images are moved there (median of the 95th percentile over pixels); lost_max and jnd_max, the
        share of right answers lost and how far images are moved at severity_max; mean_error, the error averaged over
        all severities but the one that changes nothing, and clean_error at that one.

        `place` ranks the changes of a classifier in one storage: the one whose severity50 is least visible first; then
        those that never lose half, the one that loses most first.

    Source: of mean_error, Hendrycks & Dietterich 2019, arXiv 1903.12261 (the mean corruption error, not normalised).
    """
    found = [_ranked(names, group) for names, group in groups(frame, GROUP, frame["status"] == "ok")]
    table = pd.DataFrame(found, columns=[name for name in RANKING if name != "place"])
    order = table.assign(_unseen=table["jnd50"].fillna(np.inf), _kept=-table["lost_max"])
    order = order.sort_values([*MODEL, "storage", "_unseen", "_kept", "change"], kind="stable", ignore_index=True)
    places = order.groupby([*MODEL, "storage"], observed=True).cumcount() + 1
    return order.assign(place=places)[RANKING]


def _ranked(names: dict[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    identity = identity_of(rows)
    beyond = rows["severity"] - identity
    sign = -1.0 if (beyond < 0).any() else 1.0
    cases = flips_of(rows.assign(epsilon=beyond.abs())[ASKED])
    right = cases[cases["correct_at_zero"]]
    median = censored_median(right["flip_epsilon"], right["cluster"])
    farthest = float(rows["severity"].iloc[int(np.argmax(beyond.abs().to_numpy()))])
    error = 1 - rows.groupby("severity")["correct"].mean()
    changed = error[error.index != identity]
    seen = rows.groupby("severity")["jnd_p95"].median()
    unit, kept = str(rows["unit"].iloc[0]), rows[(rows["severity"] == farthest) & rows["correct"]]["case_id"]
    return {
        **_named(names),
        "unit": unit,
        "n": len(right),
        "n_censored": int(right["censored"].sum()),
        **_severities(median, identity, sign),
        **median.flags,
        "jnd50": _at(seen, identity + sign * median.finite[""]),
        "severity_max": farthest,
        "lost_any": 1 - int(right["censored"].sum()) / len(right) if len(right) else np.nan,
        "lost_max": 1 - right["case_id"].isin(kept).mean() if len(right) else np.nan,
        "jnd_max": float(seen[farthest]),
        "mean_error": float(changed.mean()),
        "clean_error": float(error.get(identity, np.nan)),
    }


def _severities(median: CensoredMedian, identity: float, sign: float) -> dict[str, float]:
    """Return a median of distances from the identity, and its bounds, as severities: low is the milder one."""
    return {f"severity50{suffix}": round(identity + sign * value, 12) for suffix, value in median.finite.items()}


def _at(values: "pd.Series[float]", severity: float) -> float:
    """Return a value at a severity of the grid, or at the nearest of it; NaN of NaN."""
    if np.isnan(severity):
        return np.nan
    return float(values.iloc[int(np.argmin(np.abs(values.index.to_numpy(np.float64) - severity)))])
