"""The response table: one row per (case, classifier, attack, epsilon), the contract of the whole product.

Everything that makes numbers writes this table; everything that reads numbers reads nothing else. It is written in
parts, each complete or absent, and merged into `responses.parquet`. The merged file carries, as JSON in its Parquet
metadata, what the tables and figures need beyond rows: the resolved configuration, the cohorts' provenance, the
classifiers' cards with their training history, and the images of the illustrated cases.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dosimeter.atomic import replacing
from dosimeter.errors import DosimeterError

SCHEMA_VERSION = 1
METADATA_KEY = b"dosimeter"

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
        ("norm", pa.string()),
        ("storage", pa.string()),  # float, png8
        ("seed", pa.int64()),
        ("epsilon", pa.float64()),  # nominal dose, [0, 1] of the image range
        ("on_grid", pa.bool_()),  # False: asked only to refine a flip epsilon
        # the realised dose
        ("linf", pa.float64()),
        ("l2", pa.float64()),
        ("clipped_fraction", pa.float64()),  # share of values that left [0, 1] before clipping
        ("unchanged", pa.bool_()),  # identical to the image evaluated at epsilon 0
        ("grad_zero", pa.bool_()),  # the gradient was exactly zero everywhere
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


READ_ERROR = "the image could not be read"
"""The error of a row whose image was there when the run began; it may be there again."""


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
    """Merge `parts` into one file with `meta` in its metadata, one part at a time so that memory stays flat.

    A part may serve several runs, so the rows' `run_id` is the one in `meta`.
    """
    payload = json.dumps({"schema_version": SCHEMA_VERSION, **meta}, sort_keys=True).encode()
    schema = SCHEMA.with_metadata({METADATA_KEY: payload})
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for part in parts:
            rows = pq.read_table(part, schema=SCHEMA)
            run_id = pa.array([meta.get("run_id", "")] * len(rows), pa.string())
            writer.write_table(
                rows.set_column(0, SCHEMA.field("run_id"), run_id).replace_schema_metadata(schema.metadata)
            )


def read(path: Path) -> Responses:
    """Read a merged table.

    Raises:
        DosimeterError: the file is absent, not a response table, or of a newer schema.
    """
    if not path.is_file():
        raise DosimeterError(f"{path} does not exist. Run `dosimeter study` first, or name the run's folder.")
    try:
        table = pq.read_table(path)
        meta = json.loads((table.schema.metadata or {})[METADATA_KEY])
        version = int(meta["schema_version"])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DosimeterError(f"{path} is not a response table of dosimeter, or is damaged ({reason}).") from error
    if version > SCHEMA_VERSION:
        raise DosimeterError(
            f"{path} has schema version {version}, this dosimeter reads up to {SCHEMA_VERSION}. Upgrade dosimeter."
        )
    if missing := [name for name in SCHEMA.names if name not in table.column_names]:
        raise DosimeterError(f"{path} is not a response table of dosimeter: it has no column '{missing[0]}'.")
    return Responses(table.to_pandas(), meta)


def to_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as the DataFrame that `read` would give, without a file."""
    frame: pd.DataFrame = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA).to_pandas()
    return frame
