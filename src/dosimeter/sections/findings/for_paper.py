"""What a paper shows of means over findings."""

import pandas as pd

from dosimeter.presentation.choices import ATTACK, CLASSIFIER, EPSILON, at_doses
from dosimeter.presentation.paper import Field, PaperTable


def told(table: pd.DataFrame) -> pd.DataFrame:
    """Return the means over at least one finding, of images as floats, at the reported epsilons."""
    return at_doses(table[(table["storage"] == "float") & (table["n_findings"] > 0)])


PAPER = {
    "macro_findings": PaperTable(
        keys=(*CLASSIFIER, ATTACK, EPSILON),
        numbers=(
            Field("Findings", "n_findings", "count"),
            Field("Sensitivity\n%", "macro_sensitivity", "percent", "macro_sensitivity"),
            Field("Specificity\n%", "macro_specificity", "percent", "macro_specificity"),
            Field("AUC", "macro_auc", "decimal"),
        ),
        interval="95 % bootstrap intervals by patient",
        rows=told,
        note="An AUC under attack pools images pushed down with images pushed up: it is a worst case",
    ),
}
