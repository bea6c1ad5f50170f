"""What a paper shows of the tables of physical changes."""

import pandas as pd

from dosimeter.presentation.choices import ATTACK, CLASSIFIER, EPSILON, STORAGE, N
from dosimeter.presentation.numbers import dose
from dosimeter.presentation.paper import Field, PaperTable

CHANGE = Field("Change", "change", "change")
SEVERITY = (Field("Severity", "severity", "severity"), Field("Unit", "unit", "words"))
JND, LOST = Field("JND", "jnd", "tenths"), Field("Lost\n%", "lost", "percent")
CHANGED = tuple(field._replace(attacked=False) for field in (*SEVERITY, JND, LOST))
"""Of what a change does, beside an attack: the verdict on that is not on these numbers."""


def _floats(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images that no file kept."""
    return table[table["storage"] == "float"]


def _told(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with epsilons as words, > before those that move images by less than the change."""
    epsilons = table["epsilon"].map(dose)
    return table.assign(epsilon=epsilons.where(~table["beyond"].astype(bool), "> " + epsilons))


PAPER = {
    "physical_accuracy": PaperTable(
        keys=(*CLASSIFIER, CHANGE, *SEVERITY),
        numbers=(
            N,
            Field("Accuracy\n%", "accuracy", "percent", "accuracy"),
            Field("Difference from\nunchanged", "difference", "points", "difference"),
            Field("AUC", "auc", "precise"),
        ),
        interval="95 % Wilson intervals by patient, and of the difference, in points, one that is paired",
        rows=_floats,
        note="Images as floats; sensitivity, specificity and calibration are in the CSV",
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
        keys=(*CLASSIFIER, CHANGE, *CHANGED[:2]),
        numbers=(
            N,
            *CHANGED[2:],
            ATTACK,
            EPSILON._replace(kind="words"),
            Field("Lost under\nit, %", "lost_attack", "percent"),
        ),
        note="Of the images answered rightly unchanged. > before an epsilon: at the largest that was asked the attack "
        "moves images by less than the change does",
        rows=_told,
    ),
    "attack_losses": PaperTable(
        keys=(*CLASSIFIER, ATTACK, EPSILON),
        numbers=(N, JND, LOST),
        note="JND are those of the 95th percentile over pixels, the median over images",
    ),
}
