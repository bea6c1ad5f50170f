"""The response table: one row per (case, classifier, attack, epsilon), the contract of the whole product.

Everything that makes numbers writes this table; everything that reads numbers reads nothing else. It is written in
parts, each complete or absent, and merged into `responses.parquet`. The merged file carries, as JSON in its Parquet
metadata, what the tables and figures need beyond rows: the resolved configuration, the cohorts' provenance, the
classifiers' cards with their training history, and the images of the illustrated cases.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dosimeter.atomic import replacing
from dosimeter.errors import READ_ERROR, DosimeterError

SCHEMA_VERSION = 3
METADATA_KEY = b"dosimeter"

ROW_GROUP = 65_536
"""Rows written together: few enough to hold at once, enough that a column is read in few steps."""

BATCH = 8_192
"""Rows decoded at once: more would take more memory than the table itself, and hardly less time."""

SCHEMA = pa.schema(
    [
        # provenance
        ("run_id", pa.string()),
        ("cell_id", pa.string()),  # the unit of resume
        # the case
        ("cohort", pa.string()),
        ("modality", pa.string()),
        ("protocol", pa.string()),  # how train and test were separated
        ("case_id", pa.string()),
        ("patient_id", pa.string()),  # pseudonym, null if unknown
        ("split", pa.string()),
        ("label", pa.int8()),
        # what was attacked
        ("model", pa.string()),  # backbone, e.g. vgg16
        ("classifier", pa.string()),  # backbone and fingerprint of its weights
        ("defence", pa.string()),
        # how
        ("preset", pa.string()),
        ("attack", pa.string()),
        ("loss", pa.string()),
        ("channels", pa.string()),
        ("effort", pa.string()),  # quick, standard, thorough; null for the presets of the paper's study
        ("target", pa.int8()),  # the class that the attack is after; null: any but the true one
        ("made_on", pa.string()),  # the model whose adversarial images these are; null: the one that answers
        ("norm", pa.string()),
        ("storage", pa.string()),  # float, png8, dicom12...
        ("seed", pa.int64()),
        ("epsilon", pa.float64()),  # nominal dose, [0, 1] of the image range
        ("on_grid", pa.bool_()),  # False: asked only to refine a flip epsilon
        # the realised dose
        ("linf", pa.float64()),
        ("l2", pa.float64()),
        ("clipped_fraction", pa.float64()),  # share of values that left [0, 1] before clipping
        # how far it may be seen (visibility.measure); null off the grid
        ("rms", pa.float64()),
        ("psnr", pa.float64()),  # null: infinite
        ("ssim", pa.float64()),  # this and the next two at the epsilons of the setting `visibility` alone
        ("ms_ssim", pa.float64()),
        ("haarpsi", pa.float64()),
        ("noise_ratio", pa.float64()),  # RMS over the noise of the image itself
        ("jnd_p50", pa.float64()),  # of |difference|, in JND on a 1-350 cd/m2 GSDF display, default window
        ("jnd_p95", pa.float64()),
        ("jnd_max", pa.float64()),
        ("jnd_srgb_p95", pa.float64()),  # the same on an sRGB screen
        ("unchanged", pa.bool_()),  # identical to the image evaluated at epsilon 0
        ("grad_zero", pa.bool_()),  # the gradient was exactly zero everywhere
        ("found", pa.bool_()),  # the attack says that it succeeded within this epsilon; null: it makes no claim
        ("n_gradients", pa.int32()),  # that the attack took for this case, for all epsilons together
        ("n_queries", pa.int32()),  # answers that it asked for beside them
        # the response
        ("logits", pa.list_(pa.float32())),
        ("probabilities", pa.list_(pa.float64())),
        ("predicted", pa.int8()),
        ("correct", pa.bool_()),
        # how it went
        ("status", pa.string()),  # ok, error
        ("error", pa.string()),
        ("duration_s", pa.float64()),  # the cell's wall time, shared equally by its rows
    ]
)

VISIBILITY = (
    *("rms", "psnr", "ssim", "ms_ssim", "haarpsi"),
    *("noise_ratio", "jnd_p50", "jnd_p95", "jnd_max", "jnd_srgb_p95"),
)
"""Columns of how far a perturbation may be seen."""

ADDED = ("effort", "target", "made_on", "found", "n_gradients", "n_queries", *VISIBILITY)
"""Columns that tables of schema version 1 or 2 lack; read from such a table they are null."""


class Responses(NamedTuple):
    """A table and the facts that travel with it."""

    frame: pd.DataFrame
    meta: dict[str, Any]


def write_part(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write `rows` to `path` as one Parquet part: after a crash the part is whole or absent.

    Args:
        rows: mappings with the columns of `SCHEMA`; absent columns become null.
        path: the part's file.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_part(path: Path) -> pd.DataFrame:
    """Read one part as a table."""
    frame: pd.DataFrame = pq.read_table(path, schema=SCHEMA).to_pandas()
    return frame


def is_done(path: Path) -> bool:
    """Whether `path` is a whole part in which nothing is worth another try; an unreadable part counts as absent."""
    if not path.is_file():
        return False
    try:
        rows = pq.read_table(path, schema=SCHEMA)
    except (pa.ArrowException, OSError):
        return False
    return set(rows["cell_id"].to_pylist()) == {path.stem} and READ_ERROR not in rows["error"].to_pylist()


def merge_parts(parts: Sequence[Path], path: Path, meta: Mapping[str, Any]) -> None:
    """Merge `parts` into one file with `meta` in its metadata, a few parts at a time so that memory stays flat.

    A part may serve several runs, so the rows' `run_id` is the one in `meta`.
    """
    payload = json.dumps({"schema_version": SCHEMA_VERSION, **meta}, sort_keys=True).encode()
    schema = SCHEMA.with_metadata({METADATA_KEY: payload})
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for rows in _gathered(pq.read_table(part, schema=SCHEMA) for part in parts):
            run_id = pa.array([meta.get("run_id", "")] * len(rows), pa.string())
            rows = rows.set_column(0, SCHEMA.field("run_id"), run_id).replace_schema_metadata(schema.metadata)
            writer.write_table(rows, row_group_size=max(len(rows), 1))


def annotate(path: Path, facts: Mapping[str, Any]) -> None:
    """Put `facts` beside those that travel with a merged table, whose rows stay; after a crash it is old or new, whole.

    Raises:
        DosimeterError: as `read_meta`.
    """
    meta = {**read_meta(path), **facts}
    with pq.ParquetFile(path) as file, replacing(path) as temporary:
        schema = file.schema_arrow.with_metadata({METADATA_KEY: json.dumps(meta, sort_keys=True).encode()})
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for group in range(file.num_row_groups):
                with _refused_if_damaged(path):
                    rows = file.read_row_group(group).replace_schema_metadata(schema.metadata)
                writer.write_table(rows, row_group_size=max(len(rows), 1))


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield `tables` joined to at least `ROW_GROUP` rows each: a part has a hundred, a file of such is slow to read."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= ROW_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def read(path: str | Path) -> Responses:
    """Read a merged table, every column as it is. Millions of rows take gigabytes: then use `read_compact`.

    Raises:
        DosimeterError: the file is absent, not a response table, or of a newer schema.
    """
    path = Path(path)
    meta = read_meta(path)
    with _refused_if_damaged(path):
        return Responses(pq.read_table(path, schema=SCHEMA).to_pandas(), meta)


def read_compact(path: Path) -> Responses:
    """Read of a merged table what the analyses need, as `compact` gives it: some 130 bytes a row.

    Raises:
        DosimeterError: as `read`; also if a response does not have two classes.
    """
    meta = read_meta(path)
    with _refused_if_damaged(path), pq.ParquetFile(path, read_dictionary=list(_NAMES), pre_buffer=False) as file:
        there = [name for name in _COMPACT.names if name in file.schema_arrow.names]
        batches = file.iter_batches(batch_size=BATCH, columns=there, use_threads=False)
        frame = _compacted(map(_completed, batches), file.metadata.num_rows)
    pa.default_memory_pool().release_unused()  # what reading took is more than the frame
    return Responses(frame, meta)


def read_column(path: Path, name: str) -> list[Any]:
    """Return the distinct values of a merged table's column of names.

    Raises:
        DosimeterError: as `read`.
    """
    read_meta(path)
    with _refused_if_damaged(path):
        values: list[Any] = pq.read_table(path, columns=[name])[name].unique().to_pylist()
    return values


def read_parts(parts: Sequence[Path]) -> pd.DataFrame:
    """Read the rows of several parts as one table, as `compact` gives it."""
    n_rows = sum(pq.read_metadata(part).num_rows for part in parts)
    tables = (pq.read_table(part, schema=SCHEMA, columns=_COMPACT.names) for part in parts)
    return _compacted((batch for table in tables for batch in table.to_batches()), n_rows)


def read_meta(path: Path) -> dict[str, Any]:
    """Read the facts that travel with a merged table, and none of its rows.

    Raises:
        DosimeterError: as `read`, but that damage among the rows goes unnoticed.
    """
    if not path.is_file():
        raise DosimeterError(f"{path} does not exist. Run `dosimeter study` first, or name the run's folder.")
    with _refused_if_damaged(path):
        schema = pq.read_schema(path)
        meta: dict[str, Any] = json.loads((schema.metadata or {})[METADATA_KEY])
        version = int(meta["schema_version"])
    if version > SCHEMA_VERSION:
        raise DosimeterError(
            f"{path} has schema version {version}, this dosimeter reads up to {SCHEMA_VERSION}. Upgrade dosimeter."
        )
    if missing := [name for name in SCHEMA.names if name not in (*schema.names, *ADDED)]:
        raise DosimeterError(f"{path} is not a response table of dosimeter: it has no column '{missing[0]}'.")
    return meta


@contextmanager
def _refused_if_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DosimeterError(f"{path} is not a response table of dosimeter, or is damaged ({reason}).") from error


def to_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as the DataFrame that `read` would give, without a file."""
    frame: pd.DataFrame = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA).to_pandas()
    return frame


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
    whole = frame.reindex(columns=_COMPACT.names)
    table = pa.Table.from_pandas(whole, schema=_COMPACT, preserve_index=False)
    return _compacted(table.to_batches(), len(table))


_NAMES = (
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
_COMPACT = pa.schema([SCHEMA.field(name) for name in (*_NAMES, *_NUMBERS, "logits", "probabilities")])
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


def _compacted(batches: Iterable[pa.RecordBatch], n_rows: int) -> pd.DataFrame:
    """Return batches of the columns of `_COMPACT`, `n_rows` together, as `compact` describes them."""
    names = {name: _Name(n_rows, blank="" if name in _BLANK else None) for name in _NAMES}
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
        ok = batch["status"].cast(pa.string()).to_numpy(zero_copy_only=False) == "ok"
        logits = _pairs(batch["logits"].filter(pa.array(ok)), "logits")
        numbers["score"][rows][ok] = logits[:, 1] - logits[:, 0]
        numbers["probability"][rows][ok] = _pairs(batch["probabilities"].filter(pa.array(ok)), "probabilities")[:, 1]
    columns: dict[str, Any] = {"cluster": _clusters(names["patient_id"], names["case_id"])}
    columns |= {name: names.pop(name).finish() for name in _NAMES}
    return pd.DataFrame(columns | numbers, copy=False)


def _completed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of an older table with the columns that it lacks, all null."""
    there = {name: batch[name] for name in batch.schema.names}
    columns = {
        field.name: there.get(field.name, pa.nulls(len(batch), pa.string() if field.name in _NAMES else field.type))
        for field in _COMPACT
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
