"""What a run's own numbers say of the paper's claims: every sentence is computed, and absent if unsupported."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dosimeter.analysis.repeats import first_repeat
from dosimeter.analysis.wording import (
    HALF_GREY_LEVEL,
    attacked_accuracy,
    clean_accuracy,
    curve,
    in_run_order,
    interval_words,
    model_name,
    percent,
    point,
    records,
)
from dosimeter.responses import Responses

CHECKED_EPSILONS = (0.001, 0.003, 0.009)  # doses that the paper calls invisible
Judgement = tuple[str, str, str]  # key, claim, statement
LARGEST_TABLED = 0.0101  # the paper's tables end at 0.01
NOTABLE_WIDTH = 0.1  # of an interval
NOTABLE = 0.005  # differences in probability below it are not worth a sentence


class Finding(NamedTuple):
    """A statement of the paper or of common practice, and what this run's numbers say of it.

    Attributes:
        key: short name, for machines.
        scope: cohort, protocol and model.
        claim: what is held against the numbers.
        statement: the numbers.
    """

    key: str
    scope: str
    claim: str
    statement: str


def findings(responses: Responses, tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return every statement that this run's numbers support, those of its first seed; none is canned.

    Args:
        responses: the run's table and meta.
        tables: as `tables.build_tables` returns them.
    """
    responses, tables = first_repeat(responses, tables)
    curves = in_run_order(tables["fgsm_accuracy"], responses.meta)
    drops = tables["probability_drop"]
    found: list[Finding] = []
    for (cohort, protocol, model), rows in curves.groupby(["cohort", "protocol", "model"], sort=False):
        scope = f"{cohort}, {protocol} protocol, {model_name(model)}"
        drop = drops[(drops["cohort"] == cohort) & (drops["protocol"] == protocol) & (drops["model"] == model)]
        for judge in (_zero_gradient, _rounded_away, _colour_noise, _not_monotone):
            found += (Finding(key, scope, claim, statement) for key, claim, statement in judge(rows))
        found += (Finding(key, scope, claim, statement) for key, claim, statement in _survivors(drop))
    for trial in responses.meta.get("cohorts", []):
        scope = f"{trial['cohort']}, {trial['protocol']} protocol"
        judged = _trial(trial, responses.meta, tables["clean_metrics"])
        found += (Finding(key, scope, claim, statement) for key, claim, statement in judged)
    return found


def _zero_gradient(rows: pd.DataFrame) -> Iterator[Judgement]:
    paper, sound = curve(rows, "paper"), curve(rows, "sound")
    zero = float(paper["grad_zero_share"].max()) if len(paper) else 0.0
    doses = [float(dose) for dose in paper.index if 0 < dose <= LARGEST_TABLED]
    if not zero > 0 or not doses:
        return
    n, k = int(paper["n"].iloc[0]), round(zero * int(paper["n"].iloc[0]))
    most = records(paper.nlargest(1, "grad_zero_share"))[0]
    between = interval_words(most["grad_zero_low"], most["grad_zero_high"])
    last = doses[-1]
    frozen = _frozen_from(paper, doses)
    statement = (
        f"Under the paper's loss {k} of {n} images ({percent(zero)}, {between}) have a gradient that is "
        "exactly zero: sign(0) = 0, so they are never perturbed, whatever epsilon is. Accuracy "
        + (f"does not move from epsilon {frozen:g} on; at {last:g} it is " if frozen else f"at epsilon {last:g} is ")
        + attacked_accuracy(point(paper, last))
    )
    claim = "An image that FGSM leaves correctly classified has withstood a perturbation."
    if last in sound.index:
        statement += (
            f"; with the margin loss, whose gradient does not vanish, it is {attacked_accuracy(point(sound, last))}"
        )
        if frozen and point(sound, last)["ci_high"] < point(paper, last)["ci_low"]:
            claim = "A classifier whose accuracy freezes as epsilon grows is robust to FGSM."
    statement += "."
    if last in sound.index and point(sound, last)["grad_zero_share"] == 0:
        statement += " Under the margin loss no image has a zero gradient."
    yield "zero_gradient", claim, statement


def _frozen_from(rows: pd.DataFrame, doses: Sequence[float]) -> float | None:
    """Return the dose from which on, at three doses at least, the same number of images is right."""
    correct = [point(rows, dose)["correct"] for dose in doses]
    first = next(place for place in range(len(doses)) if len(set(correct[place:])) == 1)
    return doses[first] if len(doses) - first >= 3 else None


def _rounded_away(rows: pd.DataFrame) -> Iterator[Judgement]:
    stored, sound = curve(rows, "sound", "png8"), curve(rows, "sound")
    doses = [dose for dose in stored.index if 0 < dose < HALF_GREY_LEVEL and dose in sound.index]
    gone = [dose for dose in doses if point(stored, dose)["unchanged_share"] == 1]
    if not gone or 0.0 not in stored.index:
        return
    worst = max(gone, key=lambda dose: point(stored, dose)["accuracy"] - point(sound, dose)["accuracy"])
    if point(sound, worst)["correct"] >= point(stored, worst)["correct"]:
        return
    yield (
        "rounded_away",
        "Perturbations this small threaten a deployed system.",
        (
            f"At {len(gone)} of the {len(doses)} epsilons below half a grey level ({HALF_GREY_LEVEL:.5f}) an 8-bit "
            f"file holds the original image again, pixel by pixel. At epsilon {worst:g} accuracy is "
            f"{attacked_accuracy(point(sound, worst))} on images in memory and "
            f"{attacked_accuracy(point(stored, worst))} on images in 8-bit files, where without attack it is "
            f"{attacked_accuracy(point(stored, 0.0))}."
        ),
    )


def _colour_noise(rows: pd.DataFrame) -> Iterator[Judgement]:
    paper, sound = curve(rows, "paper"), curve(rows, "sound")
    doses = [dose for dose in CHECKED_EPSILONS if dose in paper.index and dose in sound.index]
    if not doses or paper["grad_zero_share"].max() > 0:  # then the loss differs too, and nothing can be ascribed
        return
    dose = max(doses, key=lambda each: abs(point(paper, each)["accuracy"] - point(sound, each)["accuracy"]))
    free, tied = point(paper, dose), point(sound, dose)
    if free["correct"] == tied["correct"]:
        return
    yield (
        "colour_noise",
        "FGSM on three replicated channels perturbs a grey image.",
        (
            "It makes a grey image coloured, which no grey file can hold. At epsilon "
            f"{dose:g} accuracy is {attacked_accuracy(free)} with three free channels and "
            f"{attacked_accuracy(tied)} when they are tied, so that a grey image stays grey."
        ),
    )


def _not_monotone(rows: pd.DataFrame) -> Iterator[Judgement]:
    rises = []
    for preset in ("paper", "sound"):
        raw = curve(rows, preset)
        if raw.empty:
            continue
        points = records(raw.reset_index())
        place, lowest = min(enumerate(points), key=lambda each: each[1]["correct"])
        top = max(points[place:], key=lambda each: each["correct"])
        if top["correct"] - lowest["correct"] > max(1, 0.05 * lowest["n"]):
            rises.append(
                f"under the {preset} preset accuracy is {attacked_accuracy(lowest)} at epsilon "
                f"{lowest['epsilon']:g} but {attacked_accuracy(top)} at {top['epsilon']:g}"
            )
    if rises:
        yield (
            "not_monotone",
            "The larger epsilon, the lower the accuracy.",
            (
                "One step along the gradient at the image itself is no longer an attack far from it: "
                f"{'; '.join(rises)}. The envelope, which counts an image as lost at every epsilon above its first "
                "error, is drawn beside each curve."
            ),
        )


def _survivors(drop: pd.DataFrame) -> Iterator[Judgement]:
    rows = drop[(drop["preset"] == "paper") & (drop["storage"] == "float") & (drop["epsilon"] <= LARGEST_TABLED)]
    rows = rows[rows["n"] > 0].sort_values("epsilon")
    if len(rows) < 2:
        return
    first, last = rows.iloc[0], rows.iloc[-1]
    low, high = last["decrease_low_fixed"], last["decrease_high_fixed"]
    interval = "" if pd.isna(low) else f" (95 % interval {low:.3f} to {high:.3f})"
    if last["n"] >= first["n"] or last["decrease_fixed"] - last["decrease"] < NOTABLE:
        return
    yield (
        "survivor_bias",
        "The mean probability drop of the images still classified correctly measures robustness.",
        (
            f"It is taken over fewer images, {first['n']:.0f} at epsilon {first['epsilon']:g} and {last['n']:.0f} "
            f"at {last['epsilon']:g}, whose mean original probability goes from {first['original']:.3f} to "
            f"{last['original']:.3f}. At {last['epsilon']:g} the drop is {last['decrease']:.3f} over those survivors, "
            f"{last['decrease_fixed']:.3f}{interval} over the {last['n_fixed']:.0f} images that were right without "
            "attack."
        ),
    )


def _width(row: Mapping[str, Any]) -> float:
    """Return how wide the interval of an accuracy is; all of it where too few images or patients have none."""
    width = float(row["accuracy_high"] - row["accuracy_low"])
    return 1.0 if np.isnan(width) else width


def _trial(trial: Mapping[str, Any], meta: Mapping[str, Any], clean: pd.DataFrame) -> Iterator[Judgement]:
    n = trial["n_test"]
    tested = clean[(clean["cohort"] == trial["cohort"]) & (clean["protocol"] == trial["protocol"])]
    widest = max(records(tested), key=_width, default=None)
    if widest and _width(widest) > NOTABLE_WIDTH:
        repeated = (tested["n_patients"] < tested["n"]).any()
        yield (
            "small_test_set",
            "An accuracy such as 55.56 % is known to two decimals.",
            (
                f"Already without attack the accuracy of {model_name(widest['model'])} is {clean_accuracy(widest)}."
                + (" Images of one patient count for less there than as many patients." if repeated else "")
            ),
        )
    shared = trial.get("n_test_sharing_patient")
    if shared:
        yield (
            "patients_shared",
            "Test images are new to the classifier.",
            f"{shared} of {n} test images ({percent(shared / n)}) show a patient who is also in training."
            + _unshared_protocols(trial, meta, in_run_order(clean, meta)),
        )
    watched = [card for card in meta.get("classifiers", []) if card["cohort"] == trial["cohort"]]
    best = [
        max(card["history"], key=lambda epoch: epoch["test_accuracy"])
        for card in watched
        if card["protocol"] == trial["protocol"] and card.get("history")
    ]
    last = [card["history"][-1] for card in watched if card["protocol"] == trial["protocol"] and card.get("history")]
    gains = [top["test_accuracy"] - end["test_accuracy"] for top, end in zip(best, last, strict=True)]
    if gains and max(gains) > 0:
        yield (
            "no_untouched_test_set",
            "The best accuracy during training is the classifier's accuracy.",
            (
                "The paper validates on its test images. Choosing the epoch by them would have raised the accuracy "
                f"reported here by up to {100 * max(gains):.1f} points; dosimeter takes the last epoch and chooses "
                "nothing by them."
            ),
        )


def _unshared_protocols(trial: Mapping[str, Any], meta: Mapping[str, Any], clean: pd.DataFrame) -> str:
    clean = clean[clean["cohort"] == trial["cohort"]]
    trials = [other for other in meta.get("cohorts", []) if other["cohort"] == trial["cohort"]]
    unshared = [other["protocol"] for other in trials if other.get("n_test_sharing_patient") == 0]
    sentences = []
    for model, rows in clean.groupby("model", sort=False):
        accuracy = {row["protocol"]: row for row in records(rows)}
        own = accuracy.pop(trial["protocol"], None)
        for protocol in unshared:
            if own and (other := accuracy.get(protocol)):
                sentences.append(
                    f" {model_name(model)} reaches {clean_accuracy(own)} here and {clean_accuracy(other)} under the "
                    f"{protocol} protocol, without shared patients."
                )
    return "".join(sentences)
