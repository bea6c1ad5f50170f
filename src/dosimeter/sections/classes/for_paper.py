"""What a paper shows of the tables of classes."""

import pandas as pd

from dosimeter.analysis.base import MODEL
from dosimeter.analysis.classes import MACRO_LABEL
from dosimeter.analysis.names import class_name
from dosimeter.presentation.choices import ATTACK, CLASSIFIER, EPSILON, SERIES, WILSON, N, at_doses, at_middle_dose
from dosimeter.presentation.paper import Field, PaperTable
from dosimeter.sections.classes.figures import shown_preset

_TRUE, _ANSWERED = Field("True class", "true", "words"), Field("Answered", "answered", "words")


def named(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with what people call their classes."""
    names = {"true": "label", "answered": "predicted"}
    return table.assign(
        **{
            name: ["mean over classes" if label == MACRO_LABEL else class_name(cohort, int(label))
                   for cohort, label in zip(table["cohort"], table[column], strict=True)]
            for name, column in names.items() if column in table
        }
    )  # fmt: skip


def under_attack(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, with their names, of the attack that the report shows, of images as floats."""
    return named(at_doses(_shown(table)))


def becoming(table: pd.DataFrame) -> pd.DataFrame:
    """Return the same at the middle one of the reported epsilons."""
    table = at_middle_dose(_shown(table)).sort_values([*MODEL, "label", "predicted"], kind="stable")
    return named(table[table["epsilon"] > 0])


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["preset"] == shown_preset(table)) & (table["storage"] == "float")] if len(table) else table


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Return the means over classes at the reported epsilons, each with the class that is answered worst."""
    table = at_doses(table)
    lowest = [class_name(*each) for each in zip(table["cohort"], table["lowest_label"].astype(int), strict=True)]
    return table.assign(lowest=lowest)


PAPER = {
    "confusion_by_class": PaperTable(
        keys=(*CLASSIFIER, _TRUE),
        numbers=(Field("Answered", "images", "count"),),
        across=(_ANSWERED,),
        rows=named,
        note="Images are counted; n is that of each true class",
    ),
    "class_auc": PaperTable(
        keys=(*CLASSIFIER, Field("Class", "true", "words")),
        numbers=(N, Field("AUC", "auc", "decimal", "auc")),
        interval="95 % intervals by patient",
        rows=named,
    ),
    "top_k": PaperTable(
        keys=CLASSIFIER,
        numbers=(Field("Among the first", "accuracy", "percent", low="ci_low", high="ci_high"),),
        across=(Field("k", "k", "count"),),
        interval=WILSON,
        note="In percent of the test images",
    ),
    "class_recall": PaperTable(
        keys=(*CLASSIFIER, ATTACK, _TRUE, N),
        numbers=(Field("", "recall", "percent", "recall"),),
        across=(EPSILON,),
        interval=WILSON,
        rows=under_attack,
        note="In percent of the images of the class, as floats",
    ),
    "macro_recall": PaperTable(
        keys=(*SERIES, EPSILON),
        numbers=(
            N,
            Field("Mean recall\n%", "macro_recall", "percent", "macro_recall"),
            Field("Mean\nAUC", "macro_auc", "decimal"),
            Field("Lowest\nrecall, %", "lowest_recall", "percent"),
            Field("Of the\nclass", "lowest", "words"),
        ),
        interval="95 % bootstrap intervals by patient",
        rows=means,
    ),
    "flips_by_class": PaperTable(
        keys=(*CLASSIFIER, ATTACK, EPSILON, _TRUE, N),
        numbers=(Field("Becomes", "share", "percent", "share"),),
        across=(_ANSWERED,),
        interval=WILSON,
        rows=becoming,
        note="In percent of the images of the class answered correctly without attack, as floats",
    ),
}
