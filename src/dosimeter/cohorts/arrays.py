"""`cohort_of`: a cohort of images in memory, of a PyTorch `Dataset` or `DataLoader`, or of a MAITE dataset.

Datasets are known by what they do, not by their type: neither torch nor MAITE is imported.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dosimeter.cohorts.base import Cohort, Decoded, FloatImage, Record, as_image, pixel_digest, pseudonymise
from dosimeter.cohorts.datasets import Items, is_dataset, items_of, names_of
from dosimeter.cohorts.multilabel import CLASSES, any_of, check_findings
from dosimeter.cohorts.patients import patient_of
from dosimeter.errors import DosimeterError
from dosimeter.plain import shown


def cohort_of(
    images: Any,
    labels: Sequence[int] | npt.ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    *,
    patients: Sequence[str] | None = None,
    findings: Sequence[str] = (),
    name: str = "arrays",
    modality: str = "",
    bits: int = 8,
) -> Cohort:
    """Return images as a cohort, for `sweep`, `examine`, `attack` and the audit.

    Args:
        images: (n, C, H, W) or (n, H, W), C 1 or 3: floating-point from 0, black, to 1, white, or uint8, of which 255
            is white; an array, a tensor, or a sequence of images that may differ in size. Or, without `labels`, what
            yields them: a `Dataset` of (image, target), read when an image is asked for; a `DataLoader` of such
            batches, read once; a MAITE dataset of (image, target, {"id": ...}).
        labels: (n,) indices into `classes`; of findings (n, findings) of 1, 0 and, where unknown, NaN.
        classes: names, in the order of the classifier's outputs; a dataset's own (`classes`, MAITE's `index2label`)
            stand in for them.
        patients: (n,) whose image each is; intervals take account of it.
        findings: names of findings, each there or not; labels, or targets, are then vectors.
        name: what tables call it.
        modality: "xray", "ct" or "".
        bits: depth of the grid on which resized images are stored, 1 to 16.

    Raises:
        DosimeterError: images are none, labels or patients are not as many, a label is no index, a target is neither
            an index nor one-hot, names are missing, or a dataset gives another image the second time.

    Example:
        >>> import numpy as np
        >>> cohort_of(np.zeros((2, 8, 8), np.uint8), [0, 1], ["clear", "opacity"]).counts
        {'clear': 1, 'opacity': 1}
    """
    if labels is None:
        if not is_dataset(images):
            raise DosimeterError(
                "labels must be given with images; without them images must be a dataset of (image, target), got "
                f"{type(images).__name__}."
            )
        items = items_of(images, _image)
        classes = names_of(images) if classes is None and not findings else classes
    else:
        items = _in_memory(images, labels, vectors=bool(findings))
    names = CLASSES if findings else tuple(classes or ())
    if not names:
        raise DosimeterError("classes must be named, in the order of the classifier's outputs: give classes=[...].")
    if patients is not None and len(patients) != len(items.targets):
        raise DosimeterError(f"patients must be as many as the images, got {len(patients)} for {len(items.targets)}.")
    known = check_findings(findings)
    records = tuple(
        Record(
            case_id=pseudonymise(index, digest),
            label=any_of(told) if known else _label(target, len(names)),
            sha256=hashlib.sha256(f"{digest} {bits}".encode()).hexdigest(),
            read=partial(_decoded, read, bits),
            patient_id=None if patients is None else patient_of(patients[index]),
            name=f"image {index}",
            findings=told,
        )
        for index, (digest, target, read) in enumerate(zip(items.digests, items.targets, items.reads, strict=True))
        for told in [_told(target, known)]
    )
    return Cohort(name, names, records, modality=modality, findings=known)


def _in_memory(images: Any, labels: Any, *, vectors: bool) -> Items:
    pixels = [_image(image) for image in images]
    if not pixels:
        raise DosimeterError("images must have one or more, got none.")
    targets = np.asarray(labels)
    targets = targets if vectors else targets.reshape(-1)
    if len(targets) != len(pixels):
        raise DosimeterError(f"labels must be as many as the images, got {len(targets)} for {len(pixels)}.")
    return Items([pixel_digest(each) for each in pixels], list(targets), [partial(_same, each) for each in pixels])


def _decoded(read: Callable[[], FloatImage], bits: int) -> Decoded:
    return Decoded(read(), bits)


def _same(image: FloatImage) -> FloatImage:
    return image


def _label(target: Any, n_classes: int) -> int:
    """Return the class that a target says: an index, or the place of the one in a one-hot vector."""
    values = _numbers(target, "labels must be indices into the classes, counted from 0")
    if len(values) > 1:
        if len(values) != n_classes or not np.isin(values, (0, 1)).all() or values.sum() != 1:
            raise DosimeterError(
                f"target must be an index, or one-hot for {n_classes} classes, got {shown(values.tolist())}. If each "
                "of several findings may be there, name them: findings=[...]."
            )
        return int(values.argmax())
    if len(values) != 1 or values[0] != round(values[0]) or not 0 <= values[0] < n_classes:
        got = f"{values[0]:g}" if len(values) else "none"
        raise DosimeterError(f"labels must be indices into the {n_classes} classes, got {got}. Count from 0.")
    return int(values[0])


def _told(target: Any, findings: Sequence[str]) -> tuple[int | None, ...]:
    """Return what a target says of each finding."""
    if not findings:
        return ()
    values = _numbers(target, "target must be 1, 0 or NaN for each of the findings")
    if len(values) != len(findings) or not (np.isnan(values) | np.isin(values, (0, 1))).all():
        raise DosimeterError(
            f"target must be 1, 0 or NaN for each of the {len(findings)} findings, got {shown(values.tolist())}."
        )
    return tuple(None if np.isnan(value) else int(value) for value in values)


def _numbers(target: Any, rule: str) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(target, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise DosimeterError(f"{rule}, got {shown(np.asarray(target).tolist())}. Give numbers.") from error


def _image(image: Any) -> FloatImage:
    """Return an image as float32 (C, H, W) in [0, 1], or raise DosimeterError if it is none."""
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.dtype == np.uint8:
        pixels = pixels.astype(np.float32) / 255
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DosimeterError(f"images must be uint8, or floating-point from 0 to 1, got {pixels.dtype}.")
    return as_image(pixels)
