"""Figures 8 and 13: how far one image's probability falls although, or until, its answer changes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dosimeter.analysis.names import in_order, model_name
from dosimeter.presentation.style import MOST_CLASSES, VERMILLION, panels, shorten, signed, styled
from dosimeter.record.scores import OF_PROBABILITIES, FloatArray, class_probabilities

PAPER_EPSILON = 0.009
"""The epsilon of the paper's figures 8 and 13."""


class Drop(NamedTuple):
    """The image to show: its probability of each class before and after, (classes,), and how it was chosen."""

    case_id: str
    label: int
    before: FloatArray
    after: FloatArray
    n: int  # images it was chosen among
    survived: bool  # answered correctly after the attack as well


def median_drop(answers: pd.DataFrame, epsilon: float) -> Drop | None:
    """Return the image with the (lower) median drop of its true class's probability at `epsilon`.

    Chosen among images answered correctly both before and after, as in the paper; where none is left, among those
    answered correctly before. Ties go to the first case id. None if no image was answered correctly at all.

    Args:
        answers: rows of one classifier, preset and storage, as `analysis.base.answered` returns them.
        epsilon: one of the grid.
    """
    columns = ["case_id", "label", "truth", "correct"]
    grid = answers[answers["on_grid"]]
    before = grid[columns][grid["epsilon"] == 0]
    after = grid[["case_id", "truth", "correct"]][grid["epsilon"] == epsilon]
    pairs = before.merge(after, on="case_id", suffixes=("", "_after"))
    pairs = pairs[pairs["correct"]]
    survivors = pairs[pairs["correct_after"]]
    candidates = pairs if survivors.empty else survivors
    if candidates.empty:
        return None
    ordered = candidates.assign(drop=candidates["truth"] - candidates["truth_after"]).sort_values(["drop", "case_id"])
    chosen = ordered.iloc[(len(ordered) - 1) // 2]
    mine = grid[grid["case_id"] == chosen["case_id"]]
    return Drop(
        case_id=str(chosen["case_id"]),
        label=int(chosen["label"]),
        before=class_probabilities(mine[mine["epsilon"] == 0])[0],
        after=class_probabilities(mine[mine["epsilon"] == epsilon])[0],
        n=len(ordered),
        survived=bool(chosen["correct_after"]),
    )


def drop_epsilon(answers: pd.DataFrame) -> float:
    """Return the epsilon of the grid that is nearest the paper's 0.009."""
    doses = answers.loc[answers["on_grid"] & (answers["epsilon"] > 0), "epsilon"].unique()
    return float(min(doses, key=lambda dose: abs(dose - PAPER_EPSILON), default=PAPER_EPSILON))


@styled
def single_image_drop(answers: pd.DataFrame, classes: Sequence[str], evaluations: pd.DataFrame | None = None) -> Figure:
    """Draw the class probabilities of one image before and after the attack, for each model and preset (floats).

    Args:
        answers: rows of one cohort and protocol, as `analysis.base.answered` returns them.
        classes: their names; of many those are drawn that are probable before or after.
        evaluations: model, preset and evaluation of each curve; those that are to be marked are, in the panel's title.
    """
    columns = ["model", "preset", "on_grid", "case_id", "label", "epsilon", "truth", "correct", *OF_PROBABILITIES]
    rows = answers[columns][answers["storage"] == "float"]
    models, presets = in_order(rows["model"].unique()), sorted(rows["preset"].unique())
    epsilon = drop_epsilon(rows)
    height = 0.7 + (1.35 + 0.3 * min(len(classes), MOST_CLASSES)) * len(presets)
    figure, axes = panels(
        len(presets),
        len(models),
        height=height,
        sharex=True,
        sharey=True,
    )
    for column, model in enumerate(models):
        for row, preset in enumerate(presets):
            ax = axes[row, column]
            chosen = median_drop(rows[(rows["model"] == model) & (rows["preset"] == preset)], epsilon)
            _bars(ax, chosen, classes)
            title = f"{model_name(model)}, {preset} preset"
            if evaluations is not None:
                judged = evaluations[(evaluations["model"] == model) & (evaluations["preset"] == preset)]
                title = signed(title, judged, words=False)
            ax.set_title(title)
            if row == len(presets) - 1:
                ax.set_xlabel("probability")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    labels = [label.replace("adversarial", f"adversarial, epsilon {epsilon:.3g}") for label in labels]
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _bars(ax: Axes, drop: Drop | None, classes: Sequence[str]) -> None:
    ax.grid(visible=False)
    ax.set_xlim(0, 1.19)
    ax.set_xticks([0, 0.5, 1])
    shown = list(range(len(classes)))
    if drop is not None and len(shown) > MOST_CLASSES:
        shown = sorted(np.argsort(-np.maximum(drop.before, drop.after))[:MOST_CLASSES].tolist())
    shown = shown[:MOST_CLASSES]
    ax.set_yticks(range(len(shown)), labels=[shorten(classes[place], 16) for place in shown])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(shown) - 0.5, -1.4)
    if drop is None:
        ax.text(0.5, 0.5, "no image answered correctly", ha="center", transform=ax.transAxes)
        return
    for offset, probabilities, color, label in (
        (-0.19, drop.before, "#b5b5b5", "original"),
        (0.19, drop.after, VERMILLION, "adversarial"),
    ):
        values = probabilities[shown]
        places = np.arange(len(shown)) + offset
        ax.barh(places, values, 0.34, color=color, label=label)
        for place, share in zip(places, values, strict=True):
            ax.text(share + 0.015, place, f"{share:.3f}", va="center", fontsize=7.5)
    kind = f"median of {drop.n} still right" if drop.survived else f"median of {drop.n}, none still right"
    ax.text(0.02, -0.92, f"truth: {shorten(classes[drop.label], 24)}\n{kind}", fontsize=7.5, va="center")
