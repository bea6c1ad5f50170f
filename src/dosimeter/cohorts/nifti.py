"""Axial slices of NIfTI volumes, as a list names them, turned as a radiologist looks at them and windowed as declared.

A NIfTI file says neither what its numbers mean nor which of them to show: the list declares a window for each slice.
"""

import hashlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dosimeter.cohorts.base import Cohort, Decoded, Record, Skipped, pixel_digest, pseudonymise
from dosimeter.cohorts.contrast import used_range
from dosimeter.cohorts.files import Row, limit_rows, read_rows
from dosimeter.cohorts.limits import ImageError, check_size, pixel_limit
from dosimeter.cohorts.lists import read_list
from dosimeter.cohorts.paths import find_file
from dosimeter.errors import DosimeterError

COLUMNS = ("slice", "window_center", "window_width")
"""What the list says of each slice beside file and label: its place from below, from 0 on, and the window shown."""

BITS = 16
"""Depth to which an image is rounded when it is resized: a window leaves no grid of its own."""

_SUFFIXES = (".nii", ".nii.gz")


def nifti_cohort(
    path: Path, *, positive: str | None, limit: int | None, strict: bool, findings: tuple[str, ...] = ()
) -> Cohort:
    """Read slices that a CSV file lists: columns as `csv_cohort` has them, and `COLUMNS`.

    Slices are axial in the canonical orientation that the file's affine states, the nearest one if it is oblique. The
    image's left is the patient's right, its upper edge the front. Numbers are those after slope and intercept.

    Args:
        path: the CSV file.
        positive: see `csv_cohort`.
        limit: see `limit_rows`.
        strict: see `read_rows`.
        findings: see `csv_cohort`.

    Raises:
        DosimeterError: nibabel is missing, or see `csv_cohort`.

    Source: NIfTI-1 (nifti.nimh.nih.gov/nifti-1), "3D image orientation"; DICOM PS3.3, C.7.6.2 (rows and columns).
    """
    _nibabel()
    listed = read_list(path, positive=positive, findings=findings, more=COLUMNS)
    told: dict[str, Any] = {"strict": strict, "inside": False, "notes": listed.notes, "findings": findings}
    rows = limit_rows(listed.rows, limit)
    return read_rows(f"nifti:{path.name}", path.parent, rows, listed.classes, positive=positive, read=_read_row, **told)


def _read_row(root: Path, index: int, row: Row, inside: bool) -> Record | Skipped:
    name = f"{row.name(root)}, slice {row.more[0]}"
    assert row.label is not None
    try:
        path = find_file(root, row.file, inside=inside)
        place, centre, width = (_number(text, column) for text, column in zip(row.more, COLUMNS, strict=True))
        if place != int(place) or place < 0:
            raise ImageError(name, f"its slice must be a whole number from 0, got {place:g}.")
        if width <= 0:
            raise ImageError(name, f"its window_width must be above 0, got {width:g}.")
        decoded = read_slice(path, int(place), centre, width)
    except ImageError as error:
        return Skipped(name, error.reason)
    pixels = pixel_digest(decoded.image)
    sha256 = hashlib.sha256(f"nifti {pixels}".encode()).hexdigest()
    return Record(
        case_id=pseudonymise(index, sha256),
        label=row.label,
        sha256=sha256,
        read=partial(read_slice, path, int(place), centre, width),
        patient_id=row.patient_id,
        source=row.source,
        official_split=row.official_split,
        used=used_range(decoded.image),
        name=name,
        pixels_sha256=pixels,
        facts=row.facts,
        findings=row.findings,
    )


def read_slice(path: Path, place: int, centre: float, width: float) -> Decoded:
    """Return an axial slice as it is looked at, black below the window and white above it.

    Args:
        path: a .nii or .nii.gz file.
        place: of the slice, from the feet, counted from 0.
        centre: of the window, in the file's numbers after slope and intercept.
        width: of the window.

    Raises:
        ImageError: it is no such file, states no orientation, has no such slice, several volumes, or numbers that are
            not finite.
    """
    values = _axial(path, place)  # (x to the right, y to the front)
    if not np.isfinite(values).all():
        raise ImageError(str(path), "it holds numbers that are not finite; replace them.")
    image = ((values - centre) / width + 0.5).clip(0, 1)
    shown = image[::-1, ::-1].T  # rows from the front, columns from the patient's right
    return Decoded(np.ascontiguousarray(shown, dtype=np.float32)[None], BITS)


def _axial(path: Path, place: int) -> npt.NDArray[np.float64]:
    """Return a slice (right, front) of a volume turned to its canonical axes; no other slice is kept."""
    nibabel = _nibabel()
    if not path.name.lower().endswith(_SUFFIXES):
        raise ImageError(str(path), f"its name must end in {' or '.join(_SUFFIXES)}.")
    try:
        volume = nibabel.load(path)
        header, shape = volume.header, volume.shape
    except Exception as error:  # of a damaged file nibabel raises nearly anything
        raise ImageError(str(path), "it is no NIfTI file, or is damaged.") from error
    if not isinstance(volume, nibabel.Nifti1Image | nibabel.Nifti2Image):
        raise ImageError(str(path), "it is no NIfTI file.")
    if not (int(header["qform_code"]) or int(header["sform_code"])):
        raise ImageError(str(path), "its header states no orientation; set its qform or sform.")
    if len(shape) < 3 or any(side != 1 for side in shape[3:]):
        raise ImageError(str(path), f"it must be one volume of three axes, it has the shape {shape}.")
    turned = nibabel.io_orientation(volume.affine)  # (3, 2): where each axis goes, and whether it is flipped
    if not np.isfinite(turned).all():
        raise ImageError(str(path), "its affine names no three axes; correct its header.")
    axes = [int(np.flatnonzero(turned[:, 0] == world)[0]) for world in range(3)]
    flipped = [turned[axis, 1] < 0 for axis in axes]
    n_slices = shape[axes[2]]
    if place >= n_slices:
        raise ImageError(str(path), f"it has {n_slices} slices, from 0 on, and none of number {place}.")
    check_size(str(path), width=shape[axes[0]], height=shape[axes[1]], channels=1, limit=pixel_limit())
    cut: list[Any] = [slice(None)] * 3 + [0] * (len(shape) - 3)
    cut[axes[2]] = n_slices - 1 - place if flipped[2] else place
    try:
        values = np.asarray(volume.dataobj[tuple(cut)], dtype=np.float64)
    except Exception as error:
        raise ImageError(str(path), "it is damaged or truncated.") from error
    if axes[0] > axes[1]:
        values = values.T
    return values[:: -1 if flipped[0] else 1, :: -1 if flipped[1] else 1]


def _number(text: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ImageError("", f"its {column} must be a number, got {text[:20]!r}.")
    return value


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise DosimeterError("Reading NIfTI needs nibabel: pip install 'dosimeter[nifti]'.") from error
    return nibabel
