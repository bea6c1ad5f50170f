"""What a DICOM header says of its pixels: numbers that are checked, tables as they are, functional groups applied."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.multival import MultiValue

from dosimeter.cohorts.limits import ImageError

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = {
    *("RGB", "PALETTE COLOR", "HSV", "ARGB", "CMYK", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422"),
    *("YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
}

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]


class Lookup(NamedTuple):
    """A table of values: the entry of `first`, and of all below it, is the first.

    Attributes:
        bits: that its largest entry needs, whatever the descriptor declares.
    """

    first: int
    entries: Whole
    bits: int

    def __call__(self, values: npt.NDArray[Any]) -> Whole:
        """Return the entries of `values`."""
        places = np.rint(np.asarray(values, dtype=np.float64) - self.first).clip(0, len(self.entries) - 1)
        found: Whole = self.entries[places.astype(np.int64)]
        return found


class Window(NamedTuple):
    """The part of the values that is shown from black to white."""

    centre: float
    width: float
    function: str


class Padding(NamedTuple):
    """The stored numbers, from `low` to `high`, of pixels that are no part of the picture.

    Attributes:
        outside: whether they need more bits than are stored: they are then those of the whole words, as old files of
            12 bits have it, and no stored number.
        allocated: bits of a word.
    """

    low: int
    high: int
    outside: bool
    allocated: int

    def among(self, words: Whole, stored: Whole) -> Flags:
        """Return where (H, W) of words and of the numbers stored in them are padding."""
        numbers = stored
        if self.outside:
            numbers = words & (2**self.allocated - 1)
            if self.low < 0:
                numbers = np.where(numbers >= 2 ** (self.allocated - 1), numbers - 2**self.allocated, numbers)
        found: Flags = (numbers >= self.low) & (numbers <= self.high)
        return found


@dataclass(frozen=True)
class Header:
    """What the pixels of a single grey frame mean.

    Attributes:
        bits: stored of a pixel.
        shift: by which they lie above the lowest bit.
        modality: the table of the modality LUT; None: `slope` and `intercept`.
        voi: the first table, or window, of those that the file states; None if it states none.
        padding: None if it states none.
    """

    height: int
    width: int
    allocated: int
    bits: int
    shift: int
    signed: bool
    inverted: bool
    modality: Lookup | None
    slope: float
    intercept: float
    voi: Lookup | Window | None
    padding: Padding | None


def read_header(dataset: pydicom.Dataset, name: str) -> Header:
    """Return what `dataset` says of its pixels.

    Functional groups go before the data set itself: those of the frame, then the shared ones.

    Raises:
        ImageError: colour, several frames, an attribute that is missing or no finite number, or a table or window that
            is not defined.

    Source: DICOM PS3.3, C.7.5.1.1.2 (padding), C.7.6.3 (pixels), C.7.6.16 (functional groups), C.11.1, C.11.2, C.11.6.
    """
    _refuse_colour(dataset, name)
    allocated, bits = _whole(dataset, "BitsAllocated", name), _whole(dataset, "BitsStored", name)
    if allocated not in (8, 16) or not 1 <= bits <= allocated:
        raise ImageError(name, f"it stores {bits} of {allocated} bits a pixel; save it with 8 or 16.")
    frames = _whole(dataset, "NumberOfFrames", name, default=1) or 1
    if frames != 1:
        raise ImageError(name, f"it holds {frames} frames; save each frame as its own file.")
    high = _whole(dataset, "HighBit", name, default=bits - 1)
    if not bits - 1 <= high < allocated:
        raise ImageError(name, f"its HighBit {high} does not fit {bits} of {allocated} bits; correct the header.")
    height, width = _whole(dataset, "Rows", name), _whole(dataset, "Columns", name)
    if height < 1 or width < 1:
        raise ImageError(name, f"it has {width} x {height} pixels; choose the file of the image itself.")
    representation = _whole(dataset, "PixelRepresentation", name)
    if representation not in (0, 1):
        raise ImageError(name, f"its PixelRepresentation must be 0 or 1, got {representation}; correct the header.")
    signed = representation == 1
    highest = 2 ** (bits - 1 if signed else bits) - 1
    table, slope, intercept = _modality(dataset, name, highest=highest)
    highest = int(table.entries.max()) if table else math.ceil(min(abs(slope) * highest + intercept, 1e9))
    shape = str(_get(dataset, "PresentationLUTShape", name) or "IDENTITY")
    return Header(
        height=height,
        width=width,
        allocated=allocated,
        bits=bits,
        shift=high - bits + 1,
        signed=signed,
        inverted=dataset.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE",
        modality=table,
        slope=slope,
        intercept=intercept,
        voi=_voi(dataset, name, highest=highest),
        padding=_padding(dataset, name, bits=bits, allocated=allocated, signed=signed),
    )


def _padding(dataset: pydicom.Dataset, name: str, *, bits: int, allocated: int, signed: bool) -> Padding | None:
    """Return the declared padding; its two ends come in either order, the further one may be left out."""
    ends = [_number(dataset, keyword, name) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    numbers = [int(end) for end in ends if end is not None]
    if signed:  # written as an unsigned number
        numbers = [number - (1 << allocated) if number >= 1 << (allocated - 1) else number for number in numbers]
    lowest, highest = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    outside = not all(lowest <= number <= highest for number in numbers)
    return Padding(min(numbers), max(numbers), outside, allocated)


def _refuse_colour(dataset: pydicom.Dataset, name: str) -> None:
    meaning = str(_get(dataset, "PhotometricInterpretation", name, required=True))
    n_samples = _whole(dataset, "SamplesPerPixel", name)
    if n_samples == 1 and meaning not in {*_COLOURS, *_GREYS}:
        raise ImageError(name, f"its PhotometricInterpretation must be one of {', '.join(_GREYS)}; correct the header.")
    if n_samples != 1 or meaning not in _GREYS:
        known = meaning if meaning in _COLOURS else f"{n_samples} samples a pixel"
        raise ImageError(name, f"it is a colour DICOM image ({known}); save it as MONOCHROME2.")


def _modality(dataset: pydicom.Dataset, name: str, *, highest: int) -> tuple[Lookup | None, float, float]:
    """Return the table, or the slope and the intercept, that turn stored numbers into the modality's."""
    for place in _places(dataset, "PixelValueTransformationSequence", name):
        if tables := _get(place, "ModalityLUTSequence", name):
            return _lookup(tables[0], "modality LUT", name, highest=highest, little=_little(dataset)), 1.0, 0.0
        slope, intercept = _number(place, "RescaleSlope", name), _number(place, "RescaleIntercept", name)
        if slope == 0:
            raise ImageError(name, "its RescaleSlope is 0, so that all pixels have one value; correct the header.")
        if slope is not None or intercept is not None:
            return None, 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    return None, 1.0, 0.0


def _voi(dataset: pydicom.Dataset, name: str, *, highest: int) -> Lookup | Window | None:
    """Return the first table or window that is stated."""
    for place in _places(dataset, "FrameVOILUTSequence", name):
        if tables := _get(place, "VOILUTSequence", name):
            return _lookup(tables[0], "VOI LUT", name, highest=highest, little=_little(dataset))
        centre, width = _number(place, "WindowCenter", name), _number(place, "WindowWidth", name)
        if centre is None and width is None:
            continue
        if centre is None or width is None:
            lacks, has = ("WindowCenter", "WindowWidth") if centre is None else ("WindowWidth", "WindowCenter")
            raise ImageError(name, f"it states a {has} and no {lacks}; add the one or remove the other.")
        function = str(_get(place, "VOILUTFunction", name) or "LINEAR").strip()
        if function not in FUNCTIONS:
            raise ImageError(name, f"its VOILUTFunction must be one of {', '.join(FUNCTIONS)}; correct the header.")
        if width < 1 if function == "LINEAR" else width <= 0:
            reason = f"its window of function {function} and width {width:g} is not defined; correct the header."
            raise ImageError(name, reason)
        return Window(centre, width, function)
    return None


def _places(dataset: pydicom.Dataset, macro: str, name: str) -> Iterator[pydicom.Dataset]:
    """Yield where a frame's attributes may stand: its functional group, the shared one, the data set itself."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for item in (_get(dataset, groups, name) or [])[:1]:
            yield from (_get(item, macro, name) or [])[:1]
    yield dataset


def _little(dataset: pydicom.Dataset) -> bool:
    return dataset.original_encoding[1] is not False


def _lookup(item: pydicom.Dataset, kind: str, name: str, *, highest: int, little: bool) -> Lookup:
    """Return a table, its entries read by their number and length, whatever depth the descriptor declares.

    Args:
        item: of the sequence.
        kind: for the error message.
        name: of the file, for the same.
        highest: value that can be looked up.
        little: whether the lower byte of a word comes first.
    """
    descriptor = _get(item, "LUTDescriptor", name, required=True)
    if not isinstance(descriptor, MultiValue | list | tuple) or len(descriptor) != 3:
        raise ImageError(name, f"the LUTDescriptor of its {kind} must hold 3 numbers; correct the header.")
    n_entries, first = int(descriptor[0]) & 0xFFFF or 1 << 16, int(descriptor[1])
    if first >= 1 << 15 and first > highest:
        first -= 1 << 16  # below zero, and written as an unsigned number like the descriptor's others
    raw = _get(item, "LUTData", name, required=True)
    if isinstance(raw, bytes):
        content = raw
    else:  # numbers of 16 bits
        words = np.atleast_1d(np.asarray(raw, dtype=np.int64)) & 0xFFFF
        content = words.astype("<u2" if little else ">u2").tobytes()
    if len(content) == 2 * n_entries:
        entries = np.frombuffer(content, "<u2" if little else ">u2").astype(np.int64)
    elif len(content) == n_entries + n_entries % 2:  # bytes; two of them are a word, the lower one first
        entries = np.frombuffer(content if little else _swapped(content), "u1").astype(np.int64)[:n_entries]
    else:
        reason = f"its {kind} declares {n_entries} entries and holds {len(content)} bytes; correct the header."
        raise ImageError(name, reason)
    return Lookup(first, entries, max(1, int(entries.max()).bit_length()))


def _swapped(content: bytes) -> bytes:
    return np.frombuffer(content, ">u2").astype("<u2").tobytes()


def _get(place: pydicom.Dataset, keyword: str, name: str, *, required: bool = False) -> Any:
    """Return an attribute's value, None if it is absent or empty."""
    try:
        value = place.get(keyword)
    except Exception:  # its text, which may be anybody's name, would stand in pydicom's message
        raise ImageError(name, f"its {keyword} is not of the form that DICOM gives it; correct the header.") from None
    if required and (value is None or value == ""):
        raise ImageError(name, f"it lacks {keyword}, without which its pixels mean nothing; add it to the header.")
    return value


def _number(place: pydicom.Dataset, keyword: str, name: str) -> float | None:
    """Return the first number of an attribute, None if it is absent or empty."""
    value = _get(place, keyword, name)
    if isinstance(value, MultiValue):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ImageError(name, f"its {keyword} is no number; correct the header.") from None
    if not math.isfinite(number):
        raise ImageError(name, f"its {keyword} must be a finite number, got {number}; correct the header.")
    return number


def _whole(place: pydicom.Dataset, keyword: str, name: str, *, default: int | None = None) -> int:
    number = _number(place, keyword, name)
    if number is None:
        number = default
    if number is None:
        raise ImageError(name, f"it lacks {keyword}, without which its pixels mean nothing; add it to the header.")
    return int(number)
