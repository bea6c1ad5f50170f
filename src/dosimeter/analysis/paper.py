"""The paper's own published numbers, to stand beside this run's where it is of the paper's cohorts and networks.

Source: Appl. Sci. 2021, 11, 4233. Table 3 sums to 53 images although 54 were tested; it is given as printed.
"""

from functools import cache
from importlib.resources import files

import pandas as pd

KEY = ["modality", "model"]
COHORTS = {"xray-268": "xray", "covid-ct": "ct"}
"""The paper's own cohorts -> their modality. The published numbers are of these, and stand beside no others."""

MODELS = ("vgg16", "inception_v3")
"""The paper's two networks."""

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


def is_subject(cohort: object, model: object = None) -> bool:
    """Whether the paper speaks of this cohort, and if one is given, of this network."""
    return cohort in COHORTS and (model is None or model in MODELS)


def shown(cohort: object, model: object) -> dict[str, float]:
    """Return the doses of figures 6 and 11 for this cohort and network: invisible_epsilon, visible_epsilon; or {}."""
    table = pictures()
    mine = table[(table["modality"] == COHORTS.get(str(cohort))) & (table["model"] == model)]
    return {name: float(mine[name].iloc[0]) for name in mine.columns if name not in KEY} if len(mine) else {}


def beside(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with the numbers of `published` beside it.

    They are joined on cohort, model and, if `published` has it, epsilon; other cohorts than the paper's get none.
    """
    keys = list(KEY)
    if "cohort" in table:
        own = {modality: cohort for cohort, modality in COHORTS.items()}
        published = published.assign(cohort=published["modality"].map(own))
        keys.append("cohort")
    if "epsilon" not in published:
        return table.merge(published, on=keys, how="left")
    left = table.assign(_dose=table["epsilon"].round(_DECIMALS))
    right = published.assign(_dose=published["epsilon"].round(_DECIMALS)).drop(columns="epsilon")
    return left.merge(right, on=[*keys, "_dose"], how="left").drop(columns="_dose")
