"""What readers saw: their psychometric curves, beside the epsilon at which the classifier fails."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from dosimeter.presentation.style import BLUE, GREY, ORANGE, VERMILLION, panels, percent_axis, signed, styled
from dosimeter.readers.design import KIND_NAMES
from dosimeter.readers.psychometric import GUESS, TARGET, Curve

Edges = tuple[float, float]

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
    epsilons, flipped = np.array(study["epsilons"]), half["epsilon50"].dropna().to_numpy(np.float64)
    every = [*epsilons, *flipped]
    edges = float(min(every)) / 1.6, float(max(every)) * 1.6
    for ax, kind in zip(axes[:, 0], kinds, strict=True):
        for curve in (curve for curve in study["curves"] if curve["kind"] == kind):
            (_pooled if curve["reader"] is None else _single)(ax, curve, edges, _COLORS[kind])
        if kind == "adversarial":
            for value in flipped:
                ax.axvline(value, color=VERMILLION, linewidth=1.2, linestyle="--")
        ax.axhline(TARGET, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        ax.set_xscale("log")
        ax.set_xlim(edges)
        ax.set_xticks(epsilons, labels=[f"{epsilon:g}" for epsilon in epsilons])
        ax.xaxis.set_minor_locator(NullLocator())
        percent_axis(ax, "right answers", low=GUESS - 0.2)
        ax.set_title(f"{KIND_NAMES[kind]}{' (SIMULATED readers)' if study['simulated'] else ''}")
    axes[-1, 0].set_xlabel("epsilon (fraction of the image range)")
    figure.legend(handles=_handles(study["curves"], edges, half), loc="outside lower center", ncols=2)
    return figure


def _handles(curves: Sequence[Mapping[str, Any]], edges: Edges, half: pd.DataFrame) -> list[Line2D | Patch]:
    """Return the legend of what is drawn."""
    pooled = [curve for curve in curves if curve["reader"] is None]
    ranged = any(level["low"] is not None for curve in pooled for level in curve["levels"])
    whose = f"all readers{', 95 % Wilson intervals by image' if ranged else ''}"
    handles: list[Line2D | Patch] = [Line2D([], [], color=GREY, linewidth=1.8, marker="o", label=whose)]
    if len(pooled) < len(curves):
        handles.append(Line2D([], [], color=GREY, linewidth=0.6, label="one reader"))
    if has_threshold_band(curves):
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0, label="75 % threshold, its 95 % interval"))
    if half["epsilon50"].notna().any() and any(curve["kind"] == "adversarial" for curve in curves):
        label = signed("half of the images have flipped", half)
        handles.append(Line2D([], [], color=VERMILLION, linewidth=1.2, linestyle="--", label=label))
    return handles


def has_threshold_band(curves: Sequence[Mapping[str, Any]]) -> bool:
    """Whether both ends of the threshold's interval are known, of the curve of all readers for any kind of change."""
    pooled = [curve for curve in curves if curve["reader"] is None]
    return any(all(_is_known(curve[name]) for name in ("low", "high")) for curve in pooled)


def _is_known(bound: Mapping[str, Any]) -> bool:
    return bound["epsilon"] is not None or bool(bound["beyond"])


def _pooled(ax: Axes, curve: Mapping[str, Any], edges: Edges, color: str) -> None:
    known = [level for level in curve["levels"] if level["n"]]
    x, share, low, high = (
        np.array([level[name] for level in known], dtype=float) for name in ("epsilon", "share", "low", "high")
    )
    ax.errorbar(x, share, yerr=[share - low, high - share], color=color, linestyle="none", marker="o", capsize=2)
    _line(ax, curve, edges, color=color, linewidth=1.8)
    if curve["threshold"]["epsilon"] is not None:
        ax.axvline(curve["threshold"]["epsilon"], color=color, linewidth=0.8)
    low_end, high_end = (_edge(curve[name], edges) for name in ("low", "high"))
    if low_end is not None and high_end is not None:
        ax.axvspan(low_end, high_end, color=color, alpha=0.15, linewidth=0)


def _single(ax: Axes, curve: Mapping[str, Any], edges: Edges, color: str) -> None:
    _line(ax, curve, edges, color=color, linewidth=0.6, alpha=0.6)


def _line(ax: Axes, curve: Mapping[str, Any], edges: Edges, **look: Any) -> None:
    x = np.geomspace(*edges, 200)
    ax.plot(x, Curve(curve["centre"], curve["width"], curve["lapse"]).share(x), **look)


def _edge(bound: Mapping[str, Any], edges: Edges) -> float | None:
    """Return where a bound is drawn: one beyond what was shown, at the panel's edge; None if it is not known."""
    places: dict[str, float | None] = {"below": edges[0], "above": edges[1], "": bound["epsilon"]}
    return places[bound["beyond"]]


def of_study(table: pd.DataFrame, study: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of an analysis that are of a study's attack and classifier, its images as floats."""
    for name in ("cohort", "protocol", "seed", "model", "preset"):
        if name in table:
            table = table[table[name] == study[name]]
    return table[table["storage"] == "float"]


def readers_caption(study: Mapping[str, Any]) -> list[str]:
    """Return the caption of `psychometric_curves`."""
    single = any(curve["reader"] is not None for curve in study["curves"])
    pooled = [curve for curve in study["curves"] if curve["reader"] is None]
    known = any(curve["threshold"]["epsilon"] is not None for curve in pooled)
    ranged = any(level["low"] is not None for curve in pooled for level in curve["levels"])
    points = ", with 95 % Wilson intervals by image" if ranged else ""
    lines = ["the horizontal dotted line is at 75 % right"]
    lines += ["the thin vertical line is the epsilon at which that is reached"] if known else []
    lines += [_THRESHOLD_BAND] if has_threshold_band(study["curves"]) else []
    return [
        "Nobody looked at an image: these readers are simulated." if study["simulated"] else "",
        f"Points are the share of right answers of all readers together{points}; by guessing half are right.",
        "Curves are fitted psychometric functions, thick of all readers" + (", thin of each." if single else "."),
        f"T{'; '.join(lines)[1:]}.",
    ]


_THRESHOLD_BAND = (
    "the shaded span is the 95 % interval of that epsilon by a bootstrap over readers and images, cut at the "
    "panel's edge where it goes on beyond what was shown"
)
