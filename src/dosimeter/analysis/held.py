"""How often intervals held the truth in simulations: what a report says of its own, from benchmarks/coverage.py."""

from collections.abc import Collection
from functools import cache
from importlib.resources import files

import pandas as pd

FEW_IMAGES = 10
"""Images below which the simulations count a sample as of few."""

NOMINAL_LEAST = 0.93
"""The share below which an interval is said not to be one of 95 %."""

KINDS = {
    "share of images": "shares of images",
    "accuracy, whole curve (band)": "the band of a curve",
    "AUC": "the AUC",
    "epsilon50 (ranks)": "epsilon50",
    "probability drop (t)": "the probability drop",
    "area under a curve": "the area under a curve",
    "gain over random signs": "the gain over random signs",
    "paired comparison": "paired comparisons",
    "gap between subgroups": "gaps between subgroups",
    "rank agreement (bootstrap)": "rank correlations",
    "mean over splits": "means over splits",
    "mean over trainings": "means over trainings",
    "readers' threshold": "readers’ thresholds",
    "answers right at one epsilon": "shares of readers’ answers",
}
"""The kinds of interval -> what sentences call them."""


@cache
def _read() -> pd.DataFrame:
    with files(__package__).joinpath("simulated", "coverage.csv").open("rb") as stream:
        return pd.read_csv(stream, keep_default_na=False)


def ranges(kinds: Collection[str], sample: str) -> pd.DataFrame:
    """Return the lowest and the highest share of studies in which each kind of interval held the truth.

    Args:
        kinds: of `KINDS`.
        sample: "alone" where every image is of another patient, "several" where patients have several images, "few"
            with fewer than `FEW_IMAGES`, "" of what is no sample of images.

    Returns:
        interval, sample, lowest and highest, in [0, 1]; a row for each kind that was simulated with such a sample.
    """
    table = _read()
    return table[table["interval"].isin(list(kinds)) & (table["sample"] == sample)].reset_index(drop=True)
