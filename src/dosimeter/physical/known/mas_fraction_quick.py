"""A share of a CT's tube current, the quick form: noise of a ramp-shaped spectrum, alike everywhere."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dosimeter.physical.base import Change, Entry, Random
from dosimeter.physical.constants import Constants
from dosimeter.physical.filters import frequencies, noise_like


@dataclass(frozen=True, kw_only=True)
class MasFractionQuick(Change):
    """A CT image at a share f of its mAs, as if its noise were the same everywhere.

    The missing variance is (1 / f - 1) sigma^2, its power spectrum that of a ramp filter with a cosine roll-off. Use
    `mas_fraction` where streaks and the darker middle of a body matter.

    Args:
        noise_hu, width_hu: see `Constants`.
    """

    name: str = "mas_fraction_quick"
    noise_hu: float
    width_hu: float

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images at the share `severity` of the tube current."""
        sigma = self.noise_hu / self.width_hu * math.sqrt(1 / severity - 1)
        noise = noise_like(random.normal(1, *images.shape[2:]), _response(images))
        return (images + sigma * noise).clamp(0, 1)


def _response(images: Tensor) -> Tensor:
    """Return the square root of a ramp's power spectrum, rolled off to nothing at the sampling's limit."""
    v, u = frequencies(images.shape[2:], device=images.device)
    radius = (u**2 + v**2).sqrt()
    return (radius.clamp(max=0.5) * torch.cos(math.pi * radius.clamp(max=0.5)).square()).sqrt()


def build(constants: Constants) -> MasFractionQuick:
    """Return it of an apparatus."""
    return MasFractionQuick(noise_hu=constants.ct_noise_hu, width_hu=constants.window_width_hu)


ENTRY = Entry(
    build=build,
    title="mAs fraction, quick form",
    note="a share of a CT's tube current: noise of a ramp-shaped spectrum, alike everywhere",
    unit="of the mAs",
    severities=(1.0, 0.5, 0.25, 0.1, 0.05),
    bounds=(0.02, 1.0),
    reason="below a fiftieth a scanner's electronic noise prevails, which is not modelled, and above 1 noise "
    "would have to be taken out",
    source="Riederer et al., Phys. Med. Biol. 23 (1978) 446 (the noise power spectrum of a ramp filter)",
    modalities=("ct",),
    constants=("ct_noise_hu", "window_width_hu"),
    rank=220,
)
