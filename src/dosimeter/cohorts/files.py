"""Cohorts of the user's own image files: a folder for each class, or a CSV file that lists them."""

import csv
import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dosimeter.cohorts.base import Cohort, Record, Skipped, pseudonymise
from dosimeter.cohorts.images import ImageError, decode_image, read_bytes, read_image
from dosimeter.errors import DosimeterError, did_you_mean

SPLITS = ("train", "val", "test")

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """One image as a list names it: `label` indexes the classes, None if the list gives no label."""

    file: str  # relative to the list, with forward slashes
    label: int | None
    patient_id: str | None = None
    source: str | None = None
    official_split: str | None = None


def folder_cohort(path: Path, *, positive: str | None, limit: int | None, strict: bool) -> Cohort:
    """Read a folder that has one sub-folder for each of the two classes; their sub-folders belong to the class.

    Every file counts as an image but for hidden ones (a leading dot). Patients are unknown, so the `patient`
    protocol needs a CSV file instead.

    Args:
        path: the folder.
        positive: the name of the positive class's sub-folder; may be left out if they are called 0 and 1.
        limit: see `limit_rows`.
        strict: raise on the first unusable file instead of leaving it out.

    Raises:
        DosimeterError: no such folder, not two classes, no `positive`, or no image left.
    """
    if not path.is_dir():
        raise DosimeterError(f"folder:PATH must be a folder of two sub-folders, one a class; there is none at {path}.")
    folders = sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))
    classes = order_classes([folder.name for folder in folders], positive, where=f"the sub-folders of {path}")
    rows = [
        Row(file.relative_to(path).as_posix(), label)
        for label, name in enumerate(classes)
        for file in sorted((path / name).rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    return read_rows(f"folder:{path}", path, limit_rows(rows, limit), classes, strict=strict)


def csv_cohort(path: Path, *, positive: str | None, limit: int | None, strict: bool) -> Cohort:
    """Read a CSV file with the columns file, label and, if known, patient_id, source and split.

    Args:
        path: the CSV file (UTF-8, a header line); its `file` column is relative to the CSV file's folder and stays
            inside it. `split` is train, val, test or empty.
        positive: the label of the positive class; may be left out if the labels are 0 and 1.
        limit: see `limit_rows`.
        strict: raise on the first unusable file or row instead of leaving it out.

    Raises:
        DosimeterError: no such file, a column is missing, not two classes, no `positive`, or no image left.
    """
    table = read_table(path, required=("file", "label"))
    labels = {line["label"] for line in table if line["label"]}
    classes = order_classes(labels, positive, where=f"the column label of {path}")
    index = {name: label for label, name in enumerate(classes)}
    rows = [
        Row(
            file=line["file"],
            label=index.get(line["label"]),
            patient_id=line.get("patient_id") or None,
            source=line.get("source") or None,
            official_split=check_split(line.get("split", ""), path),
        )
        for line in table
    ]
    return read_rows(f"csv:{path}", path.parent, limit_rows(rows, limit), classes, strict=strict)


def read_table(path: Path, *, required: Sequence[str]) -> list[dict[str, str]]:
    """Return the lines of a CSV file as text, stripped; a missing cell is "".

    Raises:
        DosimeterError: the file cannot be read, or a required column is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [column.strip() for column in next(reader, [])]
            lines = [line for line in reader if any(cell.strip() for cell in line)]
    except (OSError, ValueError, csv.Error) as error:
        raise DosimeterError(f"the list of images must be a UTF-8 CSV file, {path} is not: {error}.") from error
    for column in required:
        if column not in header:
            found = ", ".join(header) or "none"
            raise DosimeterError(f"{path} must have a column {column!r} in its first line, found: {found}.")
    blank = dict.fromkeys(header, "")
    return [blank | dict(zip(header, map(str.strip, line), strict=False)) for line in lines]


def order_classes(names: Iterable[str], positive: str | None, *, where: str) -> tuple[str, str]:
    """Return (negative, positive) class names; which one is positive is declared, never guessed."""
    found = sorted(set(names))
    if len(found) != 2:
        listed = ", ".join(found[:6]) + (", ..." if len(found) > 6 else "")
        raise DosimeterError(f"a cohort must have exactly two classes, {where} give {len(found)}: {listed or '-'}.")
    if positive is None and found == ["0", "1"]:
        positive = "1"
    if positive is None:
        example = f"--positive {found[1]}"
        raise DosimeterError(
            f"which class is positive must be declared, {where} give {found[0]} and {found[1]}: say which with "
            f"--positive NAME, for example {example}."
        )
    if positive not in found:
        raise DosimeterError(f"positive must be one of the classes, got {positive!r}. {did_you_mean(positive, found)}")
    return (found[1], found[0]) if positive == found[0] else (found[0], found[1])


def check_split(value: str, path: Path) -> str | None:
    """Return an official split, None for an empty cell."""
    if value and value not in SPLITS:
        raise DosimeterError(
            f"the split column of {path} must hold train, val, test or nothing, got {value!r}. "
            f"{did_you_mean(value, SPLITS)}"
        )
    return value or None


def limit_rows(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """Return the first rows of each class, `limit` in all, in about the classes' own shares; None keeps all.

    No chance is involved: a longer prefix contains a shorter one.
    """
    if limit is None or limit >= len(rows):
        return list(rows)
    if limit < 2:
        raise DosimeterError(f"limit must be at least 2, one image of each class, got {limit}.")
    labels = [row.label for row in rows if row.label is not None]
    n_positive = min(limit - 1, max(1, round(limit * sum(labels) / max(1, len(labels)))))
    room = {0: limit - n_positive, 1: n_positive}
    kept = []
    for row in rows:
        if row.label is not None and room[row.label] > 0:
            room[row.label] -= 1
            kept.append(row)
    return kept


def read_rows(
    name: str,
    root: Path,
    rows: Sequence[Row],
    classes: tuple[str, str],
    *,
    modality: str = "",
    strict: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Cohort:
    """Read every file once, hash it, prove that it decodes, and return the cohort of those that do.

    Args:
        name: the cohort's name.
        root: the folder that `Row.file` is relative to and must not leave.
        rows: the images in their order; a case id is built from the place in it.
        classes: negative and positive class.
        modality: "xray", "ct" or "".
        strict: raise on the first unusable image; otherwise it is logged and listed in `Cohort.skipped`.
        provenance: facts for the manifest.

    Raises:
        DosimeterError: an image is unusable and `strict` is set, or a class has no usable image.
    """
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        results = list(pool.map(partial(_read_row, root), range(len(rows)), rows))
    skipped = tuple(result for result in results if isinstance(result, Skipped))
    if strict and skipped:
        raise DosimeterError(
            f"{name}: {len(skipped)} of {len(rows)} images cannot be used, the first is {skipped[0].name}: "
            f"{skipped[0].reason} Mend or remove it, or leave out --strict to go on without it."
        )
    for left_out in skipped:
        logger.warning("%s: %s is left out: %s", name, left_out.name, left_out.reason)
    cohort = Cohort(
        name=name,
        classes=classes,
        records=tuple(result for result in results if isinstance(result, Record)),
        modality=modality,
        skipped=skipped,
        provenance=dict(provenance or {}),
    )
    _require_both_classes(cohort)
    return cohort


def _require_both_classes(cohort: Cohort) -> None:
    for label, count in cohort.counts.items():
        if count == 0:
            because = "."
            if cohort.skipped:
                n, first = len(cohort.skipped), cohort.skipped[0]
                because = f"; {n} were left out, the first is {first.name}: {first.reason}"
            raise DosimeterError(
                f"{cohort.name}: class {label} must have at least one image that can be read, it has none{because}"
            )


def _read_row(root: Path, index: int, row: Row) -> Record | Skipped:
    if row.label is None:
        return Skipped(row.file, "it has no label.")
    if _escapes(row.file):
        return Skipped(row.file, f"its path must be relative and stay inside {root}.")
    path = root / row.file
    try:
        content = read_bytes(path)
        decode_image(content, name=row.file)
    except ImageError as error:
        return Skipped(row.file, error.reason)
    sha256 = hashlib.sha256(content).hexdigest()
    return Record(
        case_id=pseudonymise(index, sha256),
        label=row.label,
        sha256=sha256,
        read=partial(read_image, path),
        patient_id=row.patient_id,
        source=row.source,
        official_split=row.official_split,
        name=row.file,
    )


def _escapes(file: str) -> bool:
    """Whether a path is absolute or climbs out of its folder; links inside the folder are the user's own."""
    normal = os.path.normpath(file)
    return not file or Path(file).is_absolute() or normal == ".." or normal.startswith(f"..{os.sep}")
