"""Reads grey, single-frame DICOM images into [0, 1], as a viewer shows them at the window that the file states.

Stored values pass the modality LUT (slope and intercept, or a table), then the file's first VOI LUT or window, and are
inverted if the file says that its largest number is black (MONOCHROME1, or a PresentationLUTShape of INVERSE). Without
a window the range is what the header declares, never what the pixels happen to span.

Only the attributes that pixels need are read: nothing about the patient leaves the file.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from dosimeter.cohorts.base import Decoded, FloatImage
from dosimeter.cohorts.images import ImageError

WINDOWED_BITS = 16
"""Depth to which an image is rounded when it is resized after a window: its own grid is none of so many bits."""

_READ = [
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "PresentationLUTShape"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PlanarConfiguration", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "SmallestImagePixelValue", "LargestImagePixelValue"),
]

Floats = npt.NDArray[np.float64]


def decode_dicom(content: bytes, *, name: str, max_pixels: int) -> Decoded:
    """Decode one image.

    Args:
        content: the file's bytes.
        name: for the error message.
        max_pixels: refuse a larger width x height before decoding.

    Returns:
        Float32 pixels (1, H, W) in [0, 1]. Without a window they lie on the file's grid of BitsStored bits.

    Raises:
        ImageError: no pixel data, colour, several frames, a transfer syntax that cannot be decoded, numbers without a
            declared range, or a damaged file.

    Source: DICOM PS3.3, C.7.6.3, C.11.1 (modality LUT), C.11.2 (VOI LUT), C.11.6 (presentation LUT shape).
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), specific_tags=list(_READ))
        _check(dataset, name, max_pixels)
        return _decode(dataset, name)
    except ImageError:
        raise
    except InvalidDicomError:
        raise ImageError(name, "its DICOM header is damaged.") from None
    except Exception as error:  # on damaged files pydicom raises nearly anything; its text may quote the header
        raise ImageError(name, f"it is a damaged or truncated DICOM file ({type(error).__name__}).") from error


def _check(dataset: pydicom.Dataset, name: str, max_pixels: int) -> None:
    """Raise ImageError if the image should not be decoded."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ImageError(name, "its pixels are floating-point numbers of no declared range; save them as integers.")
    if "PixelData" not in dataset:
        raise ImageError(name, "the DICOM file holds no pixel data; choose the file of the image itself.")
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", None)
    if syntax is None:
        raise ImageError(name, "the DICOM file does not state its transfer syntax; save it anew with one.")
    try:
        decodable = get_decoder(syntax).is_available
    except NotImplementedError:
        decodable = False
    if not decodable:
        reason = f"its transfer syntax {syntax.name} cannot be decoded here; save it as Explicit VR Little Endian."
        raise ImageError(name, reason)
    colours = str(dataset.PhotometricInterpretation)
    if dataset.SamplesPerPixel != 1 or colours not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(name, f"it is a colour DICOM image ({colours}); save it as MONOCHROME2.")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(name, f"it holds {frames} frames; save each frame as its own file.")
    height, width = int(dataset.Rows), int(dataset.Columns)
    if height * width > max_pixels:
        reason = f"it has {width} x {height} pixels, more than the {max_pixels} allowed; resize it first."
        raise ImageError(name, reason)
    if dataset.BitsAllocated not in (8, 16) or not 1 <= dataset.BitsStored <= dataset.BitsAllocated:
        reason = f"it stores {dataset.BitsStored} of {dataset.BitsAllocated} bits a pixel; save it with 8 or 16."
        raise ImageError(name, reason)


def _decode(dataset: pydicom.Dataset, name: str) -> Decoded:
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    stored = dataset.pixel_array.astype(np.int32) & (2**bits - 1)  # old files keep overlays in the bits above
    if signed:
        stored = np.where(stored >= 2 ** (bits - 1), stored - 2**bits, stored)
    inverted = (
        dataset.PhotometricInterpretation == "MONOCHROME1"
        or dataset.get("PresentationLUTShape", "IDENTITY") == "INVERSE"
    )
    table = dataset.get("ModalityLUTSequence")
    slope = float(1 if dataset.get("RescaleSlope") is None else dataset.RescaleSlope)
    if slope == 0 and not table:
        raise ImageError(name, "its RescaleSlope is 0, so that all pixels have one value.")
    if dataset.get("VOILUTSequence") or dataset.get("WindowWidth") is not None:
        shown = _window(apply_modality_lut(stored, dataset), dataset, name)
        return Decoded(_image(1 - shown if inverted else shown), WINDOWED_BITS)
    if table:
        stored, bits, low = apply_modality_lut(stored, dataset), int(table[0].LUTDescriptor[2]), 0
    else:
        low = -(2 ** (bits - 1)) if signed else 0
        inverted ^= slope < 0
    levels = stored.astype(np.int64) - low
    top = 2**bits - 1
    return Decoded(_image((top - levels if inverted else levels) / top), bits)


def _window(values: npt.NDArray[Any], dataset: pydicom.Dataset, name: str) -> Floats:
    """Return what a viewer shows, in [0, 1], of values (H, W) after the modality LUT: by the first table or window."""
    if table := dataset.get("VOILUTSequence"):
        shown: Floats = apply_voi(values.astype(np.int64), dataset) / (2 ** int(table[0].LUTDescriptor[2]) - 1)
        return shown
    centre, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    x = values.astype(np.float64)
    if function == "LINEAR" and width >= 1:
        return np.where(x > centre - 0.5, 1.0, 0.0) if width == 1 else _ramp((x - centre + 0.5) / (width - 1) + 0.5)
    if function == "LINEAR_EXACT" and width > 0:
        return _ramp((x - (centre - width / 2)) / width)
    if function == "SIGMOID" and width > 0:
        return np.asarray(1 / (1 + np.exp(-4 * (x - centre) / width)))
    raise ImageError(name, f"its window of function {function} and width {width:g} is not defined; correct the header.")


def _ramp(share: Floats) -> Floats:
    return share.clip(0, 1)


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, MultiValue) else value)


def _image(shown: Floats) -> FloatImage:
    image: FloatImage = shown[None].astype(np.float32)
    return image
