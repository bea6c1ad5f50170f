"""The response table: one row per (case, classifier, attack, epsilon), the contract of the whole product.

Everything that makes numbers writes this table; everything that reads numbers reads nothing else. It is written in
parts, each complete or absent, and merged into `responses.parquet`. The merged file carries, as JSON in its Parquet
metadata, what the tables and figures need beyond rows: the resolved configuration, the cohorts' provenance, the
classifiers' cards with their training history, and the images of the illustrated cases.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from dosimeter.errors import READ_ERROR, DosimeterError
from dosimeter.files import check_folder_name, json_of, replacing
from dosimeter.plain import named
from dosimeter.record.compact import COMPACT, IDENTITIES, NAMES, apart, compact, compacted, completed
from dosimeter.record.facts import check_facts, digest, reasons
from dosimeter.record.schema import ADDED, METADATA_KEY, OLDER, SCHEMA, SCHEMA_VERSION, VISIBILITY

__all__ = [
    "ADDED",
    "METADATA_KEY",
    "SCHEMA",
    "SCHEMA_VERSION",
    "VISIBILITY",
    "Responses",
    "annotate",
    "compact",
    "is_done",
    "merge_parts",
    "read",
    "read_column",
    "read_compact",
    "read_meta",
    "read_part",
    "read_parts",
    "responses_of",
    "to_frame",
    "write_part",
]

DIGEST_KEY = b"dosimeter-rows"
"""Under it a part carries the digest of its rows."""

FACTS_DIGEST = "facts_sha256"

ROW_GROUP = 65_536
"""Rows written together: few enough to hold at once, enough that a column is read in few steps."""

BATCH = 8_192
"""Rows decoded at once: more would take more memory than the table itself, and hardly less time."""


@dataclass(frozen=True, eq=False)
class Responses:
    """A table and the facts that travel with it; it unpacks into these two.

    Attributes:
        frame: of `read` all rows; of `read_compact`, and below it, those of attacks: every one has an epsilon.
        meta: the facts.
        physical: rows of physical changes, compact, which have a severity and no epsilon; None where `frame` has all.
    """

    frame: pd.DataFrame
    meta: dict[str, Any]
    physical: pd.DataFrame | None = None

    def __iter__(self) -> Iterator[Any]:
        yield self.frame
        yield self.meta


def responses_of(frame: pd.DataFrame, meta: dict[str, Any]) -> Responses:
    """Return a compact table with all rows as one whose physical changes stand apart."""
    attacked, physical = apart(frame)
    return Responses(attacked, meta, physical)


def write_part(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write `rows` to `path` as one Parquet part: after a crash the part is whole or absent.

    Args:
        rows: mappings with the columns of `SCHEMA`; absent columns become null.
        path: the part's file.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
    table = table.replace_schema_metadata({DIGEST_KEY: _digest(table)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _digest(table: pa.Table) -> bytes:
    """Return a digest of a part's rows that depends on neither pyarrow's version nor how it lays out memory."""
    digest = hashlib.sha256(f"{len(table)}".encode())
    for field in table.schema:
        column = table[field.name].combine_chunks()
        digest.update(field.name.encode() + np.packbits(column.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        if pa.types.is_string(field.type):
            digest.update(json.dumps(column.to_pylist()).encode())
            continue
        if pa.types.is_list(field.type):
            digest.update(json.dumps(column.value_lengths().to_pylist()).encode())
            column = column.flatten()
        values = column.fill_null(False if pa.types.is_boolean(field.type) else 0)
        digest.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).tobytes())
    return digest.hexdigest().encode()


def read_part(path: Path) -> pd.DataFrame:
    """Read one part as a table."""
    frame: pd.DataFrame = pq.read_table(path, schema=SCHEMA).to_pandas()
    return frame


def is_done(path: Path) -> bool:
    """Whether `path` is a whole part in which nothing is worth another try.

    One that cannot be read, or whose rows are not those that were written, counts as absent.
    """
    if not path.is_file():
        return False
    try:
        with pq.ParquetFile(path) as file:
            carried = (file.schema_arrow.metadata or {}).get(DIGEST_KEY)
            same = file.schema_arrow.remove_metadata() in (SCHEMA, *OLDER) and file.metadata.num_rows > 0
            rows = file.read() if same else None
    except (pa.ArrowException, OSError):
        return False
    if rows is None or carried != _digest(rows):
        return False
    return set(rows["cell_id"].to_pylist()) == {path.stem} and READ_ERROR not in rows["error"].to_pylist()


def merge_parts(parts: Sequence[Path], path: Path, meta: Mapping[str, Any]) -> None:
    """Merge `parts` into one file with `meta` in its metadata, a few parts at a time so that memory stays flat.

    A part may serve several runs, so the rows' `run_id` is the one in `meta`.

    Raises:
        DosimeterError: `meta` is not what `facts.Facts` says; what stands at `path` stays.
    """
    n_rows = sum(pq.read_metadata(part).num_rows for part in parts)
    facts = {"schema_version": SCHEMA_VERSION, **meta, "n_rows": n_rows}
    schema = SCHEMA.with_metadata({METADATA_KEY: _payload(facts, path)})
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for rows in _gathered(pq.read_table(part, schema=SCHEMA) for part in parts):
            run_id = pa.array([meta.get("run_id", "")] * len(rows), pa.string())
            rows = rows.set_column(0, SCHEMA.field("run_id"), run_id).replace_schema_metadata(schema.metadata)
            writer.write_table(rows, row_group_size=max(len(rows), 1))


def annotate(path: Path, facts: Mapping[str, Any]) -> None:
    """Put `facts` beside those that travel with a merged table, whose rows stay; after a crash it is old or new, whole.

    Raises:
        DosimeterError: as `read_meta`; or `facts` are not what `facts.Facts` says, and the file stays as it was.
    """
    meta = {**read_meta(path), **facts}
    with pq.ParquetFile(path) as file, replacing(path) as temporary:
        schema = file.schema_arrow.with_metadata({METADATA_KEY: _payload(meta, path)})
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for group in range(file.num_row_groups):
                with _refused_if_damaged(path):
                    rows = file.read_row_group(group).replace_schema_metadata(schema.metadata)
                writer.write_table(rows, row_group_size=max(len(rows), 1))


def _payload(facts: Mapping[str, Any], path: Path) -> bytes:
    """Return facts as they will lie in `path`: JSON with its own digest, and such as can be read again."""
    known = {name: value for name, value in facts.items() if name != FACTS_DIGEST}
    known = json.loads(json.dumps(known, sort_keys=True))
    try:
        check_facts(known)
    except ValidationError as error:
        raise DosimeterError(
            f"the facts for {path} must be such as a run has, and could not be read again ({reasons(error)}). Nothing "
            "was written; please report this."
        ) from error
    return json.dumps({**known, FACTS_DIGEST: digest(known)}, sort_keys=True).encode()


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
    """Read of a merged table what the analyses need, as `compact` gives it: some 170 bytes a row.

    Raises:
        DosimeterError: as `read`; also if a row is not what a sweep writes, or the facts tell nothing of it.
    """
    meta = read_meta(path)
    with _refused_if_damaged(path):
        there = [name for name in COMPACT.names if name in pq.read_schema(path).names]
    names = [name for name in (*NAMES, *IDENTITIES) if name in there]
    with _refused_if_damaged(path), pq.ParquetFile(path, read_dictionary=names, pre_buffer=False) as file:
        batches = file.iter_batches(batch_size=BATCH, columns=there, use_threads=False)
        frame = compacted(map(completed, batches), file.metadata.num_rows)
    pa.default_memory_pool().release_unused()  # what reading took is more than the frame
    with _refused_if_damaged(path):
        _require_known(frame, meta)
    return responses_of(frame, meta)


def _require_known(frame: pd.DataFrame, meta: Mapping[str, Any]) -> None:
    """Raise ValueError if rows are of a cohort and protocol that the facts do not know."""
    known = {(card["cohort"], card["protocol"]) for card in meta["cohorts"]}
    for cohort, protocol in frame[["cohort", "protocol"]].drop_duplicates().itertuples(index=False):
        if (cohort, protocol) not in known:
            raise ValueError(f"its facts tell nothing of {named(cohort)}, {named(protocol)} protocol")


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
    tables = (pq.read_table(part, schema=SCHEMA, columns=COMPACT.names) for part in parts)
    return compacted((batch for table in tables for batch in table.to_batches()), n_rows)


def read_meta(path: Path) -> dict[str, Any]:
    """Read the facts that travel with a merged table, and none of its rows: JSON types, as `facts.Facts` describes.

    Raises:
        DosimeterError: as `read`, but that damage among the rows goes unnoticed.
    """
    check_folder_name(path.parent)
    if path.exists() and not path.is_file():
        raise DosimeterError(f"{path} must be a response table of dosimeter, and is no file. Rename or remove it.")
    if not path.is_file():
        raise DosimeterError(f"{path} does not exist. Run `dosimeter study` first, or name the run's folder.")
    with _refused_if_damaged(path):
        file = pq.read_metadata(path)
        schema = file.schema.to_arrow_schema()
        carried = (file.metadata or {}).get(METADATA_KEY)
        if carried is None:
            raise ValueError("it carries no facts of a run")
        found = json_of(carried)
        version = int(found["schema_version"])
    if version > SCHEMA_VERSION:
        raise DosimeterError(
            f"{path} has schema version {version}, this dosimeter reads up to {SCHEMA_VERSION}. Upgrade dosimeter."
        )
    if missing := [name for name in SCHEMA.names if name not in (*schema.names, *ADDED)]:
        raise DosimeterError(f"{path} is not a response table of dosimeter: it has no column '{missing[0]}'.")
    with _refused_if_damaged(path):
        written = found.pop(FACTS_DIGEST, None)  # tables of older versions have none
        if written is not None and written != digest(found):
            raise ValueError("its facts are not those that were written")
        facts = check_facts(found)
        if facts.get("n_rows") not in (None, file.num_rows):
            raise ValueError(f"it has {file.num_rows} rows, {facts['n_rows']} were written")
    return facts


@contextmanager
def _refused_if_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = reasons(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise DosimeterError(f"{path} is not a response table of dosimeter, or is damaged ({reason}).") from error


def to_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as the DataFrame that `read` would give, without a file."""
    frame: pd.DataFrame = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA).to_pandas()
    return frame
