"""Encodes PNG and JPEG files. A comment goes into the file's header and changes no pixel."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dosimeter.cohorts.base import FloatImage
from dosimeter.units import GREY_LEVELS_8BIT

_FAST = 1  # zlib's quickest level: it makes larger files of the same pixels


def samples(plane: FloatImage, levels: int) -> npt.NDArray[np.uint16]:
    """Return values in [0, 1] as the nearest of the whole numbers 0 to `levels`, in the same shape."""
    return np.rint(plane.astype(np.float64) * levels).astype(np.uint16)


def grey(image: FloatImage) -> FloatImage:
    """Return what a grey file can hold of `image` (3, H, W): the mean of its planes (H, W), or their common value."""
    if _is_grey(image):
        return image[0]
    mean: FloatImage = image.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def encode_png8(image: FloatImage, *, comment: str = "") -> bytes:
    """Return `image` (3, H, W) as an 8-bit PNG file: grey if its planes are equal, else RGB."""
    return _png(_picture8(image), comment)


def encode_png16(image: FloatImage, *, comment: str = "") -> bytes:
    """Return the grey of `image` (3, H, W) as a 16-bit PNG file."""
    return _png(Image.fromarray(samples(grey(image), 65535)), comment)


def encode_jpeg(image: FloatImage, *, quality: int, comment: str = "") -> bytes:
    """Return `image` (3, H, W) as a JPEG file: grey if its planes are equal, else RGB with halved chroma."""
    noted: dict[str, Any] = {"comment": comment.encode("ascii")} if comment else {}
    return _save(_picture8(image), format="JPEG", quality=quality, subsampling="4:2:0", **noted)


def _picture8(image: FloatImage) -> Image.Image:
    planes = image[:1] if _is_grey(image) else image
    pixels = samples(planes, GREY_LEVELS_8BIT).astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _is_grey(image: FloatImage) -> bool:
    return bool((image == image[:1]).all())


def _png(picture: Image.Image, comment: str) -> bytes:
    header = PngInfo()
    if comment:
        header.add_text("Comment", comment)
    return _save(picture, format="PNG", compress_level=_FAST, pnginfo=header)


def _save(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()
