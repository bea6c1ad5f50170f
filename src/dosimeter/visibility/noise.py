"""An image's own noise, against which a physicist judges a perturbation."""

import numpy as np
import numpy.typing as npt

_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)
"""Blind to constants, ramps and straight edges along an axis (Immerkaer, Comput. Vis. Image Underst. 64 (1996) 300)."""

_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_LEAST_SHARE = 0.01  # of the image that must be neither black nor white


def local_noise(plane: npt.NDArray[np.floating]) -> float:
    """Return the standard deviation of the noise of `plane` (H, W), in its units.

    It is 1.4826 median|x| / ||filter|| of the high-pass filtered image x. Neighbourhoods that touch black or white (0
    or 1) are left out: there noise is cut off. Fine texture counts as noise; rounding to 8 bits sets a floor of about
    0.3 grey levels.

    Returns:
        NaN if hardly anything lies between black and white, if the image has no noise at all, or a side of fewer than
        three pixels.
    """
    values = np.asarray(plane, np.float64)
    height, width = values.shape[0] - 2, values.shape[1] - 2
    if min(height, width) < 1:
        return float("nan")
    filtered, inside = np.zeros((height, width)), np.ones((height, width), bool)
    free = (values > 0) & (values < 1)
    for row in range(3):
        for column in range(3):
            here = (slice(row, row + height), slice(column, column + width))
            filtered += _MASK[row, column] * values[here]
            inside &= free[here]
    if inside.sum() < _LEAST_SHARE * inside.size or inside.sum() == 0:
        return float("nan")
    sigma = _MAD_TO_SIGMA * float(np.median(np.abs(filtered[inside]))) / float(np.linalg.norm(_MASK))
    return sigma if sigma > 0 else float("nan")
