"""What survives storage: the share of flips that a file keeps, against epsilon."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dosimeter.analysis.names import attack_title, in_order, model_name, place, storage_name, storages_in_order
from dosimeter.presentation.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Look,
    epsilon_axis,
    has_band,
    panels,
    percent_axis,
    signed,
    styled,
)

LOOKS = {
    "png8": Look(GREEN, "--", "^"),
    "png16": Look(GREY, "-", "s"),
    "jpeg95": Look(ORANGE, "-", "o"),
    "jpeg90": Look(ORANGE, "--", "v"),
    "jpeg75": Look(ORANGE, ":", "D"),
    "dicom12": Look(BLUE, "-", "o"),
    "dicom16": Look(SKY, "-", "P"),
    "dicom-mono1": Look(PURPLE, "--", "X"),
    "ct-hu": Look(VERMILLION, "-.", "h"),
}
_SPARE = (Look(BLUE, ":", "P"), Look(GREEN, ":", "*"), Look(PURPLE, ":", "d"))


def storage_look(storage: str) -> Look:
    """Return the look of a storage's curve; one of another package has one of its own."""
    return LOOKS.get(storage) or _SPARE[sum(map(ord, storage)) % len(_SPARE)]


MOST = 3
"""Attacks shown side by side; the others are in the table."""


@styled
def survival_curves(survival: pd.DataFrame) -> Figure:
    """Draw the share of flips that survive each storage: a row a model, a column an attack.

    Args:
        survival: rows of one cohort and protocol, as `analysis.storage.survival` returns them; those without a flip are
            left out.
    """
    shown = survival[survival["n"] > 0]
    models, presets = in_order(shown["model"]), shown_presets(shown)
    figure, axes = panels(len(models), len(presets), height=0.9 + 2.3 * len(models), sharex=True, sharey=True)
    for line, model in zip(axes, models, strict=True):
        for ax, preset in zip(line, presets, strict=True):
            mine = shown[(shown["model"] == model) & (shown["preset"] == preset)]
            for storage, curve in mine.groupby("storage"):
                look = storage_look(str(storage))
                band = curve["share_low"], curve["share_high"]
                ax.fill_between(curve["epsilon"], *band, color=look.color, alpha=0.1, linewidth=0)
                ax.plot(curve["epsilon"], curve["share"], **look._asdict())
            epsilon_axis(ax, shown["epsilon"], label=False)
            ax.set_title(signed(f"{model_name(model)}\n{attack_title(preset)}", mine), fontsize=8)  # three side by side
        percent_axis(line[0], "flips that survive")
    for ax in axes[-1]:
        ax.set_xlabel("epsilon")
    names = storages_in_order(shown["storage"])
    handles = [Line2D([], [], **storage_look(name)._asdict(), label=storage_name(name)) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def shown_presets(survival: pd.DataFrame) -> list[str]:
    """Return the attacks to show, at most `MOST`: the sound preset before the published one, which colours an image."""
    first = ("sound", "stored_pgd", "pgd")
    presets = sorted(survival["preset"].unique(), key=lambda preset: (preset not in first, place(preset)))
    return presets[:MOST]


def survival_caption(survival: pd.DataFrame) -> list[str]:
    """Return the caption of `survival_curves`."""
    drawn = survival[survival["preset"].isin(shown_presets(survival[survival["n"] > 0]))]
    return [
        (
            "Of the correctly answered images that flip as floats at an epsilon, the share whose file flips too, once "
            "it was written, read again and classified."
        ),
        "Bands are 95 % Wilson intervals by patient; where few images flip they are wide."
        if has_band(drawn, "share_low", "share_high")
        else "",
        "All attacks and storages are in tables/survival.csv.",
    ]
