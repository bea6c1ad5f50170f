"""What a paper shows of the tables of visibility."""

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.base import APART
from dosimeter.analysis.visibility import IDENTITY, RULES
from dosimeter.presentation.choices import ATTACK, CLASSIFIER, EPSILON, SERIES, N, attacked_floats
from dosimeter.presentation.paper import Field, PaperTable

_METRICS = (
    Field("PSNR\ndB", "psnr", "tenths"),
    Field("SSIM", "ssim", "precise", low="ssim_q1", high="ssim_q3"),
    Field("HaarPSI", "haarpsi", "precise", low="haarpsi_q1", high="haarpsi_q3"),
    Field("RMS by\nown noise", "noise_ratio", "significant", low="noise_ratio_q1", high="noise_ratio_q3"),
    Field("JND\np95", "jnd_p95", "significant", low="jnd_p95_q1", high="jnd_p95_q3"),
)


def by_metric(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each series and epsilon, its metrics side by side: of images as floats, where SSIM is known."""
    table = table[table["storage"] == "float"]
    measured = table.loc[table["metric"] == "ssim", "epsilon"]
    table = table[table["epsilon"].isin(reported_doses(measured if len(measured) else table["epsilon"]))]
    keys = [name for name in (*IDENTITY, *APART) if name in table]
    wide = table[[name for name in (*keys, "evaluation") if name in table]].drop_duplicates(keys)
    for field in _METRICS:
        named = {"median": field.name} | ({"q1": field.low, "q3": field.high} if field.low else {})
        mine = table[table["metric"] == field.name].rename(columns=named)
        wide = wide.merge(mine[[*keys, *named.values()]], on=keys, how="left")
    counted = table.groupby(keys, as_index=False, observed=True, dropna=False)["n"].max()
    return wide.merge(counted, on=keys, how="left")


def on_displays(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images as floats at the reported epsilons and the default window."""
    table = attacked_floats(table)
    table = table[table["window"] == 1]
    return table.assign(shown=[f"{name} cd/m2" for name in table["display"]])


def with_rules(table: pd.DataFrame) -> pd.DataFrame:
    """Return the magnitudes of images as floats; one that has no epsilon says so."""
    table = table[table["storage"] == "float"]
    return table.assign(epsilons=table["epsilons"].where(table["epsilons"].fillna("") != "", "none"))


PAPER = {
    "visibility": PaperTable(
        keys=(*SERIES, EPSILON),
        numbers=(N, *_METRICS),
        interval="the quartiles over images",
        rows=by_metric,
        note="Medians over images. JND: the amplitude that 95 % of the pixels keep to, on a display of 1 to 350 cd/m2 "
        "that follows DICOM's display function, at the default window",
    ),
    "displays": PaperTable(
        keys=(*CLASSIFIER, ATTACK, EPSILON),
        numbers=(Field("", "peak_to_peak", "significant"),),
        across=(Field("Display", "shown", "words"),),
        rows=on_displays,
        note="At the default window, peak to peak, which is twice the amplitude; medians over images. A window half as "
        "wide doubles them where it cuts nothing off",
    ),
    "safe_magnitudes": PaperTable(
        keys=(*SERIES, Field("Rule", "rule", "words")),
        numbers=(
            N,
            Field("Flip half,\nkeep the rule", "epsilons", "words"),
            Field("Largest\nkept", "largest_unseen", "epsilon"),
            Field("Smallest\nflipping half", "smallest_flipping", "epsilon"),
        ),
        rows=with_rules,
        note="; ".join(f"{name}: {rule.text}" for name, rule in RULES.items()),
    ),
}
