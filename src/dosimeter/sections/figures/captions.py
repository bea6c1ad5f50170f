"""What stands under the figures of this section: only what is drawn in them."""

from collections.abc import Mapping

import pandas as pd

from dosimeter.analysis.paper import is_subject
from dosimeter.analysis.wording import HALF_GREY_LEVEL
from dosimeter.presentation.ranges import WHOLE_CURVE
from dosimeter.presentation.style import has_band

Tables = Mapping[str, pd.DataFrame]


def training() -> list[str]:
    """Return the caption of the training curves."""
    return [
        "Accuracy and cross-entropy after each epoch.",
        "The test images choose nothing; they are only watched.",
    ]


def roc(tables: Tables) -> list[str]:
    """Return the caption of the ROC curves."""
    clean = tables["clean_metrics"]
    area = clean["auc"].notna().any()
    interval = " and its 95 % interval" if has_band(clean, "auc_low", "auc_high") else ""
    return [
        "All thresholds of the positive class's score on the unperturbed test images"
        + (f", with the area under the curve{interval}." if area else "; with one class there is no curve.")
    ]


def metrics(tables: Tables) -> list[str]:
    """Return the caption of the bars without attack."""
    whiskers = has_band(tables["clean_metrics"], "accuracy_low", "accuracy_high")
    return [
        "Bars are values on the unperturbed test images at the classifier's own threshold"
        + (", whiskers 95 % intervals (none is given for F1)." if whiskers else ".")
    ]


def pictures(cohort: str, model: str, *, positive: bool) -> list[str]:
    """Return the caption of a cohort's adversarial images, made on one model."""
    called = "the one that the paper calls visible, or if that was not asked, the largest of the grid"
    larger = called if is_subject(cohort, model) else "the largest of the grid"
    return [
        (
            "One row for each attack preset and epsilon: the smallest that misclassifies this image (its flip "
            f"epsilon), and {larger}."
        ),
        (
            "The image was chosen by rule: of the correctly answered images that flip, "
            f"{'of the positive class where one did, ' if positive else ''}the one with the median flip epsilon. "
            "Beside a class stands its probability. The classifier saw floats; the picture shows their nearest 8-bit "
            "values. The perturbation is shown as its sign: white adds, black takes away, mid-grey leaves it alone."
        ),
    ]


def accuracy(tables: Tables) -> list[str]:
    """Return the caption of accuracy against epsilon."""
    curves = tables["fgsm_accuracy"]
    return [
        "Dark bands are 95 % Wilson intervals by patient, of each epsilon alone."
        if has_band(curves, "ci_low", "ci_high")
        else "",
        WHOLE_CURVE if has_band(curves, "band_low", "band_high") else "",
        "The thin dotted lines count an image as wrong from the first epsilon of the grid that misclassified it.",
        "Diamonds are the published values." if curves["paper_accuracy"].notna().any() else "",
        "The axis is linear between 0 and the smallest epsilon, logarithmic above.",
        "Left of the vertical dotted line, half a grey level, rounding to 8 bit restores an 8-bit image."
        if half_level_shown(curves["epsilon"])
        else "",
    ]


def half_level_shown(epsilons: "pd.Series[float]") -> bool:
    """Whether half a grey level lies within an axis of these doses, so that its line is drawn."""
    asked = epsilons[epsilons > 0]
    return bool(len(asked)) and bool(asked.min() < HALF_GREY_LEVEL < max(asked.max(), 10 * asked.min()))


def drop(cohort: str) -> list[str]:
    """Return the caption of one image's probabilities."""
    as_there = ", as in the paper" if is_subject(cohort) else ""
    return [
        (
            "The image with the median drop of its true class's probability among those answered correctly both before "
            f"and after the attack{as_there}; where none is left, among those answered correctly before."
        ),
        "The classifier saw floats.",
    ]


def unchanged(tables: Tables) -> list[str]:
    """Return the caption of images left unchanged."""
    curves = tables["fgsm_accuracy"]
    attacked = curves[curves["epsilon"] > 0]
    whys = []
    if (attacked.loc[attacked["storage"] == "float", "grad_zero_share"] > 0).any():
        whys.append("because their gradient is zero everywhere (shaded)")
    if (attacked.loc[attacked["storage"] != "float", "unchanged_share"] > 0).any():
        whys.append("because storing them undid the change")
    why = f", {' or '.join(whys)}. There the accuracy above says nothing of robustness." if whys else "."
    return [f"Lower panels: the share of images that the attack left exactly as they were{why}"]
