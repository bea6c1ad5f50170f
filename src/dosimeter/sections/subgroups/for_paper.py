"""What a paper shows of the tables of subgroups."""

import pandas as pd

from dosimeter.analysis.subgroups import FEWEST_IMAGES
from dosimeter.presentation.choices import ATTACK, CLASSIFIER, EPSILON, FROM_RANKS, WILSON, N, at_doses, at_middle_dose
from dosimeter.presentation.paper import Field, PaperTable

_WHO = (*CLASSIFIER, ATTACK, Field("Fact", "fact", "words"), Field("Value", "value", "words"))


def large(table: pd.DataFrame) -> pd.DataFrame:
    """Return the subgroups that are large enough, at the reported epsilons."""
    return at_doses(table[table["n"] >= FEWEST_IMAGES])


PAPER = {
    "subgroup_accuracy": PaperTable(
        keys=(*_WHO, N),
        numbers=(Field("", "accuracy", "percent", low="ci_low", high="ci_high"),),
        across=(EPSILON,),
        interval=WILSON,
        rows=large,
        note=f"In percent of the subgroup's images; subgroups of fewer than {FEWEST_IMAGES} are left out",
    ),
    "subgroup_epsilon50": PaperTable(
        keys=_WHO,
        numbers=(
            N,
            Field("Never\nflipped", "n_censored", "count"),
            Field("Epsilon50\n10⁻³", "epsilon50", "thousandths", "epsilon50"),
        ),
        interval=FROM_RANKS,
        note="The images, n, are those answered correctly without attack",
    ),
    "subgroup_gaps": PaperTable(
        keys=(*_WHO, Field("Against", "against", "words"), EPSILON),
        numbers=(
            N,
            Field("n\nagainst", "n_against", "count"),
            Field("Difference\npoints", "difference", "points", "difference"),
        ),
        interval="95 % intervals of all gaps together",
        rows=at_middle_dose,
    ),
}
