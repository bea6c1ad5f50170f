"""What a paper shows of the tables of stored images."""

from dosimeter.presentation.choices import EPSILON, FROM_RANKS, SERIES, WILSON, N, at_doses
from dosimeter.presentation.paper import Field, PaperTable

PAPER = {
    "survival": PaperTable(
        keys=SERIES,
        numbers=(Field("", "share", "percent", "share"),),
        across=(EPSILON,),
        interval=WILSON,
        rows=at_doses,
        note="In percent of the images that flip as floats",
    ),
    "deployed_median": PaperTable(
        keys=SERIES,
        numbers=(
            N,
            Field("Never\nflipped", "n_censored", "count"),
            Field("Epsilon\n10⁻³", "deployed_epsilon", "thousandths", "deployed_epsilon"),
            Field("Moved in the\nfile, 10⁻³", "linf", "thousandths", "linf"),
        ),
        interval=FROM_RANKS,
    ),
}
