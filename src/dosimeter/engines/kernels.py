"""The transforms of `winograd`, compiled by numba on first use. Images are (N, H, W, C), so C is the fast axis.

Each value goes through registers once; the inner loops run over channels and become vector instructions. Without
fast-math but for fused multiply-add, so that infinities and NaN stay what they are.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})

ZERO, TWO, FOUR, FIVE, EIGHT = np.float32(0), np.float32(2), np.float32(4), np.float32(5), np.float32(8)


@compiled
def transform_inputs(
    images: Floats, pad: int, n_rows: int, n_columns: int, first: int, last: int, points: Floats
) -> None:
    """Transform 6 x 6 tiles, rows `first` to `last` of them through all images, into `points` (36, tiles, C).

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
            source, top, left = image, y, x
            if y < 0 or x < 0 or y + 6 > height or x + 6 > width:
                source, top, left = edge, 0, 0
                for i in range(6):
                    for j in range(6):
                        inside = 0 <= y + i < height and 0 <= x + j < width
                        for c in range(n_channels):
                            edge[i, j, c] = image[y + i, x + j, c] if inside else ZERO
            for j in range(6):  # columns = B^T d, then points[:, tile] = columns B
                k = left + j
                for c in range(n_channels):
                    d0, d1, d2 = source[top, k, c], source[top + 1, k, c], source[top + 2, k, c]
                    d3, d4, d5 = source[top + 3, k, c], source[top + 4, k, c], source[top + 5, k, c]
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
            tile += 1


@compiled
def transform_outputs(
    points: Floats, bias: Floats, floor: np.float32, n_rows: int, n_columns: int, first: int, last: int, images: Floats
) -> None:
    """Transform `points` (36, tiles, C) into 4 x 4 tiles, rows `first` to `last` of them, of `images` (N, H, W, C)."""
    height, width, n_channels = images.shape[1:]
    rows = np.empty((24, n_channels), np.float32)
    edge = np.empty((4, 4, n_channels), np.float32)
    tile = 0
    for row in range(first, last):
        image = images[row // n_rows]
        y = 4 * (row % n_rows)
        for column in range(n_columns):
            x = 4 * column
            whole = y + 4 <= height and x + 4 <= width
            target, top, left = (image, y, x) if whole else (edge, 0, 0)
            for j in range(6):  # rows = A^T m, then the target's tile = max(rows A + bias, floor)
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
                    target[top + i, left, c] = floor if z0 < floor else z0
                    target[top + i, left + 1, c] = floor if z1 < floor else z1
                    target[top + i, left + 2, c] = floor if z2 < floor else z2
                    target[top + i, left + 3, c] = floor if z3 < floor else z3
            if not whole:
                for i in range(4):
                    for j in range(4):
                        if y + i < height and x + j < width:
                            for c in range(n_channels):
                                image[y + i, x + j, c] = edge[i, j, c]
            tile += 1
