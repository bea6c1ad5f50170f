"""Repeats: what a study says after several seeds, each with its own training, sweep and, if drawn, split.

Tables of several seeds have a column `seed`; here they become means over the seeds, with intervals over splits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from dosimeter.analysis.base import APART, CURVE, MODEL
from dosimeter.analysis.intervals import FloatArray, Interval
from dosimeter.analysis.wording import is_marked, percent, records
from dosimeter.record.table import Responses

Tables = Mapping[str, pd.DataFrame]

IDENTITY = [*MODEL, "quantity", "preset", "storage", "epsilon"]
COLUMNS = [*IDENTITY, "n_repeats", "n_censored", "mean", "sd", "low", "high", "median", "minimum", "maximum"]
FIXED_SPLIT = "official"
"""The protocol whose split is the same for every seed: its repeats differ in the training alone."""

_APART = [name for name in APART if name != "seed"]
_CLEAN = ["accuracy", "sensitivity", "specificity", "auc"]


def repeats(tables: Tables, meta: Mapping[str, Any]) -> pd.DataFrame:
    """Return means over the seeds with intervals over splits, one row per (classifier, quantity, attack, epsilon).

    Args:
        tables: those of `report.build.build_tables` that have a column `seed`.
        meta: the run's; `cohorts` gives n_train and n_test of every split.

    Returns:
        `quantity` is accuracy, sensitivity, specificity or auc without attack (no preset); accuracy at every epsilon of
        the grid, under every attack; epsilon50 of an attack, and grad_zero_share of FGSM (no epsilon). Over the
        `n_repeats` seeds in which it is defined: mean; sd (n - 1); low and high, see `interval_over_splits`, cut at 0
        and 1; median (the lower one), minimum and maximum. In `n_censored` of them an epsilon50 lies beyond the largest
        epsilon asked: it counts as larger than any number, so that the median may still be known, but mean, sd and
        interval are null, as is every number that would be infinite.
    """
    values = _values(tables)
    ratios = _test_to_train(meta)
    rows = []
    more = [name for name in _APART if name in values]
    identity = [*MODEL, *more, *IDENTITY[len(MODEL) :]]
    for key, group in values.groupby(identity, dropna=False, sort=False):
        names: dict[str, Any] = dict(zip(identity, key, strict=True))
        ratio = ratios.get((names["cohort"], names["protocol"]), np.nan)
        rows.append({**names, **_summary(group["value"].dropna().to_numpy(np.float64), ratio)})
    table = pd.DataFrame(rows, columns=[*identity, *COLUMNS[len(IDENTITY) :]])
    return table.sort_values(MODEL, kind="stable", ignore_index=True)


def interval_over_splits(values: FloatArray, test_to_train: float, confidence: float = 0.95) -> Interval:
    """Return the interval of the mean of a score over repeated random splits.

    The splits share images, so their scores are correlated and the usual t interval is too narrow. This one takes the
    variance of the mean as (1 / J + n_test / n_train) times that of the J scores, with t of J - 1 degrees of freedom.
    It is an approximation; with few splits it is wide.

    Args:
        values: (J,) the score on each split. With fewer than two, or all equal, the bounds are NaN: how far a score
            moves is not known then, and an interval without width would claim that it does not.
        test_to_train: n_test / n_train; 0 where the split is given, so that the scores differ by their training alone
            and the interval is over trainings: how the images were sampled is not in it.
        confidence: the interval's coverage.

    Source: Nadeau & Bengio, Machine Learning 52 (2003) 239 (the corrected resampled t).
    """
    n = len(values)
    if n < 2 or np.ptp(values) == 0:
        return Interval(np.array(np.nan), np.array(np.nan))
    half = stdtrit(n - 1, (1 + confidence) / 2) * values.std(ddof=1) * np.sqrt(1 / n + test_to_train)
    return Interval(np.asarray(values.mean() - half), np.asarray(values.mean() + half))


def seeds(responses: Responses) -> list[int]:
    """Return the seeds of a run, the first one first."""
    return sorted(int(seed) for seed in responses.frame["seed"].dropna().unique())


def first_repeat(responses: Responses, tables: Tables) -> tuple[Responses, Tables]:
    """Return what a run and its tables would be with its first seed alone; with one seed the rows are as they were.

    The table `repeats` stays as it is. Of a run that was interrupted the other seeds may have no row yet.
    """
    every = seeds(responses)
    if not every or (len(every) == 1 and not responses.meta.get("partial")):
        return responses, tables
    first = every[0]
    meta = dict(responses.meta)
    for name in ("cohorts", "classifiers", "exemplars", "observer"):
        if name in meta:
            meta[name] = [card for card in meta[name] if int(card.get("seed", first)) == first]
    if len(every) < 2:
        return replace(responses, meta=meta), tables
    frame = responses.frame[responses.frame["seed"] == first]
    own = {
        name: table[table["seed"] == first].drop(columns="seed") if "seed" in table else table
        for name, table in tables.items()
    }
    return Responses(frame, meta), own


def what_varies(protocol: object) -> str:
    """Return what the seeds of a protocol differ in: "splits", or "trainings" where the split is given."""
    return "trainings" if protocol == FIXED_SPLIT else "splits"


def interval_note(protocols: Iterable[object]) -> str:
    """Return what an interval of a mean over seeds is over, and what is not in it, for the protocols of one table."""
    given = {protocol == FIXED_SPLIT for protocol in protocols}
    parts = []
    if given != {True}:
        parts.append("its 95 % interval over splits, corrected because the splits share images")
    if True in given:
        own = f"under the {FIXED_SPLIT} protocol" if len(given) > 1 else "its 95 % interval"
        parts.append(
            f"{own} over trainings on the one split that is given: how the test images were sampled is not in it, so "
            "it says how far another training would move the number, not how far other patients would"
        )
    return "; ".join(parts)


def in_words(rows: pd.DataFrame, row: Mapping[str, Any]) -> str:
    """Return the mean over seeds that belongs to `row`, to stand behind its own number; "" if there is none.

    Args:
        rows: those of `repeats` of one quantity, and if it has epsilons, of one epsilon.
        row: of the first seed's tables.
    """
    for name in (*MODEL, *(name for name in ("preset", "storage") if rows[name].notna().any())):
        rows = rows[rows[name] == row[name]]
    if rows.empty:
        return ""
    found = records(rows)[0]
    judged = f"; {found['evaluation']}" if is_marked(found.get("evaluation")) else ""
    over = f"{found['n_repeats']} {what_varies(found['protocol'])}"
    if found["n_censored"]:
        return f" [beyond the largest asked in {found['n_censored']} of {over}{judged}]"
    if found["minimum"] == found["maximum"]:
        return f" [the same in all {over}{judged}]" if found["n_repeats"] > 1 else ""
    if found["quantity"] == "epsilon50":
        mean, low, high = (f"{found[name]:.2g}" for name in ("mean", "low", "high"))
    else:
        mean, low, high = percent(found["mean"]), f"{100 * found['low']:.0f}", f"{100 * found['high']:.0f} %"
    return f" [mean of {over} {mean}{'' if pd.isna(found['low']) else f', {low} to {high}'}{judged}]"


def _values(tables: Tables) -> pd.DataFrame:
    """Return every number of every seed, one row each: IDENTITY, seed, value (infinite if censored)."""
    clean, curves, medians = (tables[name] for name in ("clean_metrics", "fgsm_accuracy", "epsilon50"))
    every = tables.get("robust_accuracy", curves)  # of FGSM alone, or of all attacks
    names = [name for name in APART if name in clean]
    classifier, attack = [*MODEL, *names], [*CURVE, *names]
    without = clean.melt(classifier, _CLEAN, var_name="quantity")
    zero = curves.groupby(attack, as_index=False)["grad_zero_share"].max()
    parts = [
        without,
        every[[*attack, "epsilon"]].assign(quantity="accuracy", value=every["accuracy"]),
        zero.assign(quantity="grad_zero_share", value=zero["grad_zero_share"]),
        medians[attack].assign(
            quantity="epsilon50", value=medians["epsilon50"].where(~medians["censored"].astype(bool), np.inf)
        ),
    ]
    columns = [*IDENTITY, *names, "value"]
    known = [part.reindex(columns=columns) for part in parts if len(part)]
    return pd.concat(known, ignore_index=True) if known else pd.DataFrame(columns=columns)


def _test_to_train(meta: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return n_test / n_train of each (cohort, protocol), its mean over the seeds; 0 where the split is given."""
    found: dict[tuple[str, str], list[float]] = {}
    for card in meta.get("cohorts", []):
        ratio = 0.0 if card["protocol"] == FIXED_SPLIT else card["n_test"] / card["n_train"]
        found.setdefault((card["cohort"], card["protocol"]), []).append(ratio)
    return {trial: float(np.mean(ratios)) for trial, ratios in found.items()}


def _summary(values: FloatArray, test_to_train: float) -> dict[str, float]:
    ordered = np.sort(values)
    n, n_censored = len(values), int(np.isinf(values).sum())
    known = values if n_censored == 0 else values[:0]
    varies = len(known) > 1 and np.ptp(known) > 0
    low, high = interval_over_splits(known, test_to_train)
    numbers = {
        "mean": known.mean() if len(known) else np.nan,
        "sd": known.std(ddof=1) if varies else 0.0 if len(known) > 1 else np.nan,  # of equal numbers exactly 0
        "low": np.maximum(low, 0.0),
        "high": np.minimum(high, 1.0),
        "median": ordered[(n - 1) // 2] if n else np.nan,
        "minimum": ordered[0] if n else np.nan,
        "maximum": ordered[-1] if n else np.nan,
    }
    finite = {name: float(value) if np.isfinite(value) else np.nan for name, value in numbers.items()}
    return {"n_repeats": n, "n_censored": n_censored, **finite}
