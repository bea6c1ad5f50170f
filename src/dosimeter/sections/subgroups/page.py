"""The page's part on subgroups: a table for each classifier, and in words the gaps that are clear."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from dosimeter.analysis.names import attack_title, in_order, model_name
from dosimeter.analysis.subgroups import FEWEST_IMAGES, OTHERS, clear_gaps
from dosimeter.analysis.wording import mark, records
from dosimeter.presentation.choices import at_middle_dose
from dosimeter.presentation.numbers import DASH, Cell, count, dose, marked, median, percent, percent_range
from dosimeter.presentation.views import Head, View, of_trial

Tables = Mapping[str, pd.DataFrame]

MEANT = (
    "What the list of the images says of them divides them. A gap is said below only where its interval, which holds "
    "for all gaps of the classifier together, leaves out 0. Subgroups may differ in their classes too, which the audit "
    "of the images counts: a gap tells whom the classifier serves worse, not why."
)


def omitted(accuracy: pd.DataFrame) -> str:
    """Return which subgroups have too few images, "" if none has."""
    few = accuracy[(accuracy["n"] < FEWEST_IMAGES) & (accuracy["epsilon"] == 0)]
    few = few.drop_duplicates(["cohort", "protocol", "fact", "value"])
    if few.empty:
        return ""
    several = len(set(accuracy["cohort"])) > 1
    named = []
    for row in records(few):
        where = f"{row['cohort']}, " if several else ""
        named.append(f"{where}{row['fact']} {row['value']} ({row['n']})")
    return f"Omitted, with fewer than {FEWEST_IMAGES} images: {', '.join(named)}."


def gap_sentences(tables: Tables) -> list[str]:
    """Return a sentence for each gap that is clear without attack or at the epsilon shown, or that there is none."""
    gaps = at_middle_dose(tables["subgroup_gaps"])
    if gaps.empty:
        return []
    said = [_sentence(row) for row in records(clear_gaps(gaps))]
    n = len(gaps)
    return said or [f"No gap between subgroups is clear: the interval of each of {n} holds 0."]


def _sentence(row: Mapping[str, Any]) -> str:
    low, high = sorted(100 * abs(row[f"difference_{end}"]) for end in ("low", "high"))
    against = "of all others" if row["against"] == OTHERS else f"of {row['against']}"
    when = "without attack" if row["epsilon"] == 0 else f"at epsilon {dose(row['epsilon'])}"
    shares = f"{percent(row['accuracy'], 0)} of the images of {row['value']}", percent(row["accuracy_against"], 0)
    return (
        f"{_who(row)} on {row['cohort']}, {row['fact']}: {when} {shares[0]} are answered correctly, "
        f"{shares[1]} {against}, {low:.0f} to {high:.0f} points apart (n = {row['n']} and {row['n_against']})"
        f"{mark(row)}."
    )


def _who(row: Mapping[Any, Any]) -> str:
    """Return what answers: a classifier and, of several findings, which of them is decided."""
    decision = row.get("decision")
    return f"{model_name(row['model'])}, {decision}" if decision else model_name(row["model"])


def subgroup_views(tables: Tables, trial: tuple[str, str]) -> Iterator[View]:
    """Yield a table for each classifier of one cohort and protocol, and of findings for each decision."""
    mine = {
        name: of_trial(tables[name], *trial) for name in ("subgroup_accuracy", "subgroup_epsilon50", "subgroup_gaps")
    }
    table = mine["subgroup_accuracy"]
    apart = [name for name in ("defence", "decision") if name in table]
    for model in in_order(table["model"].unique()):
        own = table[table["model"] == model]
        for keys in own[["model", "preset", *apart]].drop_duplicates().to_dict("records"):
            parts = {name: _of(each, keys) for name, each in mine.items()}
            view = _view(parts, keys, f"{trial[0]}, {trial[1]} protocol")
            if view.rows:
                yield view


def _of(table: pd.DataFrame, keys: Mapping[Any, Any]) -> pd.DataFrame:
    for name, value in keys.items():
        table = table[table[name] == value]
    return table


def _view(tables: Tables, keys: Mapping[Any, Any], where: str) -> View:
    shown = at_middle_dose(tables["subgroup_accuracy"])
    doses = sorted(shown["epsilon"].unique())
    found = {(row["fact"], row["value"], row["epsilon"]): row for row in records(shown)}
    halves = {(row["fact"], row["value"]): row for row in records(tables["subgroup_epsilon50"])}
    gaps = at_middle_dose(tables["subgroup_gaps"])
    gap_at = {(row["fact"], row["value"], row["epsilon"]): row for row in records(gaps)}
    rows = []
    large = shown[(shown["epsilon"] == 0) & (shown["n"] >= FEWEST_IMAGES)]
    for fact, value in zip(large["fact"], large["value"], strict=True):
        half = halves.get((fact, value))
        cells = [cell for each in doses for cell in (_share(found.get((fact, value, each))),
                                                     _gap(gap_at.get((fact, value, each))))]  # fmt: skip
        first = [Cell(fact, kind="name"), Cell(value, kind="words"), Cell(count(found[fact, value, 0.0]["n"]))]
        rows.append([*first, *cells, Cell(DASH) if half is None else median(half, "epsilon50", of_grid=False)])
    attacked = [f"at {dose(each)}" if each else "without attack" for each in doses]
    top = [Head(name, rows=2) for name in ("fact", "value", "n")]
    top += [*(Head(each, span=2) for each in attacked), Head("epsilon50", rows=2)]
    below = [Head(name) for _ in doses for name in ("right", "gap to the others")]
    return View(
        f"Subgroups under {attack_title(str(keys['preset']))}: {_who(keys)}, {where}, floats",
        [top, below],
        rows,
        "Right is the share answered correctly, with its 95 % interval by patient. A gap, in points, is to all other "
        "values of the fact; of two values it is told once, and its interval holds for all gaps of the table together. "
        "All epsilons are in tables/subgroup_accuracy.csv and subgroup_gaps.csv.",
    )


def _share(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell(DASH)
    cell = Cell(percent(row["accuracy"]), percent_range(row["ci_low"], row["ci_high"], 0))
    return marked(cell, row) if row["epsilon"] else cell


def _gap(row: Mapping[str, Any] | None) -> Cell:
    if row is None or pd.isna(row["difference_low"]):
        return Cell(DASH)
    low, high = (f"{100 * row[f'difference_{end}']:+.0f}" for end in ("low", "high"))
    cell = Cell(f"{100 * row['difference']:+.0f}", f"{low} to {high}")
    return marked(cell, row) if row["epsilon"] else cell
