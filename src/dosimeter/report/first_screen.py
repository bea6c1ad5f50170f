"""The first screen of a report: for each classifier what it bears, in one card, from the numbers of summary.json.

The last lines of a command say the same (`report.answer`), from the same numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dosimeter.analysis.names import WORST_CASE, attack_title, change_title, model_name, storage_name
from dosimeter.analysis.wording import n_images, unmet
from dosimeter.presentation.numbers import at_severity, dose, percent, percent_range, plural
from dosimeter.report.answer import NOT_EXAMINED, chosen, judged_of
from dosimeter.units import GREY_LEVELS_8BIT

MOST = 4
"""Cards shown; of more classifiers there is a table, the most fragile first."""

ONE_JND = 1.0
"""Just noticeable difference: what an observer sees half of the time."""


class Fact(NamedTuple):
    """One number of a card: what it is, its value, and what stands under it; `mark` is the verdict it carries."""

    name: str
    value: str
    note: str = ""
    mark: str = ""


class Card(NamedTuple):
    """What one classifier bears.

    Attributes:
        verdict: on its evaluation.
        because: what speaks against it; "" if nothing.
        sentence: fragile or not.
        order: the smaller the more fragile.
    """

    name: str
    where: str
    verdict: str
    because: str
    sentence: str
    facts: tuple[Fact, ...]
    order: float


def cards(results: Sequence[Mapping[str, Any]]) -> list[Card]:
    """Return a card for each result of `report.summary.summarise`, the most fragile classifier first."""
    return sorted((_card(result) for result in results), key=lambda card: card.order)


def _card(result: Mapping[str, Any]) -> Card:
    attack, judged = chosen(result["attacks"]), judged_of(result)
    verdict = judged["verdict"] if judged else NOT_EXAMINED
    half = None if attack is None else attack["grey_levels"]["value"]
    censored = attack is not None and bool(attack["epsilon50"]["censored"])
    order = float("inf") if half is None else float(half)
    facts = _half(attack), _worst(result), _clean(result), _stored(result), _seen(result, half), _everyday(result)
    return Card(
        name=model_name(result["model"]),
        where=f"{result['cohort']}, {result['protocol']} protocol, {n_images(result['n'])}",
        verdict=verdict,
        because=unmet(judged["because"]) if judged and judged["because"] else "",
        sentence=_sentence(half, censored=censored, verdict=verdict, attacked=attack is not None),
        facts=tuple(filter(None, facts)),
        order=order,
    )


def _sentence(half: float | None, *, censored: bool, verdict: str, attacked: bool) -> str:
    if not attacked:
        return "It was not attacked."
    doubt = " Its evaluation is UNRELIABLE, so it may be more fragile than this." if verdict == "UNRELIABLE" else ""
    if half is None:
        held = f"It withstands what was tried: fewer than half of its right answers changed.{doubt}"
        return held if censored else "There was no right answer to attack."
    fragile = "Fragile: half" if half < 1 else "Half"
    return f"{fragile} of its right answers change within {half:.2g} grey levels of 255.{doubt}"


def _half(attack: Mapping[str, Any] | None) -> Fact | None:
    if attack is None:
        return None
    half, levels = attack["epsilon50"], attack["grey_levels"]
    mark = attack.get("evaluation") or ""
    if half["value"] is None:
        said = "beyond the largest asked" if half["censored"] else "none"
        return Fact("epsilon50", said, attack_title(attack["preset"]), mark)
    interval = "no interval"
    if levels["low"] is not None:
        high = "beyond the largest asked" if levels["high"] is None else f"{levels['high']:.2f}"
        interval = f"95 % interval {levels['low']:.2f} to {high}"
    return Fact("epsilon50, in grey levels", f"{levels['value']:.2f}", f"{interval}; epsilon {half['value']:.2g}", mark)


def _worst(result: Mapping[str, Any]) -> Fact | None:
    worst = result["worst_case"]
    if worst is None or worst["value"] is None:
        return None
    interval = percent_range(worst["low"], worst["high"], 0)
    by = "worst case" if worst["preset"] == WORST_CASE else attack_title(worst["preset"])
    name = f"right at epsilon {worst['epsilon']:.3g}, {by}"
    level = f"{worst['epsilon'] * GREY_LEVELS_8BIT:.2f} grey levels"
    note = f"95 % interval {interval}; {level}" if interval else level
    return Fact(name, percent(worst["value"]), note, worst.get("evaluation") or "")


def _clean(result: Mapping[str, Any]) -> Fact:
    clean = result["accuracy"]
    interval = percent_range(clean["low"], clean["high"], 0)
    return Fact("right without attack", percent(clean["value"]), f"95 % interval {interval}" if interval else "")


def _stored(result: Mapping[str, Any]) -> Fact | None:
    """Return whether a file keeps the perturbation, by the way to store that needs the least."""
    kept = [each for each in result.get("storage", ()) if each["deployed_epsilon"]["value"] is not None]
    if not any(each["n"] for each in result.get("storage", ())):
        return None
    if not kept:
        return Fact("flips kept by a file", "no", "up to the largest epsilon asked, for half of the images")
    least = min(kept, key=lambda each: each["deployed_epsilon"]["value"])
    value = least["deployed_epsilon"]["value"]
    name = storage_name(least["storage"])
    note = f"{name} undoes less; epsilon {value:.2g}, half of {n_images(least['n'])}"
    flag = least["evaluation"] or ""
    return Fact("flips kept by a file", f"from {value * GREY_LEVELS_8BIT:.2f} grey levels", note, flag)


def _seen(result: Mapping[str, Any], half: float | None) -> Fact | None:
    """Return whether it would be seen, by the display model, at the epsilon asked that is nearest to epsilon50."""
    rows = [
        row for row in result.get("visibility", ())
        if row["metric"] == "jnd_p95" and row["storage"] == "float" and row["preset"] in ("sound", "pgd")
    ]  # fmt: skip
    if not rows or half is None:
        return None
    nearest = min(rows, key=lambda row: abs(row["epsilon"] * GREY_LEVELS_8BIT - half))
    jnd = nearest["median"]
    said = "hardly" if jnd < ONE_JND else "possibly"
    note = f"a display model, not readers: {jnd:.1f} JND at epsilon {nearest['epsilon']:.3g}"
    return Fact("would be seen", said, note)


def _everyday(result: Mapping[str, Any]) -> Fact | None:
    """Return which physical change that may be seen least loses half, or that none of those asked does."""
    first = result.get("everyday")
    if first is None or not first["n"]:
        return None
    title, unit, farthest = change_title(first["change"]), first["unit"], first["severity_max"]
    asked = plural(first["n_changes"], "physical change")
    if first["censored"]:
        most = f"most, {percent(first['lost_max'])}, under {title} at {at_severity(farthest, unit)}"
        return Fact("half lost to a physical change", "no", f"{asked} asked; {most}")
    half = first["severity50"]
    interval = "no interval"
    if half["low"] is not None:
        high = f"beyond {dose(farthest)}" if first["high_censored"] else dose(half["high"])
        interval = f"95 % interval {dose(half['low'])} to {high}"
    seen = f"; of {asked} the least visible that does" if first["n_changes"] > 1 else ""
    return Fact(f"half lost to {title} at", at_severity(half["value"], unit), f"{interval}{seen}")
