"""Outliers within a class: images that differ from most of their class in brightness, contrast, sharpness or size."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dosimeter.cohorts.auditing.seeing import Seen
from dosimeter.cohorts.base import Cohort
from dosimeter.record.data_audit import DataCheck

MOST_Z = 3.5
"""The modified z-score above which an image is an outlier."""

MOST_SHARE = 0.05
"""The share of outliers above which the class has no one kind of image."""

LEAST_IMAGES = 10
"""Images of a class that its median and spread need."""

Floats = npt.NDArray[np.float64]


def check(cohort: Cohort, seen: Sequence[Seen]) -> DataCheck:
    """Return the outliers within each class, the farthest first."""
    farthest = np.zeros(len(seen))
    reason = np.full(len(seen), "", dtype=object)
    n_asked = 0
    for name, values in _statistics(seen).items():
        for label in range(len(cohort.classes)):
            own = np.flatnonzero(cohort.labels == label)
            if len(own) < LEAST_IMAGES:
                continue
            n_asked += len(own)
            scores = modified_z(values[own])
            larger = own[scores > farthest[own]]
            reason[larger], farthest[larger] = name, scores[scores > farthest[own]]
    found = [int(place) for place in np.argsort(-farthest, kind="stable") if farthest[place] > MOST_Z]
    counts = {name: int((reason[found] == name).sum()) for name in _statistics(seen)} if found else {}
    share = len(found) / len(seen)
    listed = ", ".join(f"{n} by {name}" for name, n in counts.items() if n)
    return DataCheck(
        id="outliers",
        title="Do images differ from the others of their class?",
        level="warn" if share > MOST_SHARE else "info" if found or not n_asked else "pass",
        measured=f"{len(found)} of {len(seen)} images ({share:.1%}){f': {listed}' if listed else ''}."
        if n_asked
        else f"Not asked: no class has {LEAST_IMAGES} images.",
        rule="modified z-score, from the median absolute deviation on the image's side of the median, above "
        f"{MOST_Z:g} within the class; warn above {MOST_SHARE:.0%} of the images, else info",
        source="Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers, p. 11 (3.5; the deviation of each side "
        "is for skewed numbers); the share is dosimeter's own",
        remedy="look at these images: another body part, a scan of a print, an inverted or cut image" if found else "",
        numbers={"n": len(found), "by": counts},
        cases=[cohort.records[place].case_id for place in found],
    )


def modified_z(values: Floats) -> Floats:
    """Return how far each value is from the median, in robust standard deviations of its own side; never negative.

    Where the median absolute deviation of a side is 0 its mean absolute deviation stands in; where that is 0, nothing
    differs.

    Example:
        >>> modified_z(np.array([1.0, 2.0, 3.0, 4.0, 15.0])).round(2).tolist()
        [1.35, 0.67, 0.0, 0.67, 8.09]
    """
    offsets = values - np.median(values)
    scores = np.zeros(len(values))
    for side in (offsets < 0, offsets > 0):
        distances = np.abs(offsets[side | (offsets == 0)])
        spread = np.median(distances) / 0.6745 if len(distances) else 0.0
        spread = spread or (1.2533 * distances.mean() if len(distances) else 0.0)
        if spread > 0:
            scores[side] = np.abs(offsets[side]) / spread
    return scores


def _statistics(seen: Sequence[Seen]) -> Mapping[str, Floats]:
    heights = np.array([each.pixels.height for each in seen], dtype=np.float64)
    widths = np.array([each.pixels.width for each in seen], dtype=np.float64)
    return {
        "brightness": np.array([each.mean for each in seen]),
        "contrast": np.array([each.contrast for each in seen]),
        "sharpness": np.log(np.array([each.sharpness for each in seen]) + 1e-6),
        "number of pixels": np.log(heights * widths),
        "shape": np.log(heights / widths),
    }
