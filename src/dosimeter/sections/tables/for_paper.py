"""What a paper shows of the study's tables."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from dosimeter.analysis.names import STUDY_PRESETS, WORST_CASE, attack_title, model_name, storage_name
from dosimeter.analysis.wording import records
from dosimeter.presentation.choices import (
    ATTACK,
    CLASSIFIER,
    COHORT,
    EPSILON,
    FROM_RANKS,
    MODEL,
    PROTOCOL,
    SERIES,
    STORAGE,
    WILSON,
    N,
    at_middle_dose,
)
from dosimeter.presentation.paper import Field, PaperTable
from dosimeter.units import GREY_LEVELS_8BIT

_OTHERS: dict[str, Callable[[str], str]] = {
    "classifiers": model_name, "presets": attack_title, "storages": storage_name, "seeds": str
}  # fmt: skip
_SAME = {"classifiers": "model", "presets": "preset", "storages": "storage", "seeds": "seed"}


def with_grey_levels(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with their epsilon in 8-bit grey levels."""
    return table.assign(levels=table["epsilon"] * GREY_LEVELS_8BIT)


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return pairs without attack and at the middle one of the reported epsilons, each with the names of both."""
    table = at_middle_dose(table)
    table = table[table["preset"].isin([*STUDY_PRESETS, WORST_CASE])]
    rows = records(table)
    first = [_OTHERS[row["compared"]](str(row.get(_SAME[row["compared"]], ""))) for row in rows]
    other = [_OTHERS[row["compared"]](str(row["against"])) for row in rows]
    return table.assign(first=first, other=other, under=[_under(row) for row in rows])


def _under(row: Mapping[str, Any]) -> str:
    """Return what the two of a comparison have in common."""
    model, attack, storage = model_name(row["model"]), attack_title(row["preset"]), storage_name(row["storage"])
    same = {"classifiers": (attack, storage), "presets": (model, storage), "storages": (model, attack)}
    return ", ".join(same.get(row["compared"], (model, attack, storage)))


PAPER = {
    "clean_metrics": PaperTable(
        keys=CLASSIFIER,
        numbers=(
            N,
            Field("Accuracy\n%", "accuracy", "percent", "accuracy"),
            Field("Sensitivity\n%", "sensitivity", "percent", "sensitivity"),
            Field("Specificity\n%", "specificity", "percent", "specificity"),
            Field("AUC", "auc", "decimal", "auc"),
            Field("Brier", "brier", "precise"),
        ),
        interval=f"{WILSON}, of the AUC DeLong's or Obuchowski's on the logit's scale",
    ),
    "confusion": PaperTable(
        keys=CLASSIFIER,
        numbers=(
            Field("True\npositive", "tp", "count"),
            Field("False\nnegative", "fn", "count"),
            Field("False\npositive", "fp", "count"),
            Field("True\nnegative", "tn", "count"),
        ),
    ),
    "fgsm_accuracy": PaperTable(
        keys=(COHORT, PROTOCOL, EPSILON, Field("Grey\nlevels", "levels", "epsilon")),
        numbers=(Field("", "accuracy", "percent", low="ci_low", high="ci_high"),),
        across=(MODEL, ATTACK, STORAGE),
        interval=f"{WILSON}, of each epsilon alone",
        rows=with_grey_levels,
        note="In percent of the test images; epsilon as a fraction of the image range",
    ),
    "probability_drop": PaperTable(
        keys=(COHORT, PROTOCOL, EPSILON),
        numbers=(Field("", "decrease_fixed", "decimal", low="decrease_low_fixed", high="decrease_high_fixed"),),
        across=(MODEL, ATTACK, STORAGE),
        interval="95 % t intervals by patient",
        note="The decrease of the true class's mean probability over the images answered correctly without attack",
    ),
    "epsilon50": PaperTable(
        keys=SERIES,
        numbers=(
            N,
            Field("Never\nflipped", "n_censored", "count"),
            Field("Epsilon50\n10⁻³", "epsilon50", "thousandths", "epsilon50"),
            Field("Grey\nlevels", "grey_levels", "significant", "grey_levels"),
        ),
        interval=FROM_RANKS,
        note="The images, n, are those answered correctly without attack",
    ),
    "paired": PaperTable(
        keys=(
            COHORT,
            PROTOCOL,
            Field("Of", "under", "words"),
            Field("First", "first", "words"),
            Field("Other", "other", "words"),
        ),
        numbers=(
            EPSILON,
            Field("n", "n_common", "count"),
            Field("Difference\npoints", "difference", "points", "difference"),
            Field("p", "p_patient", "p"),
            Field("p\nHolm", "p_holm", "p"),
        ),
        interval="95 % intervals of paired proportions, by patient",
        rows=compared,
        note="The p is exact, McNemar's where each patient has one image; Holm's for all epsilons of a pair",
    ),
}
