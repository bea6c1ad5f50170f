"""What stands under each figure: only what is drawn in it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from dosimeter.analysis.names import WORST_CASE
from dosimeter.analysis.paper import is_subject
from dosimeter.analysis.repeats import interval_note
from dosimeter.analysis.wording import HALF_GREY_LEVEL, MARKS, TO_A_STEP, is_marked
from dosimeter.figures.readers import has_threshold_band
from dosimeter.figures.storage import shown_presets
from dosimeter.figures.style import has_band

Tables = Mapping[str, pd.DataFrame]

_UNATTACKED = ("training", "roc", "metrics")


class Shown(NamedTuple):
    """What a caption must know of its figure.

    Attributes:
        cohort: whose images are shown.
        protocol: how they were split.
        model: whose answers, "" for all models'.
        tables: those of this cohort and protocol.
        reader_study: a study's results, of the figure on readers alone.
    """

    cohort: str
    protocol: str
    model: str
    tables: Tables
    reader_study: Mapping[str, Any] | None = None


def caption(subject: str, shown: Shown) -> str:
    """Return the caption of the figure `subject`."""
    sentences = _CAPTIONS[subject](shown)
    if subject not in _UNATTACKED:
        sentences = [*sentences, _marks(shown.tables)]
    return " ".join(sentence for sentence in sentences if sentence)


def _marks(tables: Tables) -> str:
    """Return what the signs of verdicts mean, if any evaluation of these tables has one."""
    found = {str(each) for table in tables.values() if "evaluation" in table for each in table["evaluation"].unique()}
    signs = [f"{MARKS[verdict]} {verdict}" for verdict in reversed(MARKS) if verdict in found and is_marked(verdict)]
    return f"{' and '.join(signs)}: the verdict on the evaluation that a number belongs to." if signs else ""


def _training(_: Shown) -> list[str]:
    return [
        "Accuracy and cross-entropy after each epoch.",
        "The test images choose nothing; they are only watched.",
    ]


def _roc(shown: Shown) -> list[str]:
    clean = shown.tables["clean_metrics"]
    area = clean["auc"].notna().any()
    interval = " and its 95 % interval" if has_band(clean, "auc_low", "auc_high") else ""
    return [
        "All thresholds of the positive class's score on the unperturbed test images"
        + (f", with the area under the curve{interval}." if area else "; with one class there is no curve.")
    ]


def _metrics(shown: Shown) -> list[str]:
    whiskers = has_band(shown.tables["clean_metrics"], "accuracy_low", "accuracy_high")
    return [
        "Bars are values on the unperturbed test images at the classifier's own threshold"
        + (", whiskers 95 % intervals (none is given for F1)." if whiskers else ".")
    ]


def _pictures(shown: Shown) -> list[str]:
    called = "the one that the paper calls visible, or if that was not asked, the largest of the grid"
    larger = called if is_subject(shown.cohort, shown.model) else "the largest of the grid"
    return [
        (
            "One row for each attack preset and epsilon: the smallest that misclassifies this image (its flip "
            f"epsilon), and {larger}."
        ),
        (
            "The image was chosen by rule: of the correctly answered images that flip, of the positive class where one "
            "did, the one with the median flip epsilon. Beside a class stands its probability. The classifier saw "
            "floats; the picture shows their nearest 8-bit values. The perturbation is shown as its sign: white adds, "
            "black takes away, mid-grey leaves a pixel alone."
        ),
    ]


def _accuracy(shown: Shown) -> list[str]:
    curves = shown.tables["fgsm_accuracy"]
    return [
        "Dark bands are 95 % Wilson intervals by patient, of each epsilon alone."
        if has_band(curves, "ci_low", "ci_high")
        else "",
        f"{_WHOLE_CURVE}." if has_band(curves, "band_low", "band_high") else "",
        "The thin dotted lines count an image as wrong from the first epsilon of the grid that misclassified it.",
        "Diamonds are the published values." if curves["paper_accuracy"].notna().any() else "",
        "The axis is linear between 0 and the smallest epsilon, logarithmic above.",
        "Left of the vertical dotted line, half a grey level, rounding to 8 bit restores an 8-bit image."
        if half_level_shown(curves["epsilon"])
        else "",
    ]


_WHOLE_CURVE = "Pale bands are simultaneous: in 95 % of studies they hold the whole curve at once"


def half_level_shown(epsilons: "pd.Series[float]") -> bool:
    """Whether half a grey level lies within an axis of these doses, so that its line is drawn."""
    asked = epsilons[epsilons > 0]
    return bool(len(asked)) and bool(asked.min() < HALF_GREY_LEVEL < max(asked.max(), 10 * asked.min()))


def _drop(shown: Shown) -> list[str]:
    as_there = ", as in the paper" if is_subject(shown.cohort) else ""
    return [
        (
            "The image with the median drop of its true class's probability among those answered correctly both before "
            f"and after the attack{as_there}; where none is left, among those answered correctly before."
        ),
        "The classifier saw floats.",
    ]


def _repeats(shown: Shown) -> list[str]:
    means = shown.tables["repeats"]
    band = has_band(means[means["epsilon"].notna()], "low", "high")
    return [
        "Thin lines are the seeds, each with its own training; the thick line is their mean"
        + (f", the band {interval_note([shown.protocol])}." if band else "."),
        "It is of the mean: a single seed may well lie outside." if band else "",
    ]


def _readers(shown: Shown) -> list[str]:
    study = shown.reader_study or {"curves": [], "simulated": False}
    single = any(curve["reader"] is not None for curve in study["curves"])
    pooled = [curve for curve in study["curves"] if curve["reader"] is None]
    known = any(curve["threshold"]["epsilon"] is not None for curve in pooled)
    ranged = any(level["low"] is not None for curve in pooled for level in curve["levels"])
    points = ", with 95 % Wilson intervals by image" if ranged else ""
    lines = ["the horizontal dotted line is at 75 % right"]
    lines += ["the thin vertical line is the epsilon at which that is reached"] if known else []
    lines += [_THRESHOLD_BAND] if has_threshold_band(study["curves"]) else []
    return [
        "Nobody looked at an image: these readers are simulated." if study["simulated"] else "",
        f"Points are the share of right answers of all readers together{points}; by guessing half are right.",
        "Curves are fitted psychometric functions, thick of all readers" + (", thin of each." if single else "."),
        f"T{'; '.join(lines)[1:]}.",
    ]


_THRESHOLD_BAND = (
    "the shaded span is the 95 % interval of that epsilon by a bootstrap over readers and images, cut at the "
    "panel's edge where it goes on beyond what was shown"
)


def _security(shown: Shown) -> list[str]:
    robust = shown.tables["robust_accuracy"]
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
        f"{_WHOLE_CURVE}." if whole else "",
        "The thin dotted line is the envelope of FGSM's sound preset." if sound else "",
        "A family of attacks shares a colour, each has its own marker.",
    ]


def _harm(shown: Shown) -> list[str]:
    flips = shown.tables["class_flips"]
    worst = WORST_CASE in set(flips["preset"])
    return [
        "The share of the images answered correctly without attack whose answer flips, by their true class.",
        "The two errors do not do the same harm." if set(flips["label"]) == {0, 1} else "",
        f"Bands are 95 % Wilson intervals by patient, of {'the worst case' if worst else 'the thick curve'}."
        if has_band(flips, "share_low", "share_high")
        else "",
    ]


def _susceptibility(shown: Shown) -> list[str]:
    agreed = shown.tables["rank_agreement"]
    interval = has_band(agreed, "spearman_low", "spearman_high")
    return [
        (
            "Each point is an image that both models answer correctly: the smallest epsilon at which any attack "
            "changes the answer, on the one and on the other. Points beyond a dotted line never flipped. On the grey "
            "line an image is equally fragile on both."
        ),
        "The rank correlation has a 95 % interval from a bootstrap by patient." if interval else "",
    ]


def _transfer(shown: Shown) -> list[str]:
    known = has_band(shown.tables["transfer"], "share_low", "share_high")
    return [
        (
            "The share of the images that the target answers correctly whose answer the adversarial image flips; n is "
            "their number. A row is an attack, a column an epsilon. On the diagonal, bold, the image was made on the "
            "model that answers: the white box."
        ),
        "Wilson intervals by patient are in tables/transfer.csv." if known else "",
    ]


def _cost(shown: Shown) -> list[str]:
    half = shown.tables["epsilon50"]
    half = half[half["storage"] == "float"]
    universal = (shown.tables["cost"]["attack"] == "universal").any()
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


def _visibility(shown: Shown) -> list[str]:
    curves = shown.tables["fgsm_accuracy"]
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


def _survival(shown: Shown) -> list[str]:
    survival = shown.tables["survival"]
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


def _unchanged(shown: Shown) -> list[str]:
    curves = shown.tables["fgsm_accuracy"]
    attacked = curves[curves["epsilon"] > 0]
    whys = []
    if (attacked.loc[attacked["storage"] == "float", "grad_zero_share"] > 0).any():
        whys.append("because their gradient is zero everywhere (shaded)")
    if (attacked.loc[attacked["storage"] != "float", "unchanged_share"] > 0).any():
        whys.append("because storing them undid the change")
    why = f", {' or '.join(whys)}. There the accuracy above says nothing of robustness." if whys else "."
    return [f"Lower panels: the share of images that the attack left exactly as they were{why}"]


_CAPTIONS = {
    "training": _training,
    "roc": _roc,
    "metrics": _metrics,
    "pictures": _pictures,
    "accuracy": _accuracy,
    "drop": _drop,
    "repeats": _repeats,
    "readers": _readers,
    "security": _security,
    "harm": _harm,
    "susceptibility": _susceptibility,
    "transfer": _transfer,
    "cost": _cost,
    "visibility": _visibility,
    "survival": _survival,
    "unchanged": _unchanged,
}
