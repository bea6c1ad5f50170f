"""How large an image may be before it is refused, and the error of an image that cannot be used."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from dosimeter.errors import DosimeterError
from dosimeter.plain import one_line, without_folders

MAX_PIXELS = 50_000_000
"""Numbers (width x height x channels x frames) above which an image is refused before it is decoded.

A digital mammogram has 14 million. Four bytes hold each of them, and reading takes some copies.
"""

LIMIT_VARIABLE = "DOSIMETER_MAX_PIXELS"
"""The environment variable that replaces `MAX_PIXELS`."""


LARGE = 1 << 24
"""Numbers above which images are decoded one after the other, whatever the threads, to bound the memory."""

_TURN = threading.Lock()


class ImageError(DosimeterError):
    """An image file that cannot be used; `reason` is one sentence that does not repeat the file's name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return one_line(f"Cannot read the image {self.name}: {self.reason}")


def left_out_because(error: Exception) -> str:
    """Return why an image is left out, for a log: with the file's name, without its folder, which may name a person."""
    if isinstance(error, ImageError):
        return one_line(f"{PurePath(error.name).name}: {error.reason}")
    return without_folders(str(error))


def pixel_limit() -> int:
    """Return how many numbers an image may have: `MAX_PIXELS`, or what DOSIMETER_MAX_PIXELS says.

    Raises:
        DosimeterError: the variable holds no whole number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return MAX_PIXELS
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
        raise DosimeterError(f"{LIMIT_VARIABLE} must be a whole number above 0, got {text[:40]!r}; unset it.")
    return int(text)


@contextmanager
def one_at_a_time(n_numbers: int) -> Iterator[None]:
    """Decode in the block: an image of more than `LARGE` numbers waits for others of that size."""
    if n_numbers <= LARGE:
        yield
        return
    with _TURN:
        yield


def check_size(name: str, *, width: int, height: int, channels: int, limit: int, frames: int = 1) -> None:
    """Raise ImageError if an image has more numbers than `limit`."""
    if width * height * channels * frames <= limit:
        return
    each = f" of {channels} numbers" if channels > 1 else ""
    times = f" in {frames} frames" if frames > 1 else ""
    reason = f"it has {width} x {height} pixels{each}{times}, more than the {limit} allowed"
    raise ImageError(name, f"{reason}; resize it first, or raise {LIMIT_VARIABLE}.")
