"""A share of a CT's tube current: noise of fewer quanta along each ray, reconstructed."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.constants import Constants
from dosimeter.physical.projection import N_VIEWS, attenuation, back_project, grey_of, project


@dataclass(frozen=True, kw_only=True)
class MasFraction(Change):
    """A CT image at a share f of its mAs.

    The image is projected (parallel beam, over half a turn); along a ray of integral p arrive q exp(-p) quanta, so the
    logarithm's variance lacks (1 / f - 1) exp(p) / q. Noise of that variance is reconstructed by filtered
    back-projection and added, within the circle that fits into the image. No make of scanner, no bowtie filter, no
    electronic noise, no iterative reconstruction; beside an image that is not square there is air. What lies beyond the
    window is taken as its end.

    Args:
        quanta, field_mm, centre_hu, width_hu: see `Constants`.
    """

    name: str = "mas_fraction"
    quanta: float
    field_mm: float
    centre_hu: float
    width_hu: float

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images at the share `severity` of the tube current."""
        height, width = images.shape[2:]
        side = max(height, width)
        pixel_mm = self.field_mm / side
        mean = functional.pad(images.mean(dim=1, keepdim=True), (0, side - width, 0, side - height))
        rays = project(attenuation(mean, centre_hu=self.centre_hu, width_hu=self.width_hu), pixel_mm=pixel_mm)
        sigma = ((1 / severity - 1) / self.quanta * rays.clamp(max=MOST_INTEGRAL).exp()).sqrt()
        noise = back_project(random.normal(N_VIEWS, side) * sigma, pixel_mm=pixel_mm)
        made = images + grey_of(noise, width_hu=self.width_hu)[..., :height, :width]
        return made.clamp(0, 1)


MOST_INTEGRAL = 12.0
"""Along a ray; behind more no quantum arrives and a scanner starves."""


def build(constants: Constants) -> MasFraction:
    """Return it of an apparatus."""
    return MasFraction(
        quanta=constants.ct_quanta,
        field_mm=constants.field_mm,
        centre_hu=constants.window_centre_hu,
        width_hu=constants.window_width_hu,
    )


ENTRY = Entry(
    build=build,
    title="mAs fraction",
    note="a share of a CT's tube current: noise in parallel-beam projections, reconstructed",
    unit="of the mAs",
    severities=(1.0, 0.5, 0.25, 0.1, 0.05),
    bounds=(0.02, 1.0),
    reason="below a fiftieth a scanner's electronic noise prevails, which is not modelled, and above 1 noise "
    "would have to be taken out",
    source="Radiol. Phys. Technol. 17 (2024) 112 (projection-domain noise); Kak & Slaney 1988, chapter 3",
    modalities=("ct",),
    constants=("ct_quanta", "field_mm", "window_centre_hu", "window_width_hu"),
    rank=210,
)
