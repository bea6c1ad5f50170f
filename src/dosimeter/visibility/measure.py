"""What the response table holds of how far a perturbation may be seen."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dosimeter.visibility.fidelity import fidelity
from dosimeter.visibility.gsdf import DISPLAYS, REFERENCE, jnd_span, srgb_jnd_index
from dosimeter.visibility.noise import local_noise

_LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709
_SPAN = jnd_span(DISPLAYS[REFERENCE])


class Reference:
    """An image before it is perturbed, and what is known of it alone.

    Equal planes are measured as one. Of a colour image `rms` and `psnr` count all three planes, everything else its
    luma: a change of hue alone is not counted.

    Args:
        image: (3, H, W) in [0, 1].
    """

    def __init__(self, image: Tensor) -> None:
        self._image = image
        self._plane = grey(image)
        self._noise = local_noise(self._plane.numpy())
        self._srgb = srgb_jnd_index(self._plane.numpy())

    def seen(self, stored: Tensor, *, costly: bool) -> Mapping[str, float | None]:
        """Return the columns of visibility of `stored` (3, H, W), what is left of the perturbed image after storage.

        Args:
            costly: measure ssim, ms_ssim and haarpsi too.
        """
        plane = grey(stored)
        difference = (plane - self._plane).abs().numpy()
        rms = float((stored - self._image).double().square().mean().sqrt())
        low, high = np.quantile(difference, (0.5, 0.95))
        srgb = np.quantile(np.abs(srgb_jnd_index(plane.numpy()) - self._srgb), 0.95)
        structure = fidelity(self._plane, plane)._asdict() if costly else {}
        noise_ratio = float(np.sqrt(np.square(difference, dtype=np.float64).mean())) / self._noise
        return {
            "rms": rms,
            "psnr": -20 * math.log10(rms) if rms > 0 else None,  # infinite
            **structure,
            "noise_ratio": None if math.isnan(noise_ratio) else noise_ratio,
            "jnd_p50": float(low) * _SPAN,
            "jnd_p95": float(high) * _SPAN,
            "jnd_max": float(difference.max()) * _SPAN,
            "jnd_srgb_p95": float(srgb),
        }


def grey(image: Tensor) -> Tensor:
    """Return the plane (H, W) of an image (3, H, W): its own where all three agree, else their luma."""
    if torch.equal(image[0], image[1]) and torch.equal(image[0], image[2]):
        return image[0]
    return (image * image.new_tensor(_LUMA)[:, None, None]).sum(dim=0)
