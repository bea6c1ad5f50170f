"""Choosing the images to illustrate: by a rule that is written down, not by hand."""

import pandas as pd

from dosimeter.analysis import paper
from dosimeter.analysis.base import MODEL, answered, each_seed
from dosimeter.analysis.flips import flip_epsilon

COLUMNS = [
    *(*MODEL, "preset", "case_id", "label", "flip_epsilon", "visible_epsilon"),
    *("n_flipped", "modality"),
]


@each_seed
def choose_exemplar(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the case to show for each (cohort, protocol, model, preset), in float storage.

    The rule: of the images answered correctly at epsilon 0 whose answer flipped, of the positive class if there is
    one and any of it did (the paper shows COVID-19 images), the one with the lower-median flip epsilon, so neither the
    easiest nor the hardest; of equals, the first by case_id.

    Args:
        frame: a response table.

    Returns:
        case_id, label; flip_epsilon, its smallest misclassifying epsilon; visible_epsilon, the paper's
        visible one for that cohort and model if it is on the grid, else the grid's largest; n_flipped, how
        many cases the rule chose among. A group in which nothing flipped has no row.
    """
    rows = answered(frame)
    flips = flip_epsilon(rows)
    flips = flips[(flips["storage"] == "float") & flips["flip_epsilon"].notna()]
    positives = dict(zip(rows["cohort"], rows["positive"], strict=True))
    chosen = []
    for _, group in flips.groupby([*MODEL, "modality", "preset"]):
        positive = group[group["label"] == positives[group["cohort"].iloc[0]]]
        candidates = (group if positive.empty else positive).sort_values(["flip_epsilon", "case_id"])
        middle = candidates.iloc[[(len(candidates) - 1) // 2]]
        chosen.append(middle.assign(n_flipped=len(candidates)))
    if not chosen:
        return pd.DataFrame(columns=COLUMNS)
    table = paper.beside(pd.concat(chosen, ignore_index=True), paper.pictures())
    grid = rows.loc[rows["on_grid"], "epsilon"]
    on_grid = table["visible_epsilon"].isin(grid.unique())
    return table.assign(visible_epsilon=table["visible_epsilon"].where(on_grid, grid.max()))[COLUMNS]
