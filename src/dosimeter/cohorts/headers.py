"""What DICOM headers tell of a whole cohort: its modality, and on request which images are of one patient."""

import secrets
from collections import Counter
from dataclasses import replace
from pathlib import Path

from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.images import ImageError, header_facts, read_bytes
from dosimeter.errors import DosimeterError


def read_person(path: Path, salt: bytes) -> str | None:
    """Return the digest of the patient's identifier in a DICOM file, None if it states none."""
    return header_facts(read_bytes(path), salt=salt).person


def read_tag(path: Path, tag: str) -> str:
    """Return what a tag of a DICOM file's header says (see `dicom_file.coded`), "" if it is no such file or says none.

    Raises:
        DosimeterError: the tag is no coded string.
    """
    from dosimeter.cohorts.dicom_file import coded

    try:
        return coded(read_bytes(path), tag)
    except ImageError:
        return ""


def with_modality(cohort: Cohort) -> Cohort:
    """Return the cohort with the modality that all its files state, if none was declared."""
    stated = {record.modality for record in cohort.records}
    if cohort.modality or len(stated) != 1 or None in stated:
        return cohort
    return replace(cohort, modality=stated.pop() or "")


def modalities(cohort: Cohort) -> dict[str, int]:
    """Return how many images state each modality; "" is none."""
    return dict(Counter(record.modality or "" for record in cohort.records))


def with_patients(cohort: Cohort) -> Cohort:
    """Return the cohort with images grouped by the PatientID of their DICOM headers, where no list says whose they are.

    The identifier is never kept: it is read as a digest with a salt that is drawn anew for every call, and patients
    are then numbered in the order of their images, so that the same files give the same numbers.

    Raises:
        DosimeterError: no file states one.
    """
    salt = secrets.token_bytes(32)
    people = [
        None if record.person is None or record.patient_id is not None else record.person(salt)
        for record in cohort.records
    ]
    numbers = {person: place for place, person in enumerate(dict.fromkeys(filter(None, people)), start=1)}
    if not numbers:
        raise DosimeterError(
            f"patients 'dicom' must find a PatientID in the headers of {cohort.name}, none of {len(cohort)} images "
            "states one. Add a column patient_id to a list of the images, or leave --patients out."
        )
    records = tuple(
        record if person is None else replace(record, patient_id=f"dicom-{numbers[person]:05d}")
        for record, person in zip(cohort.records, people, strict=True)
    )
    return replace(cohort, records=records)
