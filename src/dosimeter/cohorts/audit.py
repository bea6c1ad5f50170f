"""`audit`: what may be wrong with a cohort before a classifier is fitted to it.

Each check is a function from the cohort (and the pixels, read once) to a `Finding`.
"""

import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dosimeter.cohorts.base import Cohort, Decoded, Record, pixel_digest
from dosimeter.cohorts.contrast import MOST_FLAT, flat_sentence, is_flat, used_range
from dosimeter.cohorts.copies import contradiction
from dosimeter.cohorts.headers import modalities
from dosimeter.cohorts.patients import twins
from dosimeter.cohorts.split import Split, divide, shared_images, shared_patients
from dosimeter.errors import DosimeterError

Level = Literal["pass", "info", "warn", "fail"]

STRONG_ASSOCIATION = 0.3
"""Cramér's V between source and label from which the source is a plausible shortcut."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was checked, e.g. "patients".
        level: "pass", "info" (nothing to judge), "warn" (read the numbers with care) or "fail" (mend the data).
        message: one sentence.
        numbers: what the message is based on, ready for JSON.
    """

    check: str
    level: Level
    message: str
    numbers: dict[str, Any] = field(default_factory=dict)


class Pixels(NamedTuple):
    """What checks read off an image's pixels."""

    height: int
    width: int
    channels: int
    bits: int
    used: float  # see `used_range`
    digest: str  # of shape and pixels: equal for copies in different file formats


def audit(cohort: Cohort) -> list[Finding]:
    """Check a cohort and return the findings in a fixed order; every image is read once.

    Raises:
        DosimeterError: an image has become unreadable since the cohort was loaded.
    """
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        pixels = list(pool.map(lambda record: pixels_of(record, record.read()), cohort.records))
    published = any(record.official_split for record in cohort.records)
    named_patients = all(record.patient_id is not None for record in cohort.records)
    protocols = ("paper", *(["patient"] if named_patients else []), *(["official"] if published else []))
    return [
        _classes(cohort),
        unreadable(cohort),
        *_passed_over(cohort),
        _sizes(pixels),
        _depths(pixels),
        contrast(cohort, pixels),
        *_modalities(cohort),
        _patients(cohort),
        _leak(cohort, "paper"),
        *([_leak(cohort, "official")] if published else []),
        *(finding for protocol in protocols for finding in _both_sides(cohort, protocol, pixels)),
        _duplicates(cohort, pixels),
        _sources(cohort),
        _licences(cohort),
    ]


def cramers_v(table: npt.ArrayLike) -> float:
    """Return the association of rows and columns of a table of counts: 0 none, 1 each row fixes the column.

    Without bias correction; 0 if there is only one row or column.

    Source: Cramér 1946, Mathematical Methods of Statistics, section 21.9.
    """
    observed = np.asarray(table, dtype=np.float64)
    observed = observed[observed.sum(axis=1) > 0][:, observed.sum(axis=0) > 0]
    smaller = min(observed.shape) - 1
    if smaller < 1:
        return 0.0
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / observed.sum()
    chi2 = ((observed - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi2 / (observed.sum() * smaller)))


def of_all(cohort: Cohort, pixels: Sequence[Pixels]) -> list[Finding]:
    """Return those findings that are about no split, and that name no file."""
    return [
        _classes(cohort),
        _sizes(pixels),
        _depths(pixels),
        *_modalities(cohort),
        _patients(cohort),
        _duplicates(cohort, pixels),
        _sources(cohort),
        _licences(cohort),
    ]


def pixels_of(record: Record, decoded: Decoded) -> Pixels:
    """Return what the checks need of a record's pixels."""
    image, bits = decoded
    channels, height, width = image.shape
    used = used_range(image) if record.used is None else record.used  # which knows what is padding
    return Pixels(height, width, channels, bits, used, pixel_digest(image))


def _classes(cohort: Cohort) -> Finding:
    counts = cohort.counts
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    level: Level = "warn" if min(counts.values()) < 0.1 * len(cohort) else "info"
    hint = "; accuracy says little where one class is rare" if level == "warn" else ""
    return Finding("classes", level, f"{len(cohort)} images: {text}{hint}.", {"n": len(cohort), **counts})


def unreadable(cohort: Cohort) -> Finding:
    """Return whether files were left out, and which."""
    n = len(cohort.skipped)
    if not n:
        return Finding("unreadable", "pass", "Every file could be read.", {"n": 0})
    message = " ".join(cohort.left_out)
    return Finding("unreadable", "warn", message, {"n": n, "files": [list(item) for item in cohort.skipped]})


def _passed_over(cohort: Cohort) -> list[Finding]:
    """What was not taken for an image, or for a column, by rule."""
    return [Finding("not read", "info", sentence) for sentence in cohort.notes]


def _sizes(pixels: Sequence[Pixels]) -> Finding:
    numbers: dict[str, dict[str, float]] = {
        side: {"min": min(values), "median": statistics.median(values), "max": max(values)}
        for side, values in (("height", [p.height for p in pixels]), ("width", [p.width for p in pixels]))
    }
    text = " and ".join(
        f"{side} {of['min']} to {of['max']} (median {of['median']:g}) pixels" for side, of in numbers.items()
    )
    text = f"The images have {text}."
    if all(of["min"] == of["max"] for of in numbers.values()):
        text = f"All images are {pixels[0].height} pixels high and {pixels[0].width} wide."
    return Finding("sizes", "info", text, numbers)


def _depths(pixels: Sequence[Pixels]) -> Finding:
    depths, channels = Counter(p.bits for p in pixels), Counter(p.channels for p in pixels)
    by_bits = {str(bits): count for bits, count in sorted(depths.items())}
    numbers = {
        "bits": by_bits,
        "grey": channels[1],
        "colour": channels[3],
    }
    text = ", ".join(f"{count} of {bits} bits" for bits, count in by_bits.items())
    message = f"{text}; {channels[1]} grey and {channels[3]} in colour"
    return Finding("depths", "info", f"{message}.", numbers)


def contrast(cohort: Cohort, pixels: Sequence[Pixels]) -> Finding:
    """Return whether images use next to nothing of their range."""
    found = [record for record, of in zip(cohort.records, pixels, strict=True) if is_flat(of.used)]
    lowest = min(of.used for of in pixels)
    numbers: dict[str, Any] = {
        "n": len(found),
        "lowest": lowest,
        "cases": [record.case_id for record in found],
        "files": [record.name for record in found],
    }
    if not found:
        return Finding("contrast", "pass", f"Every image uses at least {lowest:.0%} of its range.", numbers)
    level: Level = "fail" if len(found) > MOST_FLAT * len(cohort) else "warn"
    return Finding("contrast", level, flat_sentence(len(found), len(cohort), found[0].name), numbers)


def _modalities(cohort: Cohort) -> list[Finding]:
    """What the headers of DICOM files say they show; nothing where there is none."""
    stated = modalities(cohort)
    if set(stated) == {""}:
        return []
    text = ", ".join(f"{count} {name or 'without one'}" for name, count in sorted(stated.items()))
    level: Level = "warn" if len(stated) > 1 else "info"
    hint = ": the classifier may tell these apart instead of the classes" if len(stated) > 1 else ""
    return [Finding("modalities", level, f"Headers state the modality: {text}{hint}.", stated)]


def _patients(cohort: Cohort) -> Finding:
    known = Counter(record.patient_id for record in cohort.records if record.patient_id is not None)
    n_unknown = len(cohort) - known.total()
    numbers = {
        "n_patients": len(known),
        "n_unknown": n_unknown,
        "images_per_patient": known.total() / len(known) if known else None,
        "most_images": max(known.values(), default=None),
    }
    said = []
    if n_unknown:
        said.append(
            f"{n_unknown} of {len(cohort)} images name no patient, so a leak between splits cannot be ruled out."
        )
    if doubles := twins(known):
        numbers["n_written_twice"] = sum(map(len, doubles))
        said.append(
            f"{numbers['n_written_twice']} of {len(known)} patient ids are another one written otherwise, as 1, 01 and "
            "1.0 are: if they are of one patient, make them one."
        )
    if said:
        return Finding("patients", "warn", " ".join(said), numbers)
    message = (
        f"{len(known)} patients, {numbers['images_per_patient']:.2f} images each on average, "
        f"{numbers['most_images']} at most."
    )
    return Finding("patients", "info", message, numbers)


def _leak(cohort: Cohort, protocol: str) -> Finding:
    """Whether test images show patients of the training set, with seed 0."""
    check = f"patients in both sides, {protocol} split"
    try:
        sides = divide(cohort, protocol, seed=0)
    except DosimeterError as error:
        return Finding(check, "info", f"Not checked: {error}")
    n_shared, n_test = shared_patients(sides), len(sides.test)
    numbers = {"n_test": n_test, "n_shared": n_shared}
    if n_shared is None:
        return Finding(check, "warn", "Not known: some images name no patient.", numbers)
    message = f"{n_shared} of {n_test} test images show a patient who is also in training"
    if not n_shared:
        return Finding(check, "pass", f"{message}.", numbers)
    if protocol == "official":
        return Finding(check, "fail", f"{message}, so the published split leaks.", numbers)
    return Finding(check, "warn", f"{message}: prefer the patient protocol.", numbers)


def _both_sides(cohort: Cohort, protocol: str, pixels: Sequence[Pixels]) -> list[Finding]:
    """Whether test images are training images too, with seed 0; nothing where there is no such split."""
    known = tuple(replace(record, pixels_sha256=of.digest) for record, of in zip(cohort.records, pixels, strict=True))
    try:
        sides: Split = divide(replace(cohort, records=known), protocol, seed=0)
    except DosimeterError:  # `_leak` says why
        return []
    n_shared, n_test = shared_images(sides), len(sides.test)
    message = f"{n_shared} of {n_test} test images have the same pixels as a training image"
    check, numbers = f"images in both sides, {protocol} split", {"n_test": n_test, "n_shared": n_shared}
    if not n_shared:
        return [Finding(check, "pass", f"{message}.", numbers)]
    return [Finding(check, "fail", f"{message}: keep one of each.", numbers)]


def _duplicates(cohort: Cohort, pixels: Sequence[Pixels]) -> Finding:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, of in enumerate(pixels):
        groups[of.digest].append(index)
    copies = [group for group in groups.values() if len(group) > 1]
    conflicts = [group for group in copies if contradiction([cohort.records[index] for index in group])]
    numbers = {
        "n_images": sum(map(len, copies)),
        "n_groups": len(copies),
        "n_conflicts": len(conflicts),
        "groups": [[cohort.records[index].case_id for index in group] for group in copies],
    }
    if conflicts:
        message = f"{len(conflicts)} groups of pixel-identical images carry different labels: correct the labels."
        return Finding("duplicates", "fail", message, numbers)
    if copies:
        message = (
            f"{numbers['n_images']} images in {len(copies)} groups are pixel-identical (same label): keep one of each."
        )
        return Finding("duplicates", "warn", message, numbers)
    return Finding("duplicates", "pass", "No two images have the same pixels.", numbers)


def _sources(cohort: Cohort) -> Finding:
    """Whether the label can be told from the source alone."""
    table: dict[str, list[int]] = {}
    for record in cohort.records:
        if record.source is not None:
            table.setdefault(record.source, [0] * len(cohort.classes))[record.label] += 1
    n_unknown = len(cohort) - sum(map(sum, table.values()))
    pure = [source for source, counts in table.items() if np.count_nonzero(counts) == 1]
    association = cramers_v(list(table.values())) if table else None
    numbers = {
        "table": {source: dict(zip(cohort.classes, counts, strict=True)) for source, counts in sorted(table.items())},
        "cramers_v": association,
        "n_single_label": len(pure),
        "n_unknown": n_unknown,
    }
    if not table:
        message = "No image names its source, so it cannot be ruled out that the classifier may learn the source."
        return Finding("sources", "warn", message, numbers)
    message = f"Cramér's V of source and label is {association:.2f} over {len(table)} sources"
    if len(table) == 1:
        message = "One source alone is named"
    if len(pure) == len(table):
        message = f"Every source has one label only ({message}): the classifier may learn the source"
    elif pure:
        message += f", and {len(pure)} have one label only: the classifier may learn the source"
    elif association is not None and association >= STRONG_ASSOCIATION:
        message += ": the classifier may learn the source"
    elif not n_unknown:
        message = "All images are of one source" if len(table) == 1 else message
        return Finding("sources", "pass", f"{message}.", numbers)
    unknown = f"; {n_unknown} images name no source" if n_unknown else ""
    return Finding("sources", "warn", f"{message}{unknown}.", numbers)


def _licences(cohort: Cohort) -> Finding:
    licences = cohort.provenance.get("licences")
    if not isinstance(licences, dict):
        return Finding("licences", "info", "The cohort does not state the licence of each image.")
    text = ", ".join(f"{count} {name}" for name, count in licences.items())
    return Finding("licences", "info", f"Licences: {text}.", dict(licences))
