"""The DICOM grayscale standard display function: luminance to just-noticeable differences (JND), and back.

1 JND is defined for one target: a grating of 4 cycles a degree, 2 by 2 degrees, on a uniform field. PS3.14 says itself
that realistic targets in complex surroundings were not assessed. So a number of JNDs orders perturbations and displays;
that a perturbation cannot be seen in an image does not follow from it.

Source: DICOM PS3.14, section 7.1.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_NUMERATOR = (-1.3011877, 8.0242636e-2, 1.3646699e-1, -2.5468404e-2, 1.3635334e-3)  # a, c, e, g, m
_DENOMINATOR = (1.0, -2.5840191e-2, -1.0320229e-1, 2.8745620e-2, -3.1978977e-3, 1.2992634e-4)  # 1, b, d, f, h, k
_INVERSE = (71.498068, 94.593053, 41.912053, 9.8247004, 0.28175407, -1.1878455, -0.18014349, 0.14710899, -0.017046845)


class Display(NamedTuple):
    """Luminance of black and white in cd/m2, ambient light included."""

    black: float
    white: float


DISPLAYS = {"0.5-500": Display(0.5, 500.0), "1-350": Display(1.0, 350.0), "0.2-250": Display(0.2, 250.0)}
"""Displays calibrated to the function, by name."""

REFERENCE = "1-350"
"""The display of the table's columns."""

WINDOWS = (1, 2, 4)
"""How many times narrower than the default window a reader sets it."""

SRGB = Display(0.2, 80.0)
"""An sRGB screen that nobody calibrated: white and veiling glare of IEC 61966-2-1's reference display."""

_TABLE_STEPS = 4096


def luminance(jnd_index: npt.ArrayLike) -> FloatArray:
    """Return the luminance in cd/m2 of a JND index from 1 to 1023."""
    x = np.log(np.asarray(jnd_index, np.float64))
    powers: FloatArray = np.power(10.0, _polynomial(_NUMERATOR, x) / _polynomial(_DENOMINATOR, x))
    return powers


def jnd_index(luminance: npt.ArrayLike) -> FloatArray:
    """Return the JND index of a luminance from 0.05 to 4000 cd/m2."""
    return _polynomial(_INVERSE, np.log10(np.asarray(luminance, np.float64)))


def jnd_span(display: Display) -> float:
    """Return the JNDs between black and white. On a calibrated display they are linear in the pixel."""
    return float(jnd_index(display.white) - jnd_index(display.black))


def srgb_jnd_index(pixels: npt.ArrayLike) -> FloatArray:
    """Return the JND index at which an sRGB screen shows `pixels`, values in [0, 1]; not linear in them."""
    places = np.asarray(pixels, np.float64) * (_TABLE_STEPS - 1)
    below = np.minimum(places.astype(np.int64), _TABLE_STEPS - 2)  # a table: many times faster than the formula
    indices: FloatArray = _SRGB_INDICES[below] + (places - below) * _SRGB_SLOPES[below]
    return indices


def _srgb_luminance(pixels: FloatArray) -> FloatArray:
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    return SRGB.black + (SRGB.white - SRGB.black) * linear


def _polynomial(coefficients: tuple[float, ...], x: FloatArray) -> FloatArray:
    """Return the sum of coefficient i times x to the power i."""
    value: FloatArray = np.polynomial.polynomial.polyval(x, np.array(coefficients))
    return value


_SRGB_INDICES = jnd_index(_srgb_luminance(np.linspace(0, 1, _TABLE_STEPS)))
_SRGB_SLOPES = np.diff(_SRGB_INDICES)
