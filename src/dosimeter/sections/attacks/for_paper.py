"""What a paper shows of the tables of attacks."""

import pandas as pd

from dosimeter.presentation.paper import (
    ATTACK,
    COHORT,
    EPSILON,
    MODEL,
    PROTOCOL,
    STORAGE,
    Field,
    N,
    PaperTable,
    at_doses,
)

_SERIES = (COHORT, PROTOCOL, MODEL, ATTACK, STORAGE)
_WILSON = "95 % Wilson intervals by patient"


def with_attacks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows under attack at the three reported epsilons, of images as floats."""
    table = at_doses(table)
    return table[(table["epsilon"] > 0) & (table["storage"] == "float")]


def small(table: pd.DataFrame) -> pd.DataFrame:
    """Return the areas up to the smaller of the largest epsilons."""
    areas: pd.DataFrame = table[table["epsilon_max"] == table["epsilon_max"].min()]
    return areas


PAPER = {
    "robust_accuracy": PaperTable(
        keys=_SERIES,
        numbers=(Field("", "accuracy", "percent", low="ci_low", high="ci_high"),),
        across=(EPSILON,),
        interval=f"{_WILSON}, of each epsilon alone",
        rows=at_doses,
        note="In percent of the test images",
    ),
    "area": PaperTable(
        keys=_SERIES,
        numbers=(
            N,
            Field("Up to\nepsilon", "epsilon_max", "epsilon"),
            Field("Area\n%", "area", "percent", "area"),
        ),
        interval="95 % intervals by patient",
        rows=small,
    ),
    "class_flips": PaperTable(
        keys=(*_SERIES, Field("Direction", "direction", "words")),
        numbers=(Field("", "share", "percent", "share"),),
        across=(EPSILON,),
        interval=_WILSON,
        rows=with_attacks,
        note="In percent of the images of the class answered correctly without attack",
    ),
    "gain": PaperTable(
        keys=_SERIES,
        numbers=(Field("", "gain", "points", "gain"),),
        across=(EPSILON,),
        interval="95 % intervals of paired proportions, by patient",
        rows=with_attacks,
        note="In percentage points",
    ),
    "transfer": PaperTable(
        keys=(COHORT, PROTOCOL, Field("Made on", "made_on", "model"), MODEL, ATTACK, STORAGE),
        numbers=(Field("", "share", "percent", "share"),),
        across=(EPSILON,),
        interval=_WILSON,
        rows=with_attacks,
        note="In percent of the images that the model answers correctly without attack",
    ),
    "cost": PaperTable(
        keys=(COHORT, PROTOCOL, MODEL, ATTACK),
        numbers=(
            N,
            Field("Gradients", "gradients_median", "count"),
            Field("Queries", "queries_median", "count"),
            Field("Seconds", "seconds_median", "decimal"),
        ),
        note="Medians over images, of each image all epsilons together; seconds depend on the machine",
    ),
}
