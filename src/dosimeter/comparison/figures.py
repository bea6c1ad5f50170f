"""Accuracy curves of several runs over one another."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from dosimeter.analysis.base import MODEL
from dosimeter.analysis.names import attack_title, model_name, place
from dosimeter.comparison.compare import Comparison, Side
from dosimeter.presentation.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    epsilon_axis,
    panels,
    percent_axis,
    shorten,
    styled,
)

_COLORS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
_MARKERS = ("s", "o", "^", "D", "v", "P")
MOST_PANELS = 4
"""Attacks that one figure shows, one a panel; the others are in the table."""


class Overlay(NamedTuple):
    """A figure of one classifier, and how to read it."""

    title: str
    figure: Figure
    caption: str


def overlays(found: Comparison) -> Iterator[Overlay]:
    """Yield a figure for each classifier of the table: a panel for each attack, a curve for each run."""
    for keys, mine in found.table[found.table["storage"] == "float"].groupby([*MODEL, "decision"], sort=False):
        cohort, protocol, model, decision = map(str, keys)
        presets = sorted(mine["preset"].unique(), key=place, reverse=True)[:MOST_PANELS]
        left_out = mine["preset"].nunique() - len(presets)
        title = f"{model_name(model)} on {cohort}{f', {decision}' if decision else ''} ({protocol} protocol)"
        caption = (
            "Each curve is the accuracy of all test images of its run; bands are 95 % Wilson intervals by patient, of "
            "each epsilon alone. Whether two curves differ is in the table: bands may overlap although they do."
            + (f" {left_out} more attacks are in the table." if left_out else "")
        )
        yield Overlay(title, _drawn(found.sides, mine, presets), caption)


@styled
def _drawn(sides: list[Side], mine: pd.DataFrame, presets: list[str]) -> Figure:
    columns = min(2, len(presets))
    rows = -(-len(presets) // columns)
    figure, axes = panels(rows, columns, height=0.6 + 2.5 * rows, width=7.2, sharex=True, sharey=True)
    for ax, preset in zip(axes.flat, presets, strict=False):
        for index, side in enumerate(sides):
            curve = _curve(side, mine, preset, is_reference=index == 0)
            color, marker = _COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)]
            doses = curve["epsilon"].to_numpy(float)
            label = shorten(side.label, 30)
            ax.plot(doses, curve["accuracy"], color=color, marker=marker, label=label, markersize=3.5)
            ax.fill_between(
                doses, curve["ci_low"].astype(float), curve["ci_high"].astype(float), color=color, alpha=0.15
            )
        epsilon_axis(ax, mine["epsilon"].unique())
        percent_axis(ax, "accuracy")
        ax.set_title(attack_title(preset))
    for ax in axes.flat[len(presets) :]:
        ax.set_visible(False)
    axes.flat[0].legend(loc="upper right")
    return figure


def _curve(side: Side, mine: pd.DataFrame, preset: str, *, is_reference: bool) -> pd.DataFrame:
    """Return the accuracies of a run under an attack: of the reference, of the model that was compared."""
    robust = side.run.robust
    first = mine.iloc[0]
    own = robust[(robust["cohort"] == first["cohort"]) & (robust["preset"] == preset) & (robust["storage"] == "float")]
    if "decision" in own:
        own = own[own["decision"] == first["decision"]]
    models = set(own["model"])
    model = first["model"] if first["model"] in models or not (is_reference and len(models) == 1) else models.pop()
    curve: pd.DataFrame = own[own["model"] == model].sort_values("epsilon").drop_duplicates("epsilon")
    return curve
