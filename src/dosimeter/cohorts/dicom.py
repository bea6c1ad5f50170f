"""Reads grey, single-frame DICOM images into [0, 1], as a viewer shows them at the window that the file states.

Stored values pass the modality LUT (slope and intercept, or a table), then the file's first VOI LUT or window, and are
inverted if the file says that its largest number is black (MONOCHROME1, or a PresentationLUTShape of INVERSE). Without
a window the range is what the header declares, never what the pixels happen to span. A table's range is that of its
largest entry's bits, since descriptors are often wrong about them. Padding, which the header declares by a value or a
range of them, is no part of the picture: it is shown black whatever window, table or inversion there is.

Only the attributes that pixels need are read: nothing about the patient leaves the file.
"""

import re
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEGExtended12Bit

from dosimeter.cohorts.base import Decoded, FloatImage
from dosimeter.cohorts.dicom_codecs import decode
from dosimeter.cohorts.dicom_file import parse
from dosimeter.cohorts.dicom_header import Flags, Floats, Header, Lookup, Window, read_header
from dosimeter.cohorts.limits import ImageError, check_size, one_at_a_time

WINDOWED_BITS = 16
"""Depth to which an image is rounded when it is resized after a window: its own grid is none of so many bits."""

_READ = [
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "PresentationLUTShape"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PlanarConfiguration", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
]
_CODECS = "pip install 'dosimeter[dicom]'"
_UNCOMPRESSED = "save it as Explicit VR Little Endian"

Numbers = npt.NDArray[np.int64]


class Shown(NamedTuple):
    """A decoded image, and where it is padding (H, W); None if it declares none."""

    decoded: Decoded
    padding: Flags | None


def decode_dicom(content: bytes, *, name: str, max_pixels: int) -> Shown:
    """Decode one image.

    Args:
        content: the file's bytes, also without preamble or meta header.
        name: for the error message.
        max_pixels: refuse a larger width x height before decoding.

    Returns:
        Float32 pixels (1, H, W) in [0, 1], 0 in the padding. Without a window they lie on the file's grid of
        BitsStored bits.

    Raises:
        ImageError: no pixel data, colour, several frames, a transfer syntax that cannot be decoded, numbers without a
            declared range or not finite, or what else the header lacks.

    Source: DICOM PS3.3, C.7.6.3, C.7.5.1.1.2 (padding), C.11.1 (modality LUT), C.11.2 (VOI LUT), C.11.6 (presentation
    LUT shape).
    """
    try:
        dataset = parse(content, name, tags=_READ, max_pixels=max_pixels)
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise ImageError(name, "its pixels are floating-point numbers of no declared range; save them as integers.")
        if not dataset.get("PixelData"):
            raise _no_pixels(dataset, content, name)
        header = read_header(dataset, name)
        check_size(name, width=header.width, height=header.height, channels=1, limit=max_pixels)
        coded = _check_codec(dataset, header, name)
        with one_at_a_time(header.width * header.height):
            if coded is not None and coded.precision > header.bits + header.shift:
                dataset.BitsStored = min(coded.precision, header.allocated)  # else gdcm cuts off what lies above
                dataset.HighBit = dataset.BitsStored - 1
            words = _words(dataset, name)
            stored = _stored(words, header)
            padding = None if header.padding is None else header.padding.among(words, stored)
            if coded is not None:
                _require_depth(words, coded, header, padding, name)
            decoded = _shown(stored, header, name)
            if padding is not None:
                decoded.image[0][padding] = 0
            return Shown(decoded, padding)
    except ImageError:
        raise
    except EOFError:
        raise ImageError(name, "the DICOM file is truncated; copy it again.") from None
    except Exception as error:  # on damaged files pydicom raises nearly anything; its text may quote the header
        reason = f"its DICOM header is not understood ({type(error).__name__}); {_UNCOMPRESSED} with another program."
        raise ImageError(name, reason) from error


def _no_pixels(dataset: pydicom.Dataset, content: bytes, name: str) -> ImageError:
    """Return what to say of a file in which no pixels were found: that it has none, or has them in the other order."""
    little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    if re.search(rb"\x7f\xe0\x00\x10O[BW]" if little else rb"\xe0\x7f\x10\x00", content):
        said, there = ("little", "big") if little else ("big", "little")
        return ImageError(
            name,
            f"its meta header says {said} endian and its data set is {there} endian; correct the transfer syntax, or "
            f"{_UNCOMPRESSED} with another program.",
        )
    return ImageError(name, "the DICOM file holds no pixel data; choose the file of the image itself.")


class Coded(NamedTuple):
    """What a compressed stream states of its pixels."""

    height: int
    width: int
    precision: int
    channels: int


def _check_codec(dataset: pydicom.Dataset, header: Header, name: str) -> Coded | None:
    """Raise ImageError if the pixels cannot be decoded here, or are not those that the header declares.

    Returns:
        What their compressed stream states; None if there is none, or it states nothing.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        known = syntax.name if re.fullmatch(r"[A-Za-z0-9 .,:/()&+-]{1,150}", syntax.name) else "(no UID)"
        raise ImageError(name, f"its transfer syntax {known} cannot be decoded; {_UNCOMPRESSED}.") from None
    if not syntax.is_encapsulated:
        if dataset["PixelData"].is_undefined_length:
            reason = "its pixels are compressed, and no transfer syntax says how"
            raise ImageError(name, f"{reason}; state it in the meta header, or {_UNCOMPRESSED}.")
        _require_length(dataset.PixelData, header, name)
        return None
    if not decoder.is_available:
        raise _no_codec(syntax, name)
    frames = list(islice(generate_frames(dataset.PixelData, number_of_frames=1), 2))
    if len(frames) > 1:
        raise ImageError(name, "it holds several frames, and its header says one; save each frame as its own file.")
    coded = _coded(frames[0])
    if coded is None:
        return None
    if (coded.height, coded.width) != (header.height, header.width):
        reason = f"are {coded.width} x {coded.height}, and its header says {header.width} x {header.height}"
        raise ImageError(name, f"its compressed pixels {reason}; correct the header.")
    if coded.channels != 1:
        reason = f"its compressed pixels have {coded.channels} channels, and its header says one"
        raise ImageError(name, f"{reason}; save it as MONOCHROME2.")
    if syntax == JPEGExtended12Bit and coded.precision > 8 and set(decoder.available_plugins) == {"pillow"}:
        raise _no_codec(syntax, name, f" of {coded.precision} bits")
    return coded


def _require_length(pixels: bytes, header: Header, name: str) -> None:
    """Raise ImageError if uncompressed pixels are fewer than the header declares, or more, padding left out."""
    expected = header.height * header.width * header.allocated // 8
    if len(pixels) < expected:
        raise ImageError(name, f"its pixels have {len(pixels)} bytes of {expected}: it is truncated; copy it again.")
    beyond = len(pixels) - expected
    if beyond >= expected > 1 or (beyond > 1 and any(pixels[expected:])):
        reason = f"its pixels have {len(pixels)} bytes, and its header declares {expected} of one frame"
        raise ImageError(name, f"{reason}; correct the header, or save each frame as its own file.")


def _require_depth(words: Numbers, coded: Coded, header: Header, padding: Flags | None, name: str) -> None:
    """Raise ImageError if a compressed stream's words (H, W) hold more bits than the header says are stored."""
    above = (words & (2**header.allocated - 1)) >> (header.bits + header.shift)
    filled = 2 ** (header.allocated - header.bits - header.shift) - 1 if header.signed else 0  # by the sign
    beyond = (above != 0) & (above != filled)
    if padding is not None:
        beyond &= ~padding
    if beyond.any():
        reason = f"its compressed pixels have {coded.precision} bits, and its header says {header.bits}"
        raise ImageError(name, f"{reason}; correct the header.")


def _no_codec(syntax: pydicom.uid.UID, name: str, what: str = "") -> ImageError:
    reason = f"its transfer syntax {syntax.name}{what} cannot be decoded here; {_CODECS}, or {_UNCOMPRESSED}."
    return ImageError(name, reason)


def _coded(frame: bytes) -> Coded | None:
    """Return what a JPEG, JPEG-LS or JPEG 2000 stream states; None for another one.

    Source: ITU-T T.81, B.2.2; T.87, C.2.2; T.800, A.5.1.
    """
    place = frame[:4096].find(b"\xff\x4f\xff\x51")
    if place >= 0:
        x1, y1, x0, y0 = (int.from_bytes(frame[place + at : place + at + 4]) for at in (8, 12, 16, 20))
        channels = int.from_bytes(frame[place + 40 : place + 42])
        return Coded(y1 - y0, x1 - x0, (frame[place + 42] & 0x7F) + 1, channels)
    place = 2 if frame[:2] == b"\xff\xd8" else len(frame)
    while place + 9 < len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = (int.from_bytes(frame[at : at + 2]) for at in (place + 5, place + 7))
            return Coded(height, width, frame[place + 4], frame[place + 9])
        place += 1 if marker == 0xFF else 2 + int.from_bytes(frame[place + 2 : place + 4])
    return None


def _words(dataset: pydicom.Dataset, name: str) -> Numbers:
    """Return the words (H, W) that hold the stored numbers and whatever else."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        words: Numbers = decode(dataset).astype(np.int64)
    except Exception as error:
        if not syntax.is_encapsulated:
            raise
        decoders = get_decoder(syntax).available_plugins
        reason = f"its {syntax.name} pixels cannot be decoded by {' or '.join(decoders)}"
        more = "" if {"gdcm", "pylibjpeg"} & set(decoders) else f"{_CODECS} for more decoders, or "
        raise ImageError(name, f"{reason}; {more}{_UNCOMPRESSED} with another program.") from error
    return words


def _stored(words: Numbers, header: Header) -> Numbers:
    """Return the stored numbers (H, W) of words, freed of what else lies in them."""
    top = 2**header.bits
    stored: Numbers = (words >> header.shift) & (top - 1)  # old files keep overlays in other bits
    if header.signed:
        stored = np.where(stored >= top // 2, stored - top, stored)
    return stored


def _shown(stored: Numbers, header: Header, name: str) -> Decoded:
    """Return what a viewer shows of stored numbers (H, W)."""
    inverted, bits = header.inverted, header.bits
    if header.voi is not None:
        shown = _voi(_modality(stored, header, name), header.voi)
        return Decoded(_image(1 - shown if inverted else shown), WINDOWED_BITS)
    if header.modality is not None:
        levels, bits = header.modality(stored), header.modality.bits
    else:
        levels = stored + (2 ** (bits - 1) if header.signed else 0)
        inverted ^= header.slope < 0
    top = 2**bits - 1
    return Decoded(_image((top - levels if inverted else levels) / top), bits)


def _modality(stored: Numbers, header: Header, name: str) -> npt.NDArray[Any]:
    if header.modality is not None:
        return header.modality(stored)
    with np.errstate(over="ignore", invalid="ignore"):
        values: Floats = stored.astype(np.float64) * header.slope + header.intercept
    if not np.isfinite(values).all():
        reason = f"RescaleSlope {header.slope:g} and RescaleIntercept {header.intercept:g} give infinite pixels"
        raise ImageError(name, f"its {reason}; correct the header.")
    return values


def _voi(values: npt.NDArray[Any], voi: Lookup | Window) -> Floats:
    """Return values (H, W), after the modality LUT, as shown from 0 to 1."""
    if isinstance(voi, Lookup):
        entries: Floats = voi(values).astype(np.float64)
        return np.asarray(entries / (2**voi.bits - 1))
    x: Floats = values.astype(np.float64)
    centre, width, function = voi
    with np.errstate(over="ignore", under="ignore"):
        if function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(-4 * ((x - centre) / width))))
        if function == "LINEAR" and width == 1:
            return np.where(x > centre - 0.5, 1.0, 0.0)
        exact = function == "LINEAR_EXACT"
        share: Floats = (x - centre) / width if exact else (x - centre + 0.5) / (width - 1)
        clipped: Floats = (share + 0.5).clip(0, 1)
        return clipped


def _image(shown: Floats) -> FloatImage:
    image: FloatImage = shown[None].astype(np.float32)
    assert np.isfinite(image).all()
    return image
