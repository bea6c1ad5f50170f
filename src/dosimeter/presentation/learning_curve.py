"""The figure of learning curves: what more training patients would bring."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dosimeter.analysis.names import attack_title, in_order, model_name
from dosimeter.presentation.numbers import dose
from dosimeter.presentation.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, Look, panels, percent_axis, styled

_DOSES = (BLUE, ORANGE, GREEN, PURPLE)
MOST = 3
"""Epsilons drawn; the table has all."""


@styled
def draw(table: pd.DataFrame) -> Figure:
    """Draw accuracy, without attack and under the strongest one asked, and epsilon50 against training patients.

    Args:
        table: as `study.learning_curve.gather` returns it.
    """
    keys = list(dict.fromkeys(zip(table["cohort"], table["protocol"], table["model"], strict=True)))
    models = in_order(table["model"])
    keys.sort(key=lambda key: (key[:2], models.index(key[2])))
    figure, axes = panels(len(keys), 2, height=0.9 + 2.3 * len(keys), sharex=True)
    doses = sorted(table["epsilon"].dropna().loc[lambda each: each > 0].unique())[:MOST]
    for line, (cohort, protocol, model) in zip(axes, keys, strict=True):
        mine = table[(table["cohort"] == cohort) & (table["protocol"] == protocol) & (table["model"] == model)]
        preset = strongest(mine)
        clean = mine[(mine["quantity"] == "accuracy") & mine["epsilon"].isna()]
        _curve(line[0], clean, Look(BLACK, "-", "o"))
        for place, epsilon in enumerate(doses):
            at = mine[(mine["quantity"] == "accuracy") & (mine["epsilon"] == epsilon) & (mine["preset"] == preset)]
            _curve(line[0], at, Look(_DOSES[place], "-", "s"))
        half = mine[(mine["quantity"] == "epsilon50") & (mine["preset"] == preset)]
        _curve(line[1], half, Look(BLUE, "-", "s"))
        percent_axis(line[0], "right answers")
        line[1].set_ylabel("epsilon50")
        line[1].set_ylim(bottom=0)
        line[0].set_title(f"{model_name(model)}, {cohort} ({protocol})", fontsize=8)
        line[1].set_title(attack_title(preset), fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("patients in training")
        ax.set_xscale("log")
        numbers = sorted(table["patients"].unique())
        ax.set_xticks(numbers, [str(number) for number in numbers])
        ax.minorticks_off()
    handles = [Line2D([], [], color=BLACK, marker="o", label="no attack")]
    handles += [
        Line2D([], [], color=_DOSES[at], marker="s", label=f"epsilon {dose(each)}") for at, each in enumerate(doses)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def strongest(rows: pd.DataFrame) -> str:
    """Return the preset that leaves the fewest right answers at the largest number of patients, over all epsilons."""
    attacked = rows[(rows["quantity"] == "accuracy") & (rows["epsilon"] > 0)]
    largest = attacked[attacked["patients"] == attacked["patients"].max()]
    return str(largest.groupby("preset")["mean"].mean().idxmin())


def _curve(ax: Axes, rows: pd.DataFrame, look: Look) -> None:
    rows = rows.sort_values("patients")
    low, high = rows["low"].fillna(rows["minimum"]), rows["high"].fillna(rows["maximum"])
    ax.fill_between(rows["patients"], low, high, color=look.color, alpha=0.15, linewidth=0)
    ax.plot(rows["patients"], rows["mean"], **look._asdict())
