"""A model observer that looks through channels and knows what it looks for: the channelised Hotelling observer.

It knows the signal exactly, has no internal noise and weighs its channels optimally. So it is an objective, upper-bound
style figure of what a linear observer could detect through these channels. It is not a human: a reader does not know
the perturbation, but may use what these channels do not pass.

Source: Barrett & Myers, Foundations of Image Science (2004), section 14.3; Gallas & Barrett, J. Opt. Soc. Am. A 20
    (2003) 1725 (Laguerre-Gauss channels); Myers & Barrett, J. Opt. Soc. Am. A 4 (1987) 2447 (octave bands).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import eval_laguerre, ndtr

FloatArray = npt.NDArray[np.float64]
_CUT = 1e-10  # of the largest singular value of a covariance


class Detection(NamedTuple):
    """How well a signal is told from its background, each (n,) for n signals.

    Attributes:
        resubstitution: d' on the backgrounds that the observer learned from; too large if they are few.
        holdout: d' on others; NaN without any.
    """

    resubstitution: FloatArray
    holdout: FloatArray


def laguerre_gauss(size_px: int, *, n: int = 10, width_px: float | None = None) -> FloatArray:
    """Return `n` rotationally symmetric channels (size_px ** 2, n) of unit norm.

    Args:
        width_px: a in exp(-pi r^2 / a^2); by default half the patch.
    """
    axis = np.arange(size_px) - (size_px - 1) / 2
    square = 2 * np.pi * (axis[:, None] ** 2 + axis[None] ** 2) / (width_px or size_px / 2) ** 2
    channels = [np.exp(-square / 2) * eval_laguerre(order, square) for order in range(n)]
    return _unit(np.stack(channels, axis=-1).reshape(size_px**2, n))


def octave(size_px: int, *, n: int = 4) -> FloatArray:
    """Return `n` octave-wide Gabor channels (size_px ** 2, 4 n), each in four orientations.

    Their centres are three quarters of 1/2, 1/4, 1/8... cycles a pixel, their envelopes an octave wide.
    """
    axis = np.arange(size_px) - (size_px - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    channels = []
    for band in range(n):
        centre = 0.75 * 0.5 ** (band + 1)  # cycles a pixel
        envelope = np.exp(-4 * math.log(2) * (x**2 + y**2) / (0.56 / (centre / 1.5)) ** 2)
        for angle in np.pi * np.arange(4) / 4:
            channels.append(envelope * np.cos(2 * np.pi * centre * (x * np.cos(angle) + y * np.sin(angle))))
    return _unit(np.stack(channels, axis=-1).reshape(size_px**2, 4 * n))


CHANNELS: dict[str, Callable[[int], FloatArray]] = {"laguerre_gauss": laguerre_gauss, "octave": octave}
"""Side of a patch in pixels to channels."""


def detect(
    signals: FloatArray, backgrounds: FloatArray, channels: FloatArray, *, others: FloatArray | None = None
) -> Detection:
    """Return d' of each signal, added to backgrounds and known exactly.

    With v = U'x the template of a signal s is w = S^-1 U's, S being the covariance of v over backgrounds, and
    d' = w'U's / sqrt(w'S w).

    Args:
        signals: (n, pixels).
        backgrounds: (m, pixels) without a signal, from which S is learned; m must be far more than the channels.
        channels: U, (pixels, channels).
        others: (k, pixels) backgrounds of other images, on which w is tried.
    """
    response = signals @ channels  # (n, channels)
    covariance = _covariance(backgrounds @ channels)
    template = response @ np.linalg.pinv(covariance, rcond=_CUT, hermitian=True)
    gain = (template * response).sum(axis=1)
    known = _ratio(gain, np.einsum("ij,jk,ik->i", template, covariance, template))
    if others is None:
        return Detection(known, np.full(len(signals), np.nan))
    unseen = _covariance(others @ channels)
    return Detection(known, _ratio(gain, np.einsum("ij,jk,ik->i", template, unseen, template)))


def auc(d_prime: npt.ArrayLike) -> FloatArray:
    """Return the area under the ROC curve of normal decisions, which is also the share correct of two alternatives."""
    area: FloatArray = ndtr(np.asarray(d_prime, np.float64) / math.sqrt(2))
    return area


def _covariance(values: FloatArray) -> FloatArray:
    return np.atleast_2d(np.cov(values, rowvar=False))


def _ratio(gain: FloatArray, variance: FloatArray) -> FloatArray:
    ratio: FloatArray = np.where(variance > 0, gain / np.sqrt(np.where(variance > 0, variance, 1.0)), 0.0)
    return ratio


def _unit(channels: FloatArray) -> FloatArray:
    unit: FloatArray = channels / np.linalg.norm(channels, axis=0)
    return unit
