"""What a paper shows of several seeds: means, their intervals, and how far apart the seeds are."""

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.names import series_name
from dosimeter.analysis.wording import records
from dosimeter.presentation.choices import CLASSIFIER, EPSILON
from dosimeter.presentation.paper import Field, PaperTable

_WRITTEN = {
    "accuracy": ("accuracy, %", 100.0),
    "sensitivity": ("sensitivity, %", 100.0),
    "specificity": ("specificity, %", 100.0),
    "auc": ("AUC", 1.0),
    "grad_zero_share": ("zero gradients, %", 100.0),
    "epsilon50": ("epsilon50, 10⁻³", 1000.0),
}
_NUMBERS = ["mean", "low", "high", "minimum", "maximum"]


def quantities(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows at the reported epsilons, each quantity in its unit; accuracy without attack stands once."""
    doses = reported_doses(table["epsilon"])
    table = table[table["epsilon"].isna() | table["epsilon"].isin(doses)]
    rows = records(table)
    scale = [_WRITTEN[row["quantity"]][1] for row in rows]
    return table.assign(
        quantity=[_WRITTEN[row["quantity"]][0] for row in rows],
        under=["no attack" if pd.isna(row["preset"]) else series_name(row["preset"], row["storage"]) for row in rows],
        **{name: table[name] * scale for name in _NUMBERS},
    )


PAPER = {
    "repeats": PaperTable(
        keys=(*CLASSIFIER, Field("Under", "under", "words"), Field("Quantity", "quantity", "words"), EPSILON),
        numbers=(
            Field("Seeds", "n_repeats", "count"),
            Field("Beyond\nthe grid", "n_censored", "count"),
            Field("Mean", "mean", "significant", low="low", high="high"),
            Field("Least", "minimum", "significant"),
            Field("Most", "maximum", "significant"),
        ),
        interval="the interval of the mean",
        rows=quantities,
        note="Beyond the grid: in so many seeds an epsilon50 is above the largest epsilon asked, and there is no mean",
    ),
}
