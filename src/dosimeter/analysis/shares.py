"""Shares of images with their intervals, counted from rows: how many of those asked, of whichever patients they are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis.clusters import FloatArray
from dosimeter.analysis.intervals import proportion_interval


class Counts(NamedTuple):
    """Images counted by patient.

    Attributes:
        names: a row for each cell: what is in it.
        hits: (patients, cells) images that count.
        trials: (patients, cells) images asked.
    """

    names: pd.DataFrame
    hits: FloatArray
    trials: FloatArray


def shares(rows: pd.DataFrame, by: Sequence[str], hit: str) -> pd.DataFrame:
    """Return how many images count, a row for each value of `by`, in its order.

    Args:
        rows: one for each image and value of `by`, with its `cluster` (the patient) and the column `hit`: whether it
            counts, missing where it is not asked.
        by: columns; a row that lacks one of them is in no group.
        hit: a column of booleans, or of 0, 1 and NaN.

    Returns:
        The columns `by`; n images asked; `hit`, how many count; share, low and high (see
        `intervals.proportion_interval`): NaN where none is asked, or too few for an interval.
    """
    names, hits, trials = by_patient(rows, by, hit)
    low, high = proportion_interval(hits, trials)
    n, k = trials.sum(axis=0), hits.sum(axis=0)
    share = k / np.where(n > 0, n, np.nan)
    return names.assign(**{"n": n.astype(int), hit: k.astype(int), "share": share, "low": low, "high": high})


def by_patient(rows: pd.DataFrame, by: Sequence[str], hit: str) -> Counts:
    """Count `rows` for each patient and value of `by`, in its order; see `shares`."""
    names, cell = _cells(rows, by)
    value = rows[hit].to_numpy(np.float64)
    cluster = rows["cluster"].astype("category").cat.codes.to_numpy()
    known = (cell >= 0) & ~np.isnan(value)
    patient = np.unique(cluster[known], return_inverse=True)[1]
    shape = (len(names), int(patient.max(initial=-1)) + 1)
    size = shape[0] * shape[1]
    place = cell[known] * shape[1] + patient
    trials = np.bincount(place, minlength=size).reshape(shape).T.astype(np.float64)  # (patients, cells)
    hits = np.bincount(place, value[known], size).reshape(shape).T.astype(np.float64)
    return Counts(names, hits, trials)


def _cells(rows: pd.DataFrame, by: Sequence[str]) -> tuple[pd.DataFrame, npt.NDArray[np.integer[Any]]]:
    """Return the values of `by` that there are, in their order, and which of them each row has; -1 if it lacks one."""
    if len(by) == 1 and rows[by[0]].dtype.kind == "f" and rows[by[0]].notna().all():  # most of all: of epsilon
        values, cell = np.unique(rows[by[0]].to_numpy(), return_inverse=True)
        return pd.DataFrame({by[0]: values}), cell
    cells = rows.groupby(list(by), observed=True)
    return cells.size().index.to_frame(index=False), cells.ngroup().to_numpy()
