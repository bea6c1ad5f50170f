"""MedMNIST's archives: `.npz` files of uint8 images and labels with their published split, read without any package.

An archive is data: arrays of objects, which would run code when they are read, are refused.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dosimeter.cohorts.base import Cohort, Decoded, FloatImage, Record, Skipped, pixel_digest, pseudonymise
from dosimeter.cohorts.contrast import used_range
from dosimeter.cohorts.files import Row, limit_rows, order_classes, read_rows
from dosimeter.cohorts.multilabel import CLASSES, any_of, check_findings
from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import require_file
from dosimeter.plain import named

SIDES = ("train", "val", "test")
"""Sides of the published split; an archive has some or all of them."""

MOST_BYTES = 4 << 30
"""What the images of one side may need: they are held in memory while they are used."""

Array = npt.NDArray[np.generic]


def npz_cohort(
    path: Path,
    *,
    positive: str | None,
    limit: int | None,
    strict: bool,
    classes: Sequence[str] = (),
    findings: Sequence[str] = (),
    side: str | None = None,
) -> Cohort:
    """Read an archive with the arrays SIDE_images, (n, H, W) or (n, H, W, 3), and SIDE_labels, (n, 1) or (n, findings).

    Patients are unknown: the archives name none.

    Args:
        path: the file.
        positive: the positive class; may be left out if classes are 0 and 1, or more than two.
        limit: see `limit_rows`.
        strict: see `read_rows`.
        classes: names of the labels 0, 1 and so on; by default these numbers.
        findings: names of the columns of labels, where there are several.
        side: "train", "val" or "test" alone.

    Raises:
        DosimeterError: no such file, no such arrays, or names that are not as many as the labels.

    Source: Yang et al. 2023, Scientific Data 10:41 (MedMNIST v2).
    """
    there = [each for each in SIDES if f"{each}_images" in _names(path)]
    if side is not None and side not in there:
        raise DosimeterError(f"{named(path)} must have the side {side}, it has {', '.join(there) or 'none'}.")
    sides = there if side is None else [side]
    if not sides:
        raise DosimeterError(
            f"{named(path)} must have arrays such as test_images and test_labels, it has "
            f"{', '.join(map(named, _names(path)[:6])) or 'none'}."
        )
    labels = {each: _labels(path, each) for each in sides}
    n_columns = {array.shape[1] for array in labels.values()}
    if len(n_columns) > 1:
        raise DosimeterError(f"the labels of {named(path)} must have as many columns on every side, they differ.")
    width = n_columns.pop()
    names = check_findings(findings)
    ordered: tuple[str, ...] = CLASSES
    if width > 1:
        if len(names) != width:
            raise DosimeterError(
                f"findings must name the {width} columns of the labels of {named(path)}, in their order, got "
                f"{len(names)}: give them with --findings."
            )
        rows = _rows_of_findings(path, labels)
    else:
        if names:
            raise DosimeterError(f"findings must be left out for {named(path)}: it has one label an image.")
        rows, ordered = _rows_of_classes(path, labels, classes, positive)
    name = f"npz:{path.name}" + (f":{side}" if side else "")
    told: dict[str, Any] = {"strict": strict, "findings": names, "positive": positive, "read": _read_row}
    return read_rows(name, path, limit_rows(rows, limit), ordered, **told)


def _rows_of_classes(
    path: Path, labels: dict[str, Array], classes: Sequence[str], positive: str | None
) -> tuple[list[Row], tuple[str, ...]]:
    values = {side: array[:, 0].astype(np.int64).tolist() for side, array in labels.items()}
    found = sorted({value for each in values.values() for value in each})
    if classes and (found[0] < 0 or found[-1] >= len(classes)):
        raise DosimeterError(
            f"classes must name every label of {named(path)}, which are {found[0]} to {found[-1]}, got {len(classes)}."
        )
    names = {value: classes[value] if classes else str(value) for value in found}
    ordered = order_classes(names.values(), positive, where=f"the labels of {named(path)}")
    if classes and len(ordered) > 2:
        ordered = tuple(name for name in classes if name in ordered)  # as declared, not by the alphabet
    rows = [
        Row(f"{side}/{place}", ordered.index(names[value]), official_split=side)
        for side, each in values.items()
        for place, value in enumerate(each)
    ]
    return rows, ordered


def _rows_of_findings(path: Path, labels: dict[str, Array]) -> list[Row]:
    rows = []
    for side, array in labels.items():
        if not np.isin(array, (0, 1)).all():
            raise DosimeterError(f"labels of findings in {named(path)} must be 0 or 1, those of {side} hold others.")
        for place, line in enumerate(array.astype(np.int64).tolist()):
            rows.append(Row(f"{side}/{place}", any_of(line), official_split=side, findings=tuple(line)))
    return rows


def _read_row(path: Path, index: int, row: Row, inside: bool) -> Record | Skipped:
    del inside
    side, place = row.file.split("/")
    assert row.label is not None
    image = read_image(path, side, int(place)).image
    pixels = pixel_digest(image)
    sha256 = hashlib.sha256(f"npz {pixels}".encode()).hexdigest()
    return Record(
        case_id=pseudonymise(index, sha256),
        label=row.label,
        sha256=sha256,
        read=partial(read_image, path, side, int(place)),
        official_split=row.official_split,
        used=used_range(image),
        name=row.file,
        pixels_sha256=pixels,
        findings=row.findings,
    )


def read_image(path: Path, side: str, place: int) -> Decoded:
    """Return one image of an archive, 8 bits deep."""
    pixels = _images(path, side, path.stat().st_mtime_ns)[place]
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if len(planes) == 3 and (planes == planes[:1]).all():
        planes = planes[:1]
    image: FloatImage = (planes.astype(np.float64) / 255).astype(np.float32)
    return Decoded(image, 8)


@lru_cache(maxsize=len(SIDES))
def _images(path: Path, side: str, _: int) -> npt.NDArray[np.uint8]:
    """Return the images of a side, kept as long as the file is not written again."""
    array = _array(path, f"{side}_images")
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3):
        raise DosimeterError(
            f"{side}_images of {named(path)} must be uint8 of shape (n, H, W) or (n, H, W, 3), got {array.dtype} of "
            f"{array.shape}."
        )
    return array.view(np.uint8)


def _labels(path: Path, side: str) -> Array:
    if f"{side}_labels" not in _names(path):
        raise DosimeterError(f"{named(path)} must have {side}_labels beside {side}_images, it has none.")
    array = _array(path, f"{side}_labels")
    array = array[:, None] if array.ndim == 1 else array
    n_images = len(_images(path, side, path.stat().st_mtime_ns))
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer) or len(array) != n_images or not n_images:
        raise DosimeterError(
            f"{side}_labels of {named(path)} must be whole numbers of shape (n, 1) or (n, findings), one row for each "
            f"of the {n_images} images, got {array.dtype} of {array.shape}."
        )
    return array


def _names(path: Path) -> list[str]:
    try:
        require_file(path)
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise DosimeterError(
            f"npz:PATH must be an .npz archive, {named(path)} is none ({in_a_line(error)})."
        ) from error


def _array(path: Path, name: str) -> Array:
    """Return one array; one of objects, or absurdly large, is refused before it is read."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.hasobject or n_bytes > MOST_BYTES:
            what = "holds Python objects, which may run code" if dtype.hasobject else f"needs {n_bytes} bytes"
            raise DosimeterError(f"{name} of {named(path)} must be numbers of at most {MOST_BYTES} bytes, it {what}.")
        with np.load(path, allow_pickle=False) as archive:
            found: Array = archive[name]
            return found
    except DosimeterError:
        raise
    except Exception as error:  # of a damaged archive zipfile, zlib and NumPy raise nearly anything
        raise DosimeterError(f"{name} of {named(path)} cannot be read ({in_a_line(error)}): fetch it again.") from error
