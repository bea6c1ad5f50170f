"""The answer of a run in a line for each classifier, from summary.json: the last thing that a study says."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dosimeter.analysis import names
from dosimeter.analysis.names import PUBLISHED, WORST_CASE, attack_title, change_title, family, model_name
from dosimeter.analysis.wording import TO_A_STEP, n_images, unmet
from dosimeter.errors import DosimeterError
from dosimeter.files import json_in
from dosimeter.presentation.numbers import at_severity

NOT_EXAMINED = "NOT EXAMINED"


def answer(run_folder: Path) -> list[str]:
    """Return what a run found, from its summary.json.

    Raises:
        DosimeterError: the file is not there, or is not what `report.summary` writes.
    """
    path = run_folder / "summary.json"
    try:
        summary = json_in(path)
        with names.of(summary):
            return list(lines(summary))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DosimeterError(f"{path} is missing or damaged. Draw it again: dosimeter report {run_folder}") from error


def lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a run found, of what `report.summary.summarise` returns."""
    if summary["status"] != "complete":
        yield f"{summary['status'].upper()} RUN: {' '.join([*summary['incomplete'], *_failed(summary)])}".removesuffix(
            ": "
        )
    if summary["phantom"]:
        yield "PHANTOM DATA: these numbers say nothing about patients."
    for result in summary["results"]:
        yield _line(result)


def _failed(summary: Mapping[str, Any]) -> Iterator[str]:
    if n := summary["n_failed"]:
        yield f"{n_images(n)} failed (counted for each classifier): log.txt of the run's folder says why."


def _line(result: Mapping[str, Any]) -> str:
    """Return "VERDICT: classifier: epsilon50, worst case; checks that are not passed" of one classifier."""
    attack, judged = chosen(result["attacks"]), judged_of(result)
    worst = result["worst_case"]
    verdict = judged["verdict"] if judged else NOT_EXAMINED
    because = f"; {verdict}: {unmet(judged['because'])}" if judged and judged["because"] else ""
    who = (
        f"{model_name(result['model'])} on {result['cohort']} ({result['protocol']} protocol, {n_images(result['n'])})"
    )
    return f"{verdict}: {who}: {half_said(attack)}; {_worst(worst)}{_everyday(result.get('everyday'))}{because}"


def _everyday(first: Mapping[str, Any] | None) -> str:
    """Return which physical change breaks it first; "" where none was asked, or no answer was right."""
    if first is None or not first["n"]:
        return ""
    if first["censored"]:
        return f"; half not lost to any physical change ({first['n_changes']} asked)"
    where = at_severity(first["severity50"]["value"], first["unit"])
    return f"; half lost under {change_title(first['change'])} at {where}"


def judged_of(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the judgement of the evaluation that the answer of a result is from; None: it was not examined."""
    found: Mapping[str, Any] = result["worst_case"] or chosen(result["attacks"]) or {}
    family = PUBLISHED if found.get("preset") == PUBLISHED else "sound"
    return next((each for each in result.get("evaluations", ()) if each["preset"] == family), None)


def chosen(attacks: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the attack whose epsilon50 counts: of floats the worst case, else the sound preset, else another.

    The published preset's counts only where it is alone.
    """
    floats = {each["preset"]: each for each in attacks if each["storage"] == "float"}
    others = [name for name in floats if family(name) != "control"]  # of controls alone there is no answer
    others.sort(key=lambda name: bool(name == PUBLISHED))  # which no worst case takes in
    return next((floats[name] for name in (WORST_CASE, "sound", *others) if name in floats), None)


def half_said(attack: Mapping[str, Any] | None) -> str:
    """Return epsilon50 of an attack with its interval, in words."""
    if attack is None:
        return "epsilon50 not asked"
    name = attack_title(attack["preset"])
    half, levels = attack["epsilon50"], attack["grey_levels"]
    if half["value"] is None:
        return f"epsilon50 beyond the largest epsilon asked ({name})" if half["censored"] else f"no epsilon50 ({name})"
    interval = "no interval"
    if levels["low"] is not None:
        high = "beyond the largest asked" if levels["high"] is None else f"{levels['high']:.2f}"
        step = f", {TO_A_STEP}" if half.get("to_a_step_of_the_grid") else ""
        interval = f"95 % interval {levels['low']:.2f} to {high}{step}"
    return f"epsilon50 {half['value']:.2g} = {levels['value']:.2f} grey levels ({interval}; {name})"


def _worst(worst: Mapping[str, Any] | None) -> str:
    if worst is None or worst["value"] is None:
        return "no accuracy under attack"
    interval = (
        "" if worst["low"] is None else f", 95 % interval {100 * worst['low']:.1f} to {100 * worst['high']:.1f} %"
    )
    name = "over all attacks" if worst["preset"] == WORST_CASE else attack_title(worst["preset"])
    share = f"{100 * worst['value']:.1f} %"
    return f"worst-case accuracy at epsilon {worst['epsilon']:.3g} {share} ({n_images(worst['n'])}{interval}; {name})"
