"""The response table in a form that a million rows fit into: names as categories, no lists."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dosimeter.errors import DosimeterError
from dosimeter.record.schema import SCHEMA, VISIBILITY


def compact(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the analyses need of a response table, in a form that a million rows fit into.

    Args:
        frame: a table with the columns of `SCHEMA`, or one that is compact already, which is returned as it is.

    Returns:
        The same rows in the same order. Names are categoricals whose categories are in alphabetical order; `label` and
        `predicted` are int8, `correct` and `on_grid` bool, `unchanged`, `grad_zero` and `found` 0, 1 or NaN, `target` a
        class or NaN, a missing `modality`, `effort` or `made_on` is "". Instead of lists there are `probability` of
        class 1 and `score`, the logit of class 1 less that of class 0, which orders images as `probability` does but
        never saturates. `cluster` is the patient, or the case where the patient is unknown. Where a row's status is not
        "ok", what it lacks is -1, False or NaN.

    Raises:
        DosimeterError: a response does not have two classes.
    """
    if "score" in frame:
        return frame
    whole = frame.reindex(columns=COMPACT.names)
    table = pa.Table.from_pandas(whole, schema=COMPACT, preserve_index=False)
    return compacted(table.to_batches(), len(table))


NAMES = (
    *("cohort", "modality", "protocol", "case_id", "patient_id", "model"),
    *("preset", "attack", "loss", "channels", "effort", "made_on", "storage", "status", "error"),
)
_BLANK = ("modality", "effort", "made_on")  # "" where there is none
_NUMBERS = {"label": np.int8, "seed": np.int64, "epsilon": np.float64, "on_grid": np.bool_}
_NUMBERS |= {"predicted": np.int8, "correct": np.bool_}
_SINGLE = (
    *("unchanged", "grad_zero", "found", "n_gradients", "n_queries", "duration_s", "linf", "l2", "target"),
    *VISIBILITY,
)
_NUMBERS |= dict.fromkeys(_SINGLE, np.float32)
COMPACT = pa.schema([SCHEMA.field(name) for name in (*NAMES, *_NUMBERS, "logits", "probabilities")])
_Codes = npt.NDArray[np.signedinteger[Any]]


class _Name:
    """A column of names that is being read: the distinct ones, and for each row the place of its own.

    A null has place -1, or that of `blank` if there is one.
    """

    def __init__(self, n_rows: int, blank: str | None) -> None:
        self.known: dict[str, int] = {}
        self.codes: _Codes = np.empty(n_rows, np.int8)  # wider once there are more names
        self._blank = blank

    def put(self, rows: slice, column: pa.Array) -> None:
        column = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        places = [self._place(name) for name in column.dictionary.to_pylist()]
        none = self._place(self._blank) if column.null_count and self._blank is not None else -1
        self.codes = self.codes.astype(np.min_scalar_type(-len(self.known) - 1), copy=False)
        indices = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        self.codes[rows] = np.array([*places, none], np.int32)[indices]

    def _place(self, name: str) -> int:
        return self.known.setdefault(name, len(self.known))

    def finish(self) -> "pd.Categorical[str]":
        return _categorical(self.codes, list(self.known))


def compacted(batches: Iterable[pa.RecordBatch], n_rows: int) -> pd.DataFrame:
    """Return batches of the columns of `COMPACT`, `n_rows` together, as `compact` describes them."""
    names = {name: _Name(n_rows, blank="" if name in _BLANK else None) for name in NAMES}
    numbers: dict[str, npt.NDArray[Any]] = {name: np.empty(n_rows, kind) for name, kind in _NUMBERS.items()}
    numbers |= {name: np.full(n_rows, np.nan) for name in ("probability", "score")}
    start = 0
    for batch in batches:
        rows = slice(start, start + len(batch))
        start += len(batch)
        for name, column in names.items():
            column.put(rows, batch[name])
        for name, kind in _NUMBERS.items():
            numbers[name][rows] = _numbers(batch[name], kind)
        ok = _check(batch)
        logits = _pairs(batch["logits"].filter(pa.array(ok)), "logits")
        numbers["score"][rows][ok] = logits[:, 1] - logits[:, 0]
        numbers["probability"][rows][ok] = _pairs(batch["probabilities"].filter(pa.array(ok)), "probabilities")[:, 1]
    columns: dict[str, Any] = {"cluster": _clusters(names["patient_id"], names["case_id"])}
    columns |= {name: names.pop(name).finish() for name in NAMES}
    return pd.DataFrame(columns | numbers, copy=False)


_ALWAYS = ("cohort", "protocol", "case_id", "model", "preset", "status")
_ANSWERED = ("storage", "label", "epsilon", "on_grid", "predicted", "correct", "logits", "probabilities")


def _check(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Return which rows are answers, or raise DosimeterError if a row is not what a sweep writes."""
    for name in _ALWAYS:
        _refuse(batch[name].null_count, f"no {name}")
    status = batch["status"].cast(pa.string()).to_numpy(zero_copy_only=False)
    ok: npt.NDArray[np.bool_] = status == "ok"
    answers = batch.filter(pa.array(ok))
    for name in _ANSWERED:
        _refuse(answers[name].null_count, f"no {name}")
    for name in ("label", "predicted"):
        values = answers[name].to_numpy(zero_copy_only=False)
        _refuse(int(((values != 0) & (values != 1)).sum()), f"a {name} that is neither 0 nor 1")
    for name in ("epsilon", "probabilities"):
        column = answers[name].flatten() if name == "probabilities" else answers[name]
        values = column.to_numpy(zero_copy_only=False)
        within = (values >= 0) & (values <= 1)  # False for NaN
        _refuse(int((~within).sum()), f"{name} outside [0, 1]")
    _refuse(int((~np.isfinite(answers["logits"].flatten().to_numpy(zero_copy_only=False))).sum()), "logits not finite")
    return ok


def _refuse(n: int, what: str) -> None:
    if n:
        raise DosimeterError(
            f"a response table must hold answers as a sweep writes them, but {n} of its values are wrong: {what}. The "
            "table is damaged; run the study again."
        )


def completed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of an older table with the columns that it lacks, all null."""
    there = {name: batch[name] for name in batch.schema.names}
    columns = {
        field.name: there.get(field.name, pa.nulls(len(batch), pa.string() if field.name in NAMES else field.type))
        for field in COMPACT
    }
    return pa.RecordBatch.from_pydict(columns)


def _numbers(column: pa.Array, kind: type[np.generic]) -> npt.NDArray[Any]:
    """Return numbers of `kind`, with -1, False or NaN where there is none."""
    if issubclass(kind, np.floating):
        floats = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        return np.asarray(floats.cast(pa.float64()).to_numpy(zero_copy_only=False), kind)
    blank = False if kind is np.bool_ else -1
    return np.asarray(column.fill_null(blank).to_numpy(zero_copy_only=False))


def _pairs(lists: pa.Array, name: str) -> npt.NDArray[np.float64]:
    flat = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    if flat.size != 2 * len(lists):
        raise DosimeterError(
            f"{name} must have two classes a row, got {flat.size} values in {len(lists)} rows. "
            "Evaluate a two-class classifier."
        )
    pairs: npt.NDArray[np.float64] = flat.reshape(-1, 2)  # (rows, 2)
    return pairs


def _clusters(patients: _Name, cases: _Name) -> "pd.Categorical[str]":
    unknown = patients.codes < 0
    if not unknown.any():
        return patients.finish()
    both = dict.fromkeys([*patients.known, *cases.known])
    place = {name: index for index, name in enumerate(both)}
    of_case = np.array([*(place[name] for name in cases.known), -1], np.int32)
    return _categorical(np.where(unknown, of_case[cases.codes], patients.codes), list(both))


def _categorical(codes: _Codes, names: list[str]) -> "pd.Categorical[str]":
    """Return a categorical with its categories in alphabetical order, so that sorting rows sorts names."""
    ordered = sorted(range(len(names)), key=names.__getitem__)
    rank = np.full(len(names) + 1, -1, np.int32)
    rank[ordered] = np.arange(len(names))
    return pd.Categorical.from_codes(rank[codes], pd.Index([names[place] for place in ordered], dtype=str))
