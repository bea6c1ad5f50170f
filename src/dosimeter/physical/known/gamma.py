"""Another gamma: grey levels raised to a power."""

from dataclasses import dataclass

from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random


@dataclass(frozen=True, kw_only=True)
class Gamma(Change):
    """Grey g becomes g to the power of the severity: above 1 darker, below 1 brighter; black and white stay."""

    name: str = "gamma"

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images of the exponent `severity`."""
        return images.pow(severity)


ENTRY = Entry(
    build=lambda constants: Gamma(),
    title="gamma",
    note="grey levels raised to a power: above 1 darker",
    unit="as exponent",
    severities=(1.0, 1.1, 1.25, 1.5, 2.0),
    bounds=(0.4, 2.5),
    reason="a display set farther from its standard function would not be read from",
    source="MedMNIST-C's gamma: Di Salvo et al. 2024, arXiv 2406.17536",
    rank=50,
)
