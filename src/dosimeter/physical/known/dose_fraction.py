"""A share of the dose: quantum and electronic noise of a detector that received fewer quanta."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.constants import Constants
from dosimeter.physical.exposure import correlated_noise, missing_variance, quanta_of, with_quanta


@dataclass(frozen=True, kw_only=True)
class DoseFraction(Change):
    """A radiograph at a share f of its dose, displayed as bright as before.

    Of the quanta N that a pixel stands for, f N arrive. The image given holds its own noise already, so only the
    missing variance is added, f (1 - f) N + (1 - f^2) e^2, correlated by the detector's MTF. Electronic noise e is
    correlated likewise, which is a simplification; so is a detective quantum efficiency that does not fall with the
    dose.

    Args:
        quanta, decades, electronic, blur_px: see `Constants`.
    """

    name: str = "dose_fraction"
    quanta: float
    decades: float
    electronic: float
    blur_px: float

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images at the share `severity` of the dose."""
        expected = quanta_of(images, quanta=self.quanta, decades=self.decades)
        white = random.normal(1, *images.shape[2:])
        sigma = missing_variance(expected, severity, self.electronic).sqrt()
        ratio = 1 + correlated_noise(white, self.blur_px) * sigma / (severity * expected)
        return with_quanta(images, ratio, decades=self.decades)


def build(constants: Constants) -> DoseFraction:
    """Return it of an apparatus."""
    return DoseFraction(
        quanta=constants.quanta,
        decades=constants.exposure_decades,
        electronic=constants.electronic,
        blur_px=constants.detector_blur_px,
    )


ENTRY = Entry(
    build=build,
    title="dose fraction",
    note="a share of the dose: quantum and electronic noise, as bright as before",
    unit="of the dose",
    severities=(1.0, 0.5, 0.25, 0.1, 0.05),
    bounds=(0.02, 1.0),
    reason="below a fiftieth a detector's quantum efficiency falls, which is not modelled, and above 1 noise "
    "would have to be taken out",
    source="Veldkamp et al., J. Digit. Imaging 22 (2009) 114",
    modalities=("xray",),
    constants=("exposure_decades", "quanta", "electronic", "detector_blur_px"),
    rank=10,
)
