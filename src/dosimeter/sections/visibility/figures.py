"""Accuracy and visibility against epsilon on one axis: where they cross decides whether an attack can stay unseen."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from dosimeter.analysis.names import in_order, model_name
from dosimeter.analysis.visibility import PEAK_TO_PEAK, RULES
from dosimeter.presentation.style import (
    GREEN,
    PURPLE,
    epsilon_axis,
    flagged,
    has_band,
    panels,
    percent_axis,
    series_look,
    styled,
)

_STORED = "png8"


@styled
def visibility_curves(curves: pd.DataFrame, seen: pd.DataFrame, preset: str) -> Figure:
    """Draw one panel a model: accuracy on the left axis, JND peak to peak on the right one, survival in a file shaded.

    Args:
        curves: rows of one cohort and protocol, as `analysis.curves.fgsm_accuracy` returns them.
        seen: the same of `analysis.visibility.visibility`.
        preset: whose images are shown, as floats.
    """
    seen = seen[seen["preset"] == preset]
    models = in_order(seen["model"])
    figure, axes = panels(len(models), 1, height=1.1 + 2.5 * len(models), sharex=True)
    look = series_look(preset, "float")
    shaded = False
    for ax, model in zip(axes[:, 0], models, strict=True):
        mine = curves[(curves["model"] == model) & (curves["preset"] == preset)].sort_values("epsilon")
        floats, stored = mine[mine["storage"] == "float"], mine[mine["storage"] == _STORED]
        bounds = floats["ci_low"], floats["ci_high"]
        ax.fill_between(floats["epsilon"], *bounds, color=look.color, alpha=0.13, linewidth=0)
        ax.plot(floats["epsilon"], floats["accuracy"], **look._asdict())
        shaded |= _shade_survival(ax, stored)
        _jnd(ax, seen[(seen["model"] == model) & (seen["storage"] == "float")])
        percent_axis(ax, "accuracy")
        epsilon_axis(ax, curves["epsilon"], label=model == models[-1], grey_levels=model == models[0])
        ax.set_title(model_name(model))
    drawn = curves[(curves["preset"] == preset) & (curves["storage"] == "float")]
    label = flagged(f"accuracy, {preset} preset, floats", drawn)
    handles: list[Line2D | Patch] = [Line2D([], [], **look._asdict(), label=label)]
    handles.append(Line2D([], [], color=PURPLE, linestyle="--", label="JND, 95th percentile of pixels (right)"))
    handles.append(Line2D([], [], color=PURPLE, linestyle=":", linewidth=1, label="1 JND (right)"))
    if shaded:
        handles.append(Patch(color=GREEN, alpha=0.14, linewidth=0, label="the change survives an 8-bit file"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _jnd(ax: Axes, seen: pd.DataFrame) -> None:
    """Draw the JNDs, peak to peak, median and quartiles over images, on an axis of their own, logarithmic."""
    jnd = seen[(seen["metric"] == "jnd_p95") & (seen["median"] > 0)].sort_values("epsilon")
    right = ax.twinx()
    right.plot(jnd["epsilon"], PEAK_TO_PEAK * jnd["median"], color=PURPLE, linestyle="--")
    right.fill_between(
        jnd["epsilon"], PEAK_TO_PEAK * jnd["q1"], PEAK_TO_PEAK * jnd["q3"], color=PURPLE, alpha=0.15, linewidth=0
    )
    right.axhline(RULES["jnd"].limit, color=PURPLE, linestyle=":", linewidth=1)
    right.set_yscale("log")
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.yaxis.set_minor_formatter(NullFormatter())
    right.set_ylabel("JND, peak to peak")
    right.spines["right"].set_visible(True)
    right.grid(visible=False)


def _shade_survival(ax: Axes, stored: pd.DataFrame) -> bool:
    """Shade the epsilons at which hardly an image is restored by rounding; return whether there are any."""
    survives = stored[(stored["epsilon"] > 0) & (stored["unchanged_share"] < 0.5)]
    if survives.empty:
        return False
    ax.axvspan(survives["epsilon"].min(), 1.2 * stored["epsilon"].max(), color=GREEN, alpha=0.14, linewidth=0, zorder=0)
    return True


def visibility_caption(curves: pd.DataFrame) -> list[str]:
    """Return the caption of `visibility_curves`."""
    stored = curves[(curves["storage"] == "png8") & (curves["epsilon"] > 0)]
    interval = ", with 95 % Wilson intervals by patient" if has_band(curves, "ci_low", "ci_high") else ""
    return [
        (
            f"Left axis: accuracy{interval}. Right axis: how far 95 % of the pixels move at most, peak to peak, in "
            "just-noticeable differences on a display of 1 to 350 cd/m2 that follows DICOM's display function, at the "
            "default window; the band is the quartiles over images. 1 JND is defined for a grating on a uniform field, "
            "so it is no proof for images."
        ),
        "Shaded: the epsilons that rounding to 8 bits leaves in most images."
        if (stored["unchanged_share"] < 0.5).any()
        else "",
    ]
