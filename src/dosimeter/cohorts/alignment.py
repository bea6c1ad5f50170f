"""How alike two images are in their fine detail, once one is shifted and scaled onto the other."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

DETAIL_PX = 192
"""Height and width at which details are compared."""

MOST_SHIFT_PX = 12
"""The largest shift that is looked at."""

_BLUR_PX = 3.0  # sigma of what is taken off
_PART_PX, _PART_STEP_PX = 64, 32  # parts whose shifts tell the scale
_LEAST_SCALE, _MOST_SCALE = 0.88, 1.14
_ROUNDS = 3
_GIVE_UP = 0.6  # correlation below which a first alignment was in vain
_HANN = np.hanning(DETAIL_PX).astype(np.float32)
_WINDOW = np.outer(_HANN, _HANN)
_PART_HANN = np.hanning(_PART_PX).astype(np.float32)
_PART_WINDOW = np.outer(_PART_HANN, _PART_HANN)
_SHIFTS = np.arange(-MOST_SHIFT_PX, MOST_SHIFT_PX + 1)
_STARTS = range(0, DETAIL_PX - _PART_PX + 1, _PART_STEP_PX)
_CENTRES = np.array([(row, column) for row in _STARTS for column in _STARTS]) + (_PART_PX - 1) / 2

Floats = npt.NDArray[np.float32]


def windowed(face: npt.NDArray[Any]) -> Floats:
    """Return the detail of an image (192, 192): less its blur, in a Hann window, of length 1."""
    return _unit(detail_of(face) * _WINDOW)


def peaks(products: npt.NDArray[np.complex64]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the largest cross-correlation within `MOST_SHIFT_PX`, (n,), and its shift, (n, 2), of n pairs.

    Args:
        products: (n, H, W // 2 + 1), spectra of first images times those of second ones, conjugated; H = W.
    """
    rows, columns = _near(products.shape[-2])
    partial = np.matmul(rows, products)  # (n, 25, W // 2 + 1)
    flat = np.matmul(partial.reshape(-1, partial.shape[-1]), columns).real.reshape(len(products), -1)  # (n, 625)
    place = flat.argmax(axis=1)
    shift = np.stack([_SHIFTS[place // len(_SHIFTS)], _SHIFTS[place % len(_SHIFTS)]], axis=1)
    return flat[np.arange(len(flat)), place], shift


@lru_cache(maxsize=2)
def _near(size: int) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.complex64]]:
    """Return the inverse Fourier transform of a real image, at small shifts alone, as matrices from both sides.

    All other shifts are of no use: this takes a quarter of a fast transform's time.
    """
    frequencies = np.arange(size // 2 + 1)
    twice = np.where((frequencies == 0) | (frequencies == size / 2), 1, 2)  # those of the other half
    rows = np.exp(2j * np.pi * np.outer(_SHIFTS, np.arange(size)) / size) / size
    columns = np.exp(2j * np.pi * np.outer(frequencies, _SHIFTS) / size) * twice[:, None] / size
    return rows.astype(np.complex64), columns.astype(np.complex64)


def aligned(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Return the correlation of two images' details, the second scaled and shifted onto the first.

    Parts of both are compared, each at its best shift; a line through the shifts along each axis, parts that agree
    well counting most, says how the second must be scaled and moved. This is done a few times over.

    Args:
        first: (192, 192).
        second: (192, 192).
    """
    second = second.astype(np.float32)
    target, parts = fft.rfft2(windowed(first)), fft.rfft2(_parts(detail_of(first)))
    scale, offset = np.ones(2), np.zeros(2)
    best, shift = _peak(target, second)
    offset -= shift
    for turn in range(_ROUNDS):
        moved = _moved(second, scale, offset)
        agreement, shifts = peaks(parts * fft.rfft2(_parts(detail_of(moved))).conj())
        weights = agreement.clip(1e-3) ** 4
        for axis in (0, 1):
            factor, start = _line(_CENTRES[:, axis], _CENTRES[:, axis] - shifts[:, axis], weights)
            offset[axis] += scale[axis] * start
            scale[axis] *= factor
        best = max(best, _peak(target, _moved(second, scale, offset))[0])
        if turn == 0 and best < _GIVE_UP:
            break
    return best


def _peak(target: npt.NDArray[np.complex64], image: Floats) -> tuple[float, npt.NDArray[np.int64]]:
    value, shift = peaks((target * fft.rfft2(windowed(image)).conj())[None])
    return float(value[0]), shift[0]


def _moved(image: Floats, scale: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> Floats:
    """Return the image whose pixel x is that of `image` at scale * x + offset."""
    moved: Floats = ndimage.affine_transform(image, scale, offset, order=1, mode="nearest")
    return moved


def _line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weights: Floats) -> tuple[float, float]:
    """Return slope, within bounds, and intercept of the weighted least-squares line."""
    mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
    spread = np.average((x - mean_x) ** 2, weights=weights)
    slope = np.average((x - mean_x) * (y - mean_y), weights=weights) / max(spread, 1e-6)
    bounded = float(np.clip(slope, _LEAST_SCALE, _MOST_SCALE))
    return bounded, float(mean_y - bounded * mean_x)


def _parts(detail: Floats) -> Floats:
    """Return overlapping parts (25, 64, 64) of a detail, each in a Hann window, of length 1."""
    cut = (detail[row : row + _PART_PX, column : column + _PART_PX] for row in _STARTS for column in _STARTS)
    return np.stack([_unit(part * _PART_WINDOW) for part in cut])


def detail_of(face: npt.NDArray[Any]) -> Floats:
    """Return an image (H, W) less its Gaussian blur."""
    image = face.astype(np.float32)
    return image - ndimage.gaussian_filter(image, _BLUR_PX)


def _unit(image: Floats) -> Floats:
    image = image - image.mean()
    return image / max(float(np.linalg.norm(image)), 1e-6)
