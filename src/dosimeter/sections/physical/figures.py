"""Accuracy against severity, and everyday changes beside attacks on one axis of visibility."""

from collections.abc import Sequence
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from dosimeter.analysis.names import attack_title, change_title, in_order, model_name
from dosimeter.presentation.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    attack_look,
    flagged,
    model_color,
    panels,
    percent_axis,
    shorten,
    styled,
)

MOST_DRAWN = 9
"""Changes in one figure."""

NAMED = 6
"""Changes that have a colour and a name of their own beside attacks; the others are grey."""

_COLUMNS = 3
_LOOKS: Final = ((VERMILLION, "o"), (GREEN, "s"), (PURPLE, "^"), (ORANGE, "D"), (SKY, "v"), (BLUE, "P"))

CAPTIONS = {
    "severity": [
        "Share of images answered correctly at each severity that was asked, the one that changes nothing at the left.",
        "Shaded: 95 % intervals by patient.",
        "Every panel has the unit of its change, so that panels do not compare.",
    ],
    "equal": [
        "Share of the right answers that are lost, against how far images are moved.",
        "It is the 95th percentile over pixels, the median over images, in JND of a 1-350 cd/m2 DICOM display.",
        "Lines are attacks, at each epsilon; points are everyday changes, at each severity.",
        "What stands above one another may be seen as well.",
    ],
}


@styled
def severity_curves(accuracy: pd.DataFrame, changes: Sequence[str]) -> Figure:
    """Draw one panel a change: accuracy of each model against severity, of floats.

    Args:
        accuracy: rows of one cohort and protocol, as `analysis.physical.physical_accuracy` returns them.
        changes: those that are drawn, in their order.
    """
    accuracy = accuracy[accuracy["storage"] == "float"]
    models = in_order(accuracy["model"].unique())
    n_rows = -(-len(changes) // _COLUMNS)
    figure, axes = panels(n_rows, min(len(changes), _COLUMNS), height=0.7 + 1.75 * n_rows, sharey=True)
    for ax, change in zip(axes.flat, changes, strict=False):
        _severities(ax, accuracy[accuracy["change"] == change], models)
        ax.set_title(shorten(change_title(change), 26), fontsize=8)
    for ax in axes.flat[len(changes) :]:
        ax.set_axis_off()
    handles = [Line2D([], [], color=model_color(k), label=model_name(model)) for k, model in enumerate(models)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _severities(ax: Axes, mine: pd.DataFrame, models: Sequence[str]) -> None:
    grid = mine.groupby("severity")["linf"].max().sort_values(kind="stable")  # by how far images are moved
    steps = sorted(grid.index, key=lambda severity: abs(severity - grid.index[0]))
    places = {severity: place for place, severity in enumerate(steps)}
    for k, model in enumerate(models):
        row = mine[mine["model"] == model]
        row = row.assign(place=row["severity"].map(places)).sort_values("place")
        color = model_color(k)
        ax.fill_between(row["place"], row["accuracy_low"], row["accuracy_high"], color=color, alpha=0.13, linewidth=0)
        ax.plot(row["place"], row["accuracy"], color=color, marker="os^D"[k % 4], linewidth=1.3)
    ax.set_xticks(list(places.values()), labels=[f"{severity:g}" for severity in places])
    ax.set_xlabel(shorten(str(mine["unit"].iloc[0]), 28) if len(mine) else "")
    percent_axis(ax, "right" if ax.get_subplotspec().is_first_col() else "")  # type: ignore[union-attr]


@styled
def equal_figure(equal: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    """Draw one panel a model: what attacks and everyday changes cost, against how far they may be seen.

    Args:
        equal: rows of one cohort and protocol, as `analysis.equal_visibility.equal_visibility` returns them.
        losses: the same of `attack_losses`.
    """
    models = in_order(equal["model"].unique())
    figure, axes = panels(len(models), 1, height=1.4 + 2.6 * len(models), sharex=True)
    farthest = equal.groupby("change", observed=True)["lost"].max().sort_values(ascending=False)
    named = [str(each) for each in farthest.index[:NAMED]]
    for ax, model in zip(axes[:, 0], models, strict=True):
        for preset, curve in losses[losses["model"] == model].groupby("preset", observed=True):
            line = curve[curve["jnd"] > 0].sort_values("jnd")
            ax.plot(line["jnd"], line["lost"], **attack_look(str(preset))._asdict())
        mine = equal[(equal["model"] == model) & (equal["jnd"] > 0)]
        for change, points in mine.groupby("change", observed=True):
            color, marker = _look(str(change), named)
            ax.plot(points["jnd"], points["lost"], color=color, marker=marker, linestyle="none", markersize=5)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_title(model_name(model))
        percent_axis(ax, "right answers lost")
    axes[-1, 0].set_xlabel("JND, 95th percentile of pixels")
    figure.legend(handles=_handles(losses, len(farthest), named), loc="outside lower center", ncols=3)
    return figure


def _look(change: str, named: Sequence[str]) -> tuple[str, str]:
    return _LOOKS[named.index(change)] if change in named else (GREY, ".")


def _handles(losses: pd.DataFrame, n_changes: int, named: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], **attack_look(str(preset))._asdict(), label=flagged(attack_title(str(preset)), curve))
        for preset, curve in losses.groupby("preset", observed=True)
    ]
    for change in named:
        color, marker = _look(change, named)
        handles.append(Line2D([], [], color=color, marker=marker, linestyle="none", label=change_title(change)))
    if n_changes > len(named):
        handles.append(Line2D([], [], color=GREY, marker=".", linestyle="none", label="other everyday changes"))
    return handles
