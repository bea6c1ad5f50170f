"""The report's tables over several seeds: each mean with its interval over splits, and the range of the seeds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.names import in_order, model_name, series_name
from dosimeter.analysis.repeats import interval_note, what_varies
from dosimeter.analysis.wording import records
from dosimeter.presentation.numbers import (
    DASH,
    Cell,
    count,
    decimal,
    decimal_range,
    dose,
    is_missing,
    marked,
    percent,
    percent_range,
    words,
)
from dosimeter.presentation.style import has_band
from dosimeter.presentation.views import Head, View, classifier_names, of_trial, sorted_by_trial, trials
from dosimeter.units import GREY_LEVELS_8BIT

_CLASSIFIER = ["cohort", "protocol", "model"]


def repeat_tables(repeats: pd.DataFrame, order: Sequence[tuple[str, str]]) -> Iterator[View]:
    """Yield the tables of the section on repeats; those without a row are left out.

    Args:
        repeats: as `analysis.repeats.repeats` returns them.
        order: of (cohort, protocol).
    """
    repeats = sorted_by_trial(repeats, order)
    views = [without_attack(repeats[repeats["preset"].isna()]), attacks(repeats[repeats["preset"].notna()])]
    curves = repeats[repeats["epsilon"].notna()]
    views += [accuracy(of_trial(curves, *trial), *trial) for trial in trials(curves)]
    yield from (view for view in views if view.rows)


def without_attack(repeats: pd.DataFrame) -> View:
    """Return the metrics without attack."""
    rows = []
    for _, mine in repeats.groupby(_CLASSIFIER, sort=False):
        found = {row["quantity"]: row for row in records(mine)}
        shares = [_share(found[name]) for name in ("accuracy", "sensitivity", "specificity")]
        area = _area(found["auc"])
        rows.append([*classifier_names(found["accuracy"]), Cell(count(found["accuracy"]["n_repeats"])), *shares, area])
    heads = (*_CLASSIFIER, "seeds", "accuracy", "sensitivity", "specificity", "AUC")
    return View("Without attack: means over the seeds", [[Head(name) for name in heads]], rows, _under(repeats))


def attacks(repeats: pd.DataFrame) -> View:
    """Return what each attack does, whatever epsilon: zero gradients, and the epsilon that flips half of the images."""
    rows = []
    for _, mine in repeats.groupby([*_CLASSIFIER, "preset", "storage"], sort=False):
        found = {row["quantity"]: row for row in records(mine[mine["epsilon"].isna()])}
        zero, half = found.get("grad_zero_share"), found.get("epsilon50")
        either = zero or half
        if either is None:
            continue
        attack = words(series_name(either["preset"], either["storage"]))
        rows.append([*classifier_names(either), attack, _share(zero) if zero else Cell(DASH), *_half(half)])
    heads = (
        *_CLASSIFIER,
        "attack",
        "zero gradient",
        "epsilon50",
        "in grey levels",
        "seeds",
        "beyond the largest asked",
    )
    return View(
        "Under attack: means over the seeds",
        [[Head(name) for name in heads]],
        rows,
        _under(repeats)
        + " Epsilon50 of one seed is the epsilon at which half of its correctly answered images have flipped. "
        "Where that lies beyond the largest epsilon asked in some seeds, there is no mean: the median over the seeds "
        "is given instead, if it is known.",
    )


def accuracy(curves: pd.DataFrame, cohort: str, protocol: str) -> View:
    """Return mean accuracy against epsilon, one column a curve."""
    top, sub, columns = [Head("epsilon", rows=2), Head("grey levels", rows=2)], [], []
    for model in in_order(curves["model"]):
        series = list(curves[curves["model"] == model].groupby(["preset", "storage"]))
        top.append(Head(model_name(model), span=len(series)))
        for (preset, storage), mine in series:
            sub.append(Head(series_name(str(preset), str(storage))))
            columns.append({row["epsilon"]: row for row in records(mine)})
    rows = []
    for epsilon in sorted(curves["epsilon"].unique()):
        cells = [_share(column[epsilon]) if epsilon in column else Cell(DASH) for column in columns]
        rows.append([Cell(dose(epsilon), kind="name"), Cell(dose(epsilon * GREY_LEVELS_8BIT)), *cells])
    over = what_varies(protocol)
    caption = f"Accuracy against epsilon over {curves['n_repeats'].max()} {over}: {cohort}, {protocol} protocol"
    return View(caption, [top, sub], rows, _under(curves))


def _under(repeats: pd.DataFrame) -> str:
    brackets = "in brackets the smallest and the largest of the seeds."
    if not has_band(repeats, "low", "high"):
        return f"Under a mean, {brackets}"
    return (
        f"Under a mean: {interval_note(repeats['protocol'].unique())}. {brackets.capitalize()} Where all seeds agree "
        "there is no interval."
    )


def _share(row: Mapping[str, Any]) -> Cell:
    interval, ends = (percent_range(row[low], row[high]) for low, high in _BOUNDS)
    return marked(Cell(percent(row["mean"]), _note(interval, ends)), row if row["epsilon"] != 0 else {})


def _area(row: Mapping[str, Any]) -> Cell:
    interval, ends = (decimal_range(row[low], row[high]) for low, high in _BOUNDS)
    return Cell(decimal(row["mean"]), _note(interval, ends))


def _half(row: Mapping[str, Any] | None) -> list[Cell]:
    """Return the cells of an epsilon50: its mean, the same in grey levels, seeds, and seeds in which it is unknown."""
    if row is None:
        return [Cell(DASH)] * 4
    if row["n_censored"]:
        median = Cell("beyond the largest" if is_missing(row["median"]) else f"median {dose(row['median'])}")
        beyond = marked(Cell(count(row["n_censored"])), row)
        return [marked(median, row), Cell(DASH), Cell(count(row["n_repeats"])), beyond]
    interval, ends = ("" if is_missing(row[low]) else f"{dose(row[low])} to {dose(row[high])}" for low, high in _BOUNDS)
    mean = marked(Cell(dose(row["mean"]), _note(interval, ends)), row)
    grey = Cell(DASH if is_missing(row["mean"]) else decimal(row["mean"] * GREY_LEVELS_8BIT, 2))
    return [mean, marked(grey, row), Cell(count(row["n_repeats"])), marked(Cell("0"), row)]


_BOUNDS = (("low", "high"), ("minimum", "maximum"))


def _note(interval: str, ends: str) -> str:
    return f"{interval} [{ends}]".strip() if ends else ""
