"""Which images fall first under an attack, and whether they are the same for every model."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis.base import CURVE, MODEL, TRIAL, answered, each_seed, plain, roles
from dosimeter.analysis.flips import flip_epsilon
from dosimeter.analysis.intervals import FloatArray, Statistic, bootstrap_by_group
from dosimeter.analysis.names import WORST_CASE, in_attack_order
from dosimeter.analysis.worst_case import with_worst_case

N_LISTED = 10
"""Images in the list of the most susceptible, for each classifier."""

RANKS = [*CURVE, "case_id", "label", "flip_epsilon", "censored", "rank", "n", "modality"]
AGREEMENT = [
    *(*MODEL, "other", "preset", "storage", "n", "n_flipped", "n_flipped_other"),
    *("spearman", "spearman_low", "spearman_high", "modality"),
]
LISTED = [
    *(*MODEL, "place", "case_id", "label", "flip_epsilon", "first_attack"),
    *("n_attacks", "n_flipping", "n_models", "n_models_listing", "modality"),
]


@each_seed
def susceptibility(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the order in which images fall, one row per (curve, image answered correctly without attack).

    Args:
        frame: a response table; of controls and transferred images there is no order.

    Returns:
        flip_epsilon, null and `censored` where the image never flipped; rank among the n images of the curve, 1 for the
        one that falls first; images that fall together share the mean of their places, and so do those that never do.
    """
    table = _flips(frame)
    curves = table.groupby(CURVE, sort=False)
    rank = table["flip_epsilon"].fillna(np.inf).groupby([table[name] for name in CURVE]).rank()
    table = table.assign(rank=rank, n=curves["case_id"].transform("size"))
    table = table.sort_values(["storage", "rank", "case_id"], kind="stable")
    return in_attack_order(table, MODEL)[RANKS]


@each_seed
def rank_agreement(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how far two models agree on which images fall first, one row per (pair of models, preset, storage).

    Args:
        frame: a response table.

    Returns:
        spearman, the rank correlation of the flip epsilons over the n images that both `model` and `other` answer
        correctly without attack, of which n_flipped and n_flipped_other flip; those that never do are tied, as the
        last. Its interval is a bootstrap by patient. Null where a model's images all fall together or never.
    """
    table = _flips(frame)
    keys = [*TRIAL, "preset", "storage", "modality"]
    parts = [
        row
        for names, group in table.groupby(keys, sort=False)
        for row in _pairs(group, dict(zip(keys, names, strict=True)))
    ]
    return in_attack_order(pd.DataFrame(parts, columns=AGREEMENT), [*MODEL, "other"])


@each_seed
def most_susceptible(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the images that fall first under the worst case over attacks, `N_LISTED` for each classifier, as floats.

    Args:
        frame: a response table with two attacks of a model at least.

    Returns:
        place, from 1; the image's pseudonym, label and flip_epsilon; first_attack, the preset that needs no more than
        this; n_flipping of the n_attacks presets flip it at some epsilon; n_models_listing of the trial's n_models
        have it in their own list.
    """
    table = _flips(frame)
    table = table[(table["storage"] == "float") & table["flip_epsilon"].notna()]
    worst = table[table["preset"] == WORST_CASE].sort_values(["flip_epsilon", "case_id"])
    worst = worst.assign(place=worst.groupby(MODEL).cumcount() + 1)
    worst = worst[worst["place"] <= N_LISTED]
    case = [*MODEL, "case_id"]
    single = table[table["role"] == "attack"].sort_values("flip_epsilon", kind="stable")
    first = single.groupby(case)["preset"].agg(first_attack="first", n_flipping="size").reset_index()
    models = answered(frame).drop_duplicates(MODEL).groupby(TRIAL, observed=True)["model"]
    n_models = models.size().rename("n_models").reset_index()
    n_attacks = _n_attacks(frame)
    listed = worst.merge(first, on=case, how="left").merge(plain(n_models), on=TRIAL).merge(n_attacks, on=MODEL)
    listed["n_models_listing"] = listed.groupby([*TRIAL, "case_id"])["model"].transform("size")
    return listed.sort_values([*MODEL, "place"], ignore_index=True)[LISTED]


def weighted_spearman(first: FloatArray, second: FloatArray) -> Statistic:
    """Return the statistic "Spearman's rank correlation of `first` (n,) and `second` (n,)", ties sharing their rank."""
    one, other = _levels(first), _levels(second)

    def statistic(weights: FloatArray) -> FloatArray:
        if not len(first):
            return np.full(len(weights), np.nan)
        total = weights.sum(axis=1, keepdims=True)
        x, y = (_ranks(weights, level) for level in (one, other))  # (replicates, n)
        x, y = (rank - (weights * rank).sum(axis=1, keepdims=True) / total for rank in (x, y))
        spread = np.sqrt((weights * x**2).sum(axis=1) * (weights * y**2).sum(axis=1))
        correlation: FloatArray = (weights * x * y).sum(axis=1) / np.where(spread > 0, spread, np.nan)
        return correlation

    return statistic


def _levels(values: FloatArray) -> npt.NDArray[np.int64]:
    """Return the place of each value (n,) among the distinct ones; infinite ones are equal."""
    return np.unique(values, return_inverse=True)[1]


def _ranks(weights: FloatArray, level: npt.NDArray[np.int64]) -> FloatArray:
    """Return the mid-ranks (replicates, n), less a constant, of rows that were drawn `weights` times."""
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(level.max() + 1))
    drawn = np.add.reduceat(weights[:, order], starts, axis=1)  # (replicates, levels)
    ranks: FloatArray = (np.cumsum(drawn, axis=1) - drawn / 2)[:, level]
    return ranks


def _flips(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `flip_epsilon` of the images right without attack, with role and cluster; of no control, no transfer."""
    rows = with_worst_case(answered(frame))
    rows = rows[np.isin(roles(rows), ["attack", "worst case", "published"])]
    table = flip_epsilon(rows)
    names = plain(rows[["preset", "attack", "made_on"]].drop_duplicates())
    clusters = plain(rows[["cohort", "case_id", "cluster"]].drop_duplicates(["cohort", "case_id"]))
    table = table[table["correct_at_zero"].astype(bool)].merge(names, on="preset")
    table = table.merge(clusters, on=["cohort", "case_id"])
    return table.assign(role=roles(table))


def _n_attacks(frame: pd.DataFrame) -> pd.DataFrame:
    rows = plain(answered(frame)[[*CURVE, "attack", "made_on"]].drop_duplicates())
    rows = rows[(roles(rows) == "attack") & (rows["storage"] == "float")]
    counts: pd.DataFrame = rows.groupby(MODEL, as_index=False).agg(n_attacks=("preset", "size"))
    return counts


def _pairs(flips: pd.DataFrame, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    flips = flips.assign(flip=flips["flip_epsilon"].fillna(np.inf))
    for model, other in combinations(sorted(flips["model"].unique()), 2):
        mine, others = (flips.loc[flips["model"] == each, ["case_id", "cluster", "flip"]] for each in (model, other))
        both = mine.merge(others.drop(columns="cluster"), on="case_id", suffixes=("", "_other"))
        pair = (both["flip"].to_numpy(np.float64), both["flip_other"].to_numpy(np.float64))
        statistic = weighted_spearman(*pair)
        low, high = bootstrap_by_group(statistic, both["cluster"].to_numpy(object))
        yield {
            **names,
            "model": model,
            "other": other,
            "n": len(both),
            "n_flipped": int(np.isfinite(pair[0]).sum()),
            "n_flipped_other": int(np.isfinite(pair[1]).sum()),
            "spearman": float(statistic(np.ones((1, len(both))))[0]),
            "spearman_low": float(low),
            "spearman_high": float(high),
        }
