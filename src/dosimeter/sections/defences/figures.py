"""Figures on defences: accuracy against robustness, what is certified, and what detectors see."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.detection import KNOWN, NOISE, UNKNOWN
from dosimeter.analysis.names import in_order, model_name
from dosimeter.presentation.numbers import dose
from dosimeter.presentation.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Look,
    epsilon_axis,
    panels,
    percent_axis,
    shorten,
    signed,
    styled,
)
from dosimeter.record.compact import UNDEFENDED

_COLORS = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY)
_MARKERS = ("s", "v", "^", "D", "P", "X", "h", "d", "<", ">", "*", "p")
LONGEST = 34
MOST = 3
"""Epsilons shown side by side."""


def defence_look(place: int) -> Look:
    """Return the look of a defence by its place among a run's; the first is none's."""
    if place == 0:
        return Look(BLACK, "-", "o", linewidth=2.0)
    return Look(_COLORS[(place - 1) % 6], ("-", "--", ":")[(place - 1) // 6 % 3], _MARKERS[(place - 1) % 12])


def _looks(table: pd.DataFrame) -> dict[str, Look]:
    names = list(dict.fromkeys(table["defence"]))
    ordered = [UNDEFENDED, *(name for name in names if name != UNDEFENDED)]
    return {name: defence_look(place) for place, name in enumerate(ordered)}


def _doses(curves: pd.DataFrame) -> list[float]:
    return reported_doses(curves["epsilon"])[:MOST]


@styled
def trade_off(table: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Draw right answers under the worst attack against right answers without one: a row a model, a column an epsilon.

    Args:
        table: rows of one cohort and protocol, as `analysis.defences.defences` returns them.
        curves: rows of the same, as `analysis.defences.defence_accuracy` returns them.
    """
    models, doses, looks = in_order(table["undefended"]), _doses(curves), _looks(table)
    figure, axes = panels(len(models), len(doses), height=1.4 + 2.4 * len(models), sharex=True, sharey=True)
    for line, model in zip(axes, models, strict=True):
        for ax, epsilon in zip(line, doses, strict=True):
            for _, row in table[table["undefended"] == model].iterrows():
                found = curves[(curves["model"] == row["model"]) & (curves["epsilon"] == epsilon)]
                _point(ax, row, found.iloc[0], looks[row["defence"]]) if len(found) else None
            ax.set_title(f"{model_name(model)}, epsilon {dose(epsilon)}", fontsize=8)
            percent_axis(ax, "")
            ax.set_xlim(0, 1.02)
            ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        line[0].set_ylabel("right, worst attack")
    for ax in axes[-1]:
        ax.set_xlabel("right, no attack")
    judged = table.drop_duplicates("defence").set_index("defence")
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="", label=_label(name, judged.loc[[name]]))
        for name, look in looks.items()
        if name in judged.index
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _point(ax: object, row: "pd.Series[float]", point: "pd.Series[float]", look: Look) -> None:
    bounds = np.array([point["worst"] - point["worst_low"], point["worst_high"] - point["worst"]])
    error = None if np.isnan(bounds).any() else bounds[:, None].clip(min=0)
    ax.errorbar(  # type: ignore[attr-defined]
        row["accuracy"], point["worst"], yerr=error, color=look.color, marker=look.marker, markersize=5, elinewidth=0.8
    )


def _label(name: str, rows: pd.DataFrame) -> str:
    return signed("no defence" if name == UNDEFENDED else shorten(name, LONGEST), rows)


def trade_off_captions(curves: pd.DataFrame) -> list[str]:
    """Return the caption of `trade_off`."""
    return [
        (
            "Up and to the right is better: right answers under whichever attack breaks an image, by one who knows the "
            "defence or who does not, against right answers without attack."
        ),
        "A refused image is not right.",
        "Bars are 95 % Wilson intervals by patient." if curves["worst_low"].notna().any() else "",
    ]


@styled
def certified_curves(curves: pd.DataFrame) -> Figure:
    """Draw what is certified, and what attacks left, against epsilon: a panel a model."""
    shown = curves[curves["certified"].notna()]
    models, looks = in_order(shown["undefended"]), _looks(curves)
    figure, axes = panels(len(models), 1, height=0.9 + 2.4 * len(models), sharex=True)
    for ax, model in zip(axes[:, 0], models, strict=True):
        for defence, curve in shown[shown["undefended"] == model].groupby("defence", sort=False):
            look = looks[str(defence)]
            ax.plot(curve["epsilon"], curve["worst"], color=look.color, marker=look.marker, markersize=4)
            ax.plot(curve["epsilon"], curve["certified"], color=look.color, linestyle="--")
        percent_axis(ax, "right answers")
        epsilon_axis(ax, shown["epsilon"], label=model == models[-1], grey_levels=model == models[0])
        ax.set_title(signed(model_name(model), shown[shown["undefended"] == model]))
    handles = [
        Line2D([], [], color=looks[name].color, marker=looks[name].marker, label=shorten(name, LONGEST))
        for name in dict.fromkeys(shown["defence"])
    ]
    handles.append(Line2D([], [], color=GREY, linestyle="--", label="proven"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def certified_captions(curves: pd.DataFrame) -> list[str]:
    """Return the caption of `certified_curves`."""
    return [
        (
            "Solid: right answers that the attacks left; dashed: right answers that are proven to stay so within "
            "epsilon, whatever the attack."
        ),
        "Between the two nobody knows." if (curves["certified"] < curves["worst"]).any() else "",
    ]


@styled
def margin_curves(grown: pd.DataFrame) -> Figure:
    """Draw the margins of training images against the epoch, their median, quartiles and range: a panel a classifier.

    Args:
        grown: rows of one cohort and protocol, as `analysis.defences.margins` returns them.
    """
    models = in_order(grown["model"])
    figure, axes = panels(len(models), 1, height=0.9 + 2.4 * len(models), sharex=True)
    for ax, model in zip(axes[:, 0], models, strict=True):
        for _, curve in grown[grown["model"] == model].groupby("seed", dropna=False):
            ax.fill_between(curve["epoch"], curve["least"], curve["most"], color=SKY, alpha=0.25, linewidth=0)
            ax.fill_between(curve["epoch"], curve["q1"], curve["q3"], color=BLUE, alpha=0.35, linewidth=0)
            ax.plot(curve["epoch"], curve["median"], color=BLUE, marker="o", markersize=3)
        ax.set_ylabel("margin (epsilon)")
        ax.set_ylim(bottom=0)
        ax.set_title(model_name(model))
    axes[-1, 0].set_xlabel("epoch")
    return figure


def margin_captions(grown: pd.DataFrame) -> list[str]:
    """Return the caption of `margin_curves`."""
    last = grown[grown["epoch"] == grown["epoch"].max()]
    n = ", ".join(str(each) for each in dict.fromkeys(last["n"]))
    return [
        f"Margins of {n} training images: the median, the quartiles (dark) and the range (light).",
        "Where they stop growing they are near the images' distances to the decision boundary.",
    ]


@styled
def detector_curves(seen: pd.DataFrame) -> Figure:
    """Draw the AUC of the alarm, and what passes the detector, against epsilon: a row a classifier.

    Args:
        seen: rows of one cohort and protocol, as `analysis.detection.detection` returns them.
    """
    models = in_order(seen["model"])
    figure, axes = panels(len(models), 2, height=0.9 + 2.2 * len(models), sharex=True)
    looks: dict[str, tuple[str, Any]] = {UNKNOWN: (BLUE, "--"), KNOWN: (VERMILLION, "-"), NOISE: (GREY, ":")}
    for line, model in zip(axes, models, strict=True):
        for (attacker, _), curve in seen[seen["model"] == model].groupby(["attacker", "preset"], sort=False):
            color, style = looks[str(attacker)]
            for ax, name in zip(line, ("auc", "passed"), strict=True):
                ax.plot(curve["epsilon"], curve[name], color=color, linestyle=style, linewidth=1.0)
        line[0].axhline(0.5, color=GREY, linewidth=0.6)
        line[0].set_ylim(0, 1.02)
        line[0].set_ylabel("AUC of the alarm")
        percent_axis(line[1], "wrong and not refused")
        for ax in line:
            epsilon_axis(ax, seen["epsilon"], label=model == models[-1])
            ax.set_title(signed(shorten(model_name(model), LONGEST), seen[seen["model"] == model]), fontsize=8)
    handles = [
        Line2D([], [], color=color, linestyle=style, label=f"attacker {name}" if name != NOISE else name)
        for name, (color, style) in looks.items()
        if name in set(seen["attacker"])
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def detector_captions() -> list[str]:
    """Return the caption of `detector_curves`."""
    return [
        (
            "Left: how the alarm tells changed images from unchanged ones, at 0.5 not at all; below, changed images "
            "look more usual than unchanged ones."
        ),
        "Right: of the images that are right and accepted without attack, those answered wrongly and not refused.",
        "One line an attack.",
    ]
