"""Figures 4, 5, 9 and 10: how the networks learned, and how well they answer unperturbed images."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dosimeter.analysis.names import in_order, model_name
from dosimeter.presentation.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    WIDTH,
    has_band,
    model_color,
    panels,
    percent_axis,
    styled,
)
from dosimeter.presentation.values import roc_points

METRICS = ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc")
_NAMES = {"f1": "F1", "auc": "AUC"}


@styled
def training_curves(training: pd.DataFrame) -> Figure:
    """Draw accuracy and loss of every epoch, on training and on test images, one column a model.

    Args:
        training: rows of one cohort and protocol: model, epoch, train_loss, train_accuracy, test_loss, test_accuracy.
    """
    models = in_order(training["model"])
    figure, axes = panels(2, len(models), height=4.2, sharex=True, sharey="row")
    for column, model in enumerate(models):
        history = training[training["model"] == model].sort_values("epoch")
        for row, quantity in enumerate(("accuracy", "loss")):
            ax = axes[row, column]
            epochs = history["epoch"]
            ax.plot(epochs, history[f"train_{quantity}"], color=BLUE, label="training images")
            ax.plot(epochs, history[f"test_{quantity}"], color=VERMILLION, linestyle="--", label="test images")
        axes[0, column].set_title(model_name(model))
        axes[1, column].set_xlabel("epoch")
    columns = ["train_accuracy", "test_accuracy"]
    lowest = float(np.nanmin(training[columns].to_numpy()))
    percent_axis(axes[0, 0], "accuracy", low=min(0.5, np.floor(10 * lowest) / 10))
    axes[1, 0].set_ylabel("cross-entropy")
    axes[1, 0].set_ylim(bottom=0)
    axes[0, -1].legend(loc="lower right")
    return figure


@styled
def roc_curves(answers: pd.DataFrame, clean: pd.DataFrame) -> Figure:
    """Draw the ROC curve of every model on unperturbed images, with its AUC and interval in the legend.

    Args:
        answers: one row per (model, case) at epsilon 0: model, label, positive (its class), score (larger for it).
        clean: one row per model: model, auc, auc_low, auc_high.
    """
    figure, axes = panels(1, 1, height=4.0, width=4.2)
    ax = axes[0, 0]
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    ax.grid(axis="x")
    by_model = clean.set_index("model")
    for index, model in enumerate(in_order(by_model.index)):
        row, mine = by_model.loc[model], answers[answers["model"] == model]
        label = (mine["label"] == mine["positive"]).to_numpy(int)
        false_rate, true_rate = roc_points(label, mine["score"].to_numpy())
        area, low, high = row[["auc", "auc_low", "auc_high"]].to_numpy(dtype=float)
        interval = f" ({low:.3f} to {high:.3f})" if np.isfinite(low) else ""
        value = f"AUC {area:.3f}{interval}" if np.isfinite(area) else "AUC undefined (one class)"
        dashes = ("-", "--", "-.", ":")[index % 4]
        ax.plot(
            false_rate, true_rate, color=model_color(index), linestyle=dashes, label=f"{model_name(model)}: {value}"
        )
    ax.set_aspect("equal")
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("1 − specificity")
    ax.set_ylabel("sensitivity")
    ax.legend(loc="lower right")
    return figure


@styled
def metric_bars(clean: pd.DataFrame) -> Figure:
    """Draw bars of the metrics on unperturbed images, with the 95 % interval of each that has one as a whisker.

    Args:
        clean: one row per model: model, and for every metric of `METRICS` its value, `<metric>_low`, `<metric>_high`.
    """
    figure, axes = panels(1, 1, height=2.9, width=WIDTH)
    ax = axes[0, 0]
    width = 0.8 / max(len(clean), 1)
    metrics = [metric for metric in METRICS if clean[metric].notna().any()] or list(METRICS)
    places = np.arange(len(metrics))
    by_model = clean.set_index("model")
    for index, model in enumerate(in_order(by_model.index)):
        row = by_model.loc[model]
        values = row[metrics].to_numpy(dtype=float)
        at = places + (index - (len(clean) - 1) / 2) * width
        ax.bar(at, values, 0.92 * width, color=model_color(index), label=model_name(model))
        low, high = (
            np.array([row.get(f"{metric}_{end}", np.nan) for metric in metrics], dtype=float) for end in ("low", "high")
        )
        ax.errorbar(at, values, yerr=np.maximum([values - low, high - values], 0), fmt="none", ecolor=BLACK,
                    elinewidth=0.9, capsize=2.5)  # fmt: skip
        for x, value in zip(at, values, strict=True):
            ink = "white" if index % 2 == 0 else BLACK
            inside: dict[str, Any] = {"color": ink, "weight": "bold", "rotation": 90 if len(clean) > 1 else 0}
            ax.annotate(f"{value:.2f}", (x, 0.02), ha="center", va="bottom", fontsize=7.5, **inside)
    ax.set_xticks(places, labels=[_NAMES.get(metric, metric) for metric in metrics])
    ax.tick_params(axis="x", length=0)
    ax.set_ylim(0, 1.02)
    ax.set_ylabel("value, 95 % interval" if has_band(clean, "accuracy_low", "accuracy_high") else "value")
    figure.legend(loc="outside upper right", ncols=4)
    return figure
