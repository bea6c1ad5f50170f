"""Scattered radiation: a veil over the radiograph, with the noise of its own quanta."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.constants import Constants
from dosimeter.physical.exposure import correlated_noise, quanta_of, with_quanta
from dosimeter.physical.filters import blurred


@dataclass(frozen=True, kw_only=True)
class Scatter(Change):
    """A radiograph of which a share s of the quanta is scattered, after auto-ranging.

    To the primary quanta P come s / (1 - s) times P spread by a wide Gaussian, with Poisson noise of their own; all are
    scaled by 1 - s, as a display's auto-ranging does, so that the image is about as bright as before.

    Args:
        quanta, decades, blur_px, width: see `Constants`.
    """

    name: str = "scatter"
    quanta: float
    decades: float
    blur_px: float
    width: float

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images with the share `severity` of scattered quanta."""
        primary = quanta_of(images, quanta=self.quanta, decades=self.decades)
        wide = blurred(primary, self.width * max(images.shape[2:])).clamp(min=0)
        scattered = severity / (1 - severity) * wide
        noise = correlated_noise(random.normal(1, *images.shape[2:]), self.blur_px) * scattered.sqrt()
        return with_quanta(images, (1 - severity) * (1 + (scattered + noise) / primary), decades=self.decades)


def build(constants: Constants) -> Scatter:
    """Return it of an apparatus."""
    return Scatter(
        quanta=constants.quanta,
        decades=constants.exposure_decades,
        blur_px=constants.detector_blur_px,
        width=constants.scatter_width,
    )


ENTRY = Entry(
    build=build,
    title="scatter",
    note="a share of the quanta is scattered: a veil with noise of its own",
    unit="of the quanta",
    severities=(0.0, 0.2, 0.4, 0.6),
    bounds=(0.0, 0.8),
    reason="a thorax without a grid scatters at most about that much",
    source="Boone & Seibert, Med. Phys. 15 (1988) 721 (a broad spread of the primary)",
    modalities=("xray",),
    constants=("exposure_decades", "quanta", "detector_blur_px", "scatter_width"),
    rank=20,
)
