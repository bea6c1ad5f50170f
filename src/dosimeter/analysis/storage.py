"""What is left of an attack once its image is stored: survival, and the smallest dose whose file changes the answer."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.base import CLASSIFIER, CURVE, GROUP, answered, each_seed, groups, joined, places, plain
from dosimeter.analysis.flips import ASKED, censored_median, flips_of
from dosimeter.analysis.names import WORST_CASE, attack_kind
from dosimeter.analysis.shares import shares

FLOAT = "float"
"""Attacks that look for an image on the grey levels of a file; all others are rounded afterwards."""

_SURVIVAL = [*CURVE, "epsilon", "n", "survived", "share", "share_low", "share_high"]
_CASES = [*CURVE, "case_id", "label", "deployed_epsilon", "uncertainty", "linf", "censored"]
_MEDIANS = [
    *(*CURVE, "aware", "n", "n_censored", "deployed_epsilon", "deployed_epsilon_low", "deployed_epsilon_high"),
    *("linf", "linf_low", "linf_high", "censored", "low_censored", "high_censored", "epsilon_max"),
]


def is_stored(frame: pd.DataFrame) -> bool:
    """Whether any image of a response table was stored."""
    return bool((frame["storage"] != FLOAT).any())


@each_seed
def survival(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how many of the images that flip as floats flip as files too, a row per (curve, storage, epsilon).

    Args:
        frame: a response table. A curve that was not asked as floats has no row.

    Returns:
        n images answered correctly without attack, as floats, and flipped at this epsilon as floats; survived, those
        whose file is answered wrongly too; share with its interval (see `shares`), NaN where n is 0.
    """
    parts, keys = [], ["case_id", "epsilon"]
    rows = answered(frame, [*GROUP, "made_on", "on_grid", *keys, "cluster", "correct"])
    own = rows["on_grid"] & (rows["made_on"] == "") & (rows["preset"] != WORST_CASE)
    for names, curve in groups(rows, [*CLASSIFIER, "preset"], own):
        floats = curve[curve["storage"] == FLOAT]
        clean = floats[(floats["epsilon"] == 0) & floats["correct"]]
        if clean.empty:
            continue
        flipped = floats[(places(floats["case_id"], clean["case_id"]) >= 0) & ~floats["correct"]]
        files = curve[(curve["storage"] != FLOAT) & (curve["epsilon"] > 0)]
        asked = files[[*keys, "cluster", "storage", "correct"]]
        pairs = asked.merge(flipped[keys], on=keys, how="left", indicator="_as_float")
        was = pairs["_as_float"] == "both"
        pairs = pairs.assign(survived=np.where(was, ~pairs["correct"], np.nan))
        parts.append((names, plain(shares(pairs, ["storage", "epsilon"], "survived"))))
    if not parts:
        return pd.DataFrame(columns=_SURVIVAL)
    table = joined(parts).rename(columns={"low": "share_low", "high": "share_high"})
    return table.sort_values([*CURVE, "epsilon"], kind="stable", ignore_index=True)[_SURVIVAL]


@each_seed
def deployed_epsilon(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the smallest epsilon whose file changes the answer, one row per (curve, storage, case).

    Cases are those whose unperturbed file is answered correctly.

    Args:
        frame: a response table.

    Returns:
        label; deployed_epsilon, null if no file of those asked changes the answer (censored); uncertainty, the gap down
        to the largest epsilon asked whose file does not; linf, the largest change that the file at deployed_epsilon
        really makes to a pixel, of the image range.
    """
    parts = [(names, plain(_cases(group))) for names, group in _stored(frame)]
    return joined(parts)[_CASES] if parts else pd.DataFrame(columns=_CASES)


@each_seed
def deployed_median(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the median over images of what `deployed_epsilon` gives, one row per (curve, storage).

    Args:
        frame: a response table.

    Returns:
        aware, whether the attack looked for a file; n images; n_censored; the lower medians deployed_epsilon and linf,
        a censored image counting as infinite, with `_low` and `_high` (see `intervals.median_interval`); a value beyond
        `epsilon_max`, the largest epsilon asked, is null and its flag (censored, low_censored, high_censored) True.
    """
    rows = [{**names, **_median(_cases(group), group)} for names, group in _stored(frame)]
    return pd.DataFrame(rows, columns=_MEDIANS)


def _stored(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    rows = answered(frame, [*GROUP, "made_on", "attack", "linf", *ASKED])
    stored = (rows["storage"] != FLOAT) & (rows["made_on"] == "") & (rows["preset"] != WORST_CASE)
    for names, group in groups(rows, GROUP, stored):
        if (group["epsilon"] == 0).any():
            yield names, group


def _cases(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each case of one curve whose unperturbed file is answered correctly, with its cluster."""
    flips = flips_of(rows)
    cases = flips[flips["correct_at_zero"]].rename(columns={"flip_epsilon": "deployed_epsilon"})
    moved = plain(rows[["case_id", "epsilon", "linf"]]).rename(columns={"epsilon": "deployed_epsilon"})
    return cases.merge(moved.drop_duplicates(["case_id", "deployed_epsilon"]), how="left")


def _median(cases: pd.DataFrame, rows: pd.DataFrame) -> dict[str, Any]:
    medians = {name: censored_median(cases[name], cases["cluster"]) for name in ("deployed_epsilon", "linf")}
    return {
        "aware": attack_kind(str(rows["attack"].iloc[0])).aware,
        "n": len(cases),
        "n_censored": int(cases["censored"].sum()),
        **{f"{name}{end}": value for name, median in medians.items() for end, value in median.finite.items()},
        **medians["deployed_epsilon"].flags,
        "epsilon_max": float(rows["epsilon"].max()),
    }
