"""An image that was a JPEG file on its way."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.coding import through_file
from dosimeter.storage.raster import encode_jpeg


@dataclass(frozen=True, kw_only=True)
class Jpeg(Change):
    """Written as 8-bit JPEG and read again by Pillow; 100 stands for an image that was never a JPEG file."""

    name: str = "jpeg"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images of the quality `severity`."""
        return through_file(images, partial(encode_jpeg, quality=int(severity)))


ENTRY = Entry(
    build=lambda constants: Jpeg(),
    title="JPEG",
    note="a JPEG file on the way, its quality by libjpeg; 100 is none",
    unit="quality",
    severities=(100.0, 75.0, 50.0, 30.0, 15.0),
    bounds=(5.0, 100.0),
    reason="libjpeg's scale ends there, or blocks are all that is left",
    source="ISO/IEC 10918-1; MedMNIST-C: Di Salvo et al. 2024, arXiv 2406.17536",
    whole=True,
    rank=180,
)
