"""What a paper shows of the tables of attacks."""

import pandas as pd

from dosimeter.presentation.choices import (
    ATTACK,
    CLASSIFIER,
    COHORT,
    EPSILON,
    MODEL,
    PROTOCOL,
    SERIES,
    STORAGE,
    WILSON,
    N,
    at_doses,
    attacked_floats,
)
from dosimeter.presentation.paper import Field, PaperTable


def small(table: pd.DataFrame) -> pd.DataFrame:
    """Return the areas up to the smaller of the largest epsilons."""
    areas: pd.DataFrame = table[table["epsilon_max"] == table["epsilon_max"].min()]
    return areas


PAPER = {
    "robust_accuracy": PaperTable(
        keys=SERIES,
        numbers=(Field("", "accuracy", "percent", low="ci_low", high="ci_high"),),
        across=(EPSILON,),
        interval=f"{WILSON}, of each epsilon alone",
        rows=at_doses,
        note="In percent of the test images",
    ),
    "area": PaperTable(
        keys=SERIES,
        numbers=(
            N,
            Field("Up to\nepsilon", "epsilon_max", "epsilon"),
            Field("Area\n%", "area", "percent", "area"),
        ),
        interval="95 % intervals by patient",
        rows=small,
    ),
    "class_flips": PaperTable(
        keys=(*SERIES, Field("Direction", "direction", "words")),
        numbers=(Field("", "share", "percent", "share"),),
        across=(EPSILON,),
        interval=WILSON,
        rows=attacked_floats,
        note="In percent of the images of the class answered correctly without attack",
    ),
    "gain": PaperTable(
        keys=SERIES,
        numbers=(Field("", "gain", "points", "gain"),),
        across=(EPSILON,),
        interval="95 % intervals of paired proportions, by patient",
        rows=attacked_floats,
        note="In percentage points",
    ),
    "transfer": PaperTable(
        keys=(COHORT, PROTOCOL, Field("Made on", "made_on", "model"), MODEL, ATTACK, STORAGE),
        numbers=(Field("", "share", "percent", "share"),),
        across=(EPSILON,),
        interval=WILSON,
        rows=attacked_floats,
        note="In percent of the images that the model answers correctly without attack",
    ),
    "cost": PaperTable(
        keys=(*CLASSIFIER, ATTACK),
        numbers=(
            N,
            Field("Gradients", "gradients_median", "count"),
            Field("Queries", "queries_median", "count"),
            Field("Seconds", "seconds_median", "decimal"),
        ),
        note="Medians over images, of each image all epsilons together; seconds depend on the machine",
    ),
}
