"""What the section on attacks says in words: what they show, and what stands under its first table."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.attacks import FROM_POSITIVE, TO_POSITIVE, reported_doses
from dosimeter.analysis.names import WORST_CASE, attack_title, model_name, place
from dosimeter.analysis.wording import attacked_accuracy, in_run_order, joined, mark, percent, records
from dosimeter.presentation.numbers import is_missing, notes, plural
from dosimeter.presentation.ranges import accuracy_said, has_interval
from dosimeter.presentation.values import of_keys

Tables = Mapping[str, pd.DataFrame]
Row = Mapping[str, Any]

_TRIAL = ["cohort", "protocol"]
_AIMED = (
    "The attacks were to have images answered as {}. Images of that class are not attacked, and are not counted in "
    "this section."
)


def attack_sentences(tables: Tables, meta: Mapping[str, Any]) -> list[str]:
    """Return what the attacks of a run show, a sentence or two for each classifier and one for each pair of models.

    Args:
        tables: as `report.build.build_tables` returns them, of one seed.
        meta: the run's.
    """
    classes = {(card["cohort"], card["protocol"]): card["classes"] for card in meta.get("cohorts", [])}
    robust = in_run_order(tables["robust_accuracy"], meta)
    robust = robust[robust["storage"] == "float"]
    target = meta.get("config", {}).get("target")
    sentences = [_AIMED.format(target)] if target else []
    for (cohort, protocol, model), rows in robust.groupby([*_TRIAL, "model"], sort=False):
        doses = reported_doses(rows["epsilon"])
        if not doses or WORST_CASE not in set(rows["preset"]):
            continue
        middle = doses[len(doses) // 2]
        flips = of_keys(
            tables["class_flips"], {"cohort": cohort, "protocol": protocol, "model": model, "preset": WORST_CASE}
        )
        harm = _harm(flips[(flips["epsilon"] == middle) & (flips["storage"] == "float")], classes[cohort, protocol])
        where = f"{model_name(model)} on {cohort} ({protocol} protocol)"
        sentences.append(f"{where}: {_at(rows[rows['epsilon'] == middle], middle)} {harm}".strip())
    agreed = in_run_order(tables["rank_agreement"], meta)
    sentences += [_agree(row) for row in records(agreed[agreed["preset"] == WORST_CASE])]
    return sentences


def _at(rows: pd.DataFrame, epsilon: float) -> str:
    """Return what the attacks leave at one epsilon, in words."""
    by_preset = {row["preset"]: row for row in records(rows)}
    single = [row for row in by_preset.values() if row["role"] == "attack"]
    least = min(row["accuracy"] for row in single)
    best = sorted((row for row in single if row["accuracy"] == least), key=lambda row: place(row["preset"]))
    sentence = (
        f"at epsilon {epsilon:.3g} the worst case over {plural(len(single), 'attack')} leaves an accuracy of "
        f"{attacked_accuracy(by_preset[WORST_CASE])}"
    )
    if len(single) == 1:
        return f"{sentence}."
    if len(best) == len(single):
        return f"{sentence}; every single attack leaves {percent(least)}{mark(best[0])}."
    titles = joined([attack_title(row["preset"]) for row in best])
    several = len(best) > 1
    sentence += (
        f"; the strongest single attack{'s are' if several else ' is'} {titles}, which leave{'' if several else 's'} "
        f"{percent(least)}{mark(best[0])}"
    )
    known = {"sound": "FGSM's sound preset", "random_sign": "random signs"}
    others = [
        f"{name} {percent(by_preset[preset]['accuracy'])}{mark(by_preset[preset])}"
        for preset, name in known.items()
        if preset in by_preset and by_preset[preset]["accuracy"] > least
    ]
    beside = f" ({', '.join(others)})" if others else ""
    return f"{sentence}{beside}."


def _harm(flips: pd.DataFrame, classes: Sequence[str]) -> str:
    """Return the flips of both of two classes in words, to stand behind a sentence."""
    by_direction = {row["direction"]: row for row in records(flips)}
    if set(by_direction) != {FROM_POSITIVE, TO_POSITIVE}:
        return ""
    missed, alarms = by_direction[FROM_POSITIVE], by_direction[TO_POSITIVE]
    return (
        f"It turns {missed['flipped']} of {missed['n']} correctly answered images of {classes[1]} into {classes[0]}, "
        f"and {alarms['flipped']} of {alarms['n']} the other way{mark(alarms)}."
    )


def _agree(row: Row) -> str:
    where = f"{row['cohort']} ({row['protocol']} protocol)"
    pair = f"{model_name(row['model'])} and {model_name(row['other'])}"
    if is_missing(row["spearman"]):
        return f"On {where} no rank correlation of the flip epsilons of {pair} is defined."
    interval = "" if is_missing(row["spearman_low"]) else f" ({row['spearman_low']:.2f} to {row['spearman_high']:.2f})"
    return (
        f"On {where} the flip epsilons of {pair} have a rank correlation of {row['spearman']:.2f}{interval} over "
        f"{row['n']} images that both answer correctly{mark(row)}."
    )


def strength_note(tables: Tables, *, stored: bool) -> str:
    """Return the note under the table of what every attack leaves: what its rows are, of those that are there.

    Args:
        tables: robust_accuracy, epsilon50 and area, of what the table shows.
        stored: whether images were stored too.
    """
    robust = tables["robust_accuracy"]
    roles, several = set(robust["role"]), WORST_CASE in set(robust["preset"])
    apart = [
        name
        for role, name in (
            ("control", "controls"),
            ("transfer", "images made on another model"),
            ("published", "the published preset, which colours a grey image"),
        )
        if role in roles
    ]
    less = f": not {', '.join(apart)}" if apart else ""
    under = accuracy_said(robust)
    ranges = [
        words
        for words, there in (
            ("the area has a 95 % interval by patient", has_interval(tables["area"], "area")),
            ("epsilon50 has one from ranks", has_interval(tables["epsilon50"], "epsilon50")),
        )
        if there
    ]
    said = [
        f"Under each accuracy: {notes(*under)}." if under else "",
        "The worst case counts an image as lost as soon as any attack of the model itself breaks it at this or a "
        f"smaller epsilon{less}."
        if several
        else "",
        (
            "Epsilon50 flips half of the correctly answered images. The area under the curve is the mean accuracy over "
            "all epsilons up to the one named."
        ),
        f"{joined(ranges).capitalize()}." if ranges else "",
        (
            f"All epsilons{', also of stored images,' if stored else ''} are in tables/robust_accuracy.csv, area.csv "
            "and epsilon50.csv."
        ),
    ]
    return " ".join(sentence for sentence in said if sentence)
