"""Beside every number under attack, the verdict on the evaluation that it belongs to.

A number of an UNRELIABLE evaluation must not be quoted, so it carries that word wherever it goes: in tables and files,
in sentences, figures and summaries.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis.base import APART, MODEL, TRIAL
from dosimeter.analysis.checks import VERDICTS
from dosimeter.analysis.evaluation import SOUND, overall
from dosimeter.analysis.names import PUBLISHED, WORST_CASE
from dosimeter.analysis.wording import records

Tables = Mapping[str, pd.DataFrame]

COLUMN = "evaluation"
STEP = "grid_step"
"""Columns that `with_marks` adds."""

_KEYS = [*MODEL, *APART, "preset", "made_on", "other", "compared", "against"]
_STEPPED = {"epsilon50": "epsilon50", "deployed_median": "deployed_epsilon"}


def with_marks(tables: Tables, unattacked: Collection[str]) -> dict[str, pd.DataFrame]:
    """Return `tables` with two more columns where they belong.

    Args:
        tables: as `report.build.build_tables` makes them; marks that are there already are made anew.
        unattacked: the names of those without a number under attack.

    Returns:
        Every table of numbers under attack has `evaluation`: PASS, CAUTION or UNRELIABLE, or "" where the evaluation
        was not judged. Images made on another model belong to both models' evaluations, a comparison to those of
        both its curves, a mean over seeds to those of all: the worst counts. Medians have `grid_step`, whether the ends
        of the interval are the same or neighbouring epsilons of the grid, so that it is known to a step of the grid.
    """
    verdicts = overall(tables["evaluation"]) if "evaluation" in tables else pd.DataFrame()
    known = records(verdicts)
    stepped = {name: _stepped(tables[name], column, tables) for name, column in _STEPPED.items() if name in tables}
    marked = {}
    for name, table in {**tables, **stepped}.items():
        if name not in unattacked and "model" in table:
            keys = [key for key in _KEYS if key in table]
            series = table[keys].drop_duplicates()
            series = series.assign(**{COLUMN: [_verdict(row, known) for row in records(series)]})
            rest = table.drop(columns=[COLUMN], errors="ignore")
            table = rest.assign(**{COLUMN: _joined(rest, series, keys)})
        marked[name] = table
    return marked


def _joined(table: pd.DataFrame, series: pd.DataFrame, keys: list[str]) -> list[str]:
    if table.empty:
        return []
    codes = table.groupby(keys, dropna=False, observed=True, sort=False).ngroup()  # in order of appearance, as `series`
    return list(series[COLUMN].to_numpy(dtype=object)[codes.to_numpy()])


def _verdict(row: Mapping[str, Any], known: list[dict[str, Any]]) -> str:
    found = [
        verdict["verdict"]
        for names, preset in _evaluations(row)
        for verdict in known
        if verdict["preset"] == (PUBLISHED if preset == PUBLISHED else SOUND)
        and all(verdict.get(name, value) == value for name, value in names.items())
    ]
    return max(found, key=VERDICTS.index, default="")


def _evaluations(row: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the names (of all seeds, if it names none) and the preset of every evaluation that a row belongs to."""
    preset = row.get("preset", WORST_CASE)  # of images that fall first
    if not isinstance(preset, str):
        return  # without attack
    names = {name: row[name] for name in (*MODEL, *APART) if name in row and pd.notna(row[name])}
    yield names, preset
    maker = preset.partition(" from ")[2] or row.get("made_on")
    if isinstance(maker, str) and maker and maker != row["model"]:
        yield names | {"model": maker}, preset.partition(" from ")[0]
    if isinstance(row.get("other"), str):
        yield names | {"model": row["other"]}, preset
    against = str(row.get("against"))
    if row.get("compared") == "classifiers":
        yield names | {"model": against}, preset
    elif row.get("compared") == "presets":
        yield names, against
    elif row.get("compared") == "seeds":
        yield names | {"seed": int(against.rpartition(" ")[2])}, preset


def _stepped(table: pd.DataFrame, column: str, tables: Tables) -> pd.DataFrame:
    grids: dict[tuple[str, str], list[float]] = {}
    for name in ("fgsm_accuracy", "robust_accuracy"):
        asked = tables[name][[*TRIAL, "epsilon"]].drop_duplicates() if name in tables else pd.DataFrame()
        for row in records(asked):
            grids.setdefault((str(row["cohort"]), str(row["protocol"])), []).append(float(row["epsilon"]))
    steps = []
    for row in records(table):
        grid = np.unique(np.array(grids.get((str(row["cohort"]), str(row["protocol"])), []), dtype=np.float64))
        steps.append(_is_step(row[f"{column}_low"], row[f"{column}_high"], grid))
    return table.assign(**{STEP: np.array(steps, dtype=bool)})


def _is_step(low: float, high: float, grid: npt.NDArray[np.float64]) -> bool:
    """Whether both ends are of the grid, and no other epsilon of it lies between them."""
    places = [np.flatnonzero(np.isclose(grid, end, rtol=0, atol=1e-9)) for end in (low, high)]
    return all(len(place) == 1 for place in places) and bool(places[1][0] - places[0][0] <= 1)
