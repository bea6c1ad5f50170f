"""What a paper's tables of all sections have in common: names of rows, kinds of intervals, the epsilons quoted."""

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.presentation.paper import Field

COHORT, PROTOCOL = Field("Cohort", "cohort", "words"), Field("Protocol", "protocol", "words")
MODEL, ATTACK = Field("Model", "model", "model"), Field("Attack", "preset", "attack")
STORAGE = Field("Stored as", "storage", "storage")
EPSILON, N = Field("Epsilon", "epsilon", "epsilon"), Field("n", "n", "count")
CLASSIFIER = (COHORT, PROTOCOL, MODEL)
SERIES = (*CLASSIFIER, ATTACK, STORAGE)

WILSON = "95 % Wilson intervals by patient"
FROM_RANKS = "95 % intervals of the median from ranks, by patient"


def at_doses(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without attack and at the three epsilons that a run is quoted at."""
    return table[table["epsilon"].isin([0.0, *reported_doses(table["epsilon"])])]


def at_middle_dose(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without attack and at the middle one of those epsilons."""
    doses = reported_doses(table["epsilon"])
    return table[table["epsilon"].isin([0.0, *doses[len(doses) // 2 :][:1]])]


def attacked_floats(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows under attack at the three epsilons, of images as floats."""
    table = at_doses(table)
    return table[(table["epsilon"] > 0) & (table["storage"] == "float")]
