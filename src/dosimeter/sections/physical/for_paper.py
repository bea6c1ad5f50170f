"""What a paper shows of the tables of physical changes."""

import pandas as pd

from dosimeter.presentation.choices import ATTACK, CLASSIFIER, EPSILON, STORAGE, N
from dosimeter.presentation.paper import Field, PaperTable

CHANGE = Field("Change", "change", "change")
SEVERITY = (Field("Severity", "severity", "severity"), Field("Unit", "unit", "words"))
JND, LOST = Field("JND", "jnd", "tenths"), Field("Lost\n%", "lost", "percent")


def _floats(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images that no file kept."""
    return table[table["storage"] == "float"]


PAPER = {
    "physical_accuracy": PaperTable(
        keys=(*CLASSIFIER, CHANGE, *SEVERITY),
        numbers=(
            N,
            Field("Accuracy\n%", "accuracy", "percent", "accuracy"),
            Field("Less than\nunchanged", "difference", "points", "difference"),
            Field("AUC", "auc", "precise"),
        ),
        interval="95 % Wilson intervals by patient, and of the difference, in points, one that is paired",
        rows=_floats,
    ),
    "physical_ranking": PaperTable(
        keys=(*CLASSIFIER, STORAGE, CHANGE),
        numbers=(
            N,
            Field("Half lost\nat", "severity50", "severity", "severity50"),
            Field("Unit", "unit", "words"),
            Field("JND\nthere", "jnd50", "tenths"),
            Field("Lost at\nany, %", "lost_any", "percent"),
            Field("Mean\nerror, %", "mean_error", "percent"),
        ),
        interval="95 % intervals of the median from ranks, by patient",
        note="Of the n images answered rightly unchanged; the least visible first",
    ),
    "equal_visibility": PaperTable(
        keys=(*CLASSIFIER, CHANGE, *SEVERITY),
        numbers=(N, JND, LOST, ATTACK, EPSILON, Field("Lost under\nit, %", "lost_attack", "percent")),
        note="Of the images answered rightly unchanged; an attack that moves images by less, at its largest epsilon, "
        "would cost more",
    ),
    "attack_losses": PaperTable(
        keys=(*CLASSIFIER, ATTACK, EPSILON),
        numbers=(N, JND, LOST),
        note="JND are those of the 95th percentile over pixels, the median over images",
    ),
}
