"""Parallel-beam projections of a CT image and their filtered back-projection: a model of a scanner, not one of a make.

Linear in what is projected, so what is missing in a sinogram (noise, streaks) can be reconstructed alone and added to
the image: the image itself is never blurred by going there and back.

Source: Kak & Slaney, Principles of Computerized Tomographic Imaging (1988), chapter 3.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

N_VIEWS = 180
"""Views over half a turn."""

MU_WATER_PER_MM = 0.0195
"""Attenuation of water at about 65 keV; NIST's tables."""

AIR_HU = -1000.0


def attenuation(images: Tensor, *, centre_hu: float, width_hu: float) -> Tensor:
    """Return attenuation by mm of grey images in [0, 1], as their window says; at least that of air, 0."""
    hounsfield = centre_hu + width_hu * (images - 0.5)
    return MU_WATER_PER_MM * (1 + hounsfield / 1000).clamp(min=0)


def grey_of(attenuation_per_mm: Tensor, *, width_hu: float) -> Tensor:
    """Return a difference of attenuation as one of grey levels."""
    return attenuation_per_mm / MU_WATER_PER_MM * 1000 / width_hu


def project(images: Tensor, *, pixel_mm: float) -> Tensor:
    """Return line integrals (batch, N_VIEWS, side) of attenuation (batch, 1, side, side), in a circle; view by view."""
    batch, _, side, _ = images.shape
    inside = images * _circle(side, images.device)
    views = []
    for angle in _angles():
        grid = _turned(angle, side, images.device).expand(batch, -1, -1, -1)
        turned = functional.grid_sample(inside, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        views.append(turned.sum(dim=2)[:, 0] * pixel_mm)
    return torch.stack(views, dim=1)


def back_project(sinogram: Tensor, *, pixel_mm: float) -> Tensor:
    """Return the attenuation (batch, 1, side, side) of a sinogram (batch, N_VIEWS, side): ramp filter, Ram-Lak."""
    batch, n_views, side = sinogram.shape
    filtered = _ramp_filtered(sinogram, pixel_mm)
    made = torch.zeros(batch, 1, side, side, dtype=sinogram.dtype, device=sinogram.device)
    middle = (side - 1) / 2
    steps = torch.arange(side, dtype=sinogram.dtype, device=sinogram.device) - middle
    for view, angle in enumerate(_angles()):
        place = steps[None, :] * math.cos(angle) + steps[:, None] * math.sin(angle) + middle  # (side, side)
        low = place.floor()
        share = place - low
        first = low.long().clamp(0, side - 1)
        second = (low.long() + 1).clamp(0, side - 1)
        rays = filtered[:, view]
        made += (rays[:, first] * (1 - share) + rays[:, second] * share)[:, None]
    result: Tensor = made * (math.pi / n_views) * _circle(side, sinogram.device)
    return result


def ramp_response(n: int, pixel_mm: float, *, device: torch.device) -> Tensor:
    """Return the frequency response (n // 2 + 1,) of the ramp filter cut at the sampling's limit, in 1 / mm.

    It is the transform of its samples in space, so that its mean is right (Kak & Slaney, equation 61).
    """
    place = torch.fft.fftfreq(n, 1 / n, device=device)
    kernel = torch.zeros(n, device=device)
    kernel[0] = 1 / (4 * pixel_mm**2)
    odd = place.long() % 2 != 0
    kernel[odd] = -1 / (math.pi * place[odd] * pixel_mm) ** 2
    response: Tensor = torch.fft.rfft(kernel).real * pixel_mm
    return response


def _ramp_filtered(sinogram: Tensor, pixel_mm: float) -> Tensor:
    side = sinogram.shape[-1]
    n = 2 ** math.ceil(math.log2(2 * side))
    response = ramp_response(n, pixel_mm, device=sinogram.device)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(sinogram, n=n) * response, n=n)[..., :side]
    return filtered


def _angles() -> list[float]:
    return [math.pi * view / N_VIEWS for view in range(N_VIEWS)]


def _turned(angle: float, side: int, device: torch.device) -> Tensor:
    """Return where the rays of a view run (1, side, side, 2): a column each, in grid_sample's coordinates."""
    steps = (2 * torch.arange(side, device=device) + 1) / side - 1
    across, along = steps[None, :], steps[:, None]
    x = across * math.cos(angle) - along * math.sin(angle)
    y = across * math.sin(angle) + along * math.cos(angle)
    return torch.stack([x, y], dim=-1)[None]


def _circle(side: int, device: torch.device) -> Tensor:
    """Return 1 inside the circle that fits into the image, which every view sees whole, 0 outside: (side, side)."""
    steps = (2 * torch.arange(side, device=device) + 1) / side - 1
    return (steps[None] ** 2 + steps[:, None] ** 2 <= 1).float()
