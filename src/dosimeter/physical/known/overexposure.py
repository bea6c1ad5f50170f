"""More exposure after auto-ranging: what the detector saturates at is burnt out."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.exposure import quanta_of, with_quanta


@dataclass(frozen=True, kw_only=True)
class Overexposure(Change):
    """k times the exposure, cut where the detector saturates and displayed as bright as before: dark parts are lost.

    Args:
        decades: see `Constants.exposure_decades`.
        headroom: of the detector above what is black, see `Constants`.
    """

    name: str = "overexposure"
    decades: float
    headroom: float

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images of `severity` times the exposure."""
        exposure = quanta_of(images, quanta=1.0, decades=self.decades)
        return with_quanta(images, (self.headroom / (severity * exposure)).clamp(max=1), decades=self.decades)


ENTRY = Entry(
    build=lambda constants: Overexposure(decades=constants.exposure_decades, headroom=constants.headroom),
    title="overexposure",
    note="more exposure after auto-ranging: what saturates the detector is lost",
    unit="times the exposure",
    severities=(1.0, 2.0, 4.0, 8.0),
    bounds=(1.0, 20.0),
    reason="of less exposure auto-ranging leaves noise alone, which is dose_fraction, and of more than twenty times "
    "nothing is left",
    source="saturation of a linear detector",
    modalities=("xray",),
    constants=("exposure_decades", "headroom"),
    rank=40,
)
