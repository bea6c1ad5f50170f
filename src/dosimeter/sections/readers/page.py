"""The report's section "What readers saw": thresholds of readers beside what the classifier does."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.names import attack_title, model_name
from dosimeter.analysis.wording import mark, records
from dosimeter.presentation.numbers import (
    DASH,
    Cell,
    count,
    decimal,
    decimal_range,
    dose,
    marked,
    percent,
    percent_range,
    words,
)
from dosimeter.presentation.views import Head, View
from dosimeter.readers.design import KIND_NAMES
from dosimeter.readers.results import KINDS, interval_words, reader_name
from dosimeter.sections.readers.figures import of_study

Study = Mapping[str, Any]

BESIDE = {"jnd_p95": "JND, p95", "noise_ratio": "RMS / own noise"}
"""The metrics of visibility that stand beside what readers saw."""


def reader_views(studies: Sequence[Study], tables: Mapping[str, pd.DataFrame]) -> Iterator[View]:
    """Yield two tables of each study: thresholds, and what was seen at every epsilon beside the classifier's accuracy.

    Args:
        studies: the run's entry `readers`.
        tables: as `report.build.build_tables` returns them.
    """
    for study in studies:
        yield _thresholds(study)
        yield _levels(study, tables)


def reader_sentences(studies: Sequence[Study], tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Yield what each study says of its attack: the readers' threshold, and where the classifier fails."""
    for study in studies:
        pooled = {each["kind"]: each for each in study["curves"] if each["reader"] is None}.get("adversarial")
        if pooled is None:
            continue
        known = interval_words(pooled)
        interval = f"95 % interval {known}" if known else "no interval"
        text = (
            f"{_who(study)} saw {_what(study)}: they were right in 75 % of the trials at epsilon "
            f"{pooled['threshold']['words']} ({interval}; {pooled['n']} answers on {pooled['n_images']} images)."
        )
        half = records(of_study(tables["epsilon50"], study).dropna(subset=["epsilon50"]))
        if half:
            value = float(half[0]["epsilon50"])
            text += f" Half of the correctly answered images have flipped at epsilon {dose(value)}{mark(half[0])}, "
            text += f"{_place(value, pooled)}." if known else "for comparison."
        yield text


def _thresholds(study: Study) -> View:
    rows = [
        [
            Cell(KIND_NAMES[curve["kind"]], kind="name"),
            words(reader_name(curve["reader"])),
            Cell(count(curve["n"])),
            Cell(count(curve["n_images"])),
            Cell(curve["threshold"]["words"], interval_words(curve)),
        ]
        for curve in study["curves"]
    ]
    catch = next((each for each in study["catch"] if each["reader"] is None), None)
    known = any(interval_words(curve) for curve in study["curves"])
    over = "Under a threshold its 95 % interval, by a bootstrap over readers and images; of one reader, over images."
    note = over if known else "No threshold has an interval."
    if catch is not None:
        between = percent_range(catch["low"], catch["high"])
        note += (
            f" Of {catch['n']} pairs of identical images the left one was chosen in {percent(catch['share_left'])}"
            f"{f' ({between})' if between else ''}; without bias it would be half."
        )
    displays = study["displays"]
    if displays["n_checked"]:
        note += (
            f" {displays['n_both']} of {displays['n_checked']} readers who looked saw both squares of the test pattern."
        )
    heads = ("change", "who", "answers", "images", "75 % threshold, epsilon")
    return View(f"Thresholds: {_title(study)}", [[Head(name) for name in heads]], rows, note)


def _levels(study: Study, tables: Mapping[str, pd.DataFrame]) -> View:
    curves = of_study(tables.get("robust_accuracy", tables["fgsm_accuracy"]), study)
    accuracy = {row["epsilon"]: row for row in records(curves)}
    seen = _metrics(study, tables)
    pooled = {each["kind"]: each for each in study["curves"] if each["reader"] is None}
    rows = []
    for place, epsilon in enumerate(study["epsilons"]):
        cells = [cell for kind in KINDS for cell in _level(pooled.get(kind), place)]
        row = accuracy.get(epsilon)
        attacked = Cell(DASH)
        if row is not None:
            attacked = marked(Cell(percent(row["accuracy"]), percent_range(row["ci_low"], row["ci_high"])), row)
        metrics = [_metric(seen.get((metric, epsilon))) for metric in BESIDE]
        rows.append([Cell(dose(epsilon), kind="name"), *cells, *metrics, attacked])
    top = [Head("epsilon", rows=2), *(Head(KIND_NAMES[kind], span=3) for kind in KINDS)]
    top += [Head(name, rows=2) for name in (*BESIDE.values(), "accuracy")]
    sub = [Head(name) for _ in KINDS for name in ("pixels changed", "right", "d′")]
    known = any(level["low"] is not None for curve in pooled.values() for level in curve["levels"])
    return View(
        f"Seen at each epsilon: {_title(study)}",
        [top, sub],
        rows,
        "All readers together. Guessing is right in half of the trials, and d′ is then 0. “Pixels changed” is the mean "
        f"share that differs once rounded to 8 bits, as shown.{_WILSON if known else ''}{_METRICS if seen else ''} "
        "Accuracy is the classifier’s under the attack. A dash: the run did not ask at that epsilon.",
    )


_WILSON = (
    " Intervals are Wilson’s, 95 %, by image: answers about one image count for less than as many images; they hold "
    "for these readers."
)
_METRICS = " Metrics, of the attack's images, are medians over the test images, under them the quartiles."


def _metrics(study: Study, tables: Mapping[str, pd.DataFrame]) -> dict[tuple[str, float], Mapping[str, Any]]:
    """Return the rows of the visibility table on the study's attack, by metric and epsilon."""
    if "visibility" not in tables:
        return {}
    return {(row["metric"], row["epsilon"]): row for row in records(of_study(tables["visibility"], study))}


def _metric(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell(DASH)
    return marked(Cell(f"{row['median']:.2f}", f"{row['q1']:.2f} to {row['q3']:.2f}"), row)


def _level(curve: Mapping[str, Any] | None, place: int) -> list[Cell]:
    if curve is None or not curve["levels"][place]["n"]:
        return [Cell(DASH)] * 3
    level = curve["levels"][place]
    right = Cell(f"{percent(level['share'])} of {level['n']}", percent_range(level["low"], level["high"]))
    sensitivity = Cell(decimal(level["d_prime"], 2), decimal_range(level["d_prime_low"], level["d_prime_high"], 2))
    return [Cell(percent(level["changed"])), right, sensitivity]


def _place(value: float, curve: Mapping[str, Any]) -> str:
    low, high = curve["low"], curve["high"]
    if low["beyond"] == "above" or (low["epsilon"] is not None and value < low["epsilon"]):
        return "below that interval"
    if high["beyond"] == "below" or (high["epsilon"] is not None and value > high["epsilon"]):
        return "above that interval"
    return "within that interval" if low["epsilon"] is not None and high["epsilon"] is not None else "for comparison"


def _who(study: Study) -> str:
    n = study["n_readers"]
    return f"{n} {'SIMULATED ' if study['simulated'] else ''}reader{'s' if n > 1 else ''}"


def _what(study: Study) -> str:
    images = "phantom images" if study["phantom"] else "images"
    return f"{images} of {study['cohort']} ({study['protocol']} protocol), altered by {_attack(study)}"


def _title(study: Study) -> str:
    simulated = "SIMULATED readers, " if study["simulated"] else ""
    return f"{simulated}study {study['study']}, {study['cohort']}, {_attack(study)}"


def _attack(study: Study) -> str:
    return f"{attack_title(study['preset'])} on {model_name(study['model'])}"
