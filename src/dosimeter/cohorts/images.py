"""Reads PNG, JPEG, TIFF, BMP and DICOM files into [0, 1] by the range a file declares, never by its values."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dosimeter.cohorts.base import Decoded, Facts
from dosimeter.cohorts.grids import grid_weights, on_levels, to_grid
from dosimeter.cohorts.limits import LIMIT_VARIABLE, ImageError, check_size, one_at_a_time, pixel_limit
from dosimeter.cohorts.whole import has_all_rows, has_all_tiles

__all__ = [
    "ImageError",
    "decode_image",
    "decode_with_padding",
    "grid_weights",
    "header_facts",
    "read_bytes",
    "read_image",
    "to_grid",
]

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")  # of the same
_ORIENTATION = 274  # the EXIF and TIFF tag
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF tags and a value
_PLANAR, _ONE_AFTER_THE_OTHER, _SAMPLE_FORMAT, _UNSIGNED = 284, 2, 339, {1, 4}  # likewise; 4 is undefined
_WITHOUT_ALPHA = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_SHALLOW = {"L;2": 85, "L;4": 17}  # grey of 2 and 4 bits -> one of its levels, of 255
_GREY_16 = {"I;16", "I;16B", "I;16L", "I;16N"}

Samples = npt.NDArray[np.integer[Any]]
Padded = npt.NDArray[np.bool_] | None


def read_image(path: Path, *, max_pixels: int | None = None) -> Decoded:
    """Read one image file.

    Colour stays colour, but three equal channels become one. Transparent pixels are laid on black. The
    orientation that EXIF or TIFF declares is applied. Colour profiles are ignored. See `cohorts.dicom` for DICOM.

    Args:
        path: a PNG, JPEG, TIFF, BMP or DICOM file; the content decides, not the suffix.
        max_pixels: refuse more numbers (width x height x channels) before decoding; default: `pixel_limit()`.

    Returns:
        Float32 pixels (C, H, W), C 1 or 3, in [0, 1], and the depth of their grid: 8, or what the file
        declares for deeper samples (16; 12 in some TIFF files). Black-and-white and palette count as 8.

    Raises:
        ImageError: missing, empty, damaged, truncated, too large, several frames, or pixels without a
            declared range (signed, 32-bit and floating-point numbers).
    """
    return decode_image(read_bytes(path, max_pixels=max_pixels), name=str(path), max_pixels=max_pixels)


def read_bytes(path: Path, *, max_pixels: int | None = None) -> bytes:
    """Return the file's bytes, or raise `ImageError` if it is missing, empty or absurdly large."""
    limit = pixel_limit() if max_pixels is None else max_pixels
    try:
        if not path.is_file():
            raise ImageError(str(path), "there is no such file.")
        size = path.stat().st_size
        if size > 8 * limit:  # eight bytes: 16-bit RGBA, not compressed
            raise ImageError(str(path), f"it has {size} bytes, more than {limit} pixels can need.")
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(str(path), f"{error.strerror or error}.") from error
    if not content:
        raise ImageError(str(path), "the file is empty.")
    return content


def decode_image(content: bytes, *, name: str, max_pixels: int | None = None) -> Decoded:
    """Decode the bytes of one image file as `read_image` does; `name` is for the error message."""
    return decode_with_padding(content, name=name, max_pixels=max_pixels)[0]


def decode_with_padding(content: bytes, *, name: str, max_pixels: int | None = None) -> tuple[Decoded, Padded]:
    """Return what `decode_image` does, and where the image is padding by its DICOM header: no part of the picture."""
    limit = pixel_limit() if max_pixels is None else max_pixels
    if _is_dicom(content):
        from dosimeter.cohorts.dicom import decode_dicom  # pydicom is slow to import

        return decode_dicom(content, name=name, max_pixels=limit)
    try:
        image = _open(content, name, limit)
        with one_at_a_time(image.width * image.height * len(image.getbands())):
            samples, bits = _samples(image, content, name)  # (H, W, C)
            if not has_all_rows(content, samples):
                raise ImageError(name, "it is truncated: rows are missing; copy it again.")
        samples = _upright(samples, image.getexif().get(_ORIENTATION, 1))
    except ImageError:
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise nearly anything
        raise ImageError(name, _reason(error)) from error
    if samples.shape[2] == 3 and (samples == samples[:, :, :1]).all():
        samples = samples[:, :, :1]
    return Decoded(on_levels(samples.transpose(2, 0, 1), bits), bits), None


def _reason(error: Exception) -> str:
    """Return what an error of Pillow's says of a file."""
    text = str(error)
    if "ecompressed data too large" in text:
        return "the texts or the colour profile in it are absurdly large; save it without them."
    if "not available" in text:
        return f"its compression has no decoder here ({text}); save it as PNG."
    return f"it is damaged or truncated ({text})."


def header_facts(content: bytes, *, salt: bytes | None = None) -> Facts:
    """Return what a DICOM file says beside its pixels (see `dicom_file.facts`); another file says nothing."""
    if not _is_dicom(content):
        return Facts(None, None)
    from dosimeter.cohorts.dicom_file import facts

    return facts(content, salt=salt)


def _is_dicom(content: bytes) -> bool:
    if content[128:132] != b"DICM" and content.startswith(_SIGNATURES):
        return False
    from dosimeter.cohorts.dicom_file import is_dicom

    return is_dicom(content)


def _open(content: bytes, name: str, limit: int) -> Image.Image:
    """Read the header and refuse what should not be decoded."""
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # ours was raised, and Pillow's would stand in its way
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        if content.startswith(_SIGNATURES):
            reason = "its header is damaged, or tells of pixels that cannot be read here; save it as PNG."
            raise ImageError(name, reason) from None
        raise ImageError(name, "it is no PNG, JPEG, TIFF, BMP or DICOM image, or its header is damaged.") from None
    except Image.DecompressionBombError:
        raise ImageError(name, f"it has absurdly many pixels; resize it first, or raise {LIMIT_VARIABLE}.") from None
    width, height = image.size
    channels = {"P": 3, "PA": 4}.get(image.mode, len(image.getbands()))
    check_size(name, width=width, height=height, channels=channels, limit=limit)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a camera's JPEG may carry previews behind the picture
        raise ImageError(name, f"it holds {frames} frames; save each frame as its own file.")
    return image


def _samples(image: Image.Image, content: bytes, name: str) -> tuple[Samples, int]:
    """Decode to integers (H, W, C), C 1 or 3, composited on black, and their depth in bits."""
    _check_layout(image, name)
    rawmode = _rawmode(image)
    if ";16" in rawmode and image.mode not in _GREY_16 | {"I"}:
        return _blacken(_deep_colour(image, content, rawmode, name), image.info.get("transparency"), 16), 16
    image.load()
    if image.mode in _GREY_16 or (image.mode == "I" and image.format == "PNG"):  # "I": Pillow before 11
        samples, bits = _deep_grey(image)
        return _blacken(samples, image.info.get("transparency"), bits), bits
    if rawmode in _SHALLOW and isinstance(image.info.get("transparency"), int):  # Pillow scales samples, not the key
        image.info["transparency"] *= _SHALLOW[rawmode]
    if image.mode in _WITH_ALPHA or (image.mode in _WITHOUT_ALPHA and "transparency" in image.info):
        return _blacken(np.asarray(image.convert("RGBA")), None, 8), 8
    if image.mode in _WITHOUT_ALPHA:
        samples = np.asarray(image.convert(_WITHOUT_ALPHA[image.mode]))
        return samples.reshape(*samples.shape[:2], -1), 8
    if image.mode in ("I", "F"):
        reason = "its pixels are signed or 32-bit numbers of no declared range; save it as 16-bit grey."
        raise ImageError(name, reason)
    raise ImageError(name, f"its colour mode {image.mode} is not supported; save it as grey or RGB.")


def _check_layout(image: Image.Image, name: str) -> None:
    """Raise ImageError for pixels that Pillow would read as others, or as black."""
    tags: Any = getattr(image, "tag_v2", {})
    if not set(tags.get(_SAMPLE_FORMAT, (1,))) <= _UNSIGNED:
        reason = "its pixels are signed or 32-bit numbers of no declared range; save it as 16-bit grey."
        raise ImageError(name, reason)
    bits = tags.get(_BITS_PER_SAMPLE, (1,))
    if tags.get(_PLANAR) == _ONE_AFTER_THE_OTHER and len(bits) > 1 and max(bits) > 8:
        reason = (
            f"its planes of {max(bits)} bits lie one after the other; save it as 16-bit RGB, pixel by pixel, or grey."
        )
        raise ImageError(name, reason)
    if not has_all_tiles(image):
        raise ImageError(name, "it is truncated: strips or tiles are missing; copy it again.")


def _deep_grey(image: Image.Image) -> tuple[Samples, int]:
    """Return grey samples deeper than 8 bits (H, W, 1) by the file's own range."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = int(tags.get(_BITS_PER_SAMPLE, (16,))[0])
    samples = np.asarray(image).astype(np.int32)[:, :, None]
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts 8-bit TIFF files itself, but not these
        samples = 2**bits - 1 - samples
    return samples, bits


def _deep_colour(image: Image.Image, content: bytes, rawmode: str, name: str) -> Samples:
    """Return 16-bit colour samples (H, W, 3 or 4), of which Pillow by itself keeps only the high byte.

    Pillow has two readers for such pixels, one taking the first byte of each sample and one the second; so
    the file is decoded twice. Grey with alpha (LA) has four bytes a pixel and is read like 8-bit RGBA.
    """

    def byte_planes(reader: str) -> npt.NDArray[np.uint32]:
        once: Any = Image.open(io.BytesIO(content), formats=_FORMATS)
        once.tile = [tile._replace(args=_replace_rawmode(tile.args, reader)) for tile in once.tile]
        return np.asarray(once).astype(np.uint32)

    base, _, order = rawmode.partition(";16")
    image.load()  # checks the whole file, and turns a TIFF file upright as the readings below are
    if (base, order, image.mode) == ("LA", "B", "RGBA"):
        planes = byte_planes("RGBA")
        grey, alpha = 256 * planes[:, :, 0] + planes[:, :, 1], 256 * planes[:, :, 2] + planes[:, :, 3]
        return np.stack([grey, grey, grey, alpha], axis=2)
    if base not in ("RGB", "RGBA") or order not in ("B", "L", "N"):
        reason = f"its 16-bit pixel layout {rawmode} is not supported; save it as 16-bit RGB or grey."
        raise ImageError(name, reason)
    first, second = byte_planes(f"{base};16B"), byte_planes(f"{base};16L")
    big_endian = order == "B" or (order == "N" and sys.byteorder == "big")
    return 256 * first + second if big_endian else 256 * second + first


def _rawmode(image: Any) -> str:
    """Return Pillow's name of the pixel layout in the file, such as "RGB;16B"."""
    args = image.tile[0].args if image.tile else ""
    return str(args if isinstance(args, str) else args[0])


def _replace_rawmode(args: Any, rawmode: str) -> Any:
    return rawmode if isinstance(args, str) else (rawmode, *args[1:])


def _blacken(samples: Samples, key: int | tuple[int, ...] | None, bits: int) -> Samples:
    """Lay samples (H, W, C) on black: by a fourth channel, or where all channels equal the colour `key`."""
    top = 2**bits - 1
    if samples.shape[2] == 4:
        colour, alpha = samples[:, :, :3].astype(np.uint32), samples[:, :, 3:].astype(np.uint32)
        laid: Samples = (colour * alpha + top // 2) // top
        return laid
    if key is not None:
        return np.where((samples == np.asarray(key)).all(axis=2, keepdims=True), 0, samples)
    return samples


def _upright(samples: Samples, orientation: int) -> Samples:
    """Undo the EXIF orientation of samples (H, W, C)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
