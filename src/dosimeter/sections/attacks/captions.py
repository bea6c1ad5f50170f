"""What stands under the figures of this section: only what is drawn in them."""

from collections.abc import Mapping

import pandas as pd

from dosimeter.analysis.attacks import FROM_POSITIVE, TO_POSITIVE
from dosimeter.analysis.names import WORST_CASE
from dosimeter.analysis.wording import TO_A_STEP
from dosimeter.presentation.ranges import WHOLE_CURVE
from dosimeter.presentation.style import has_band

Tables = Mapping[str, pd.DataFrame]


def security(tables: Tables) -> list[str]:
    """Return the caption of accuracy under every attack."""
    robust = tables["robust_accuracy"]
    drawn = robust[(robust["storage"] == "float") & (robust["role"] != "transfer")]
    roles, presets = set(drawn["role"]), set(drawn["preset"])
    worst, sound = WORST_CASE in presets, "sound" in presets
    left_out = " Neither is part of the worst case." if worst and {"published", "control"} <= roles else (
        " It is not part of the worst case." if worst and "published" in roles else ""
    )  # fmt: skip
    banded = {
        name: drawn[drawn["preset"] == preset]
        for preset, name in ((WORST_CASE, "the worst case"), ("sound", "FGSM's sound preset"))
    }
    alone = [name for name, rows in banded.items() if has_band(rows, "ci_low", "ci_high")]
    whole = any(has_band(rows, "band_low", "band_high") for rows in banded.values())
    return [
        "Images as floats.",
        "The thick black curve is the worst case: an image counts as lost as soon as any attack of the model itself "
        "breaks it at this or a smaller epsilon; it is no average over attacks."
        if worst
        else "",
        "The published preset colours a grey image." if "published" in roles else "",
        "Grey curves are controls, random noise." if "control" in roles else "",
        left_out.strip(),
        f"Dark bands are 95 % Wilson intervals by patient, of each epsilon alone, of {' and '.join(alone)}."
        if alone
        else "",
        WHOLE_CURVE if whole else "",
        "The thin dotted line is the envelope of FGSM's sound preset." if sound else "",
        "A family of attacks shares a colour, each has its own marker.",
    ]


def harm(tables: Tables) -> list[str]:
    """Return the caption of the flips by class."""
    flips = tables["class_flips"]
    worst = WORST_CASE in set(flips["preset"])
    return [
        "The share of the images answered correctly without attack whose answer flips, by their true class.",
        "The two errors do not do the same harm." if set(flips["direction"]) == {FROM_POSITIVE, TO_POSITIVE} else "",
        f"Bands are 95 % Wilson intervals by patient, of {'the worst case' if worst else 'the thick curve'}."
        if has_band(flips, "share_low", "share_high")
        else "",
    ]


def susceptibility(tables: Tables) -> list[str]:
    """Return the caption of which images fall first."""
    agreed = tables["rank_agreement"]
    interval = has_band(agreed, "spearman_low", "spearman_high")
    return [
        (
            "Each point is an image that both models answer correctly: the smallest epsilon at which any attack "
            "changes the answer, on the one and on the other. Points beyond a dotted line never flipped. On the grey "
            "line an image is equally fragile on both."
        ),
        "The rank correlation has a 95 % interval from a bootstrap by patient." if interval else "",
    ]


def transfer(tables: Tables) -> list[str]:
    """Return the caption of the transfer matrices."""
    known = has_band(tables["transfer"], "share_low", "share_high")
    return [
        (
            "The share of the images that the target answers correctly whose answer the adversarial image flips; n is "
            "their number. A row is an attack, a column an epsilon. On the diagonal, bold, the image was made on the "
            "model that answers: the white box."
        ),
        "Wilson intervals by patient are in tables/transfer.csv." if known else "",
    ]


def cost(tables: Tables) -> list[str]:
    """Return the caption of cost against strength."""
    half = tables["epsilon50"]
    half = half[half["storage"] == "float"]
    universal = (tables["cost"]["attack"] == "universal").any()
    return [
        (
            "Further down is stronger, further left is cheaper. Passes are gradients and queries together, the median "
            "over images, for all epsilons; a gradient costs about as much as two queries."
        ),
        "The universal perturbation was learned beforehand on training images, which is not counted."
        if universal
        else "",
        "Lines are 95 % intervals from ranks, by patient."
        if (half["epsilon50_low"].notna() & ~half["censored"].astype(bool)).any()
        else "",
        f"Where a line ends at neighbouring epsilons of the grid it is known {TO_A_STEP}."
        if half["grid_step"].any()
        else "",
        "On the dotted line fewer than half of the images flipped at all." if half["censored"].any() else "",
    ]
