"""The figure of the first screen: what is left of right answers, against epsilon."""

import pandas as pd
from matplotlib.figure import Figure

from dosimeter.analysis.names import WORST_CASE, in_order, model_name
from dosimeter.presentation.section import Tables
from dosimeter.presentation.style import epsilon_axis, flagged, model_color, panels, percent_axis, shorten, styled

MOST = 4
"""Classifiers drawn, the first ones; the others are in the figures below."""
LONGEST = 30


def shown_curves(tables: Tables) -> pd.DataFrame:
    """Return the worst case of each classifier, or where there is none its FGSM with the margin, or what there is.

    Returns:
        model, preset, epsilon, accuracy, ci_low, ci_high and, if judged, evaluation.
    """
    robust = tables.get("robust_accuracy", pd.DataFrame(columns=["model", "preset", "storage"]))
    parts = []
    for model in in_order(tables["clean_metrics"]["model"]):
        for table, presets in ((robust, (WORST_CASE, "sound")), (tables["fgsm_accuracy"], ("sound", "paper"))):
            mine = table[(table["model"] == model) & (table["storage"] == "float")]
            own = mine[mine["made_on"] == ""] if "made_on" in mine else mine
            there = [preset for preset in presets if (own["preset"] == preset).any()] or list(own["preset"].unique())[
                :1
            ]
            if there:
                parts.append(own[own["preset"] == there[0]])
                break
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["epsilon"])


@styled
def answer_curves(curves: pd.DataFrame) -> Figure:
    """Draw right answers against epsilon, a line and a band a classifier.

    Args:
        curves: rows of one cohort and protocol, as `shown_curves` returns them.
    """
    figure, axes = panels(1, 1, height=2.7)
    ax = axes[0, 0]
    for place, model in enumerate(in_order(curves["model"])[:MOST]):
        mine = curves[curves["model"] == model].sort_values("epsilon")
        color = model_color(place)
        ax.fill_between(mine["epsilon"], mine["ci_low"], mine["ci_high"], color=color, alpha=0.15, linewidth=0)
        label = flagged(shorten(model_name(model), LONGEST), mine)
        ax.plot(mine["epsilon"], mine["accuracy"], color=color, marker="o", markersize=3, label=label)
    percent_axis(ax, "right answers")
    epsilon_axis(ax, curves["epsilon"], grey_levels=True)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def answer_caption(curves: pd.DataFrame) -> list[str]:
    """Return the caption of `answer_curves`."""
    worst = (curves["preset"] == WORST_CASE).all()
    return [
        "Each image counts by the attack that breaks it first." if worst else "",
        "Bands are 95 % Wilson intervals by patient." if curves["ci_low"].notna().any() else "",
        "The dotted line is half a grey level of an 8-bit file.",
    ]
