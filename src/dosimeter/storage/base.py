"""How images are stored: each mode really encodes to a file's bytes and decodes them with the loader of the cohorts.

The classifier is asked about what comes back, not about what was meant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dosimeter import registry
from dosimeter.cohorts.base import FloatImage
from dosimeter.cohorts.images import decode_image
from dosimeter.errors import DosimeterError
from dosimeter.storage.dicom import CT_HU, DICOM12, DICOM16, MONO1, encode_dicom
from dosimeter.storage.raster import encode_jpeg, encode_png8, encode_png16
from dosimeter.units import GREY_LEVELS_8BIT


@dataclass(frozen=True)
class Storage:
    """One way to store an image.

    Attributes:
        name: its key in `ENTRIES`, and what the table calls it.
        note: what it is, in a line.
        encode: an image (3, H, W) in [0, 1], and with `header` DICOM attributes by keyword, to a file's bytes; None: it
            never leaves memory.
        levels: steps between black and white of the file's samples; 0 for floats. What a lossless mode returns lies on
            the multiples of 1 / levels.
        suffix: of the file's name.
        lossless: whether samples come back as they were written.
        bits: depth to which the loader rounds what it resizes of such a file; 0 for floats: that of their source.
        title: what people call it; by default its name.
        what: what becomes of an image, as the report says it; by default the note.
        one_plane: its files always hold one plane; others hold three where the planes of an image differ.
        exact: it holds exactly what an attack on `bits` looks for: grey levels evenly from black to white.
    """

    name: str
    note: str
    encode: Callable[..., bytes] | None = None
    levels: int = 0
    suffix: str = ""
    lossless: bool = True
    bits: int = 0
    title: str = ""
    what: str = ""
    one_plane: bool = False
    exact: bool = False

    def store(self, image: FloatImage) -> FloatImage:
        """Return what is read from the file that `image` (3, H, W), in [0, 1], was written to; same shape, float32."""
        return image if self.encode is None else self.read(self.encode(image))

    def read(self, content: bytes) -> FloatImage:
        """Return the image (3, H, W) in a file's bytes; three equal planes if the file is grey."""
        image = decode_image(content, name=f"of storage {self.name}").image
        return np.broadcast_to(image, (3, *image.shape[1:])).copy()


_READ_AGAIN = "written and read again"

ENTRIES = {
    storage.name: storage
    for storage in (
        Storage("float", "as it is in memory, never stored", title="floats", what="not rounded"),
        Storage(
            "png8",
            "8-bit PNG, grey or RGB",
            encode_png8,
            GREY_LEVELS_8BIT,
            ".png",
            bits=8,
            title="8-bit PNG",
            what=f"8-bit PNG file, {_READ_AGAIN}",
            exact=True,
        ),
        Storage(
            "png16",
            "16-bit PNG, grey",
            encode_png16,
            65535,
            ".png",
            bits=16,
            title="16-bit PNG",
            what=f"16-bit grey PNG file, {_READ_AGAIN}",
            one_plane=True,
            exact=True,
        ),
        *(
            Storage(
                f"jpeg{quality}",
                f"JPEG of quality {quality}, grey or RGB",
                partial(encode_jpeg, quality=quality),
                GREY_LEVELS_8BIT,
                ".jpg",
                lossless=False,
                bits=8,
                title=f"JPEG {quality}",
                what=f"JPEG file of quality {quality}, {_READ_AGAIN}",
            )
            for quality in (95, 90, 75)
        ),
        *(
            Storage(
                name,
                note,
                partial(encode_dicom, form=form),
                form.levels,
                ".dcm",
                bits=form.bits,
                title=title,
                what=f"DICOM file{what}, {_READ_AGAIN}",
                one_plane=True,
                exact=name != "ct-hu",
            )
            for name, note, title, what, form in (
                ("dicom12", "DICOM, 12 bit in 16, MONOCHROME2", "12-bit DICOM", ", 12 bit in 16, MONOCHROME2", DICOM12),
                ("dicom16", "DICOM, 16 bit, MONOCHROME2", "16-bit DICOM", ", 16 bit, MONOCHROME2", DICOM16),
                (
                    *("dicom-mono1", "DICOM, 12 bit in 16, MONOCHROME1 (black is the largest number)"),
                    *("12-bit DICOM, MONOCHROME1", ", 12 bit in 16, MONOCHROME1", MONO1),
                ),
                (
                    *("ct-hu", "DICOM, whole Hounsfield units, lung window: centre -600, width 1500"),
                    *("CT in HU, lung window", " in whole Hounsfield units at the lung window -600/1500", CT_HU),
                ),
            )
        ),
    )
}
"""Every way to store images that this version has, by its name."""


def get_storage(name: str) -> Storage:
    """Return the storage called `name`.

    Raises:
        DosimeterError: there is none, or what another package brings is not a `Storage`.
    """
    found = registry.get("storages", name)
    if not isinstance(found, Storage):
        raise DosimeterError(f"storage '{name}' must be a dosimeter.storage.base.Storage, got {type(found).__name__}.")
    return found


def storages() -> dict[str, Storage]:
    """Return every storage by its name."""
    return {name: get_storage(name) for name in registry.names("storages")}


def kind(name: str) -> dict[str, Any]:
    """Return what a run tells of a storage to those who read its table (see `kinds.StorageKind`)."""
    found = get_storage(name)
    return {
        "name": name,
        "title": found.title or name,
        "what": found.what or found.note,
        "one_plane": found.one_plane,
        "bits": found.bits if found.exact else 0,
    }
