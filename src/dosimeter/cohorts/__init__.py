"""Cohorts: labelled images of one modality, by name.

`load_cohort` is the way in; `base` holds the two types it returns.
"""

import os
from dataclasses import replace
from pathlib import Path

from dosimeter.cohorts.base import Case, Cohort, Decoded, FloatImage, Record, Skipped
from dosimeter.cohorts.headers import with_modality, with_patients
from dosimeter.cohorts.images import ImageError, read_image, to_grid
from dosimeter.cohorts.lists import csv_cohort, folder_cohort
from dosimeter.cohorts.public import PUBLIC_COHORTS, public_cohort
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.plain import one_line, shown

__all__ = [
    "COHORTS",
    "Case",
    "Cohort",
    "Decoded",
    "FloatImage",
    "ImageError",
    "Record",
    "Skipped",
    "load_cohort",
    "read_image",
    "to_grid",
]

DATA_VARIABLE = "DOSIMETER_DATA"
"""The environment variable that names the data folder when no argument does."""

PATIENTS = ("list", "dicom")
"""Where patients come from, beside a list."""

_PHANTOMS = {
    "phantom-xray": "generated chest projections, clear or with an opacity; no data needed",
    "phantom-ct": "generated axial chest slices, clear or with an opacity; no data needed",
    "phantom-3": "generated chest projections of three classes: clear, opacity, effusion; no data needed",
    "phantom-findings": "generated chest projections that may have opacity, effusion, pacemaker; no data needed",
}
_FILES = {
    "folder:PATH": "your images: a folder with one sub-folder for each class",
    "csv:PATH": "your images: a CSV file with columns file, label[, patient_id, split, source]",
}

COHORTS = {name: public.description for name, public in PUBLIC_COHORTS.items()} | _PHANTOMS | _FILES
"""Every cohort that `load_cohort` knows -> one line about it."""


def load_cohort(
    name: str,
    *,
    data: Path | str | None = None,
    limit: int | None = None,
    strict: bool = False,
    positive: str | None = None,
    seed: int = 0,
    patients: str = "list",
) -> Cohort:
    """Load a cohort by name: every image is hashed and proved readable, none is kept in memory.

    Args:
        name: a key of `COHORTS`, with a real path in "folder:PATH" and "csv:PATH".
        data: the folder of the public cohorts; default is the environment variable DOSIMETER_DATA.
        limit: keep about this many images, the first of each class in the classes' own shares; None keeps all.
        strict: raise on an image that cannot be used, instead of listing it in `Cohort.skipped`, and on one image
            under two labels.
        positive: the positive class of a folder: or csv: cohort. Of two classes one must be it, of more one may; the
            other cohorts have a fixed one.
        seed: of a phantom; files involve no chance.
        patients: of a folder: or csv: cohort, where its list does not say whose an image is: "list" leaves it unknown,
            "dicom" groups images by the PatientID in their headers (see `headers.with_patients`).

    Raises:
        DosimeterError: unknown name, missing data, fewer than two images asked for, or see `csv_cohort`.

    Example:
        >>> load_cohort("phantom-ct", limit=4).classes
        ('clear', 'opacity')
    """
    if patients not in PATIENTS:
        raise DosimeterError(f"patients must be {' or '.join(PATIENTS)}, got {patients!r}.")
    if limit is not None and limit < 2:
        raise DosimeterError(f"limit must be at least 2, one image of each class, got {limit}.")
    kind, colon, path = name.partition(":")
    if colon and path and kind in ("folder", "csv"):
        read = folder_cohort if kind == "folder" else csv_cohort
        shown_name = f"{kind}:{Path(path).name}"  # a whole path may name a person, and outputs show it
        if one_line(shown_name) != shown_name:
            raise DosimeterError(
                f"the name of a {'folder' if kind == 'folder' else 'list'} must be text that can be shown, got "
                f"{shown(shown_name)}: rename it, or make a link to it."
            )
        cohort = with_modality(read(Path(path).expanduser(), positive=positive, limit=limit, strict=strict))
        cohort = with_patients(cohort) if patients == "dicom" else cohort
        return replace(cohort, name=shown_name)
    if name in PUBLIC_COHORTS:
        return public_cohort(name, data=_data_folder(name, data), limit=limit, strict=strict)
    if name in _PHANTOMS:
        from dosimeter.cohorts.phantom import phantom_cohort  # slower to import than all the rest

        return phantom_cohort(name, n_images=limit, seed=seed)
    raise DosimeterError(f"there is no cohort {shown(name)}. {did_you_mean(name, COHORTS)}")


def _data_folder(name: str, data: Path | str | None) -> Path:
    folder = data or os.environ.get(DATA_VARIABLE)
    if not folder:
        raise DosimeterError(
            f"the cohort {name} needs a data folder, none is given: use --data DIR or {DATA_VARIABLE}, and fill it "
            f"with `dosimeter data fetch {name}`."
        )
    return Path(folder).expanduser()
