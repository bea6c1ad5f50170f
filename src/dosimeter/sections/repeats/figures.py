"""Accuracy against epsilon over several seeds: how far a curve moves with the split and the training."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dosimeter.analysis.names import in_order, model_name, series_name
from dosimeter.analysis.repeats import interval_note
from dosimeter.presentation.style import (
    GREY,
    epsilon_axis,
    flagged,
    has_band,
    panels,
    percent_axis,
    series_look,
    styled,
)


@styled
def repeated_curves(curves: pd.DataFrame, repeats: pd.DataFrame) -> Figure:
    """Draw accuracy against epsilon, one panel a model: a thin line a seed, and their mean with its interval.

    Args:
        curves: rows of one cohort and protocol, as `analysis.curves.fgsm_accuracy` returns them for several seeds.
        repeats: rows of the same, as `analysis.repeats.repeats` returns them.
    """
    models = in_order(curves["model"])
    means = repeats[(repeats["quantity"] == "accuracy") & repeats["epsilon"].notna()]
    figure, axes = panels(len(models), 1, height=0.9 + 2.5 * len(models), sharex=True)
    for ax, model in zip(axes[:, 0], models, strict=True):
        mine = curves[curves["model"] == model]
        for (preset, storage), group in mine.groupby(["preset", "storage"]):
            mean = means[(means["model"] == model) & (means["preset"] == preset) & (means["storage"] == storage)]
            _series(ax, group, mean.sort_values("epsilon"), str(preset), str(storage))
        percent_axis(ax, "accuracy")
        epsilon_axis(ax, curves["epsilon"], label=model == models[-1], grey_levels=model == models[0])
        ax.set_title(model_name(model))
    keys = sorted(set(zip(curves["preset"], curves["storage"], strict=True)))
    handles: list[Line2D | Patch] = [
        Line2D([], [], **series_look(*key)._asdict(), label=flagged(f"{series_name(*key)}, mean", _mean(means, *key)))
        for key in keys
    ]
    handles.append(Line2D([], [], color=GREY, linewidth=0.6, label="one seed"))
    if has_band(means, "low", "high"):
        handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label="95 % interval of the mean"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _mean(means: pd.DataFrame, preset: str, storage: str) -> pd.DataFrame:
    return means[(means["preset"] == preset) & (means["storage"] == storage)]


def _series(ax: Axes, curves: pd.DataFrame, mean: pd.DataFrame, preset: str, storage: str) -> None:
    look = series_look(preset, storage)
    for _, seed in curves.sort_values("epsilon").groupby("seed"):
        ax.plot(seed["epsilon"], seed["accuracy"], color=look.color, linewidth=0.6, alpha=0.5)
    ax.fill_between(mean["epsilon"], mean["low"], mean["high"], color=look.color, alpha=0.18, linewidth=0)
    ax.plot(mean["epsilon"], mean["mean"], **look._asdict())


def repeats_caption(means: pd.DataFrame, protocol: str) -> list[str]:
    """Return the caption of `repeated_curves`."""
    band = has_band(means[means["epsilon"].notna()], "low", "high")
    return [
        "Thin lines are the seeds, each with its own training; the thick line is their mean"
        + (f", the band {interval_note([protocol])}." if band else "."),
        "It is of the mean: a single seed may well lie outside." if band else "",
    ]
