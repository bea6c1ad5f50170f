"""The worst case: of each image, whichever attack of the model breaks it first.

An average over attacks says nothing: an attacker takes the one that works, and may take another for the next image.
"""

import numpy as np
import pandas as pd

from dosimeter.analysis.base import CLASSIFIER, groups, roles
from dosimeter.analysis.names import WORST_CASE
from dosimeter.record.scores import no_scores

_OWN = (
    *("margin", "truth", "score", "probability", "alarm", "linf", "unchanged", "grad_zero"),
    *("found", "n_gradients", "n_queries", "duration_s"),
)


def with_worst_case(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` and, after them, those of one more preset, the worst case.

    It stands for every classifier, seed and storage with at least two attacks of the role "attack": not controls, not
    images made on another model, not the published preset. An image counts as broken at an epsilon if any of them
    breaks it at this or at any smaller one, since balls are nested; so its curve never rises. Only images that all of
    them answered are in it. Its rows have an answer, of a broken
    image the class that the breaking attack leads to, but no score and no cost. An image that the classifier refuses
    under some attack and answers wrongly under none is not right, and refused: its rows have abstained, and its class.

    Args:
        rows: as `base.answered` returns them; if the worst case is among them already, they are returned as they are.

    Source: Carlini et al. 2019, arXiv 1902.06705, section 5 (the mean over images of the minimum over attacks).
    """
    if WORST_CASE in rows["preset"].cat.categories:
        return rows
    named = {
        name: rows[name].cat.set_categories(pd.Index(sorted([*rows[name].cat.categories, WORST_CASE])))
        for name in ("preset", "attack")
    }
    rows = rows.assign(**named)
    own = groups(rows, [*CLASSIFIER, "seed", "storage"], roles(rows) == "attack")
    parts = [_worst(group) for _, group in own if len(group["preset"].unique()) > 1]
    return pd.concat([rows, *parts], ignore_index=True) if parts else rows


def _worst(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the worst case over the attacks of one classifier, seed and storage."""
    keys = ["case_id", "epsilon"]
    rows = rows.assign(_broken=~rows["correct"] & (rows["abstained"] != 1))
    grid = rows[rows["on_grid"]].sort_values(keys, kind="stable")
    each = grid.groupby(keys, observed=True)
    grid = grid.assign(
        correct=each["correct"].transform("all"),
        predicted=_breaking(grid, keys),
        _answers=each["correct"].transform("size"),
        _broken=each["_broken"].transform("any"),
    )
    grid = grid.drop_duplicates(keys)
    cases = grid.groupby("case_id", observed=True)
    nested = {"correct": cases["correct"].cummin(), "_broken": cases["_broken"].cummax()}
    grid = grid.assign(**nested, predicted=cases["predicted"].ffill())
    grid = grid[grid["_answers"] == len(rows["preset"].unique())].drop(columns="_answers")
    refined = rows[~rows["on_grid"] & rows["_broken"]].drop_duplicates(keys)  # where flips are, off the grid
    worst = pd.concat([grid, refined])
    names = {name: _constant(WORST_CASE, worst[name]) for name in ("preset", "attack")}
    predicted = np.where(worst["_broken"], worst["predicted"], worst["label"]).astype(np.int16)
    refused = (~worst["correct"] & ~worst["_broken"]).astype(np.float64).where(worst["abstained"].notna())
    worst = worst.assign(**names, predicted=predicted, abstained=refused).drop(columns="_broken")
    return worst.assign(scores=no_scores(len(worst)), **dict.fromkeys(_OWN, np.nan))


def _breaking(grid: pd.DataFrame, keys: list[str]) -> "pd.Series[float]":
    """Return for each row the class to which the first attack that breaks its image there leads; NaN: none does."""
    wrong = grid["predicted"].where(grid["_broken"]).astype(np.float64)
    return wrong.groupby([grid[key] for key in keys], observed=True).transform("first")


def _constant(name: str, like: "pd.Series[str]") -> "pd.Categorical[str]":
    """Return `name` as often as `like` has rows, with its categories."""
    categories = like.cat.categories
    return pd.Categorical([name] * len(like), categories=categories)
