"""More or less exposure where the display does not follow: the image is darker or brighter, and clipped."""

import math
from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random


@dataclass(frozen=True, kw_only=True)
class Exposure(Change):
    """k times the exposure before auto-ranging: grey shifts by -log10(k) / D, and is clipped.

    What is left of less exposure after auto-ranging is noise, see `dose_fraction`; of more, see `overexposure`.

    Args:
        decades: see `Constants.exposure_decades`.
    """

    name: str = "exposure"
    decades: float

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images of `severity` times the exposure."""
        return (images - math.log10(severity) / self.decades).clamp(0, 1)


ENTRY = Entry(
    build=lambda constants: Exposure(decades=constants.exposure_decades),
    title="exposure",
    note="more or less exposure before auto-ranging: the whole image darker or brighter",
    unit="times the exposure",
    severities=(1.0, 0.8, 0.63, 0.5, 0.4),
    bounds=(0.1, 10.0),
    reason="a tenfold exposure is an exposure that would be repeated",
    source="a logarithmic look-up; Veldkamp et al., J. Digit. Imaging 22 (2009) 114",
    modalities=("xray",),
    constants=("exposure_decades",),
    rank=30,
)
