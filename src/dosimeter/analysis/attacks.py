"""What many attacks together say of a classifier: robust accuracy, harm by class, gain over noise, transfer, cost.

Every analysis takes the response table and knows the worst case over attacks (see `worst_case`) beside them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis.base import (
    CLASSIFIER,
    CURVE,
    GROUP,
    MODEL,
    TRIAL,
    answered,
    each_seed,
    groups,
    joined,
    places,
    plain,
    roles,
    unperturbed,
)
from dosimeter.analysis.clusters import Effective, count_alike, effective, normal_quantile, over, per_patient
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.findings import CHECKED_EPSILONS
from dosimeter.analysis.intervals import FloatArray, Interval, score_interval, unit_mean_interval
from dosimeter.analysis.names import WORST_CASE, in_attack_order
from dosimeter.analysis.shares import shares
from dosimeter.analysis.worst_case import with_worst_case

CONTROL = "random_sign"
"""The preset that an attack's gain is over."""

SMALL_LIMIT = 0.01
"""The largest epsilon of the paper's tables; accuracy beyond it says little of perturbations that nobody sees."""

ATTACK = ["attack", "effort", "made_on", "role"]
ROBUST = [
    *(*CURVE, *ATTACK, "epsilon", "n", "correct", "accuracy", "ci_low", "ci_high"),
    *("band_low", "band_high", "accuracy_envelope", "sensitivity", "specificity", "modality"),
]
AREA = [*CURVE, *ATTACK, "epsilon_max", "n", "area", "area_low", "area_high", "modality"]
FLIPS = [
    *(*CURVE, *ATTACK, "label", "direction", "epsilon"),
    *("n", "flipped", "share", "share_low", "share_high", "modality"),
]
TRANSFER = [
    *(*TRIAL, "made_on", "model", "preset", "storage", "attack", "epsilon"),
    *("n", "flipped", "share", "share_low", "share_high", "modality"),
]
GAIN = [
    *(*CURVE, *ATTACK, "control", "epsilon", "n", "attack_only", "control_only", "drop", "control_drop"),
    *("gain", "gain_low", "gain_high", "modality"),
]
_SPENT = {"gradients": "n_gradients", "queries": "n_queries", "seconds": "duration_s"}
COST = [
    *(*MODEL, "preset", *ATTACK, "n"),
    *(f"{name}{part}" for name in _SPENT for part in ("_median", "_low", "_high", "_total")),
    "modality",
]
TO_POSITIVE, FROM_POSITIVE = "to positive", "from positive"
"""What a flipped image's answer did: a false alarm, or a missed patient."""


def reported_doses(epsilons: "pd.Series[float]") -> list[float]:
    """Return the doses of the grid nearest to those that the paper calls invisible, ascending, each once."""
    grid = sorted({float(epsilon) for epsilon in epsilons if epsilon > 0})
    return sorted({min(grid, key=lambda each: abs(each - dose)) for dose in CHECKED_EPSILONS}) if grid else []


@each_seed
def robust_accuracy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy left by every attack, control and transfer, and by the worst case, at every epsilon.

    Args:
        frame: a response table.

    Returns:
        One row per (cohort, protocol, model, preset, storage, epsilon): attack, effort, made_on (the model whose
        images these are, "" for its own) and role, one of `taxonomy.ROLES`; n images, correct; accuracy with its
        interval, ci_low and ci_high, and the band of the whole curve, band_low and band_high; accuracy_envelope, the
        share not answered wrongly at this or any smaller epsilon; sensitivity and specificity. Of the worst case
        accuracy is its own envelope.
    """
    rows = with_worst_case(answered(frame))
    table = fgsm_accuracy(rows).merge(attack_facts(rows), on=[*CURVE, "modality"], how="left")
    return ordered(table, ROBUST)


@each_seed
def area(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the area under each accuracy curve, epsilon being linear, as a share of what perfect accuracy would give.

    It is the mean accuracy over all epsilons up to a largest: 1 if nothing ever flips, 0 if nothing was ever right. It
    depends on the grid and the largest epsilon: compare only areas of one grid.

    Args:
        frame: a response table.

    Returns:
        Two rows a curve, up to the grid's largest epsilon and up to 0.01 (`epsilon_max`, the largest of the grid that
        does not exceed it); n images that were answered at every epsilon; area with its interval
        (`intervals.unit_mean_interval`).
    """
    rows = with_worst_case(answered(frame))
    curves = groups(rows, [*GROUP, *ATTACK[:-1]], rows["on_grid"])
    parts = [row for names, group in curves for row in _areas(group, names)]
    return ordered(pd.DataFrame(parts, columns=[*GROUP, *ATTACK[:-1], *AREA[AREA.index("epsilon_max") : -1]]), AREA)


@each_seed
def class_flips(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how many images of each class every attack flips, of those answered correctly without attack.

    The harm differs: a negative made positive is a false alarm, a positive made negative is a missed patient.

    Args:
        frame: a response table.

    Returns:
        One row per curve, class and epsilon above 0: label (the true class) and direction (`FROM_POSITIVE`, or of two
        classes `TO_POSITIVE`; "" where the answer may have become any of several); n images of that class that were
        right, flipped of them, and the share with its interval (`shares`).
    """
    rows = with_worst_case(answered(frame))
    parts = [
        (
            names | {"positive": group["positive"].iloc[0], "of": group["n_classes"].iloc[0]},
            flip_counts(group, ["label"]),
        )
        for names, group in groups(rows, [*GROUP, *ATTACK[:-1]], rows["on_grid"])
    ]
    table = joined_shares(parts, [*GROUP, *ATTACK[:-1], "label", "positive", "of"])
    direction = np.select([table["label"] == table["positive"], table["of"] == 2], [FROM_POSITIVE, TO_POSITIVE], "")
    return ordered(table.assign(direction=direction), FLIPS)


@each_seed
def transfer(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the transfer matrices: how often images made on one model flip the answer of another.

    Args:
        frame: a response table with rows of presets such as "pgd from vgg16".

    Returns:
        One row per (source `made_on`, target `model`, attack's preset, storage, epsilon above 0): n images that the
        target answers correctly without attack, flipped of them, and the share with its interval (`shares`). Where
        source and target are one it is the white box. Empty if nothing was transferred.
    """
    rows = answered(frame, [*GROUP, "attack", "made_on", "on_grid", "case_id", "cluster", "epsilon", "correct"])
    elsewhere = rows["on_grid"] & (rows["made_on"] != "")
    moved = list(groups(rows, [*GROUP, "attack", "made_on"], elsewhere))
    for names, _ in moved:
        names["preset"] = names["preset"].removesuffix(f" from {names['made_on']}")
    own = rows["on_grid"] & (rows["made_on"] == "") & rows["preset"].isin({names["preset"] for names, _ in moved})
    white = [(names | {"made_on": names["model"]}, group) for names, group in groups(rows, [*GROUP, "attack"], own)]
    parts = [(names, flip_counts(group, [])) for names, group in (*moved, *white)]
    table = joined_shares(parts, [*GROUP, "attack", "made_on"])
    return in_attack_order(table, [*TRIAL, "made_on", "model"])[TRANSFER]


@each_seed
def gain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each attack does beyond random signs of the same epsilon: the part of the drop that is adversarial.

    Args:
        frame: a response table with the preset `random_sign`.

    Returns:
        One row per curve and epsilon above 0, over the n images that both answered: attack_only images are wrong under
        the attack alone, control_only under random signs alone; drop and control_drop are the falls in accuracy; gain
        is their difference, with Newcombe's interval for paired proportions (`paired_by_patient`). Empty without the
        control.
    """
    rows = with_worst_case(answered(frame))
    rows = rows[[*GROUP, *ATTACK[:-1], "on_grid", "case_id", "cluster", "epsilon", "correct"]]
    control = rows["on_grid"] & (rows["preset"] == CONTROL)
    controls = {_trial(names): group for names, group in groups(rows, GROUP, control)}
    parts = [
        (names, _gains(group, controls[_trial(names)]))
        for names, group in groups(rows, [*GROUP, *ATTACK[:-1]], rows["on_grid"] & (roles(rows) != "control"))
        if _trial(names) in controls
    ]
    own = [name for name in GAIN if name != "role"]
    table = joined(parts) if parts else pd.DataFrame(columns=own)
    return ordered(table.assign(control=CONTROL), GAIN)


@each_seed
def cost(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each attack took an image: gradients, queries and seconds, for all epsilons and storages together.

    Seconds are the wall time of a cell shared equally by its rows, so they hold the answers to the grid and the
    refinement of flips too, and depend on the machine; gradients and queries do not.

    Args:
        frame: a response table.

    Returns:
        n images; `_median` an image, `_low` and `_high` the quartiles over images, which tell the spread and are no
        confidence interval, and `_total`. Null where the table has no record.
    """
    keys = [*CLASSIFIER, "preset", *ATTACK[:-1]]
    rows = answered(frame, [*keys, "case_id", *_SPENT.values()])
    parts = []
    for names, group in groups(rows, keys, rows["attack"] != WORST_CASE):
        cases = group.groupby("case_id", observed=True)
        spent = {name: cases[column].sum(min_count=1) if name == "seconds" else cases[column].max()
                 for name, column in _SPENT.items()}  # fmt: skip
        row: dict[str, Any] = {**names, "n": len(cases)}
        for name, values in spent.items():
            low, median, high = values.quantile([0.25, 0.5, 0.75])
            row |= {f"{name}_median": median, f"{name}_low": low, f"{name}_high": high}
            row[f"{name}_total"] = values.sum(min_count=1)
        parts.append(row)
    return ordered(pd.DataFrame(parts, columns=[*keys, *COST[COST.index("n") : -1]]), COST)


def paired_difference(both: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, n: npt.ArrayLike) -> Interval:
    """Return Newcombe's 95 % interval of (first - second) / n, the difference of two proportions of the same n images.

    It keeps its width where a bootstrap has none: where no image or every image differs. It takes images as
    independent: where patients have several, use `paired_by_patient`.

    Args:
        both: images that count in both proportions.
        first: that count in the first alone.
        second: that count in the second alone.
        n: all images.

    Source: Newcombe, Stat. Med. 17 (1998) 2635, method 10: Wilson's intervals of both proportions, squared and added,
        with the correlation of the pairs, corrected for continuity.
    """
    a, b, c, total = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (both, first, second, n)))
    return _newcombe(a, b, c, Effective(total, np.full(total.shape, normal_quantile(0.95))))


def paired_by_patient(both: FloatArray, first: FloatArray, second: FloatArray, trials: FloatArray) -> Interval:
    """Return `paired_difference` of images some of which are of one patient: of as many as these are worth.

    `clusters.effective` says how many, for the difference: informative are patients with an image that counts once,
    and those of mixed images. Without a patient of two images it is `paired_difference`.

    Args:
        both: (patients, ...) images of each patient that count in both proportions.
        first: (patients, ...) that count in the first alone.
        second: (patients, ...) that count in the second alone.
        trials: (patients, ...) all images.

    Returns:
        Arrays (...), NaN with fewer than three images or patients.
    """
    n = trials.sum(axis=0)
    differ, apart = (over(each.sum(axis=0), n) for each in (first + second, first - second))
    mixed = trials - np.maximum(np.maximum(first, second), trials - first - second)
    informative = count_alike(trials, first + second > 0) + mixed.sum(axis=0)
    sample = effective(first - second, trials, differ - apart**2, informative)
    a, b, c = (over(each.sum(axis=0), n) * sample.n for each in (both, first, second))
    return _newcombe(a, b, c, sample)


def _newcombe(a: FloatArray, b: FloatArray, c: FloatArray, sample: Effective) -> Interval:
    """Return the interval from how many of `sample` count in both, in the first alone, in the second alone."""
    total = sample.n
    d = total - a - b - c
    p, q = (a + b) / total, (a + c) / total
    excess = a * d - b * c
    excess = np.where(excess > 0, np.maximum(excess - total / 2, 0), excess)
    spread = np.sqrt(np.maximum((a + b) * (c + d) * (a + c) * (b + d), 0))
    phi = np.where(spread > 0, excess / np.where(spread > 0, spread, 1), 0.0)
    (p_low, p_high), (q_low, q_high) = score_interval(p, sample), score_interval(q, sample)
    below = _joined(p - p_low, q_high - q, phi)
    above = _joined(p_high - p, q - q_low, phi)
    return Interval(p - q - below, p - q + above)


def _joined(one: FloatArray, other: FloatArray, phi: FloatArray) -> FloatArray:
    return np.sqrt(np.maximum(one**2 - 2 * phi * one * other + other**2, 0))


def attack_facts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the attack of each curve: CURVE, modality and ATTACK but for the role."""
    return plain(rows[[*CURVE, "modality", *ATTACK[:-1]]].drop_duplicates(CURVE))


def ordered(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the columns of `table`, with the role of each row, attacks in their order."""
    if table.empty:
        return pd.DataFrame(columns=columns)
    return in_attack_order(table.assign(role=roles(table)), MODEL)[columns]


def _trial(names: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(names[name] for name in (*CLASSIFIER, "storage"))


def _answers(rows: pd.DataFrame) -> tuple[pd.DataFrame, FloatArray, FloatArray]:
    """Return one curve's cases (n), epsilons (k), and what was correct (n, k): 1, 0, or NaN where it was not asked."""
    at_zero, case = unperturbed(rows)
    clean = rows.iloc[at_zero].reset_index(drop=True)
    rows, case = rows[case >= 0], case[case >= 0]
    doses, dose = np.unique(rows["epsilon"].to_numpy(np.float64), return_inverse=True)
    correct = np.full((len(clean), len(doses)), np.nan)
    correct[case, dose] = rows["correct"]
    return clean, doses, correct


def _areas(rows: pd.DataFrame, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    clean, doses, correct = _answers(rows)
    whole = ~np.isnan(correct).any(axis=1)
    largest = (float(doses[doses <= limit].max(initial=0)) for limit in (np.inf, SMALL_LIMIT))
    limits = [limit for limit in dict.fromkeys(largest) if limit > 0]
    if not limits or not whole.any():
        return
    kept = [doses <= limit for limit in limits]
    areas = np.stack(
        [np.trapezoid(correct[whole][:, each], doses[each]) / limit for each, limit in zip(kept, limits, strict=True)],
        axis=1,
    )  # (n, limits)
    cluster = clean["cluster"].to_numpy(object)[whole]
    low, high = unit_mean_interval(per_patient(areas, cluster), per_patient(np.ones(areas.shape), cluster))
    for place, limit in enumerate(limits):
        bounds = {"area_low": low[place], "area_high": high[place]}
        yield {**names, "epsilon_max": limit, "n": len(areas), "area": areas[:, place].mean(), **bounds}


def flip_counts(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return, for each epsilon above 0 and value of `by`, the images right at epsilon 0 and those that flipped."""
    clean = rows[(rows["epsilon"] == 0) & rows["correct"]]
    kept = rows[(rows["epsilon"] > 0) & (places(rows["case_id"], clean["case_id"]) >= 0)]
    kept = kept.assign(flipped=~kept["correct"])
    return shares(kept, [*by, "epsilon"], "flipped")


def joined_shares(parts: Sequence[tuple[dict[str, Any], pd.DataFrame]], names: list[str]) -> pd.DataFrame:
    """Return the tables of `flip_counts`, each with its `names`, as one."""
    parts = [part for part in parts if len(part[1])]
    columns = [*names, "epsilon", "n", "flipped", "share", "low", "high"]
    table = joined(parts) if parts else pd.DataFrame(columns=columns)
    return table.rename(columns={"low": "share_low", "high": "share_high"})


def _gains(rows: pd.DataFrame, control: pd.DataFrame) -> pd.DataFrame:
    columns = ["case_id", "epsilon", "correct"]
    pairs = rows[[*columns, "cluster"]].merge(control[columns], on=columns[:2], suffixes=("", "_control"))
    lost, noise = ~pairs["correct"], ~pairs["correct_control"]
    counted = pairs.assign(both=lost & noise, attack_only=lost & ~noise, control_only=noise & ~lost)
    names = ["both", "attack_only", "control_only"]
    table = counted.groupby("epsilon", as_index=False)[names].sum()
    table.insert(1, "n", counted.groupby("epsilon").size().to_numpy())
    share = {name: (table["both"] + table[f"{name}_only"]) / table["n"] for name in ("attack", "control")}
    by_patient = counted.assign(n=1).pivot_table(
        index="cluster", columns="epsilon", values=[*names, "n"], aggfunc="sum", observed=True, fill_value=0
    )
    low, high = paired_by_patient(*(by_patient[name].to_numpy(np.float64) for name in (*names, "n")))
    start = table["epsilon"] == 0
    table = table.assign(
        drop=share["attack"] - share["attack"][start].sum(),
        control_drop=share["control"] - share["control"][start].sum(),
        gain=(table["attack_only"] - table["control_only"]) / table["n"],
        gain_low=low,
        gain_high=high,
    )
    return table[~start]
