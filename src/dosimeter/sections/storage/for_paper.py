"""What a paper shows of the tables of stored images."""

from dosimeter.presentation.paper import EPSILON, SERIES, Field, N, PaperTable, at_doses

PAPER = {
    "survival": PaperTable(
        keys=SERIES,
        numbers=(Field("", "share", "percent", "share"),),
        across=(EPSILON,),
        interval="95 % Wilson intervals by patient",
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
        interval="95 % intervals of the median from ranks, by patient",
    ),
}
