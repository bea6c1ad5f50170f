"""What images are worth where some are of one patient: they resemble one another, and tell less than as many patients.

An interval of a proportion or a mean takes its number of images and its quantile from here.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

FloatArray = npt.NDArray[np.float64]

FEWEST = 3
"""Images, and patients, below which no proportion, mean or AUC has an interval."""

_PRIOR = 2  # patients' worth of belief that images of one patient are all alike


class Effective(NamedTuple):
    """What a clustered sample is worth: as many independent images, and the quantile to go with them."""

    n: FloatArray
    quantile: FloatArray


def per_patient(values: npt.ArrayLike, groups: npt.ArrayLike) -> FloatArray:
    """Return the sum of `values` (n, ...) over the rows of each group: (groups, ...), in the groups' order."""
    rows = np.asarray(values, np.float64)
    member = group_numbers(groups)
    sums = np.zeros((int(member.max(initial=-1)) + 1, *rows.shape[1:]))
    np.add.at(sums, member, rows)
    return sums


def group_numbers(groups: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the number of each row's group (n,), counted from 0 in the groups' order."""
    names = np.asarray(groups)
    if names.dtype.kind not in "iu":  # names may be of several types, which cannot be compared
        names = names.astype(object).astype(str)
    return np.unique(names, return_inverse=True)[1]


def effective(
    totals: FloatArray, trials: FloatArray, variance: FloatArray, informative: FloatArray, confidence: float = 0.95
) -> Effective:
    """Return how many independent images the images of some patients are worth for the mean of a value.

    n is divided by the design effect: the variance of the mean between patients over that of as many independent
    images, not below 1. It is an estimate, and poor where few patients differ from the rest. So it is averaged with
    what it would be if images of one patient were all alike, sum(trials^2) / n, with a weight of 2 against those
    patients, and against the images that differ within a patient: where none does (all right, all wrong) images count
    as alike. In proportion to what the design effect adds, the quantile moves from the normal one to t's
    with `degrees_of_freedom` of the images. Where no patient has two images, it is n and the normal quantile.

    Args:
        totals: (patients, ...) the sum of the value over the images of a patient.
        trials: (patients, ...) these images.
        variance: (...) of the value, image by image.
        informative: (...) how many patients differ from the rest (`count_alike`), and images from the others of their
            patient.
        confidence: the interval's coverage.

    Returns:
        Arrays (...), NaN with fewer than `FEWEST` images or patients.

    Source: Rao & Scott, Biometrics 48 (1992) 577; Donner & Klar, Design and Analysis of Cluster Randomization Trials
        (2000), also for patients of unequal size. The weight of 2 and the mixed quantile are ours, chosen by
        simulation (benchmarks/coverage.py).
    """
    n, patients = trials.sum(axis=0), (trials > 0).sum(axis=0)
    known = (n >= FEWEST) & (patients >= FEWEST)
    alike = over((trials**2).sum(axis=0), n)
    found = np.maximum(1.0, over(n * ratio_variance(totals, trials), variance))
    design = (informative * np.where(variance > 0, found, alike) + _PRIOR * alike) / (informative + _PRIOR)
    design = np.where(trials.max(axis=0, initial=0) > 1, design, 1.0)
    z, t = normal_quantile(confidence), t_quantile(degrees_of_freedom(trials), confidence)
    quantile = np.sqrt(z**2 + (t**2 - z**2) * (1 - 1 / design))
    return Effective(np.where(known, n / design, np.nan), np.where(known, quantile, np.nan))


def count_alike(trials: FloatArray, where: npt.NDArray[np.bool_]) -> FloatArray:
    """Return how many of the patients (axis 0) `where` tell how alike images of one patient are, by their images.

    A patient of many images tells more of that than several of one image, who tell nothing. Patients with as many
    images each are simply counted.
    """
    weight = trials**2
    return over((weight * where).sum(axis=0) * weight.sum(axis=0), (weight**2).sum(axis=0))


def as_many_equal(weights: FloatArray) -> FloatArray:
    """Return as how many of equal weight those of these `weights` (axis 0) count; NaN if all weigh nothing.

    Source: Kish, Survey Sampling (1965).
    """
    return over(weights.sum(axis=0) ** 2, (weights**2).sum(axis=0))


def degrees_of_freedom(weights: FloatArray) -> FloatArray:
    """Return those of a variance between patients (axis 0) who add to it by these `weights`.

    As many as they count of equal weight, times (patients - 1) / patients: of equal patients, patients less 1.
    """
    patients = (weights > 0).sum(axis=0)
    return as_many_equal(weights) * (1 - over(np.ones(patients.shape), patients))


def spread_weights(trials: FloatArray) -> FloatArray:
    """Return how patients add to a variance that nothing but they tell: trials^1.5.

    It would be `trials` if images of one patient were unrelated, and their squares if they were all alike.

    Source: Satterthwaite, Biometrics Bulletin 2 (1946) 110, for both ends; the middle is ours (benchmarks/coverage.py).
    """
    return np.asarray(trials, np.float64) ** 1.5


def t_quantile(free: FloatArray, confidence: float = 0.95) -> FloatArray:
    """Return t's quantile with `free` degrees of freedom, any shape; NaN where there are none."""
    return np.asarray(stdtrit(np.where(free > 0, free, np.nan), (1 + confidence) / 2), np.float64)


def ratio_variance(totals: FloatArray, trials: FloatArray) -> FloatArray:
    """Return the variance of the mean sum(totals) / sum(trials) between patients (axis 0); NaN with fewer than two.

    It is the jackknife's, each patient left out in turn: where patients have as many images each, the usual one; where
    some have many more, larger than the usual one, which is then too small.

    Source: Bell & McCaffrey, Survey Methodology 28 (2002) 169 (bias of the sandwich); Cochran, Sampling Techniques
        (1977), section 6.17 (the jackknife of a ratio).
    """
    n, patients = trials.sum(axis=0), (trials > 0).sum(axis=0)
    apart = over(totals - over(totals.sum(axis=0), n) * trials, n - trials)  # how far the mean moves without a patient
    return over((patients - 1) * (apart**2).sum(axis=0), np.where(patients > 1, patients, 0))


def effective_proportion(hits: FloatArray, trials: FloatArray, confidence: float = 0.95) -> Effective:
    """Return `effective` for a proportion: informative are patients with the rarer answer, and images of mixed ones."""
    share = over(hits.sum(axis=0), trials.sum(axis=0))
    rarer = np.minimum(count_alike(trials, hits > 0), count_alike(trials, hits < trials))
    mixed = np.minimum(hits, trials - hits).sum(axis=0)
    return effective(hits, trials, share * (1 - share), rarer + mixed, confidence)


def over(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, giving NaN where the denominator is 0."""
    ratio: FloatArray = numerator / np.where(denominator > 0, denominator, np.nan)
    return ratio


def normal_quantile(confidence: float) -> float:
    """Return how many standard errors a normal interval reaches on either side."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
