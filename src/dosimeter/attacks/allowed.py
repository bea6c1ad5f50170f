"""What a user may forbid an attack: pixels outside a mask, levels that a file does not have, classes but one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dosimeter.errors import DosimeterError, did_you_mean


def as_mask(mask: ArrayLike | None, size_px: int) -> Tensor | None:
    """Return a mask (1, size_px, size_px), True where a pixel may move; None stays None.

    Args:
        mask: (size_px, size_px), what is not zero may move.

    Raises:
        DosimeterError: it has another size, or lets nothing move.
    """
    if mask is None:
        return None
    try:
        pixels = np.asarray(mask)
    except ValueError as error:
        raise DosimeterError(f"mask must be an array of {size_px} x {size_px} pixels ({error}).") from error
    if pixels.dtype.kind not in "biuf":
        raise DosimeterError(f"mask must be an array of numbers, got {mask!r}. Read the image file first.")
    if pixels.shape != (size_px, size_px):
        raise DosimeterError(
            f"mask must have the size of the classifier's images, {size_px} x {size_px}, got "
            f"{' x '.join(map(str, pixels.shape))}. Resize it with nearest-neighbour interpolation."
        )
    if not np.isfinite(pixels).all():
        raise DosimeterError(
            "mask must be 0 where nothing may move and 1 where it may, got a number that is not finite."
        )
    if not pixels.any():
        raise DosimeterError("mask must let at least one pixel move, but it is zero everywhere. Is it inverted?")
    return torch.from_numpy(pixels != 0)[None]


def read_mask(path: Path | None, size_px: int) -> Tensor | None:
    """Return the mask in an image file, white where a pixel may move; None without a file.

    Raises:
        DosimeterError: the file cannot be read, or as `as_mask`.
    """
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
    except (OSError, UnidentifiedImageError) as error:
        raise DosimeterError(f"mask: {path} cannot be read as an image. Give a black and white PNG.") from error
    return as_mask(2 * pixels.astype(int) > pixels.max(), size_px)  # black and white may be 0 and 1, or 0 and 255


def as_target(target: str | None, classes: Sequence[str]) -> int | None:
    """Return the place of the class that images should be given; None stays None.

    Raises:
        DosimeterError: there is no such class.
    """
    if target is None:
        return None
    if target not in classes:
        if not isinstance(target, str):
            raise DosimeterError(f"target must be the name of a class, got {target!r}. It is one of {list(classes)}.")
        raise DosimeterError(f"target '{target}' is no class of this cohort. {did_you_mean(target, classes)}")
    return list(classes).index(target)


def as_levels(bits: int | None) -> int | None:
    """Return the steps between black and white of a file of so many bits; None stays None.

    Raises:
        DosimeterError: a file cannot have so many.
    """
    if bits is None:
        return None
    if bits not in range(2, 17):
        raise DosimeterError(f"bits must be from 2 to 16, a whole number, got {bits!r}. Files have 8, 12 or 16.")
    return int(2**bits - 1)


_SLACK = 1e-4  # of a grey level: what float32 loses between a level and its multiple


def on_lattice(wanted: Tensor, image: Tensor, low: Tensor, high: Tensor, levels: int) -> Tensor:
    """Return the grey levels between `low` and `high` nearest to `wanted`, and `image` where there is none between."""
    first, last = (low * levels - _SLACK).ceil(), (high * levels + _SLACK).floor()
    return torch.where(first <= last, (wanted * levels).round().clamp(first, last) / levels, image)
