"""Figures of more than two classes: how each is told from all others, and how its images fall under attack."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dosimeter.analysis.names import WORST_CASE, in_order, model_name, place
from dosimeter.presentation.style import (
    GREY,
    class_look,
    epsilon_axis,
    flagged,
    panels,
    percent_axis,
    shorten,
    styled,
)
from dosimeter.presentation.values import roc_points
from dosimeter.record.scores import class_scores


@styled
def roc_by_class(answers: pd.DataFrame, areas: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw the ROC curve of each class against all others on unperturbed images, a panel a model.

    Args:
        answers: one row per (model, case) at epsilon 0, as `analysis.base.clean_answers` returns them.
        areas: rows of one cohort and protocol, as `analysis.classes.class_auc` returns them.
        classes: their names.
    """
    models = in_order(answers["model"].unique())
    figure, axes = panels(1, len(models), height=3.9, sharex=True, sharey=True)
    for ax, model in zip(axes[0], models, strict=True):
        mine = answers[answers["model"] == model]
        scores, label = class_scores(mine), mine["label"].to_numpy()
        area = areas[areas["model"] == model].set_index("label")["auc"]
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for each, name in enumerate(classes):
            look = class_look(each)
            false_rate, true_rate = roc_points((label == each).astype(int), scores[:, each])
            said = f"AUC {area[each]:.3f}" if np.isfinite(area[each]) else "no AUC"
            shown = f"{shorten(name, 18)}: {said}"
            ax.plot(false_rate, true_rate, color=look.color, linestyle=look.linestyle, label=shown)
        ax.set_aspect("equal")
        ax.set_xlabel("other classes taken for it")
        ax.set_title(model_name(model))
        ax.legend(loc="lower right", fontsize=7)
    axes[0, 0].set_ylabel("recall of the class")
    return figure


@styled
def recall_curves(recall: pd.DataFrame, macro: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw the share of each class still answered correctly, and the mean over classes, against epsilon by model.

    Args:
        recall: rows of one cohort and protocol, as `analysis.classes.class_recall` returns them; images as floats, of
            the worst case or, without one, of the first attack, are shown.
        macro: rows of the same, as `analysis.classes.macro_recall` returns them.
        classes: their names.
    """
    shown = shown_preset(recall)
    recall, macro = (table[(table["storage"] == "float") & (table["preset"] == shown)] for table in (recall, macro))
    models = in_order(recall["model"])
    figure, axes = panels(1, len(models), height=3.6, sharex=True, sharey=True)
    for ax, model in zip(axes[0], models, strict=True):
        for each, name in enumerate(classes):
            curve = recall[(recall["model"] == model) & (recall["label"] == each)]
            look = class_look(each)._replace(linewidth=1.3)
            ax.fill_between(curve["epsilon"], curve["recall_low"], curve["recall_high"], color=look.color, alpha=0.1,
                            linewidth=0)  # fmt: skip
            ax.plot(curve["epsilon"], curve["recall"], **look._asdict(), label=shorten(name, 18))
        mean = macro[macro["model"] == model]
        ax.plot(mean["epsilon"], mean["macro_recall"], color=GREY, linewidth=3, alpha=0.6,
                label=flagged("mean over classes", macro))  # fmt: skip
        epsilon_axis(ax, recall["epsilon"], label=False)
        ax.set_xlabel("epsilon")
        ax.set_title(model_name(model))
    percent_axis(axes[0, 0], "still right")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def shown_preset(table: pd.DataFrame) -> str:
    """Return the preset that a figure or table by class shows: the worst case, else the first of the attacks."""
    own = table[table["role"].isin(["attack", "worst case", "published"])]
    presets = sorted((own if len(own) else table)["preset"].unique(), key=place)
    return WORST_CASE if WORST_CASE in presets else "sound" if "sound" in presets else str(presets[0])
