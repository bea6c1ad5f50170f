"""What every analysis shares: the columns that name a group, and the rows a classifier answered."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis.names import PUBLISHED, WORST_CASE, family
from dosimeter.record.compact import UNDEFENDED, apart, compact, quick_text

TRIAL = ["cohort", "protocol"]
"""One cohort, split one way."""

MODEL = [*TRIAL, "model"]
"""What a table's rows call a trained network. `compact` gives two networks two names, so that names can be keys."""

CURVE = [*MODEL, "preset", "storage"]
"""What a table's rows call a trained network under one attack, stored one way."""

APART = {"seed": None, "defence": UNDEFENDED, "decision": ""}
"""What no analysis pools, and what a table need not say: a column stands in it only where another value does. Of seeds,
which have no such value, it stands where there are several."""

_MORE = ["defence", "decision", "modality"]  # `modality` follows from `cohort`
CLASSIFIER = [*MODEL, *_MORE]
"""Keys of one trained network of one seed and one decision, whatever was done to its images."""

GROUP = [*CURVE, *_MORE]
"""Keys of one curve of one seed: a classifier under one attack, stored one way."""

Analysis = Callable[[pd.DataFrame], pd.DataFrame]
"""A response table to a table of results."""


def each_seed(analyse: Analysis) -> Analysis:
    """Make `analyse` look at one seed, defence and decision at a time, so that it need not know that there are several.

    A case may be tested under several seeds, by a classifier of its own each. Of one seed the table is what `analyse`
    returns; of several it has a column `seed` after `model`, and the rows of a classifier stand seed by seed. So it is
    with defences, if there are any, and with decisions, if they have names (see `APART`).
    """

    @functools.wraps(analyse)
    @quick_text()
    def analysed(frame: pd.DataFrame) -> pd.DataFrame:
        rows = compact(frame)
        names = told_apart(rows)
        if not names:
            return analyse(rows)
        tables = [_with_names(analyse(group), values) for values, group in groups(rows, names)]
        table = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
        return table.sort_values(MODEL, kind="stable", ignore_index=True)

    return analysed


def told_apart(rows: pd.DataFrame) -> list[str]:
    """Return which columns of `APART` tell something of `rows`."""
    telling = []
    for name, usual in APART.items():
        values = rows[name].unique()
        if len(values) > 1 or (usual is not None and any(value != usual for value in values)):
            telling.append(name)
    return telling


def _with_names(table: pd.DataFrame, values: dict[str, Any]) -> pd.DataFrame:
    for place, (name, value) in enumerate(values.items(), start=list(table.columns).index("model") + 1):
        table.insert(place, name, value)
    return table


def answered(frame: pd.DataFrame, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the rows of attacks that have a response, with the columns that `record.compact.compact` describes.

    Args:
        frame: a response table, whole or compact.
        columns: those that are needed, by default all: what is made of the rows then takes less memory.

    Raises:
        DosimeterError: a row is not what a sweep writes.
    """
    rows, _ = apart(compact(frame))
    ok = rows["status"] == "ok"
    rows = rows if columns is None else rows[list(columns)]
    return rows if ok.all() else rows[ok]


def attackable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows`, compact, without images that have the class they should be given: those are not attacked."""
    there = rows["label"].to_numpy() == rows["target"].to_numpy()
    return rows[~there] if there.any() else rows


def groups(
    rows: pd.DataFrame, keys: Sequence[str], where: "pd.Series[bool] | npt.NDArray[np.bool_] | None" = None
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the rows of each group and its names, in the names' order.

    One group at a time is in memory beside `rows`.

    Args:
        rows: with the columns `keys`; where one of them is missing, the row is in no group.
        where: (rows,) those that count, by default all.
    """
    number = _group_numbers(rows, keys)
    if where is not None:
        number[~np.asarray(where)] = -1
    order = np.argsort(number, kind="stable")
    order = order[number[order] >= 0]
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    names = {name: list(rows[name].iloc[order[starts]]) for name in keys}
    for place, chosen in enumerate(np.split(order, starts)[1:]):
        yield {name: values[place] for name, values in names.items()}, rows.iloc[chosen]


def joined(parts: Iterable[tuple[dict[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Return the tables of all groups as one, the names of its group behind each row.

    It is `pd.concat(table.assign(**names) for ...)`, with the names written once for all rows.

    Args:
        parts: at least one; all with the same names.
    """
    names, tables = zip(*parts, strict=True)
    group = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    beside = pd.DataFrame(list(names)).take(group).reset_index(drop=True)
    return pd.concat([pd.concat(tables, ignore_index=True), beside], axis=1)


def _group_numbers(rows: pd.DataFrame, keys: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the place of each row's group (rows,) among all groups, in the names' order; -1 if a name is missing."""
    number = np.zeros(len(rows), np.int64)
    missing = np.zeros(len(rows), np.bool_)
    for key in keys:
        names = rows[key].astype("category").cat
        codes = names.codes.to_numpy()
        missing |= codes < 0
        number = number * len(names.categories) + np.maximum(codes, 0)
        number = (np.cumsum(np.bincount(number) > 0) - 1)[number]  # without the numbers that no row has
    number[missing] = -1
    return number


def places(cases: pd.Series, among: pd.Series) -> npt.NDArray[np.int64]:
    """Return where in `among`, which has no case twice, each of `cases` stands; -1 if it is not there.

    Args:
        cases: (n,) categorical.
        among: (m,) categorical with the same categories.
    """
    place = np.full(len(cases.cat.categories), -1)
    place[among.cat.codes] = np.arange(len(among))
    return place[cases.cat.codes]


def unperturbed(rows: pd.DataFrame) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where the unperturbed row of each case of one group stands, by name, and of each row its case.

    Args:
        rows: of one group, with `case_id`, categorical, and `epsilon`.

    Returns:
        (cases,) places in `rows`, and (rows,) places among these; -1 where a case has no unperturbed row.
    """
    cases = rows["case_id"]
    clean = np.flatnonzero(rows["epsilon"].to_numpy() == 0)
    clean = clean[np.argsort(cases.cat.codes.to_numpy()[clean], kind="stable")]
    return clean, places(cases, cases.iloc[clean])


def names_of(column: pd.Series, chosen: npt.NDArray[np.intp]) -> pd.Index:
    """Return the names of a categorical column at `chosen` places, as plain text."""
    return column.cat.categories.take(column.cat.codes.to_numpy()[chosen], fill_value=np.nan)


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a small table with its categoricals as plain strings, as people and CSV files want them."""
    names = table.select_dtypes("category")
    return table.astype({name: names[name].cat.categories.dtype for name in names})


def clean_answers(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (classifier, seed, case): its answer at epsilon 0.

    Presets share the unperturbed image, so one answer serves them all: the `float` one, of the `sound` preset
    where there is a choice.

    Args:
        rows: as `answered` returns them.
    """
    clean = rows[rows["epsilon"] == 0]
    order = clean.assign(_stored=clean["storage"] != "float", _other=clean["preset"] != "sound")
    order = order.sort_values(["_stored", "_other", "preset", "storage"], kind="stable")
    unique = order.drop_duplicates([*CLASSIFIER, "seed", "case_id"]).drop(columns=["_stored", "_other"])
    return unique.sort_values([*CLASSIFIER, "seed", "case_id"], ignore_index=True)


ROLES = ("attack", "worst case", "published", "transfer", "control")
"""What a curve tells: an attack of the model that answers; the worst case over those; the published setting; images
made on another model; what random noise does."""


def roles(rows: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Return the role of each row (n,), one of `ROLES`.

    Args:
        rows: with preset, attack and made_on.
    """
    attack, preset = rows["attack"], rows["preset"]
    controls = [name for name in attack.unique() if family(str(name)) == "control"]
    found = np.full(len(rows), "attack", dtype=object)
    found[preset == PUBLISHED] = "published"
    found[attack.isin(controls)] = "control"
    found[rows["made_on"] != ""] = "transfer"
    found[attack == WORST_CASE] = "worst case"
    return found


def is_fgsm(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows are the classifier's own FGSM images, as the paper's tables and figures show them."""
    return (rows["attack"] == "fgsm") & (rows["made_on"] == "")
