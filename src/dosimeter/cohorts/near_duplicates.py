"""Near duplicates: two files of one image, be one cropped, compressed, brightened or written upon.

Digests of pixels find copies only, and perceptual hashes cannot tell radiographs, which are all alike. So images are
compared as a whole, and those that are alike by their fine detail, which two exams do not share.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft

from dosimeter.cohorts.alignment import DETAIL_PX, aligned, peaks, windowed
from dosimeter.cohorts.base import FloatImage
from dosimeter.cohorts.one_thread import one_thread

LEAST_WHOLE = 0.70
"""Correlation of two whole images from which their details are compared.

Of 60 CT slices cut by 5 % it leaves 57 to be compared, 0.80 leaves 39; it lets through 5 (X-ray) to 20 times (CT)
as many pairs, which cost 0.1 ms each. Below 0.70 the public cohorts have no other near duplicate.
"""

LEAST_SHIFTED = 0.40
"""Correlation of their details, best shift, from which two images are aligned by scale as well."""

LEAST_DETAIL = 0.75
"""Correlation of the aligned details from which two images are near duplicates.

Of 840 public radiographs and 746 CT slices pairs that were judged one exam by eye have 0.87 to 1.00, images of other
patients at most 0.45, generated thoraxes 0.63, and one exam in two windows 0.60 and 0.64. Planted copies (5 % cut off,
JPEG of quality 75, gamma 0.8, text burnt in) have 0.96 or more. From three cohorts: on others, look at the pairs.
"""

WHOLE_PX = 64
"""Height and width at which whole images are compared."""

_BLOCK = 128  # images that are compared with as many others at once; both blocks' spectra take 38 MB
_BATCH = 64  # pairs compared at once
_BORDER_TOLERANCE = 0.04  # of the range that the image uses
_BORDER_SHARE = 0.95  # of the pixels of a line
_LEAST_PX = 8
_REDUCE_FROM_PX = 2 * DETAIL_PX


class Look(NamedTuple):
    """What is kept of an image to compare it with others, 45 kB.

    Attributes:
        whole: float16 (4096,), its pixels at 64 x 64 less their mean, of length 1; zeros if it is of one value.
        face: uint8 (192, 192), its pixels, stretched to the range that they use.
    """

    whole: npt.NDArray[np.float16]
    face: npt.NDArray[np.uint8]


class Pair(NamedTuple):
    """Two images that may be one.

    Attributes:
        first: place in the cohort.
        second: place of the other, a larger one.
        whole: correlation of the whole images.
        detail: correlation of their aligned details.
    """

    first: int
    second: int
    whole: float
    detail: float


def look(image: FloatImage) -> Look:
    """Return what `near_duplicates` needs of an image (C, H, W): without its borders, grey, at two sizes."""
    grey = trimmed(_smaller(image.mean(axis=0)))
    whole = resized(grey, WHOLE_PX).ravel()
    whole = whole - whole.mean()
    length = float(np.linalg.norm(whole))
    face = resized(grey, DETAIL_PX)
    low, high = float(face.min()), float(face.max())
    face = np.rint(255 * (face - low) / max(high - low, 1e-6))
    return Look((whole / length if length > 1e-6 else 0 * whole).astype(np.float16), face.astype(np.uint8))


def trimmed(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return an image (H, W) without rows and columns at its edges that are of one grey, but for a line of text."""
    low, high = np.percentile(grey, (0.5, 99.5))
    tolerance = _BORDER_TOLERANCE * float(high - low)
    for _ in range(2):  # rows, then columns
        middle = np.median(grey, axis=1, keepdims=True)
        shown = np.flatnonzero((np.abs(grey - middle) <= tolerance).mean(axis=1) < _BORDER_SHARE)
        if len(shown) >= _LEAST_PX:
            grey = grey[shown[0] : shown[-1] + 1]
        grey = grey.T
    return grey


@one_thread()
def near_duplicates(seen: Sequence[Look], *, least: float = LEAST_DETAIL) -> list[Pair]:
    """Return the pairs of images that are near duplicates, the most alike first.

    Candidates are alike as a whole (`LEAST_WHOLE`). Of them the normalised cross-correlation of the detail is taken
    (the image less its Gaussian blur, in a Hann window) at the best shift of up to 12 of 192 pixels. Where that is at
    least `LEAST_SHIFTED` the second image is scaled and shifted along both axes so that parts of it fall on those of
    the first, and the detail is compared again. Rotated and mirrored copies are not found.

    Args:
        seen: of every image; `looks.Looks` has them in a file.
        least: of the detail's correlation.
    """
    found, spectra = [], _Spectra(seen)
    for first, second, whole in _alike(seen):
        for a, b, likeness, shifted in _compared(spectra, first, second, whole):
            if shifted >= LEAST_SHIFTED:
                detail = max(shifted, aligned(seen[a].face, seen[b].face))
                if detail >= least:
                    found.append(Pair(a, b, likeness, detail))
    return sorted(found, key=lambda pair: (-pair.detail, pair.first, pair.second))


Places = npt.NDArray[np.intp]


def _alike(seen: Sequence[Look]) -> Iterator[tuple[Places, Places, npt.NDArray[np.float32]]]:
    """Yield places of candidates, of two blocks of images at a time, and their correlations."""
    starts = range(0, len(seen), _BLOCK)
    for start in starts:
        rows = _wholes(seen, start)
        for other in range(start, len(seen), _BLOCK):
            likeness = rows @ (rows if other == start else _wholes(seen, other)).T
            if other == start:
                likeness = np.triu(likeness, 1)
            first, second = np.nonzero(likeness >= LEAST_WHOLE)
            if len(first):
                yield first + start, second + other, likeness[first, second]


def _wholes(seen: Sequence[Look], start: int) -> npt.NDArray[np.float32]:
    return np.stack([each.whole for each in seen[start : start + _BLOCK]]).astype(np.float32)


class _Spectra:
    """Spectra of the details of two blocks of images; the first block's stay while it is compared with others."""

    def __init__(self, seen: Sequence[Look]) -> None:
        self._seen = seen
        self._kept: dict[int, npt.NDArray[np.complex64]] = {}

    def load(self, first: Places, second: Places) -> None:
        """Have those of `first`, which are of one block, and of `second`; forget those of other blocks."""
        blocks = {int(first[0]) // _BLOCK, int(second[0]) // _BLOCK}
        self._kept = {place: kept for place, kept in self._kept.items() if place // _BLOCK in blocks}
        for place in {*first.tolist(), *second.tolist()} - self._kept.keys():
            self._kept[place] = fft.rfft2(windowed(self._seen[place].face)).astype(np.complex64)

    def product(self, first: int, second: int) -> npt.NDArray[np.complex64]:
        """Return the spectrum of the cross-correlation of two images' details."""
        product: npt.NDArray[np.complex64] = self._kept[first] * self._kept[second].conj()
        return product


def _compared(
    spectra: _Spectra, first: Places, second: Places, whole: npt.NDArray[np.float32]
) -> Iterator[tuple[int, int, float, float]]:
    """Yield candidates with the correlation of their details at the best shift."""
    spectra.load(first, second)
    for start in range(0, len(first), _BATCH):
        batch = slice(start, start + _BATCH)
        places = zip(first[batch].tolist(), second[batch].tolist(), strict=True)
        best, _ = peaks(np.stack([spectra.product(a, b) for a, b in places]))
        for a, b, likeness, value in zip(first[batch], second[batch], whole[batch], best, strict=True):
            yield int(a), int(b), float(likeness), float(value)


def _smaller(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return an image of which neither side is many times `DETAIL_PX`, by averaging whole blocks of pixels."""
    factor = min(grey.shape) // _REDUCE_FROM_PX
    if factor < 2:
        return grey
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).reduce(factor))


def resized(grey: npt.NDArray[np.float32], size_px: int) -> npt.NDArray[np.float32]:
    """Return an image (H, W) as a square, averaged where it shrinks."""
    image = Image.fromarray(np.ascontiguousarray(grey))
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR))
