"""What every analysis shares: the columns that name a group, and the rows a classifier answered."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.responses import compact

GROUP = ["cohort", "protocol", "model", "preset", "storage", "modality"]
"""One curve: a classifier under one attack, stored one way. `modality` follows from `cohort`."""

CLASSIFIER = ["cohort", "protocol", "model", "modality"]
"""One trained network, whatever was done to its images."""


def answered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have a response, with the columns that `responses.compact` describes.

    Args:
        frame: a response table of two-class classifiers, whole or compact; class 1 is the positive one.

    Raises:
        DosimeterError: a response does not have two classes.
    """
    rows = compact(frame)
    ok = rows["status"] == "ok"
    return rows if ok.all() else rows[ok]


def groups(rows: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the rows of each group and its names, in the names' order.

    One group at a time is in memory beside `rows`.
    """
    number = rows.groupby(list(keys), observed=True).ngroup().to_numpy()  # (rows,)
    for each in range(number.max(initial=-1) + 1):
        group = rows[number == each]
        yield {name: group[name].iloc[0] for name in keys}, group


def places(cases: pd.Series, among: pd.Series) -> npt.NDArray[np.int64]:
    """Return where in `among`, which has no case twice, each of `cases` stands; -1 if it is not there.

    Args:
        cases: (n,) categorical.
        among: (m,) categorical with the same categories.
    """
    place = np.full(len(cases.cat.categories), -1)
    place[among.cat.codes] = np.arange(len(among))
    return place[cases.cat.codes]


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a small table with its categoricals as plain strings, as people and CSV files want them."""
    names = table.select_dtypes("category")
    return table.astype({name: names[name].cat.categories.dtype for name in names})


def clean_answers(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (classifier, case): its answer at epsilon 0.

    Presets share the unperturbed image, so one answer serves them all: the `float` one, of the `sound` preset
    where there is a choice.

    Args:
        rows: as `answered` returns them.
    """
    clean = rows[rows["epsilon"] == 0]
    order = clean.assign(_stored=clean["storage"] != "float", _other=clean["preset"] != "sound")
    order = order.sort_values(["_stored", "_other", "preset", "storage"], kind="stable")
    unique = order.drop_duplicates([*CLASSIFIER, "case_id"]).drop(columns=["_stored", "_other"])
    return unique.sort_values([*CLASSIFIER, "case_id"], ignore_index=True)
