"""Figures of many attacks: security curves, harm by class, which images fall first, transfer, cost against strength."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.names import PUBLISHED, WORST_CASE, attack_title, in_order, model_name, place
from dosimeter.analysis.wording import MARKS, is_marked
from dosimeter.presentation.style import (
    BLACK,
    GREY,
    VERMILLION,
    attack_look,
    class_look,
    epsilon_axis,
    flagged,
    has_band,
    panels,
    percent_axis,
    shorten,
    signed,
    styled,
)

BANDED = (WORST_CASE, "sound")
"""Presets whose intervals are drawn: those of a dozen attacks would hide one another."""

_PASSES = {0: "0", 1: "1", 10: "10", 100: "100", 1_000: "1k", 10_000: "10k", 100_000: "100k", 1_000_000: "1M"}
MANY = 2_000  # points from which on a scatter is drawn as pixels inside the SVG
_HEAT = LinearSegmentedColormap.from_list("flips", ["#ffffff", "#fdd9b5", VERMILLION, "#5a1f00"])


@styled
def security_curves(robust: pd.DataFrame) -> Figure:
    """Draw accuracy against epsilon under every attack, one panel a model, the worst case over them emphasised.

    Args:
        robust: rows of one cohort and protocol, as `analysis.attacks.robust_accuracy` returns them; images as floats
            are shown, transferred ones are not.
    """
    robust = robust[(robust["storage"] == "float") & (robust["role"] != "transfer")]
    models, presets = in_order(robust["model"]), sorted(robust["preset"].unique(), key=place)
    rows = -(-(len(presets) + 3) // 3)  # of the legend
    figure, axes = panels(len(models), 1, height=0.9 + 0.17 * rows + 2.9 * len(models), sharex=True)
    for ax, model in zip(axes[:, 0], models, strict=True):
        for preset in presets:
            curve = robust[(robust["model"] == model) & (robust["preset"] == preset)].sort_values("epsilon")
            x, color = curve["epsilon"], attack_look(preset).color
            if preset in BANDED:
                for low, high, alpha in (("band_low", "band_high", 0.06), ("ci_low", "ci_high", 0.12)):
                    ax.fill_between(x, curve[low], curve[high], color=color, alpha=alpha, linewidth=0)
                ax.plot(x, curve["accuracy_envelope"], color=color, linestyle=":", linewidth=0.9)
            control = (curve["role"] == "control").any()
            order = 2.5 if preset == WORST_CASE else 2.2 if control else 3  # thin curves show on the thick one
            ax.plot(x, curve["accuracy"], **attack_look(preset)._asdict(), zorder=order)
        percent_axis(ax, "accuracy")
        epsilon_axis(ax, robust["epsilon"], label=model == models[-1], grey_levels=model == models[0])
        ax.set_title(_judged(robust[robust["model"] == model]))
    handles: list[Line2D | Patch] = [
        Line2D([], [], **attack_look(preset)._asdict(), label=signed(_label(preset), _of(robust, preset), words=False))
        for preset in presets
    ]
    banded = robust[robust["preset"].isin(BANDED)]
    if has_band(banded, "ci_low", "ci_high"):
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0, label="95 % interval"))
    if has_band(banded, "band_low", "band_high"):
        handles.append(Patch(color=GREY, alpha=0.1, linewidth=0, label="95 % band, whole curve"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


@styled
def class_flip_curves(flips: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw the share of images that flip, by class: one panel a model, the worst case thick, single attacks thin.

    Args:
        flips: rows of one cohort and protocol, as `analysis.attacks.class_flips` returns them; images as floats and
            attacks of the model itself are shown.
        classes: their names, at most `MOST_CLASSES`.
    """
    looks = {label: class_look(label) for label in reversed(range(len(classes)))}
    flips = flips[(flips["storage"] == "float") & flips["role"].isin(["attack", "worst case"])]
    models = in_order(flips["model"])
    figure, axes = panels(1, len(models), height=3.6, sharex=True, sharey=True)
    for ax, model in zip(axes[0], models, strict=True):
        mine = flips[flips["model"] == model]
        main = WORST_CASE if WORST_CASE in set(mine["preset"]) else min(mine["preset"], key=place)
        for label, look in looks.items():
            color = look.color
            for preset, curve in mine[mine["label"] == label].groupby("preset"):
                if preset != main:
                    thin = {"linestyle": look.linestyle, "linewidth": 0.6, "alpha": 0.45}
                    ax.plot(curve["epsilon"], curve["share"], color=color, **thin)
                    continue
                band = curve["share_low"], curve["share_high"]
                ax.fill_between(curve["epsilon"], *band, color=color, alpha=0.15, linewidth=0)
                ax.plot(curve["epsilon"], curve["share"], **look._asdict())
        epsilon_axis(ax, flips["epsilon"], label=False)
        ax.set_xlabel("epsilon")
        ax.set_title(model_name(model))
    percent_axis(axes[0, 0], "images flipped")
    names = [shorten(name, 18) for name in classes]
    said = [f"{names[label]} answered as {names[1 - label] if len(names) == 2 else 'another'}" for label in looks]
    handles: list[Line2D | Patch] = [
        Line2D([], [], **look._asdict(), label=flagged(words, flips))
        for words, look in zip(said, looks.values(), strict=True)
    ]
    presets = sorted(flips["preset"].unique(), key=place)
    thick = [WORST_CASE] if WORST_CASE in presets else presets[:1]
    over = "the worst case over them" if WORST_CASE in presets else attack_title(presets[0])
    if len(presets) > 1:
        handles.append(Line2D([], [], color=GREY, linewidth=0.6, label=f"one attack; thick: {over}"))
    if has_band(flips[flips["preset"].isin(thick)], "share_low", "share_high"):
        handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label="95 % interval"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@styled
def susceptibility_scatter(ranks: pd.DataFrame, agreement: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draw each image's flip epsilon on one model against that on another, a panel for each pair of models.

    Args:
        ranks: rows of one cohort and protocol, as `analysis.susceptibility.susceptibility` returns them, of one preset
            and storage.
        agreement: rows of the same, as `analysis.susceptibility.rank_agreement` returns them.
        classes: their names, at most `MOST_CLASSES`.
    """
    pairs = list(combinations(in_order(ranks["model"]), 2))
    columns = min(2, len(pairs))
    lines = -(-len(pairs) // columns)
    width, height = (4.4, 4.9) if columns == 1 else (5.8, 0.7 + 3.2 * lines)
    figure, axes = panels(lines, columns, height=height, width=width)
    for ax, (first, second) in zip(axes.flat, pairs, strict=False):
        flips = ranks[["model", "case_id", "label", "flip_epsilon"]]
        one, other = (flips[flips["model"] == model].drop(columns="model") for model in (first, second))
        both = one.merge(other.drop(columns="label"), on="case_id", suffixes=("", "_other"))
        _scatter(ax, both, ranks["flip_epsilon"], classes)
        ax.set_xlabel(f"flip epsilon, {model_name(first)}")
        ax.set_ylabel(f"flip epsilon, {model_name(second)}")
        found = agreement[agreement["model"].isin([first, second]) & agreement["other"].isin([first, second])]
        ax.set_title(signed(_correlation(found), found), fontsize=8, fontweight="normal")
    for ax in axes.flat[len(pairs) :]:
        ax.set_axis_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


@styled
def transfer_matrices(transfer: pd.DataFrame) -> Figure:
    """Draw the share of images that flip, source model by target model: a row an attack, a column an epsilon.

    Args:
        transfer: rows of one cohort and protocol, as `analysis.attacks.transfer` returns them; floats are shown.
    """
    transfer = transfer[transfer["storage"] == "float"]
    doses, presets = reported_doses(transfer["epsilon"]), sorted(transfer["preset"].unique(), key=place)
    models = in_order([*transfer["made_on"], *transfer["model"]])
    size = max(1.35, 0.62 * len(models))
    figure, axes = panels(len(presets), len(doses), height=0.9 + (size + 0.35) * len(presets), sharex=True, sharey=True)
    for row, preset in enumerate(presets):
        for column, dose in enumerate(doses):
            chosen = transfer[(transfer["preset"] == preset) & (transfer["epsilon"] == dose)]
            _matrix(axes[row, column], chosen, models)
            axes[row, column].set_title(f"{attack_title(preset)}, {dose:g}" if column == 0 else f"{dose:g}")
        axes[row, 0].set_ylabel("made on")
    for ax in axes[-1]:
        ax.set_xlabel("answered by")
    return figure


@styled
def cost_against_strength(cost: pd.DataFrame, epsilon50: pd.DataFrame) -> Figure:
    """Draw the epsilon that flips half of the images against the passes spent on one, a panel a model.

    Args:
        cost: rows of one cohort and protocol, as `analysis.attacks.cost` returns them.
        epsilon50: rows of the same, as `analysis.flips.epsilon50` returns them; floats are shown.
    """
    table = cost[cost["role"].isin(["attack", "published", "control"])].merge(
        epsilon50[epsilon50["storage"] == "float"].drop(
            columns=["n", "cohort", "protocol", "evaluation"], errors="ignore"
        ),
        on=["model", "preset"],
    )
    table = table.assign(passes=table["gradients_median"].fillna(0) + table["queries_median"].fillna(0))
    models, presets = in_order(table["model"]), sorted(table["preset"].unique(), key=place)
    rows = -(-len(presets) // 3)
    figure, axes = panels(1, len(models), height=3.2 + 0.17 * rows, sharex=True, sharey=True)
    edge = 1.5 * float(table["epsilon_max"].max())
    for ax, model in zip(axes[0], models, strict=True):
        for row in table[table["model"] == model].to_dict("records"):
            _strength(ax, row, edge)
        _passes_axis(ax, float(table["passes"].max()))
        _strength_axis(ax, table, edge)
        ax.set_title(_judged(table[table["model"] == model]), fontsize=7.5)
    axes[0, 0].set_ylabel("epsilon that flips half of the images")
    handles = [Line2D([], [], **{**attack_look(preset)._asdict(), "linestyle": "none"},
                      label=signed(_label(preset), _of(table, preset), words=False)) for preset in presets]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _strength(ax: Axes, row: Mapping[Any, Any], edge: float) -> None:
    """Draw one attack's epsilon50 with its interval; beyond the largest epsilon asked it stands at `edge`."""
    look = attack_look(row["preset"])
    low, high = row["epsilon50_low"], edge if row["high_censored"] else row["epsilon50_high"]
    if not row["censored"] and not pd.isna(low):
        ax.plot([row["passes"]] * 2, [low, high], color=look.color, linewidth=0.7)
    y = edge if row["censored"] else row["epsilon50"]
    ax.plot(row["passes"], y, color=look.color, marker=look.marker, markersize=6, fillstyle=look.fillstyle)


def _passes_axis(ax: Axes, most: float) -> None:
    ax.set_xscale("symlog", linthresh=1)
    last = max(10.0, 2 * most)
    ax.set_xlim(-0.3, last)
    ticks = [tick for tick in _PASSES if tick <= last]
    ax.set_xticks(ticks, [_PASSES[tick] for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("passes for one image")


def _strength_axis(ax: Axes, table: pd.DataFrame, edge: float) -> None:
    lowest = float(table["epsilon50_low"].fillna(table["epsilon50"]).min())
    lowest = lowest / 1.3 if lowest > 0 else edge / 100
    ax.set_yscale("log")
    ax.set_ylim(lowest, 1.25 * edge)
    _decimal(ax.yaxis, lowest, edge / 1.2)
    ax.axhline(edge, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)


def _of(table: pd.DataFrame, preset: str) -> pd.DataFrame:
    return table[table["preset"] == preset]


def _judged(rows: pd.DataFrame) -> str:
    """Return a panel's title: its model, and which of its attacks belong to which evaluation that is to be marked."""
    said = []
    for verdict, sign in reversed(MARKS.items()):
        presets = {str(preset) for preset in rows.loc[rows["evaluation"] == verdict, "preset"]}
        if presets and is_marked(verdict):
            published = [attack_title(PUBLISHED)] if PUBLISHED in presets else []
            others = ["all others" if PUBLISHED in set(rows["preset"]) else "all"] if presets - {PUBLISHED} else []
            said.append(f"{sign} {verdict}: {' and '.join(published + others)}")
    return "\n".join([model_name(rows["model"].iloc[0]), *said])


def _label(preset: str) -> str:
    return "worst case over attacks" if preset == WORST_CASE else attack_title(preset)


def _scatter(ax: Axes, both: pd.DataFrame, flips: "pd.Series[float]", classes: Sequence[str]) -> None:
    """Draw pairs of flip epsilons; those that never flipped stand beyond a dotted line."""
    known = flips.dropna()
    first, last = (float(known.min()), float(known.max())) if len(known) else (1e-3, 1e-2)
    line, edge = 1.25 * last, 1.6 * last
    for label in reversed(range(len(classes))):
        color, _, marker, *_ = class_look(label)
        fill = color if label else "none"
        chosen = both[both["label"] == label]
        x, y = (chosen[name].fillna(edge) for name in ("flip_epsilon", "flip_epsilon_other"))
        ax.scatter(x, y, s=20, marker=marker, edgecolors=color, facecolors=fill, alpha=0.75, linewidths=0.9,
                   label=f"{shorten(classes[label], 24)}", rasterized=len(chosen) > MANY)  # fmt: skip
    ax.plot([first, last], [first, last], color=GREY, linewidth=0.7, zorder=1)
    for draw in (ax.axhline, ax.axvline):
        draw(line, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    ax.text(0.015, 0.985, "never flips", transform=ax.transAxes, va="top", color=GREY, fontsize=7)
    ax.text(0.985, 0.015, "never flips", transform=ax.transAxes, ha="right", rotation=90, color=GREY, fontsize=7)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(first / 1.4, edge * 1.25)
    ax.set_ylim(first / 1.4, edge * 1.25)
    for axis in (ax.xaxis, ax.yaxis):
        _decimal(axis, first / 1.4, line)
    ax.set_aspect("equal")


def _decimal(axis: Axis, low: float, high: float) -> None:
    """Give a logarithmic axis ticks at 1, 2, 5 of each decade from `low` to `high`, or at 1 alone if they are many."""
    steps = (1, 2, 5) if high < 100 * low else (1,)
    ticks = [step * 10.0**power for power in range(-7, 1) for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def _correlation(found: pd.DataFrame) -> str:
    if found.empty or pd.isna(found["spearman"].iloc[0]):
        return "no rank correlation"
    row = found.iloc[0]
    interval = "" if pd.isna(row["spearman_low"]) else f" ({row['spearman_low']:.2f} to {row['spearman_high']:.2f})"
    return f"rank correlation {row['spearman']:.2f}{interval}\nof n = {row['n']} images that both answer correctly"


def _matrix(ax: Axes, rows: pd.DataFrame, models: Sequence[str]) -> None:
    shares = np.full((len(models), len(models)), np.nan)
    counts = np.zeros(shares.shape, dtype=int)
    signs = [["" for _ in models] for _ in models]
    for row in rows.to_dict("records"):
        cell = models.index(row["made_on"]), models.index(row["model"])
        shares[cell], counts[cell] = row["share"], row["n"]
        signs[cell[0]][cell[1]] = MARKS[row["evaluation"]] if is_marked(row["evaluation"]) else ""
    ax.imshow(shares, cmap=_HEAT, vmin=0, vmax=1)
    ax.grid(visible=False)
    for (source, target), share in np.ndenumerate(shares):
        if np.isnan(share):
            ax.text(target, source, "–", ha="center", va="center", color=GREY)
            continue
        color = "white" if share > 0.55 else BLACK
        weight = "bold" if source == target else "normal"
        text = f"{100 * share:.0f} %{signs[source][target]}\nn = {counts[source, target]}"
        ax.text(target, source, text, ha="center", va="center", color=color, fontsize=7.5, fontweight=weight)
    names = [shorten(model_name(model), 13) for model in models]
    ax.set_xticks(range(len(models)), names)
    ax.set_yticks(range(len(models)), names)
    ax.tick_params(length=0)
