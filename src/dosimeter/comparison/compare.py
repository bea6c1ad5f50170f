"""Paired differences between finished runs, at every epsilon that they share, image by image."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pandas as pd

from dosimeter.analysis import names
from dosimeter.analysis.against import differences, physical_differences
from dosimeter.analysis.base import APART, CURVE, MODEL
from dosimeter.analysis.checks import VERDICTS
from dosimeter.analysis.names import WORST_CASE, attack_title, change_title, model_name
from dosimeter.analysis.paired import NUMBERS
from dosimeter.analysis.physical import SERIES
from dosimeter.analysis.sharing import Shared, shared_cases
from dosimeter.analysis.wording import is_marked, records
from dosimeter.errors import DosimeterError
from dosimeter.plain import named
from dosimeter.presentation.numbers import dose
from dosimeter.record.table import Responses
from dosimeter.report.quoted import Quoted

NAMES = [*CURVE, *APART]
COLUMNS = ["run", "reference", *NAMES, "against", "epsilon", *NUMBERS, "evaluation", "modality"]
PHYSICAL = [
    *("run", "reference", *SERIES, *APART, "against", "severity", "unit"),
    *(*NUMBERS, "modality"),
]


class Side(NamedTuple):
    """One of the runs: what it is called, and its numbers."""

    label: str
    run: Quoted


class Comparison(NamedTuple):
    """What was found.

    Attributes:
        sides: the runs; the first is the reference, with which the others are compared.
        shared: the test images that each other run shares with the reference.
        table: one row for each other run, series and epsilon, the columns `COLUMNS`.
        physical: one for each other run, physical change and severity, the columns `PHYSICAL`; p_holm is adjusted for
            the severities of a change.
        headline: the epsilon that is quoted, None where there is none above 0 that all have.
    """

    sides: list[Side]
    shared: list[Shared]
    table: pd.DataFrame
    physical: pd.DataFrame
    headline: float | None


def compare(runs: Sequence[tuple[str, Responses]]) -> Comparison:
    """Compare runs with the first of them.

    A difference is the accuracy of a run less that of the reference over the images that both answered, with the
    exact McNemar test and, where patients have several images, a bootstrap by patient (`paired.compare`).

    Args:
        runs: what each is called, and its rows and facts; two or more, whose names are `in_force`.

    Raises:
        DosimeterError: there are fewer than two; schema versions differ; a run shares no image, label or series with
            the reference.
    """
    if len(runs) < 2:
        raise DosimeterError("compare must have two runs or more, got one. Name another run's folder.")
    (first, reference), *others = runs
    shared = [shared_cases(reference, other, names=(first, label)) for label, other in others]
    sides = [Side(label, Quoted(each)) for label, each in runs]
    table = pd.concat([_differences(sides[0], other) for other in sides[1:]], ignore_index=True)
    physical = pd.concat([_of_changes(sides[0], other) for other in sides[1:]], ignore_index=True)
    return Comparison(sides, shared, table, physical, _headline(sides, table))


def in_force(runs: Sequence[tuple[str, Responses]]) -> AbstractContextManager[None]:
    """Have what all runs tell of their attacks, storages and models in force: see `analysis.names.of`."""
    found: dict[str, list[Any]] = {}
    for _, run in runs:
        for kind, known in (run.meta.get("kinds") or {}).items():
            there = {each["name"] for each in found.setdefault(kind, [])}
            found[kind] += [each for each in known if each["name"] not in there]
    return names.of({"kinds": found})


def _differences(reference: Side, other: Side) -> pd.DataFrame:
    found = differences(other.run.every, reference.run.every)
    if found.empty:
        raise DosimeterError(
            f"runs to compare must share attacks, storages and epsilons, {named(reference.label)} and "
            f"{named(other.label)} share none. Run both with the same attacks and epsilons."
        )
    found = found.assign(run=other.label, reference=reference.label)
    marks = [_verdict(row, reference, other) if row["epsilon"] > 0 else "" for row in records(found)]
    return found.assign(evaluation=marks)[COLUMNS]


def _of_changes(reference: Side, other: Side) -> pd.DataFrame:
    found = physical_differences(other.run.physical_rows, reference.run.physical_rows)
    return found.assign(run=other.label, reference=reference.label)[PHYSICAL]


def _verdict(row: dict[str, Any], reference: Side, other: Side) -> str:
    """Return the worse of the verdicts on the evaluations that a difference belongs to."""
    marks = [_marks(other.run.robust, row), _marks(reference.run.robust, {**row, **_twin(row, reference)})]
    return max((mark for mark in marks if mark), key=VERDICTS.index, default="")


def _twin(row: dict[str, Any], reference: Side) -> dict[str, Any]:
    """Return the model of the reference that a series was compared with, where it is not the one of its name."""
    models = set(reference.run.robust["model"])
    return {} if row["model"] in models or len(models) != 1 else {"model": models.pop()}


def _marks(robust: pd.DataFrame, row: dict[str, Any]) -> str:
    mine = robust
    for name in ("cohort", "model", "preset"):
        mine = mine[mine[name] == row[name]]
    found = {str(each) for each in mine["evaluation"].unique()} - {""}
    return max(found, key=VERDICTS.index, default="")


def _headline(sides: Sequence[Side], table: pd.DataFrame) -> float | None:
    grid = sorted({float(epsilon) for epsilon in table["epsilon"] if epsilon > 0})
    wanted = next((each for side in sides if (each := side.run.headline) is not None), None)
    return min(grid, key=lambda epsilon: abs(epsilon - wanted)) if grid and wanted is not None else None


def quoted(found: Comparison) -> pd.DataFrame:
    """Return the rows that are said first: of each run and classifier without attack, and at the headline epsilon.

    Under attack it is the worst case where there is one, else every preset; images as floats.
    """
    table = found.table[found.table["storage"] == "float"]
    keys = ["run", *MODEL, *APART]
    clean = table[table["epsilon"] == 0].drop_duplicates(keys)
    attacked = table[table["epsilon"] == found.headline] if found.headline is not None else table[:0]
    worst = attacked[attacked["preset"] == WORST_CASE]
    order = [side.label for side in found.sides]
    rows = pd.concat([clean, worst if len(worst) else attacked])
    rows = rows.assign(_run=rows["run"].map(order.index)).sort_values(["_run", *keys[1:]], kind="stable")
    return rows.drop(columns="_run").reset_index(drop=True)


def lines(found: Comparison) -> Iterator[str]:
    """Yield what was found in one line each."""
    for side, shared in zip(found.sides[1:], found.shared, strict=True):
        yield f"{side.label} against {found.sides[0].label}: {shared}"
    for row in records(quoted(found)):
        mark = f" [{row['evaluation']}]" if is_marked(row["evaluation"]) else ""
        yield f"{row['run']}: {who(row)}: {attacked(row)}: {difference(row)}{mark}"
    for side in found.sides[1:]:
        if len(mine := found.physical[found.physical["run"] == side.label]):
            changes = ", ".join(change_title(str(name)) for name in mine["change"].unique())
            n_asked = len(mine[["change", "severity"]].drop_duplicates())
            yield f"{side.label}: physical changes, {n_asked} severities in all, are compared on the page: {changes}."


def attacked(row: dict[str, Any]) -> str:
    """Return under what attack the two were compared."""
    if row["epsilon"] == 0:
        return "without attack"
    return f"{attack_title(str(row['preset']))}, epsilon {dose(row['epsilon'])}"


def who(row: dict[str, Any]) -> str:
    """Return what a classifier is called, and what it was compared with if that is called otherwise."""
    other = f"seed {row['against']}" if str(row["against"]).isdigit() else model_name(row["against"])
    against = "" if row["against"] == "the same names" else f" against {other}"
    finding = f", {row['decision']}" if row["decision"] else ""
    how = f"{row['protocol']} protocol, seed {row['seed']}"
    return f"{model_name(row['model'])}{against} on {row['cohort']}{finding} ({how})"


def difference(row: dict[str, Any]) -> str:
    """Return a difference in points with its interval, the images and the p of the exact test."""
    interval = "too few for an interval"
    if pd.notna(row["difference_low"]):
        interval = f"95 % interval {100 * row['difference_low']:+.1f} to {100 * row['difference_high']:+.1f}"
    p = "p < 0.001" if row["p_patient"] < 0.001 else f"p = {row['p_patient']:.3f}"
    return f"{100 * row['difference']:+.1f} points ({interval}, {row['n_common']} images, {p})"
