"""What the answers of a study say, as JSON types: for people, for the run's table, for the report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dosimeter.analysis.intervals import Interval, proportion_interval
from dosimeter.errors import DosimeterError
from dosimeter.readers.design import KIND_NAMES, Design
from dosimeter.readers.psychometric import Bound, FloatArray, d_prime, fit, in_words
from dosimeter.readers.store import Store

KINDS = ("adversarial", "random")
FEW_TRIALS = 20
"""Answers of a reader at one epsilon below which a threshold is only rough."""


def results(design: Design, store: Store) -> dict[str, Any]:
    """Return thresholds, levels and catch trials of a study, for each reader and for all together.

    Readers are known by their numbers: a pseudonym may be telling.

    Returns:
        What the study is (study, created, digest, run_id, phantom, simulated, window, n_images, epsilons, cohort,
        protocol, seed, model, preset); n_readers with answers, n_trials of each, n_answers; curves, one for each kind
        and reader, and reader None for all together: n, n_images, threshold, low, high (each with epsilon, beyond and
        words), centre, width, lapse, and levels (epsilon, changed, n, right, share, low, high, d_prime, d_prime_low,
        d_prime_high); catch, one for each reader and None: n, n_left, share_left, low, high; displays: n_checked, and
        n_both of them saw both squares of the test pattern.

    Raises:
        DosimeterError: there is no answer yet.
    """
    answers = [answer for answer in store.answers() if not answer["practice"]]
    if not answers:
        raise DosimeterError("this study has no answers yet. Let readers answer with `dosimeter readers serve STUDY`.")
    readers = sorted({answer["reader"] for answer in answers})
    displays = [display for display in store.displays().values() if display]
    return {
        "study": design.study_id,
        "created": design.created,
        "digest": design.digest,
        "run_id": design.run_id,
        "phantom": design.phantom,
        "simulated": store.simulated,
        "window": design.window,
        **design.curve,
        "epsilons": list(design.epsilons),
        "n_images": len({pair.case_id for pair in design.pairs}),
        "n_trials": len(design.pairs),
        "n_readers": len(readers),
        "n_answers": len(answers),
        "curves": list(_curves(design, answers, readers)),
        "catch": list(_catch(design, answers, readers)),
        "displays": {"n_checked": len(displays), "n_both": sum(_both(display) for display in displays)},
    }


def sentences(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `results` says, line by line."""
    if found["simulated"]:
        yield "SIMULATED READERS: these numbers test the instrument; nobody looked at an image."
    if found["phantom"]:
        yield "PHANTOM IMAGES: computer-generated; they say nothing about radiographs."
    yield (
        f"study {found['study']}: {found['preset']} on {found['model']}, {found['cohort']}, {found['protocol']} "
        f"protocol; {found['n_readers']} readers, {found['n_answers']} answers"
    )
    for curve in found["curves"]:
        who = f"{KIND_NAMES[curve['kind']]}, {reader_name(curve['reader'])}"
        yield f"{who}: 75 % threshold {threshold_words(curve)}, {curve['n']} answers on {curve['n_images']} images"
        few = min(level["n"] for level in curve["levels"])
        if curve["reader"] is not None and few < FEW_TRIALS:
            yield f"  only {few} answers at one epsilon: fewer than {FEW_TRIALS} give a rough threshold"
    for catch in found["catch"]:
        known = catch["low"] is not None
        share = f"95 % interval {100 * catch['low']:.0f} to {100 * catch['high']:.0f} %; " if known else ""
        yield (
            f"catch trials, {reader_name(catch['reader'])}: left in {catch['n_left']} of {catch['n']} identical pairs "
            f"({share}without bias 50 %)"
        )


def reader_name(number: int | None) -> str:
    """Return "reader 3", or "all readers" for None."""
    return "all readers" if number is None else f"reader {number}"


def threshold_words(curve: Mapping[str, Any]) -> str:
    """Return "epsilon 0.0123 (95 % interval 0.0100 to 0.0150)", or what is known instead."""
    value, known = curve["threshold"]["words"], interval_words(curve)
    number = f"epsilon {value}" if curve["threshold"]["epsilon"] is not None else value
    return f"{number} (95 % interval {known})" if known else f"{number} (no interval)"


def interval_words(curve: Mapping[str, Any]) -> str:
    """Return a threshold's interval as "0.0100 to 0.0150"; "" if an end is not known."""
    ends = [curve[name] for name in ("low", "high")]
    if any(end["epsilon"] is None and not end["beyond"] for end in ends):
        return ""
    return " to ".join(dict.fromkeys(end["words"] for end in ends))


def _curves(design: Design, answers: Sequence[Mapping[str, Any]], readers: list[int]) -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        right, n = _count(design, answers, readers, kind)
        for place in (None, *range(len(readers))):
            mine = slice(None) if place is None else slice(place, place + 1)
            if n[mine].sum():
                reader = None if place is None else readers[place]
                yield {"kind": kind, "reader": reader, **_curve(design, kind, right[mine], n[mine])}


def _curve(design: Design, kind: str, right: FloatArray, n: FloatArray) -> dict[str, Any]:
    epsilons = np.array(design.epsilons)
    curve, *bounds = fit(epsilons, right, n)
    names = ("threshold", "low", "high")
    return {
        "n": int(n.sum()),
        "n_images": int((n.sum(axis=(0, 2)) > 0).sum()),
        **{name: _described(bound, epsilons) for name, bound in zip(names, bounds, strict=True)},
        "centre": curve.centre,
        "width": curve.width,
        "lapse": curve.lapse,
        "levels": [
            _level(design, kind, epsilon, k, trials)
            for epsilon, k, trials in zip(design.epsilons, right.sum(0).T, n.sum(0).T, strict=True)  # (images,) each
        ],
    }


def _described(bound: Bound, epsilons: FloatArray) -> dict[str, Any]:
    return {**bound._asdict(), "words": in_words(bound, epsilons)}


def _level(design: Design, kind: str, epsilon: float, by_image: FloatArray, asked: FloatArray) -> dict[str, Any]:
    shown = [pair.changed for pair in design.pairs if (pair.kind, pair.epsilon) == (kind, epsilon)]
    right, n = float(by_image.sum()), float(asked.sum())
    low, high = proportion_interval(by_image, asked)
    sensitivity = d_prime(right, n, Interval(low, high))
    numbers = {
        "share": right / n if n else np.nan,
        "low": float(low),
        "high": float(high),
        "d_prime": sensitivity.d_prime,
        "d_prime_low": sensitivity.low,
        "d_prime_high": sensitivity.high,
    }
    known = {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}
    return {"epsilon": epsilon, "changed": float(np.mean(shown)), "n": int(n), "right": int(right), **known}


def _count(
    design: Design, answers: Sequence[Mapping[str, Any]], readers: list[int], kind: str
) -> tuple[FloatArray, FloatArray]:
    """Return right answers and answers of one kind, (readers, images, levels) each."""
    cases = sorted({pair.case_id for pair in design.pairs})
    shape = (len(readers), len(cases), len(design.epsilons))
    right, n = np.zeros(shape), np.zeros(shape)
    for answer in answers:
        pair = design.pairs[answer["pair"]]
        if pair.kind == kind:
            where = readers.index(answer["reader"]), cases.index(pair.case_id), design.epsilons.index(pair.epsilon)
            n[where] += 1
            right[where] += answer["chosen"] == answer["altered"]
    return right, n


def _catch(design: Design, answers: Sequence[Mapping[str, Any]], readers: list[int]) -> Iterator[dict[str, Any]]:
    catches = [answer for answer in answers if design.pairs[answer["pair"]].kind == "catch"]
    for reader in (None, *readers):
        mine = [answer for answer in catches if reader in (None, answer["reader"])]
        if mine:
            n_left = sum(answer["chosen"] == "left" for answer in mine)
            left = np.array([answer["chosen"] == "left" for answer in mine], np.float64)
            bounds = [float(bound) for bound in proportion_interval(left, np.ones(len(left)))]
            low, high = (None if np.isnan(bound) else bound for bound in bounds)
            share = {"share_left": n_left / len(mine), "low": low, "high": high}
            yield {"reader": reader, "n": len(mine), "n_left": n_left, **share}


def _both(display: Mapping[str, Any]) -> bool:
    return bool(display["dark_seen"] and display["bright_seen"])
