"""The paper's own published numbers, to stand beside this run's.

Source: Appl. Sci. 2021, 11, 4233. Table 3 sums to 53 images although 54 were tested; it is given as printed.
"""

from functools import cache
from importlib.resources import files

import pandas as pd

KEY = ["modality", "model"]
_DECIMALS = 9  # two epsilons are the same dose if they agree to this many


@cache
def _read(name: str) -> pd.DataFrame:
    with files(__package__).joinpath("published", f"{name}.csv").open("rb") as stream:
        return pd.read_csv(stream)


def cohorts() -> pd.DataFrame:
    """Return table 1: modality, positive, negative, total."""
    return _read("cohorts").copy()


def confusion() -> pd.DataFrame:
    """Return tables 2 and 3: modality, model, tn, fp, fn, tp. Tables 6 and 7 (CT) are not in the text."""
    return _read("confusion").copy()


def fgsm_accuracy() -> pd.DataFrame:
    """Return tables 4 and 8: modality, model, epsilon, correct, incorrect, accuracy_pct (as printed)."""
    return _read("fgsm_accuracy").copy()


def probability_drop() -> pd.DataFrame:
    """Return tables 5 and 9: modality, model, epsilon, original, adversarial, decrease."""
    return _read("probability_drop").copy()


def pictures() -> pd.DataFrame:
    """Return figures 6 and 11: modality, model, invisible_epsilon, visible_epsilon (as the paper calls them)."""
    return _read("pictures").copy()


def beside(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with the numbers of `published` beside it.

    They are joined on modality, model and, if `published` has it, epsilon.
    """
    if "epsilon" not in published:
        return table.merge(published, on=KEY, how="left")
    left = table.assign(_dose=table["epsilon"].round(_DECIMALS))
    right = published.assign(_dose=published["epsilon"].round(_DECIMALS)).drop(columns="epsilon")
    return left.merge(right, on=[*KEY, "_dose"], how="left").drop(columns="_dose")
