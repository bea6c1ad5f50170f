"""What `dosimeter data check` finds too, as checks of the audit: with rule, source and remedy, without files' names."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from dosimeter.cohorts.audit import STRONG_ASSOCIATION, Finding, contrast, of_all, unreadable
from dosimeter.cohorts.auditing.seeing import Seen
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.contrast import FLAT_RANGE, MOST_FLAT
from dosimeter.cohorts.split import Split, shared_images, shared_patients
from dosimeter.record.data_audit import DataCheck

_LEAKS = "Kapoor and Narayanan 2023, Patterns 4:100804"
_OWN = "dosimeter's own"


class _Rule(NamedTuple):
    title: str
    rule: str
    source: str
    remedy: str


_RULES = {
    "classes": _Rule(
        "How many images has each class?", "warn if a class has less than 10 % of the images", _OWN, "add images of it"
    ),
    "sizes": _Rule("How large are the images?", "told, not judged", _OWN, ""),
    "depths": _Rule("How deep are they, and in colour?", "told, not judged", _OWN, ""),
    "modalities": _Rule(
        "Do headers state one modality?", "warn if they state several", _OWN, "audit one modality at a time"
    ),
    "patients": _Rule(
        "Is every image's patient known?",
        "warn if an image names no patient, or two ids are one number or name written in two ways",
        f"{_LEAKS} (leak L3.2)",
        "write one id for each patient in a column patient_id, or give `--patients dicom`",
    ),
    "duplicates": _Rule(
        "Are any two images the same, pixel for pixel?",
        "warn if any are; fail if their labels differ",
        f"{_LEAKS} (leak L1.4)",
        "keep one of each, and correct the labels",
    ),
    "sources": _Rule(
        "Does the source tell the label?",
        f"warn if no source is named, one has one label only, or Cramér's V is {STRONG_ASSOCIATION} or more",
        f"{_LEAKS} (leak L2); DeGrave et al. 2021, Nat Mach Intell 3:610",
        "name sources in a column source, and take every class from every source",
    ),
    "unreadable": _Rule(
        "Could every file be used?",
        "warn if any could not",
        f"{_LEAKS} (leak L3.3): what is left out may not be left out by chance",
        "`dosimeter data check` names them",
    ),
    "contrast": _Rule(
        "Does every image use its range?",
        f"warn if an image uses less than {FLAT_RANGE:.2%} of the range from black to white, fail if more than "
        f"{MOST_FLAT:.0%} of the images do",
        _OWN,
        "state a window in the header, or scale pixels to the range of the file",
    ),
    "licences": _Rule("Under which licences are the images?", "told, not judged", _OWN, ""),
}


def checks(cohort: Cohort, seen: Sequence[Seen], split: Split | None) -> Iterator[DataCheck]:
    """Yield the checks that need no more than the cohort, its pixels and the split in use."""
    pixels = [each.pixels for each in seen]
    yield from map(_told, of_all(cohort, pixels))
    left, flat = unreadable(cohort), contrast(cohort, pixels)  # their own messages name files
    n = left.numbers["n"]
    yield _told(replace(left, message=f"{n} of {n + len(cohort)} files were left out."))
    used = f"use less than {FLAT_RANGE:.2%}; the lowest uses {flat.numbers['lowest']:.0%}."
    yield _told(replace(flat, message=f"{flat.numbers['n']} of {len(seen)} images {used}"))
    if split is not None and len(split.train):
        yield _patients_apart(split)
        yield _images_apart(split)


def _told(finding: Finding) -> DataCheck:
    title, rule, source, remedy = _RULES[finding.check]
    groups = finding.numbers.get("groups", [])
    return DataCheck(
        id=finding.check,
        title=title,
        level=finding.level,
        measured=finding.message,
        rule=rule,
        source=source,
        remedy=remedy if finding.level in ("warn", "fail") else "",
        numbers={name: value for name, value in finding.numbers.items() if name not in ("groups", "cases", "files")},
        cases=finding.numbers.get("cases", [case for group in groups for case in group]),
    )


def _patients_apart(split: Split) -> DataCheck:
    n_shared, n_test = shared_patients(split), len(split.test)
    known = f"{n_shared} of {n_test} test images show a patient who is also in training"
    return DataCheck(
        id="split: patients",
        title="Are patients on both sides of the split?",
        level="warn" if n_shared is None else "fail" if n_shared else "pass",
        measured=f"{'Not known: some images name no patient' if n_shared is None else known} ({split.protocol} "
        f"protocol, seed {split.seed}).",
        rule="fail if a test image shows a patient of the training set; warn if patients are not known",
        source=f"{_LEAKS} (leak L3.2)",
        remedy="" if n_shared == 0 else "use `--protocol patient`",
        numbers={"n_shared": n_shared, "n_test": n_test},
    )


def _images_apart(split: Split) -> DataCheck:
    n_shared, n_test = shared_images(split), len(split.test)
    return DataCheck(
        id="split: images",
        title="Are images on both sides of the split?",
        level="fail" if n_shared else "pass",
        measured=f"{n_shared} of {n_test} test images have the same pixels as one in training.",
        rule="fail if any has",
        source=f"{_LEAKS} (leak L1.4)",
        remedy="keep one of each" if n_shared else "",
        numbers={"n_shared": n_shared, "n_test": n_test},
    )
