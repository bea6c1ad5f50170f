"""What a detector sees: how its alarm tells perturbed images from clean ones, and what an attacker gets past it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.auc import auc_interval
from dosimeter.analysis.base import TRIAL, answered, clean_answers, groups, roles
from dosimeter.analysis.clusters import per_patient
from dosimeter.analysis.intervals import proportion_interval

KNOWN, UNKNOWN, NOISE = "knows the detector", "does not know it", "random noise"
ATTACKERS = {"attack": KNOWN, "published": KNOWN, "transfer": UNKNOWN, "control": NOISE}
"""Who made the images, by their role."""

COLUMNS = [
    *(*TRIAL, "model", "seed", "defence", "attacker", "preset", "epsilon", "n", "auc", "auc_low", "auc_high"),
    *("flagged", "flagged_low", "flagged_high", "passed", "passed_low", "passed_high", "modality"),
]


def detection(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what detectors do about images, a row for each classifier, attack and epsilon above 0.

    Args:
        frame: a response table; of images stored as floats.

    Returns:
        attacker, one of `ATTACKERS`; n images that are changed; auc of the alarm, changed against unchanged images;
        flagged, the share of changed images that is refused; passed, the share of the images right and accepted without
        attack that is answered wrongly and not refused; each with 95 % bounds.
    """
    rows = answered(frame)
    rows = rows[rows["alarm"].notna() & (rows["storage"] == "float") & rows["on_grid"] & (rows["decision"] == "")]
    return pd.DataFrame([row for found in _systems(rows) for row in found], columns=COLUMNS)


def _systems(rows: pd.DataFrame) -> Iterator[Iterator[dict[str, Any]]]:
    for names, system in groups(rows, [*TRIAL, "seed", "model", "defence", "modality"]):
        clean = clean_answers(system)
        for preset, attacked in groups(system.assign(role=roles(system)), ["preset", "role"]):
            who = ATTACKERS[str(preset["role"])]
            yield _curve(clean, attacked, {**names, "preset": preset["preset"], "attacker": who})


def _curve(clean: pd.DataFrame, attacked: pd.DataFrame, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    right = set(clean.loc[clean["correct"], "case_id"])
    for epsilon, mine in attacked[attacked["epsilon"] > 0].groupby("epsilon"):
        changed = mine[mine["unchanged"] != 1]
        if changed.empty:
            continue
        both = pd.concat([clean[["alarm", "cluster"]], changed[["alarm", "cluster"]]])
        labels = np.repeat([0, 1], [len(clean), len(changed)])
        area = auc_interval(labels, both["alarm"].to_numpy(np.float64), both["cluster"].to_numpy(object))
        reached = mine[mine["case_id"].isin(right)]
        passed = ~reached["correct"] & (reached["abstained"] != 1)
        yield {
            **names,
            "epsilon": float(str(epsilon)),
            "n": len(changed),
            "auc": area.auc,
            "auc_low": area.low,
            "auc_high": area.high,
            **_share("flagged", changed["abstained"] == 1, changed),
            **_share("passed", passed, reached),
        }


def _share(name: str, hits: "pd.Series[bool]", rows: pd.DataFrame) -> dict[str, float]:
    if rows.empty:
        return {}
    values, patients = hits.to_numpy(np.float64)[:, None], rows["cluster"].to_numpy(object)
    low, high = proportion_interval(per_patient(values, patients), per_patient(np.ones(values.shape), patients))
    return {name: float(values.mean()), f"{name}_low": float(low[0]), f"{name}_high": float(high[0])}
