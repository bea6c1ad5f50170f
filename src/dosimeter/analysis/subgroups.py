"""Subgroups: what a classifier is worth on the images of one view, sex, age band, scanner or source.

Accuracy over all images hides whom a classifier fails. A gap between subgroups is said only where its interval, at a
level for all gaps that are looked at together, leaves out 0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.base import CLASSIFIER, MODEL, answered, each_seed, groups, plain, roles
from dosimeter.analysis.clusters import FloatArray, per_patient
from dosimeter.analysis.flips import epsilon50
from dosimeter.analysis.intervals import difference_interval
from dosimeter.analysis.names import WORST_CASE, place
from dosimeter.analysis.shares import shares
from dosimeter.analysis.worst_case import with_worst_case

Members = Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]
"""By cohort and fact: each value and the ids of the cases that have it."""

FEWEST_IMAGES = 10
"""Images below which a subgroup has no number."""

CONFIDENCE = 0.95
"""That all gaps which a report speaks of hold the truth."""

_WHO = [*MODEL, "preset", "fact", "value"]
ACCURACY = [*_WHO, "epsilon", "n", "correct", "accuracy", "ci_low", "ci_high", "modality"]
MEDIAN = [
    *(*_WHO, "n", "n_censored", "epsilon50", "epsilon50_low", "epsilon50_high", "censored", "low_censored"),
    *("high_censored", "epsilon_max", "modality"),
]
GAPS = [
    *(*_WHO, "against", "epsilon", "n", "n_against", "accuracy", "accuracy_against"),
    *("difference", "difference_low", "difference_high", "n_gaps", "modality"),
]
OTHERS = "all others"
"""What a value is compared with, where a fact has more than two."""

Names = dict[str, Any]


def subgroup_tables(frame: pd.DataFrame, members: Members) -> dict[str, pd.DataFrame]:
    """Return the tables of all subgroups, images as floats, under the strongest attack of each classifier.

    That is the worst case over its attacks, or its only attack.

    Args:
        frame: a response table.
        members: whose images are whose; a case may be missing.

    Returns:
        subgroup_accuracy: a row per (classifier, fact, value, epsilon): n images, correct, accuracy and its interval
        (`shares`). subgroup_epsilon50: a row per (classifier, fact, value), see `flips.epsilon50`. subgroup_gaps: a row
        per (classifier, fact, value, epsilon): the difference in accuracy from the images of the other values
        (`against`) and its interval, whose level holds for n_gaps together (Bonferroni): those of the classifier
        without attack and at one epsilon. Subgroups of fewer than `FEWEST_IMAGES` images have n alone and no
        gap.
    """
    made: dict[str, Callable[[Names, pd.DataFrame, Members], Iterator[pd.DataFrame]]] = {
        "subgroup_accuracy": _accuracies,
        "subgroup_epsilon50": _medians,
        "subgroup_gaps": _gaps,
    }
    columns = {"subgroup_accuracy": ACCURACY, "subgroup_epsilon50": MEDIAN, "subgroup_gaps": GAPS}
    return {name: _analysed(frame, members, make, columns[name]) for name, make in made.items()}


def _analysed(
    frame: pd.DataFrame,
    members: Members,
    make: Callable[[Names, pd.DataFrame, Members], Iterator[pd.DataFrame]],
    columns: list[str],
) -> pd.DataFrame:
    @each_seed
    def analyse(rows: pd.DataFrame) -> pd.DataFrame:
        rows = with_worst_case(answered(rows))
        told = groups(rows, CLASSIFIER, (rows["storage"] == "float").to_numpy())
        parts = [part.assign(**names) for names, mine in told for part in make(names, _strongest(mine), members)]
        table = plain(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()
        return table.reindex(columns=columns)

    return analyse(frame)


def _strongest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the worst case of one classifier, or of its only attack; without one, of a control."""
    attacked = rows[roles(rows) != "transfer"]
    own = attacked[roles(attacked) != "control"]
    presets = sorted((own if len(own) else attacked)["preset"].unique(), key=place)
    chosen = WORST_CASE if WORST_CASE in presets else "sound" if "sound" in presets else presets[0]
    return rows[rows["preset"] == chosen]


def _told(names: Names, rows: pd.DataFrame, members: Members) -> Iterator[tuple[Names, pd.DataFrame]]:
    """Yield each subgroup that has an image, and its rows."""
    for fact, values in members.get(str(names["cohort"]), {}).items():
        for value, cases in values.items():
            mine = rows[rows["case_id"].isin(list(cases))]
            if len(mine):
                yield {"fact": fact, "value": value, "preset": str(rows["preset"].iloc[0])}, mine


def _accuracies(names: Names, rows: pd.DataFrame, members: Members) -> Iterator[pd.DataFrame]:
    for group, mine in _told(names, rows[rows["on_grid"]], members):
        table = shares(mine, ["epsilon"], "correct").assign(**group)
        table = table.rename(columns={"share": "accuracy", "low": "ci_low", "high": "ci_high"})
        numbers = ["correct", "accuracy", "ci_low", "ci_high"]
        yield table.astype({"correct": np.float64}).assign(
            **{name: table[name].where(table["n"] >= FEWEST_IMAGES) for name in numbers}
        )


def _medians(names: Names, rows: pd.DataFrame, members: Members) -> Iterator[pd.DataFrame]:
    for group, mine in _told(names, rows, members):
        if mine.loc[mine["epsilon"] == 0, "case_id"].nunique() >= FEWEST_IMAGES:
            yield epsilon50(mine).assign(**group)


def _gaps(names: Names, rows: pd.DataFrame, members: Members) -> Iterator[pd.DataFrame]:
    rows = rows[rows["on_grid"]]
    pairs = list(_pairs(members.get(str(names["cohort"]), {}), set(rows["case_id"].astype(str))))
    for fact, value, against, cases, others in pairs:
        first, second = (rows[rows["case_id"].isin(list(each))] for each in (cases, others))
        n_gaps = 2 * len(pairs)
        table = _compared(first, second, 1 - (1 - CONFIDENCE) / n_gaps)
        yield table.assign(fact=fact, value=value, against=against, n_gaps=n_gaps, preset=str(rows["preset"].iloc[0]))


Pair = tuple[str, str, str, set[str], set[str]]


def _pairs(facts: Mapping[str, Mapping[str, Sequence[str]]], asked: set[str]) -> Iterator[Pair]:
    """Yield fact, value, what it is compared with, and the cases of both: of two values once."""
    for fact, values in facts.items():
        there = {value: asked.intersection(cases) for value, cases in values.items() if asked.intersection(cases)}
        for index, (value, cases) in enumerate(there.items()):
            rest = [other for other in there if other != value]
            others = set().union(*(there[other] for other in rest))
            if min(len(cases), len(others)) < FEWEST_IMAGES or (len(rest) == 1 and index):
                continue
            yield fact, value, rest[0] if len(rest) == 1 else OTHERS, cases, others


def _compared(first: pd.DataFrame, second: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Return the accuracies of two groups of images and their difference at every epsilon that both were asked at."""
    both = pd.concat([first, second], ignore_index=True)
    patient = both["cluster"].astype(str).to_numpy()
    doses = np.intersect1d(first["epsilon"], second["epsilon"])
    chosen = np.concatenate([np.ones(len(first), bool), np.zeros(len(second), bool)])
    asked = both["epsilon"].to_numpy()[:, None] == doses  # (rows, epsilons)
    right = asked * both["correct"].to_numpy(np.float64)[:, None]

    def counted(values: FloatArray, where: Any) -> FloatArray:
        return per_patient(values * where[:, None], patient)

    sides = [(counted(right, where), counted(1.0 * asked, where)) for where in (chosen, ~chosen)]
    (hits, trials), (other_hits, other_trials) = sides
    low, high = difference_interval(hits, trials, other_hits, other_trials, confidence)
    n, n_other = trials.sum(axis=0), other_trials.sum(axis=0)
    accuracy, accuracy_other = hits.sum(axis=0) / n, other_hits.sum(axis=0) / n_other
    return pd.DataFrame(
        {
            "epsilon": doses,
            "n": n.astype(int),
            "n_against": n_other.astype(int),
            "accuracy": accuracy,
            "accuracy_against": accuracy_other,
            "difference": accuracy - accuracy_other,
            "difference_low": low,
            "difference_high": high,
        }
    )


def clear_gaps(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose interval leaves out 0."""
    return gaps[(gaps["difference_low"] > 0) | (gaps["difference_high"] < 0)]
