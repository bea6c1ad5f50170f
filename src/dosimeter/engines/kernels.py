"""The transforms of `winograd`, compiled by numba on first use. Images are (N, H, W, C), so C is the fast axis.

Each value goes through registers once; the inner loops run over channels and become vector instructions. Without
fast-math but for fused multiply-add, so that infinities and NaN stay what they are.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})

TWO, FOUR, FIVE, EIGHT = np.float32(2), np.float32(4), np.float32(5), np.float32(8)


@compiled
def _into(source: Floats, y: int, x: int, points: Floats, tile: int, columns: Floats) -> None:
    """Transform the 6 x 6 inputs at (y, x): points[:, tile] = B^T d B, columns (36, C) being scratch."""
    n_channels = source.shape[2]
    for j in range(6):
        for c in range(n_channels):
            d0, d1, d2 = source[y, x + j, c], source[y + 1, x + j, c], source[y + 2, x + j, c]
            d3, d4, d5 = source[y + 3, x + j, c], source[y + 4, x + j, c], source[y + 5, x + j, c]
            a, b, e, f = d4 - FOUR * d2, d3 - FOUR * d1, d4 - d2, TWO * (d3 - d1)
            columns[j, c] = FOUR * d0 - FIVE * d2 + d4
            columns[6 + j, c] = a + b
            columns[12 + j, c] = a - b
            columns[18 + j, c] = e + f
            columns[24 + j, c] = e - f
            columns[30 + j, c] = FOUR * d1 - FIVE * d3 + d5
    for i in range(0, 36, 6):
        for c in range(n_channels):
            d0, d1, d2 = columns[i, c], columns[i + 1, c], columns[i + 2, c]
            d3, d4, d5 = columns[i + 3, c], columns[i + 4, c], columns[i + 5, c]
            a, b, e, f = d4 - FOUR * d2, d3 - FOUR * d1, d4 - d2, TWO * (d3 - d1)
            points[i, tile, c] = FOUR * d0 - FIVE * d2 + d4
            points[i + 1, tile, c] = a + b
            points[i + 2, tile, c] = a - b
            points[i + 3, tile, c] = e + f
            points[i + 4, tile, c] = e - f
            points[i + 5, tile, c] = FOUR * d1 - FIVE * d3 + d5


@compiled
def _out_of(
    points: Floats, tile: int, bias: Floats, floor: np.float32, target: Floats, y: int, x: int, rows: Floats
) -> None:
    """Transform one tile back: target[y:y + 4, x:x + 4] = max(A^T m A + bias, floor), rows (24, C) being scratch."""
    n_channels = target.shape[2]
    for j in range(6):
        for c in range(n_channels):
            m0, m1, m2 = points[j, tile, c], points[6 + j, tile, c], points[12 + j, tile, c]
            m3, m4, m5 = points[18 + j, tile, c], points[24 + j, tile, c], points[30 + j, tile, c]
            a, b, e, f = m1 + m2, m1 - m2, m3 + m4, m3 - m4
            rows[j, c] = m0 + a + e
            rows[6 + j, c] = b + TWO * f
            rows[12 + j, c] = a + FOUR * e
            rows[18 + j, c] = b + EIGHT * f + m5
    for i in range(4):
        k = 6 * i
        for c in range(n_channels):
            m0, m1, m2 = rows[k, c], rows[k + 1, c], rows[k + 2, c]
            m3, m4, m5 = rows[k + 3, c], rows[k + 4, c], rows[k + 5, c]
            a, b, e, f = m1 + m2, m1 - m2, m3 + m4, m3 - m4
            z0 = m0 + a + e + bias[c]
            z1 = b + TWO * f + bias[c]
            z2 = a + FOUR * e + bias[c]
            z3 = b + EIGHT * f + m5 + bias[c]
            # written so that NaN, which compares as False, stays NaN
            target[y + i, x, c] = floor if z0 < floor else z0
            target[y + i, x + 1, c] = floor if z1 < floor else z1
            target[y + i, x + 2, c] = floor if z2 < floor else z2
            target[y + i, x + 3, c] = floor if z3 < floor else z3


@compiled
def transform_inputs(
    images: Floats, pad: int, n_rows: int, n_columns: int, first: int, last: int, points: Floats
) -> None:
    """Transform the tiles of tile rows `first` to `last`, counted through all images, into `points` (36, tiles, C).

    Args:
        images: (N, H, W, C).
        pad: zeros around each image.
        n_rows: tile rows of an image.
        n_columns: tiles in a row.
    """
    height, width, n_channels = images.shape[1:]
    columns = np.empty((36, n_channels), np.float32)
    edge = np.empty((6, 6, n_channels), np.float32)
    tile = 0
    for row in range(first, last):
        image = images[row // n_rows]
        y = 4 * (row % n_rows) - pad
        for column in range(n_columns):
            x = 4 * column - pad
            if y >= 0 and x >= 0 and y + 6 <= height and x + 6 <= width:
                _into(image, y, x, points, tile, columns)
            else:
                edge[:] = 0
                top, left = max(y, 0), max(x, 0)
                bottom, right = min(y + 6, height), min(x + 6, width)
                for i in range(top, bottom):
                    for j in range(left, right):
                        edge[i - y, j - x] = image[i, j]
                _into(edge, 0, 0, points, tile, columns)
            tile += 1


@compiled
def transform_outputs(
    points: Floats, bias: Floats, floor: np.float32, n_rows: int, n_columns: int, first: int, last: int, images: Floats
) -> None:
    """Transform `points` (36, tiles, C) back into tile rows `first` to `last` of `images` (N, H, W, C)."""
    height, width, n_channels = images.shape[1:]
    rows = np.empty((24, n_channels), np.float32)
    edge = np.empty((4, 4, n_channels), np.float32)
    tile = 0
    for row in range(first, last):
        image = images[row // n_rows]
        y = 4 * (row % n_rows)
        for column in range(n_columns):
            x = 4 * column
            if y + 4 <= height and x + 4 <= width:
                _out_of(points, tile, bias, floor, image, y, x, rows)
            else:
                _out_of(points, tile, bias, floor, edge, 0, 0, rows)
                for i in range(min(4, height - y)):
                    for j in range(min(4, width - x)):
                        image[y + i, x + j] = edge[i, j]
            tile += 1
