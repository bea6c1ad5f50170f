"""Flat images: those that use next to nothing of the range between black and white.

A CT slice without a window, Hounsfield units + 32768 in a 16-bit PNG, an image that is all black, all white or all
transparent: each is read rightly and shows a network nothing, while an epsilon is a multiple of all that it holds.
"""

import numpy as np
import numpy.typing as npt

from dosimeter.cohorts.base import Cohort, FloatImage, Record
from dosimeter.errors import DosimeterError
from dosimeter.plain import named

FLAT_RANGE = 1 / 16
"""Share of the range below which an image is flat: one that uses less was probably stored without scaling.

12 bits in the lower part of 16 use exactly so much, and the Hounsfield units of a patient, -1024 to 3071, as well. Of
the 1586 public radiographs and slices that dosimeter knows, the lowest uses 29 %.
"""

MOST_FLAT = 0.1
"""Share of flat images above which a study stops.

Fewer move an accuracy by less than its interval is wide at a few dozen test images; more are seldom an accident of
single files, but the way in which all of them were stored.
"""

_ENDS = (0.5, 99.5)  # percentiles, so that a label burnt into a corner does not count as contrast
_SAMPLE_PX = 256  # rows and columns looked at


def used_range(image: FloatImage, padding: npt.NDArray[np.bool_] | None = None) -> float:
    """Return the share of the range between black and white that an image (C, H, W) uses, its extremes left out.

    It is the difference of the 0.5th and the 99.5th percentile of every n-th row and column, of the channel that
    uses most.

    Args:
        image: its pixels.
        padding: (H, W), where it is padding, which does not count; an image that is nothing else uses 0.
    """
    if padding is not None and padding.any():
        image = image[:, ~padding][:, None]  # (C, 1, n)
        if not image.size:
            return 0.0
    rows, columns = (max(1, side // _SAMPLE_PX) for side in image.shape[1:])
    planes = image[:, ::rows, ::columns].reshape(len(image), -1)
    low, high = np.percentile(planes, _ENDS, axis=1)
    return float((high - low).max())


def is_flat(used: float) -> bool:
    """Whether an image that uses this share of the range is flat."""
    return used < FLAT_RANGE


def flat(cohort: Cohort) -> list[Record]:
    """Return the cohort's flat images, of those that were measured when they were read."""
    return [record for record in cohort.records if record.used is not None and is_flat(record.used)]


def flat_sentences(cohort: Cohort) -> list[str]:
    """Return what to tell of the cohort's flat images, if there are any."""
    found = flat(cohort)
    return [flat_sentence(len(found), len(cohort), found[0].name)] if found else []


def flat_sentence(n_flat: int, n: int, first: str) -> str:
    """Return what to tell of flat images; `first` names one of them."""
    verb = "uses" if n_flat == 1 else "use"
    return (
        f"{n_flat} of {n} images {verb} less than {FLAT_RANGE:.2%} of the range from black to white, the first is "
        f"{named(first)}: state a window in its header, or scale its pixels to the range of the file."
    )


def require_contrast(cohort: Cohort) -> None:
    """Raise DosimeterError if more than `MOST_FLAT` of the cohort's images are flat."""
    found = flat(cohort)
    if len(found) > MOST_FLAT * len(cohort):
        sentence = flat_sentence(len(found), len(cohort), found[0].name).rstrip(".")
        raise DosimeterError(f"{cohort.name}: {sentence}; --allow-flat goes on with them as they are.")
