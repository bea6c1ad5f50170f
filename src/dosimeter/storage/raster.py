"""Encodes PNG and JPEG files. Of a header the file holds a comment, which changes no pixel."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dosimeter.cohorts.base import FloatImage
from dosimeter.units import GREY_LEVELS_8BIT

Header = Mapping[str, Any]
"""DICOM attributes by keyword; of these a comment has `COMMENTED`."""

COMMENTED = ("ImageComments", "DerivationDescription")
_FAST = 1  # zlib's quickest level: it makes larger files of the same pixels


def samples(plane: FloatImage, levels: int) -> npt.NDArray[np.uint16]:
    """Return values in [0, 1] as the nearest of the whole numbers 0 to `levels`, in the same shape."""
    return np.rint(plane.astype(np.float64) * levels).astype(np.uint16)


def grey(image: FloatImage) -> FloatImage:
    """Return what a grey file can hold of `image` (3, H, W): the mean of its planes (H, W), or their common value."""
    if _is_grey(image):
        plane: FloatImage = image[0]
    else:
        plane = image.mean(axis=0, dtype=np.float64).astype(np.float32)
    return plane


def encode_png8(image: FloatImage, *, header: Header | None = None) -> bytes:
    """Return `image` (3, H, W) as an 8-bit PNG file: grey if its planes are equal, else RGB."""
    return _png(_picture8(image), header)


def encode_png16(image: FloatImage, *, header: Header | None = None) -> bytes:
    """Return the grey of `image` (3, H, W) as a 16-bit PNG file."""
    return _png(Image.fromarray(samples(grey(image), 65535)), header)


def encode_jpeg(image: FloatImage, *, quality: int, header: Header | None = None) -> bytes:
    """Return `image` (3, H, W) as a JPEG file: grey if its planes are equal, else RGB with halved chroma."""
    noted = {"comment": _comment(header)} if header else {}
    return _save(_picture8(image), format="JPEG", quality=quality, subsampling="4:2:0", **noted)


def _picture8(image: FloatImage) -> Image.Image:
    planes = image[:1] if _is_grey(image) else image
    pixels = samples(planes, GREY_LEVELS_8BIT).astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _is_grey(image: FloatImage) -> bool:
    return bool((image == image[:1]).all())


def _png(picture: Image.Image, header: Header | None) -> bytes:
    text = PngInfo()
    if header:
        text.add_text("Comment", _comment(header))
    return _save(picture, format="PNG", compress_level=_FAST, pnginfo=text)


def _comment(header: Header) -> str:
    return ". ".join(str(header[keyword]) for keyword in COMMENTED if keyword in header)


def _save(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()
