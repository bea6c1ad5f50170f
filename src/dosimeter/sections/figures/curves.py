"""Figures 7, 12 and 14: accuracy against epsilon, and what makes a curve freeze."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dosimeter.analysis.names import in_order, model_name, series_name
from dosimeter.presentation.style import (
    BLACK,
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
def accuracy_curves(curves: pd.DataFrame) -> Figure:
    """Draw accuracy against epsilon, one panel a model: every preset with its interval, its envelope, the paper.

    Args:
        curves: rows of one cohort and protocol, as `analysis.curves.fgsm_accuracy` returns them.
    """
    models = in_order(curves["model"])
    figure, axes = panels(len(models), 1, height=0.9 + 2.5 * len(models), sharex=True)
    for ax, model in zip(axes[:, 0], models, strict=True):
        mine = curves[curves["model"] == model]
        for (preset, storage), group in mine.groupby(["preset", "storage"]):
            _accuracy(ax, group.sort_values("epsilon"), str(preset), str(storage))
        published = mine.dropna(subset=["paper_accuracy"]).drop_duplicates("epsilon")
        ax.plot(published["epsilon"], published["paper_accuracy"], **_PUBLISHED)
        percent_axis(ax, "accuracy")
        last = model == models[-1]
        epsilon_axis(ax, curves["epsilon"], label=last, grey_levels=model == models[0])
        ax.set_title(model_name(model))
    handles = _series_handles(curves)
    handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=0.9, label="right at every epsilon up to this"))
    if has_band(curves, "ci_low", "ci_high"):
        handles.append(Patch(color=GREY, alpha=0.2, linewidth=0, label="95 % interval, each epsilon alone"))
    if has_band(curves, "band_low", "band_high"):
        handles.append(Patch(color=GREY, alpha=0.08, linewidth=0, label="95 % band, the whole curve at once"))
    if curves["paper_accuracy"].notna().any():
        handles.append(Line2D([], [], **_PUBLISHED, label="published"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@styled
def zero_gradients(curves: pd.DataFrame) -> Figure:
    """Draw accuracy above, and below it the shares of images an attack left alone, one column a model.

    Where the lower panel is high the upper one measures images that were not attacked, not robustness.

    Args:
        curves: rows of one cohort and protocol, as `analysis.curves.fgsm_accuracy` returns them.
    """
    models = in_order(curves["model"])
    figure, axes = panels(2, len(models), height=4.8, sharex=True, sharey=True)
    for column, model in enumerate(models):
        above, below = axes[:, column]
        for (preset, storage), group in curves[curves["model"] == model].groupby(["preset", "storage"]):
            look = series_look(str(preset), str(storage))
            ordered = group.sort_values("epsilon")
            above.plot(ordered["epsilon"], ordered["accuracy"], **look._asdict())
            attacked = ordered[ordered["epsilon"] > 0]  # epsilon 0 leaves every image alone
            below.plot(attacked["epsilon"], attacked["unchanged_share"], **look._asdict())
            if storage == "float":
                below.fill_between(attacked["epsilon"], attacked["grad_zero_share"], color=look.color, alpha=0.2,
                                   linewidth=0)  # fmt: skip
        for ax in (above, below):
            epsilon_axis(ax, curves["epsilon"], label=ax is below)
        below.set_xlabel("epsilon")
        above.set_title(model_name(model))
    percent_axis(axes[0, 0], "accuracy")
    percent_axis(axes[1, 0], "images left unchanged")
    handles = _series_handles(curves)
    if (curves.loc[(curves["storage"] == "float") & (curves["epsilon"] > 0), "grad_zero_share"] > 0).any():
        handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label="gradient exactly zero (floats)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


_PUBLISHED: dict[str, Any] = {"color": BLACK, "linestyle": "none", "marker": "D", "markersize": 5, "fillstyle": "none"}


def _accuracy(ax: Axes, group: pd.DataFrame, preset: str, storage: str) -> None:
    look = series_look(preset, storage)
    for low, high, alpha in (("band_low", "band_high", 0.06), ("ci_low", "ci_high", 0.1)):
        ax.fill_between(group["epsilon"], group[low], group[high], color=look.color, alpha=alpha, linewidth=0)
    ax.plot(group["epsilon"], group["accuracy_envelope"], color=look.color, linestyle=":", linewidth=0.9)
    ax.plot(group["epsilon"], group["accuracy"], **look._asdict())


def _series_handles(curves: pd.DataFrame) -> list[Line2D | Patch]:
    keys = sorted(set(zip(curves["preset"], curves["storage"], strict=True)))
    series = {key: curves[(curves["preset"] == key[0]) & (curves["storage"] == key[1])] for key in keys}
    return [
        Line2D([], [], **series_look(*key)._asdict(), label=flagged(series_name(*key), rows))
        for key, rows in series.items()
    ]
