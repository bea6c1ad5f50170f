"""Cohorts: labelled images of one modality, by name.

`load_cohort` is the way in; `base` holds the two types it returns.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dosimeter.cohorts.base import Case, Cohort, Decoded, FloatImage, Record, Skipped
from dosimeter.cohorts.headers import with_modality, with_patients
from dosimeter.cohorts.images import ImageError, read_image, to_grid
from dosimeter.cohorts.lists import SPLITS, csv_cohort, folder_cohort, tagged_cohort
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
    "csv:PATH": "your images: a CSV file with columns file, label[, patient_id, split, source, view, sex, age]",
    "npz:PATH": "an archive as MedMNIST has them, all of it or one side: npz:PATH:test",
    "nifti:PATH": "axial slices: a CSV file with columns file, label, slice, window_center, window_width",
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
    findings: Sequence[str] = (),
    classes: Sequence[str] = (),
    labels: Path | str | None = None,
    label_tag: str | None = None,
) -> Cohort:
    """Load a cohort by name: every image is hashed and proved readable, none is kept in memory.

    Args:
        name: a key of `COHORTS`, with a real path for PATH.
        data: the folder of the public cohorts; default is the environment variable DOSIMETER_DATA.
        limit: keep about this many images, the first of each class in the classes' own shares; None keeps all.
        strict: raise on an image that cannot be used, instead of listing it in `Cohort.skipped`, and on one image
            under two labels.
        positive: the positive class of a folder: or csv: cohort. Of two classes one must be it, of more one may; the
            other cohorts have a fixed one.
        seed: of a phantom cohort, whose images are drawn at random; files involve no chance.
        patients: of a folder: or csv: cohort, where its list does not say whose an image is: "list" leaves it unknown,
            "dicom" groups images by the PatientID in their headers (see `headers.with_patients`).
        findings: of a list, its columns that say 1, 0 or nothing of a finding each; of an archive, the names of its
            columns of labels.
        classes: of an archive, the names of the labels 0, 1 and so on.
        labels: of a folder: cohort, a CSV file that lists the folder's files, which then need no sub-folders.
        label_tag: of a folder: cohort of DICOM files, the keyword of a coded string in their headers that is the label.

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
    asked = {"findings": findings, "classes": classes, "labels": labels, "label_tag": label_tag}
    _require_meaning(name, kind if colon and path else "", {what for what, value in asked.items() if value}, positive)
    if colon and path and kind in _READ:
        options: dict[str, Any] = {"positive": positive, "limit": limit, "strict": strict}
        cohort = _own(kind, path, tuple(findings), tuple(classes), labels, label_tag, options)
        return with_patients(cohort) if patients == "dicom" else cohort
    if name in PUBLIC_COHORTS:
        return public_cohort(name, data=_data_folder(name, data), limit=limit, strict=strict)
    if name in _PHANTOMS:
        from dosimeter.cohorts.phantom import phantom_cohort  # slower to import than all the rest

        return phantom_cohort(name, n_images=limit, seed=seed)
    raise DosimeterError(f"there is no cohort {shown(name)}. {did_you_mean(name, COHORTS)}")


_READ: dict[str, set[str]] = {
    "folder": {"labels", "label_tag", "findings"},
    "csv": {"findings"},
    "npz": {"findings", "classes"},
    "nifti": {"findings"},
}
"""Kinds of cohorts of a user's own, and what may be said of each beside its path."""


def _require_meaning(name: str, kind: str, asked: set[str], positive: str | None) -> None:
    """Raise DosimeterError if something is said of a cohort that says nothing of its kind."""
    for what in sorted(asked - _READ.get(kind, set())):
        kinds = " and ".join(f"{each}:" for each, known in _READ.items() if what in known)
        raise DosimeterError(f"{what} is for cohorts {kinds}, got it for {shown(name)}: leave it out.")
    if positive is not None and "findings" in asked:
        raise DosimeterError(f"positive must be left out of findings, each there or not, got {shown(positive)}.")
    if "label_tag" in asked and len(asked) > 1:
        raise DosimeterError("label_tag must be alone, without labels and findings: a label comes from one place.")
    if kind == "folder" and "findings" in asked and "labels" not in asked:
        raise DosimeterError("findings of a folder: cohort need a list that tells them: give it with labels.")


def _own(
    kind: str,
    path: str,
    findings: tuple[str, ...],
    classes: tuple[str, ...],
    labels: Path | str | None,
    label_tag: str | None,
    options: dict[str, Any],
) -> Cohort:
    """Read a cohort of the user's own files."""
    side = None
    if kind == "npz" and path.rpartition(":")[2] in SPLITS:
        path, _, side = path.rpartition(":")
    place = Path(path).expanduser()
    shown_name = f"{kind}:{place.name}"  # a whole path may name a person, and outputs show it
    if one_line(shown_name) != shown_name:
        raise DosimeterError(
            f"the name of a {'folder' if kind == 'folder' else 'list'} must be text that can be shown, got "
            f"{shown(shown_name)}: rename it, or make a link to it."
        )
    if kind == "npz":
        from dosimeter.cohorts.npz import npz_cohort

        return npz_cohort(place, classes=classes, findings=findings, side=side, **options)
    if kind == "nifti":
        from dosimeter.cohorts.nifti import nifti_cohort

        return replace(nifti_cohort(place, findings=findings, **options), name=shown_name)
    if kind == "csv":
        cohort = csv_cohort(place, findings=findings, **options)
    elif labels is not None:
        cohort = csv_cohort(Path(labels).expanduser(), findings=findings, folder=place, **options)
    elif label_tag is not None:
        cohort = tagged_cohort(place, tag=label_tag, **options)
    else:
        cohort = folder_cohort(place, **options)
    return replace(with_modality(cohort), name=shown_name)


def _data_folder(name: str, data: Path | str | None) -> Path:
    folder = data or os.environ.get(DATA_VARIABLE)
    if not folder:
        raise DosimeterError(
            f"the cohort {name} needs a data folder, none is given: use --data DIR or {DATA_VARIABLE}, and fill it "
            f"with `dosimeter data fetch {name}`."
        )
    return Path(folder).expanduser()
