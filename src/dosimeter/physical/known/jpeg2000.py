"""An image that was a JPEG 2000 file on its way."""

import io
from dataclasses import dataclass
from functools import partial

from PIL import Image
from torch import Tensor

from dosimeter.cohorts.base import FloatImage
from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.coding import through_file
from dosimeter.storage.raster import samples
from dosimeter.units import GREY_LEVELS_8BIT


@dataclass(frozen=True, kw_only=True)
class Jpeg2000(Change):
    """Written as 8-bit JPEG 2000 of a compression ratio and read again by Pillow (OpenJPEG, 9-7 wavelet)."""

    name: str = "jpeg2000"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images compressed to one part in `severity`."""
        return through_file(images, partial(encode, ratio=severity))


def encode(image: FloatImage, *, ratio: float) -> bytes:
    """Return an image (3, H, W) as a JPEG 2000 file: grey if its planes are equal, else RGB."""
    pixels = samples(image, GREY_LEVELS_8BIT).astype("uint8")
    grey = bool((pixels == pixels[:1]).all())
    picture = Image.fromarray(pixels[0] if grey else pixels.transpose(1, 2, 0).copy())
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True)
    return buffer.getvalue()


ENTRY = Entry(
    build=lambda constants: Jpeg2000(),
    title="JPEG 2000",
    note="a JPEG 2000 file on the way, by its compression ratio",
    unit="to 1",
    severities=(1.0, 10.0, 20.0, 40.0, 80.0),
    bounds=(1.0, 100.0),
    reason="archives compress by far less, and a hundredth of the bytes holds no image",
    source="ISO/IEC 15444-1; Koff & Shulman, Can. Assoc. Radiol. J. 57 (2006) 211 (ratios in use)",
    rank=190,
)
