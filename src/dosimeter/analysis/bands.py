"""A band for a whole curve: in 95 % of studies it holds the truth at every epsilon at once.

Nineteen intervals of 95 %, one at a time, hold all nineteen truths in some 70 % of studies. Who looks along a curve, or
for the epsilon at which it is worst, needs the band.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtr

from dosimeter.analysis.clusters import FloatArray, effective_proportion, normal_quantile, over
from dosimeter.analysis.intervals import Interval, proportion_interval

DRAWS = 10_000
"""Curves that are drawn to find how far the worst point of one strays."""


def simultaneous_band(hits: FloatArray, trials: FloatArray, confidence: float = 0.95) -> Interval:
    """Return bounds that hold every point of a curve of proportions at once, images of one patient together.

    Each point has the Jeffreys interval of as many images as its images are worth (`clusters`), at the level that the
    largest of all deviations keeps: wider than pointwise, narrower than Bonferroni, since neighbouring epsilons see the
    same images.

    Args:
        hits: (patients, epsilons) images of each patient that count.
        trials: (patients, epsilons) images of each patient.
        confidence: the chance that all points lie within.

    Returns:
        Arrays (epsilons,), NaN where a point has no interval. The interval of each point lies within.

    Source: Montiel Olea & Plagborg-Møller, J. Appl. Econom. 34 (2019) 1 (the sup-t band); Brown, Cai & DasGupta, Stat.
        Sci. 16 (2001) 101 (the Jeffreys interval).
    """
    share = over(hits.sum(axis=0), trials.sum(axis=0))
    n, quantile = effective_proportion(hits, trials, confidence)
    tail = ndtr(-quantile * max_t(hits, trials, confidence) / normal_quantile(confidence))
    counted, rest = share * n + 0.5, (1 - share) * n + 0.5
    nothing = 0.0 * n  # NaN where there is no interval
    low: FloatArray = np.where(share == 0, nothing, betaincinv(counted, rest, tail))
    high: FloatArray = np.where(share == 1, nothing + 1, 1 - betaincinv(rest, counted, tail))
    pointwise = proportion_interval(hits, trials, confidence)
    return Interval(np.minimum(low, pointwise.low), np.maximum(high, pointwise.high))


def max_t(hits: FloatArray, trials: FloatArray, confidence: float = 0.95, *, seed: int = 0) -> float:
    """Return how many standard errors the worst point of a curve strays at most, with the chance `confidence`.

    Curves are drawn from a normal distribution that has the correlations which the patients show between epsilons. An
    epsilon at which all patients are alike shows none, and counts as independent.

    Args:
        hits: (patients, epsilons).
        trials: (patients, epsilons).
        confidence: the chance.
        seed: of the drawing.
    """
    roots = np.linalg.eigh(_correlations(hits, trials))
    spread = roots.eigenvectors * np.sqrt(np.maximum(roots.eigenvalues, 0))  # (epsilons, epsilons)
    drawn = np.random.default_rng(seed).standard_normal((DRAWS, len(spread))) @ spread.T
    largest = np.abs(drawn).max(axis=1, initial=0)
    return max(normal_quantile(confidence), float(np.quantile(largest, confidence)))


def _correlations(hits: FloatArray, trials: FloatArray) -> npt.NDArray[np.float64]:
    """Return the correlations of the points of a curve between patients, (epsilons, epsilons)."""
    apart = hits - np.nan_to_num(over(hits.sum(axis=0), trials.sum(axis=0))) * trials  # (patients, epsilons)
    size = np.sqrt((apart**2).sum(axis=0))
    known = size > 1e-9
    unit = apart / np.where(known, size, 1)
    found: npt.NDArray[np.float64] = unit.T @ unit + np.diag(np.where(known, 0.0, 1.0))
    return found
