"""What readers saw: their psychometric curves, beside the epsilon at which the classifier fails."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dosimeter.figures.style import BLUE, GREY, ORANGE, VERMILLION, panels, percent_axis, styled
from dosimeter.readers.design import KIND_NAMES
from dosimeter.readers.psychometric import GUESS, TARGET, Curve

_COLORS = {"adversarial": BLUE, "random": ORANGE}


@styled
def psychometric_curves(study: Mapping[str, Any], half: pd.DataFrame) -> Figure:
    """Draw right answers against epsilon, one panel for each kind of change.

    Args:
        study: as `readers.results.results` returns it.
        half: rows of `analysis.flips.epsilon50` of the study's attack, stored as floats; none if there are none.
    """
    kinds = list(dict.fromkeys(curve["kind"] for curve in study["curves"]))
    figure, axes = panels(len(kinds), 1, height=1.0 + 2.4 * len(kinds), sharex=True)
    epsilons = np.array(study["epsilons"])
    for ax, kind in zip(axes[:, 0], kinds, strict=True):
        for curve in (curve for curve in study["curves"] if curve["kind"] == kind):
            (_pooled if curve["reader"] is None else _single)(ax, curve, epsilons, _COLORS[kind])
        if kind == "adversarial":
            for value in half["epsilon50"].dropna():
                ax.axvline(value, color=VERMILLION, linewidth=1.2, linestyle="--")
        ax.axhline(TARGET, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        ax.set_xscale("log")
        ax.set_xlim(epsilons.min() / 1.6, epsilons.max() * 1.6)
        percent_axis(ax, "right answers", low=GUESS - 0.2)
        ax.set_title(f"{KIND_NAMES[kind]}{' (SIMULATED readers)' if study['simulated'] else ''}")
    axes[-1, 0].set_xlabel("epsilon (fraction of the image range)")
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=GREY, linewidth=1.8, marker="o", label="all readers, 95 % Wilson intervals"),
        Line2D([], [], color=GREY, linewidth=0.6, label="one reader"),
        Patch(color=GREY, alpha=0.25, linewidth=0, label="75 % threshold, its 95 % interval"),
        Line2D([], [], color=VERMILLION, linewidth=1.2, linestyle="--", label="half of the images have flipped"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _pooled(ax: Axes, curve: Mapping[str, Any], epsilons: Any, color: str) -> None:
    known = [level for level in curve["levels"] if level["n"]]
    x, share, low, high = (np.array([level[name] for level in known]) for name in ("epsilon", "share", "low", "high"))
    ax.errorbar(x, share, yerr=[share - low, high - share], color=color, linestyle="none", marker="o", capsize=2)
    _line(ax, curve, epsilons, color=color, linewidth=1.8)
    if curve["threshold"]["epsilon"] is not None:
        ax.axvline(curve["threshold"]["epsilon"], color=color, linewidth=0.8)
    ends = [_edge(curve[name], epsilons) for name in ("low", "high")]
    if None not in ends:
        ax.axvspan(*ends, color=color, alpha=0.15, linewidth=0)


def _single(ax: Axes, curve: Mapping[str, Any], epsilons: Any, color: str) -> None:
    _line(ax, curve, epsilons, color=color, linewidth=0.6, alpha=0.6)


def _line(ax: Axes, curve: Mapping[str, Any], epsilons: Any, **look: Any) -> None:
    x = np.geomspace(epsilons.min() / 1.6, epsilons.max() * 1.6, 200)
    ax.plot(x, Curve(curve["centre"], curve["width"], curve["lapse"]).share(x), **look)


def _edge(bound: Mapping[str, Any], epsilons: Any) -> Any:
    """Return where a bound is drawn: one beyond what was shown, at the panel's edge; None if it is not known."""
    edges = {"below": epsilons.min() / 1.6, "above": epsilons.max() * 1.6, "": bound["epsilon"]}
    return edges[bound["beyond"]]


def of_study(table: pd.DataFrame, study: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of an analysis that are of a study's attack and classifier, its images as floats."""
    for name in ("cohort", "protocol", "seed", "model", "preset"):
        if name in table:
            table = table[table[name] == study[name]]
    return table[table["storage"] == "float"]
