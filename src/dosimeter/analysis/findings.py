"""What a run's numbers say of what the paper claims or does: every sentence is computed, and absent if unsupported.

Of other cohorts and networks than the paper's there is nothing to say.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dosimeter.analysis.base import MODEL
from dosimeter.analysis.claims import claim
from dosimeter.analysis.names import model_name
from dosimeter.analysis.paper import is_subject
from dosimeter.analysis.repeats import first_repeat
from dosimeter.analysis.wording import (
    HALF_GREY_LEVEL,
    attacked_accuracy,
    clean_accuracy,
    curve,
    in_run_order,
    interval_words,
    mark,
    n_images,
    percent,
    point,
    records,
)
from dosimeter.record.table import Responses

CHECKED_EPSILONS = (0.001, 0.003, 0.009)  # doses that the paper calls invisible
LARGEST_TABLED = 0.0101  # the paper's tables end at 0.01
NOTABLE_WIDTH = 0.1  # of an interval
NOTABLE = 0.005  # differences in probability below it are not worth a sentence


class Finding(NamedTuple):
    """What the paper says or does, and what this run's numbers say of it.

    Attributes:
        key: short name, for machines.
        scope: cohort, protocol and model.
        claim: what is held against the numbers, a paraphrase.
        statement: the numbers.
        source: where the paper says it.
    """

    key: str
    scope: str
    claim: str
    statement: str
    source: str


class Judgement(NamedTuple):
    """What a judge found; `frozen` is `claims.claim`'s."""

    key: str
    statement: str
    frozen: bool = False


def findings(responses: Responses, tables: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Return every statement that this run's numbers support, those of its first seed; none is canned.

    Cohorts and networks that the paper does not have are passed over.

    Args:
        responses: the run's table and meta.
        tables: as `report.build.build_tables` returns them.
    """
    responses, tables = first_repeat(responses, tables)
    curves = in_run_order(tables["fgsm_accuracy"], responses.meta)
    drops = tables["probability_drop"]
    found: list[Finding] = []
    for (cohort, protocol, model), rows in curves.groupby(MODEL, sort=False):
        if not is_subject(cohort, model):
            continue
        scope = f"{cohort}, {protocol} protocol, {model_name(model)}"
        drop = drops[(drops["cohort"] == cohort) & (drops["protocol"] == protocol) & (drops["model"] == model)]
        judges = (_zero_gradient(rows), _rounded_away(rows), _colour_noise(rows), _not_monotone(rows), _survivors(drop))
        found += _said(chain(*judges), scope, str(cohort), str(model))
    for trial in responses.meta.get("cohorts", []):
        clean = tables["clean_metrics"]
        if not any(
            is_subject(trial["cohort"], model) for model in clean.loc[clean["cohort"] == trial["cohort"], "model"]
        ):
            continue
        scope = f"{trial['cohort']}, {trial['protocol']} protocol"
        found += _said(_trial(trial, responses.meta, clean), scope, trial["cohort"])
    return found


def _said(judged: Iterable[Judgement], scope: str, cohort: str, model: str = "") -> Iterator[Finding]:
    """Yield what the paper speaks of, with what it says."""
    for each in judged:
        said = claim(each.key, cohort, model, frozen=each.frozen)
        if said is not None:
            yield Finding(each.key, scope, said.text, each.statement, said.source)


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
    apart = False
    if last in sound.index:
        statement += (
            f"; with the margin loss, whose gradient does not vanish, it is {attacked_accuracy(point(sound, last))}"
        )
        apart = bool(point(sound, last)["ci_high"] < point(paper, last)["ci_low"])
    statement += "."
    if last in sound.index and point(sound, last)["grad_zero_share"] == 0:
        statement += " Under the margin loss no image has a zero gradient."
    yield Judgement("zero_gradient", statement, frozen=frozen is not None and apart)


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
    yield Judgement(
        "rounded_away",
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
    yield Judgement(
        "colour_noise",
        (
            "With three free channels a grey image becomes coloured, which no grey file can hold. At epsilon "
            f"{dose:g} accuracy is {attacked_accuracy(free)} so and {attacked_accuracy(tied)} when they are tied, so "
            "that a grey image stays grey."
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
                f"{lowest['epsilon']:.3g} but {attacked_accuracy(top)} at {top['epsilon']:.3g}"
            )
    if rises:
        yield Judgement(
            "not_monotone",
            (
                f"{_capital('; '.join(rises))}. One step along the gradient at the image itself may be no attack far "
                "from it. The envelope, which counts an image as lost at every epsilon above its first error, is drawn "
                "beside each curve."
            ),
        )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _survivors(drop: pd.DataFrame) -> Iterator[Judgement]:
    rows = drop[(drop["preset"] == "paper") & (drop["storage"] == "float") & (drop["epsilon"] <= LARGEST_TABLED)]
    rows = rows[rows["n"] > 0].sort_values("epsilon")
    if len(rows) < 2:
        return
    first, last = records(rows)[0], records(rows)[-1]
    low, high = last["decrease_low_fixed"], last["decrease_high_fixed"]
    interval = "" if pd.isna(low) else f" (95 % interval {low:.3f} to {high:.3f})"
    if last["n"] >= first["n"] or last["decrease_fixed"] - last["decrease"] < NOTABLE:
        return
    judged = mark(last)
    yield Judgement(
        "survivor_bias",
        (
            f"It is taken over fewer images, {first['n']:.0f} at epsilon {first['epsilon']:.3g} and {last['n']:.0f} "
            f"at {last['epsilon']:.3g}, whose mean original probability goes from {first['original']:.3f} to "
            f"{last['original']:.3f}. At {last['epsilon']:.3g} the drop is {last['decrease']:.3f} over those "
            f"survivors{judged}, {last['decrease_fixed']:.3f}{interval} over the {last['n_fixed']:.0f} images that "
            f"were right without attack{judged}."
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
        yield Judgement(
            "small_test_set",
            (
                f"Already without attack the accuracy of {model_name(widest['model'])} is {clean_accuracy(widest)}."
                + (" Images of one patient count for less there than as many patients." if repeated else "")
            ),
        )
    shared = trial.get("n_test_sharing_patient")
    if shared:
        yield Judgement(
            "patients_shared",
            f"{shared} of {n_images(n, 'test')} ({percent(shared / n)}) show{'s' if shared == 1 else ''} a patient who "
            "is also in training." + _unshared_protocols(trial, meta, in_run_order(clean, meta)),
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
        yield Judgement(
            "no_untouched_test_set",
            f"Choosing the epoch by the test images would have raised the accuracy reported here by up to "
            f"{100 * max(gains):.1f} points; dosimeter takes the last epoch and chooses nothing by them.",
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
