"""Whether an image file holds all the pixels that its header declares: Pillow leaves what is missing black."""

import struct
import zlib
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PIECE = 1 << 20


def has_all_tiles(image: Any) -> bool:
    """Whether the strips or tiles of a Pillow image that is not loaded yet cover it, plane by plane."""
    tags: Any = getattr(image, "tag_v2", {})
    width, height = tags.get(256, image.width), tags.get(257, image.height)  # not yet turned upright
    covered: Counter[str] = Counter()
    for _, box, _, args in image.tile:
        x0, y0, x1, y1 = box or (0, 0, width, height)
        plane = str(args if isinstance(args, str) or not args else args[0])
        covered[plane] += (min(x1, width) - x0) * (min(y1, height) - y0)
    return all(area >= width * height for area in covered.values())


def has_all_rows(content: bytes, samples: npt.NDArray[np.generic]) -> bool:
    """Whether a PNG file inflates to as many bytes as its header declares; other files have.

    Args:
        content: the file's bytes.
        samples: what was decoded of it, (H, W, C). Where no row of it is black, none is missing.

    Source: PNG (Third Edition), 8.1 (interlacing), 11.2.1 (IHDR).
    """
    if not content.startswith(b"\x89PNG") or samples.any(axis=(1, 2)).all():
        return True
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    expected = 0
    for x, y, dx, dy in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * bits * _CHANNELS[colour] + 7) // 8)
    place, inflate, found = 8, zlib.decompressobj(), 0
    while place + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        waiting = content[place + 8 : place + 8 + length] if kind == b"IDAT" else b""
        while waiting:
            found += len(inflate.decompress(waiting, _PIECE))
            waiting = inflate.unconsumed_tail
        place += 12 + length
    return found >= expected
