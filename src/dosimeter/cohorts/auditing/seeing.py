"""What the audit keeps of an image, so that each is read once: about 3 kB, and 45 kB in a temporary file."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dosimeter.cohorts.alignment import DETAIL_PX, detail_of
from dosimeter.cohorts.audit import Pixels, pixels_of
from dosimeter.cohorts.base import Cohort, FloatImage, Record
from dosimeter.cohorts.looks import Looks
from dosimeter.cohorts.near_duplicates import Look, look, resized

THUMBNAIL_PX = 24
"""Height and width of the thumbnail that probes are given."""

_BINS = 16
_SHARPNESS_PX = 256  # where sharpness is measured, whatever the image's own size
_BORDER = 0.05  # of height and width

_CELL_PX = 16  # of `DETAIL_PX`, where texture is measured

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]


class Seen(NamedTuple):
    """What is kept of one image.

    Attributes:
        pixels: for the checks of `cohorts.audit`.
        mean: of the grey levels, in [0, 1].
        contrast: their standard deviation.
        sharpness: standard deviation of the Laplacian at 256 x 256.
        histogram: (16,), shares of the grey levels.
        border: (16,), mean and standard deviation of four edges and four corners.
        thumbnail: (24, 24), grey.
        texture: (144,), log spread of the detail in 12 x 12 cells, borders trimmed.
    """

    pixels: Pixels
    mean: float
    contrast: float
    sharpness: float
    histogram: Floats
    border: Floats
    thumbnail: Halves
    texture: Halves


class Sight(NamedTuple):
    """What is kept of all images, and their looks, which near duplicates are found by."""

    seen: list[Seen]
    looks: Looks


def see(cohort: Cohort) -> Sight:
    """Read every image once, a few at a time.

    Raises:
        DosimeterError: an image has become unreadable since the cohort was loaded, or the temporary folder is full.
    """
    seen, looks = [], Looks()
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for each, its_look in pool.map(_see, cohort.records):
            seen.append(each)
            looks.append(its_look)
    return Sight(seen, looks)


def _see(record: Record) -> tuple[Seen, Look]:
    decoded = record.read()
    grey: Floats = decoded.image.mean(axis=0)
    counts, _ = np.histogram(grey, bins=_BINS, range=(0, 1))
    its_look = look(decoded.image)
    seen = Seen(
        pixels=pixels_of(record, decoded),
        mean=float(grey.mean()),
        contrast=float(grey.std()),
        sharpness=float(ndimage.laplace(resized(grey, _SHARPNESS_PX)).std()),
        histogram=(counts / grey.size).astype(np.float32),
        border=_border(grey),
        thumbnail=resized(grey, THUMBNAIL_PX).astype(np.float16),
        texture=_texture(its_look),
    )
    return seen, its_look


def _texture(its_look: Look) -> Halves:
    n_cells = DETAIL_PX // _CELL_PX
    cells = (detail_of(its_look.face) / 255).reshape(n_cells, _CELL_PX, n_cells, _CELL_PX)
    spread = np.log(cells.std(axis=(1, 3)) + 1e-3).ravel()  # (144,)
    return np.asarray(spread, dtype=np.float16)


def centre(height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return which pixels (height, width) of an image are its centre, two thirds of each side."""
    inside = np.zeros((height, width), dtype=bool)
    inside[height // 6 : height - height // 6, width // 6 : width - width // 6] = True
    return inside


def _border(grey: Floats) -> Floats:
    rows, columns = (max(1, round(_BORDER * side)) for side in grey.shape)
    patches: Sequence[FloatImage] = (
        *(grey[:rows], grey[-rows:], grey[:, :columns], grey[:, -columns:]),
        *(grey[:rows, :columns], grey[:rows, -columns:], grey[-rows:, :columns], grey[-rows:, -columns:]),
    )
    return np.array([number for patch in patches for number in (patch.mean(), patch.std())], dtype=np.float32)
