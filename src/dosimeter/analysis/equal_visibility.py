"""Adversarial against physical at equal visibility: what a change costs, and one chosen against the classifier.

The common axis is how far images move on the calibrated display: the median over images of the 95th percentile over
pixels of the change, in just-noticeable differences (`visibility.gsdf`).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.base import APART, MODEL, answered, each_seed, groups, roles
from dosimeter.analysis.intervals import FloatArray
from dosimeter.analysis.physical import SERIES, identity_of
from dosimeter.analysis.wording import records

AXIS = "jnd_p95"
COLUMNS = [*SERIES, "severity", "unit", "n", "jnd", "lost", "preset", "epsilon", "lost_attack", "beyond", "modality"]
LOSSES = [*MODEL, "preset", "epsilon", "n", "jnd", "lost", "modality"]

_KEYS = [*MODEL, "defence", "decision", "modality"]
_STORAGE = "float"


@each_seed
def attack_losses(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what attacks cost beside how far they may be seen, one row per (classifier, attack, epsilon).

    Args:
        frame: rows of attacks, with the columns of visibility.

    Returns:
        Of floats, and of attacks on the classifier itself, random ones too: n images right without attack; lost, the
        share of them that is not right at this epsilon; jnd, the median over all images of what moved (`AXIS`). A
        search that ended at its first success moved less than epsilon, and jnd is what it moved.
    """
    rows = answered(frame)
    role = roles(rows)
    own = rows["on_grid"] & (rows["storage"] == _STORAGE) & ((role == "attack") | (role == "control"))
    found = [row for names, group in groups(rows, [*_KEYS, "preset"], own) for row in _losses(names, group)]
    return pd.DataFrame(found, columns=LOSSES)


def _losses(names: dict[str, Any], rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    right = rows.loc[(rows["epsilon"] == 0) & rows["correct"], "case_id"]
    for epsilon, group in rows.groupby("epsilon"):
        yield {**names, "epsilon": epsilon, "n": len(right), **_lost(group, right)}


def _lost(rows: pd.DataFrame, right: "pd.Series[str]") -> dict[str, float]:
    mine = rows[rows["case_id"].isin(right)]
    lost = float(1 - mine["correct"].mean()) if len(mine) else np.nan
    return {"jnd": float(rows[AXIS].median()), "lost": lost}


def equal_visibility(physical: pd.DataFrame, attacked: pd.DataFrame) -> pd.DataFrame:
    """Return each change beside the attack that costs most when it may be seen as well, one row per severity.

    Args:
        physical: rows of physical changes, compact.
        attacked: as `attack_losses` returns it.

    Returns:
        Of floats: severity and unit, n images right unchanged, jnd and lost at the severity; preset, epsilon and
        lost_attack of the attack that costs most at that jnd, between epsilons of the grid on a straight line. `beyond`
        is True where the largest epsilon asked moves images by less: lost_attack is then what that costs, and would be
        more. No row where the classifier is under no attack, or the change moves nothing.
    """
    changed = _changed(physical)
    apart = [name for name in APART if name in changed and name in attacked]
    rows = []
    for row in records(changed):
        curves = attacked
        for name in (*MODEL, *apart):
            curves = curves[curves[name] == row[name]]
        at = [_at(str(preset), curve, float(row["jnd"])) for preset, curve in curves.groupby("preset", observed=True)]
        if at:
            rows.append({**row, **max(at, key=lambda each: each["lost_attack"])})
    order = [name for name in changed if name in APART]
    return pd.DataFrame(rows, columns=[*COLUMNS[: len(MODEL)], *order, *COLUMNS[len(MODEL) :]])


@each_seed
def _changed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return jnd and lost of each severity that changes something, of floats."""
    found = []
    which = (frame["status"] == "ok") & (frame["storage"] == _STORAGE)
    for names, group in groups(frame, [*_KEYS, "preset", "storage"], which):
        identity = identity_of(group)
        right = group.loc[(group["severity"] == identity) & group["correct"], "case_id"]
        facts = {**names, "change": names["preset"], "n": len(right), "unit": str(group["unit"].iloc[0])}
        for severity, rows in group[group["severity"] != identity].groupby("severity"):
            found.append({**facts, "severity": severity, **_lost(rows, right)})
    columns = [name for name in COLUMNS if name not in ("preset", "epsilon", "lost_attack", "beyond")]
    return pd.DataFrame(found, columns=columns)


def _at(preset: str, curve: pd.DataFrame, jnd: float) -> dict[str, Any]:
    """Return epsilon and loss of an attack where it moves images by `jnd`."""
    curve = curve.sort_values("jnd")
    seen, lost, epsilon = (curve[name].to_numpy(np.float64) for name in ("jnd", "lost", "epsilon"))
    return {
        "preset": preset,
        "epsilon": _between(jnd, seen, epsilon),
        "lost_attack": _between(jnd, seen, np.maximum.accumulate(lost)),
        "beyond": bool(jnd > seen[-1]),
    }


def _between(jnd: float, seen: FloatArray, values: FloatArray) -> float:
    return float(np.interp(jnd, seen, values))
