"""`cohort_of`: a cohort of images that are in memory already."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dosimeter.cohorts.base import Cohort, Decoded, FloatImage, Record, as_image, pixel_digest, pseudonymise
from dosimeter.errors import DosimeterError


def cohort_of(
    images: Any,
    labels: Sequence[int] | npt.ArrayLike,
    classes: Sequence[str],
    *,
    patients: Sequence[str] | None = None,
    name: str = "arrays",
    modality: str = "",
    bits: int = 8,
) -> Cohort:
    """Return images in memory as a cohort, for `sweep`, `examine` and `attack`.

    Args:
        images: (n, C, H, W) or (n, H, W), C 1 or 3: floating-point from 0, black, to 1, white, or uint8, of which 255
            is white; an array, a tensor, or a sequence of images that may differ in size.
        labels: (n,) indices into `classes`.
        classes: names, in the order of the classifier's outputs.
        patients: (n,) whose image each is; intervals take account of it.
        name: in tables.
        modality: "xray", "ct" or "".
        bits: depth of the grid on which resized images are stored, 1 to 16.

    Raises:
        DosimeterError: images are none, labels or patients are not as many, or a label is no index.

    Example:
        >>> import numpy as np
        >>> cohort_of(np.zeros((2, 8, 8), np.uint8), [0, 1], ["clear", "opacity"]).counts
        {'clear': 1, 'opacity': 1}
    """
    pixels = [_image(image) for image in images]
    numbers = [int(label) for label in np.asarray(labels).reshape(-1).tolist()]
    for what, values in (("labels", numbers), ("patients", patients)):
        if values is not None and len(values) != len(pixels):
            raise DosimeterError(f"{what} must be as many as the images, got {len(values)} for {len(pixels)}.")
    wrong = [label for label in numbers if not 0 <= label < len(classes)]
    if wrong:
        raise DosimeterError(f"labels must be indices into the {len(classes)} classes, got {wrong[0]}. Count from 0.")
    digests = [pixel_digest(image) for image in pixels]
    records = tuple(
        Record(
            case_id=pseudonymise(index, digest),
            label=numbers[index],
            sha256=hashlib.sha256(f"{digest} {bits}".encode()).hexdigest(),
            read=partial(Decoded, pixels[index], bits),
            patient_id=None if patients is None else str(patients[index]),
            name=f"image {index}",
        )
        for index, digest in enumerate(digests)
    )
    return Cohort(name, tuple(classes), records, modality=modality)


def _image(image: Any) -> FloatImage:
    """Return an image as float32 (C, H, W) in [0, 1], or raise DosimeterError if it is none."""
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.dtype == np.uint8:
        pixels = pixels.astype(np.float32) / 255
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DosimeterError(f"images must be uint8, or floating-point from 0 to 1, got {pixels.dtype}.")
    return as_image(pixels)
