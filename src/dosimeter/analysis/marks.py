"""Beside every number under attack, the verdict on the evaluation that it belongs to.

A number of an UNRELIABLE evaluation must not be quoted, so it carries that word wherever it goes: in tables and files,
in sentences, figures and summaries.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis.checks import VERDICTS
from dosimeter.analysis.evaluation import SOUND, overall
from dosimeter.analysis.names import PUBLISHED, WORST_CASE
from dosimeter.analysis.wording import records

Tables = Mapping[str, pd.DataFrame]

COLUMN = "evaluation"
STEP = "grid_step"
"""Columns that `with_marks` adds."""

_KEYS = ["cohort", "protocol", "model", "seed", "preset", "made_on", "other", "compared", "against"]
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
    known = [
        (tuple(str(row[name]) for name in _KEYS[:3]), row.get("seed"), row["preset"], row["verdict"])
        for row in records(verdicts)
    ]
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


def _verdict(row: Mapping[str, Any], known: list[tuple[Any, ...]]) -> str:
    found = [
        verdict
        for model, preset, seed in _evaluations(row)
        for trial, of_seed, family, verdict in known
        if trial == (str(row["cohort"]), str(row["protocol"]), model)
        and family == (PUBLISHED if preset == PUBLISHED else SOUND)
        and (seed is None or of_seed is None or int(of_seed) == seed)
    ]
    return max(found, key=VERDICTS.index, default="")


def _evaluations(row: Mapping[str, Any]) -> Iterator[tuple[str, str, int | None]]:
    """Yield the model, preset and seed (None: all of them) of every evaluation that a row belongs to."""
    preset = row.get("preset", WORST_CASE)  # of images that fall first
    if not isinstance(preset, str):
        return  # without attack
    seed = None if pd.isna(row.get("seed")) else int(row["seed"])
    model = str(row["model"])
    yield model, preset, seed
    maker = preset.partition(" from ")[2] or row.get("made_on")
    if isinstance(maker, str) and maker and maker != model:
        yield maker, preset.partition(" from ")[0], seed
    if isinstance(row.get("other"), str):
        yield row["other"], preset, seed
    against = str(row.get("against"))
    if row.get("compared") == "classifiers":
        yield against, preset, seed
    elif row.get("compared") == "presets":
        yield model, against, seed
    elif row.get("compared") == "seeds":
        yield model, preset, int(against.rpartition(" ")[2])


def _stepped(table: pd.DataFrame, column: str, tables: Tables) -> pd.DataFrame:
    grids: dict[tuple[str, str], list[float]] = {}
    for name in ("fgsm_accuracy", "robust_accuracy"):
        asked = tables[name][["cohort", "protocol", "epsilon"]].drop_duplicates() if name in tables else pd.DataFrame()
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
