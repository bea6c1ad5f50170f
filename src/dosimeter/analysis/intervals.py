"""Confidence intervals that know which images are of one patient: of proportions, means, medians; else a bootstrap.

`clusters` says what images of one patient are worth. An interval that cannot be estimated (fewer than three images or
patients, one class) is NaN, never a guess. Everything is vectorised numpy, and seeded: the same numbers give the same
interval.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, stdtrit

from dosimeter.analysis.clusters import (
    FEWEST,
    Effective,
    as_many_equal,
    degrees_of_freedom,
    effective_proportion,
    group_numbers,
    normal_quantile,
    over,
    per_patient,
    ratio_variance,
    spread_weights,
    t_quantile,
)
from dosimeter.bounds import root

FloatArray = npt.NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]
"""Weights (replicates, n), how often each of n rows was drawn, to a statistic (replicates, ...)."""

FEWEST_TO_RESAMPLE = 6
"""Patients of equal weight below which nothing is resampled: a bootstrap of so few says little but their range."""

FEWEST_OF_A_MEDIAN = 6
"""Images below which a median has no interval, as the range of all of them covers less than 95 %; and, where a patient
has several, patients of equal weight."""

FEWEST_OF_SEVERAL = 8
"""Patients with several images below which a median has no interval: how alike these are is then hardly known."""

REPLICATES = 1000
_CHUNK = 125_000  # weights held at once: 1 MB, whatever the cohort, with a few arrays of the same size beside them
_AT_LEAST = 20  # replicates at a time: with fewer, reading the values again and again would take the time


class Interval(NamedTuple):
    """Lower and upper bounds, arrays of the shape of what they bound."""

    low: FloatArray
    high: FloatArray


def wilson(k: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of the proportion k / n of independent trials.

    Where patients have several images the truth is wider: use `proportion_interval`.

    Args:
        k: successes, any shape.
        n: trials, of a shape that broadcasts with `k`. Where it is 0 the bounds are NaN.
        confidence: the interval's coverage.

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.

    Example:
        >>> low, high = wilson(30, 54)
        >>> f"{low:.2f} to {high:.2f}"
        '0.42 to 0.68'
    """
    hits, trials = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.float64))
    trials = np.where(trials > 0, trials, np.nan)
    return score_interval(hits / trials, Effective(trials, np.full(trials.shape, normal_quantile(confidence))))


def score_interval(share: FloatArray, sample: Effective) -> Interval:
    """Return Wilson's interval of a proportion found in `sample`, any shape."""
    n, z = sample
    centre = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    low = np.where(share == 0, 0.0 * scale, (centre - half) / scale)  # of nothing it is NaN
    high = np.where(share == 1, scale / scale, (centre + half) / scale)
    return Interval(low, high)


def proportion_interval(hits: FloatArray, trials: FloatArray, confidence: float = 0.95) -> Interval:
    """Return the interval of a proportion of images, some of which are of one patient: Wilson's on `effective` counts.

    Args:
        hits: (patients, ...) images of each patient that count, as `per_patient` adds them up.
        trials: (patients, ...) images of each patient.
        confidence: the interval's coverage.

    Returns:
        Arrays (...), NaN with fewer than `FEWEST` images or patients. Without a patient of two images they are
        Wilson's.

    Example:
        >>> right = np.array([1, 1, 0, 1, 1, 0, 0, 1])
        >>> patient = np.array(["a", "a", "b", "c", "c", "d", "d", "e"])
        >>> low, high = proportion_interval(per_patient(right, patient), per_patient(np.ones(8), patient))
        >>> f"{low:.2f} to {high:.2f}"
        '0.17 to 0.93'
    """
    return score_interval(over(hits.sum(axis=0), trials.sum(axis=0)), effective_proportion(hits, trials, confidence))


def difference_interval(
    first: FloatArray, first_trials: FloatArray, second: FloatArray, second_trials: FloatArray, confidence: float = 0.95
) -> Interval:
    """Return the interval of the difference of two proportions, first less second, of images of two kinds.

    It is Newcombe's: from the bounds of both proportions (`proportion_interval`), squared and added. Where patients
    have images of both kinds, as of two views, the correlation between them is taken off.

    Args:
        first: (patients, ...) images of the first kind that count.
        first_trials: (patients, ...) images of the first kind.
        second: (patients, ...) images of the second kind that count, of the same patients in the same order.
        second_trials: (patients, ...) images of the second kind.
        confidence: the interval's coverage.

    Returns:
        Arrays (...), NaN where either kind has fewer than `FEWEST` images or patients.

    Source: Newcombe, Stat. Med. 17 (1998) 873, method 10; Zou, Psychol. Methods 12 (2007) 399 (correlated); the
        correlation is that of what each patient adds to either proportion.

    Example:
        >>> patients = np.ones(20)
        >>> low, high = difference_interval(patients, patients, np.repeat([0.0, 1.0], 10), patients)
        >>> f"{low:.2f} to {high:.2f}"
        '0.24 to 0.70'
    """
    one, two = over(first.sum(axis=0), first_trials.sum(axis=0)), over(second.sum(axis=0), second_trials.sum(axis=0))
    low_one, high_one = proportion_interval(first, first_trials, confidence)
    low_two, high_two = proportion_interval(second, second_trials, confidence)
    apart_one, apart_two = first - one * first_trials, second - two * second_trials
    spread = np.sqrt((apart_one**2).sum(axis=0) * (apart_two**2).sum(axis=0))
    shared = np.where(spread > 0, over((apart_one * apart_two).sum(axis=0), spread), 0.0)
    down = _combined(one - low_one, high_two - two, shared)
    up = _combined(high_one - one, two - low_two, shared)
    return Interval(one - two - down, one - two + up)


def _combined(first: FloatArray, second: FloatArray, correlation: FloatArray) -> FloatArray:
    """Return how far a difference reaches whose parts reach so far."""
    reach: FloatArray = np.sqrt(np.maximum(0.0, first**2 + second**2 - 2 * correlation * first * second))
    return reach


def mean_interval(totals: FloatArray, trials: FloatArray, confidence: float = 0.95) -> Interval:
    """Return the t interval of a mean over images, with the variance between patients.

    Its degrees of freedom are patients less 1, or fewer where some have many more images (`clusters.spread_weights`).
    It is not cut at what the mean can be: see `unit_mean_interval`. Where no patient differs from another it would have
    no width, and is NaN.

    Args:
        totals: (patients, ...) the sum of the value over the images of a patient.
        trials: (patients, ...) these images.
        confidence: the interval's coverage.

    Returns:
        Arrays (...), NaN with fewer than `FEWEST` patients.
    """
    patients = (trials > 0).sum(axis=0)
    variance = ratio_variance(totals, trials)
    mean = over(totals.sum(axis=0), trials.sum(axis=0))
    known = (patients >= FEWEST) & (variance > (1e-12 * mean) ** 2)  # equal values differ by rounding
    quantile = t_quantile(degrees_of_freedom(spread_weights(trials)), confidence)
    half = quantile * np.sqrt(np.where(known, variance, np.nan))
    return Interval(mean - half, mean + half)


def unit_mean_interval(totals: FloatArray, trials: FloatArray, confidence: float = 0.95) -> Interval:
    """Return the interval of a mean over images of values in [0, 1]: inside, and with width at the ends.

    It is Wilson's, of a proportion that varies as much as the mean does between patients, with t's quantile. Where no
    patient differs from another, they count as so many answers.

    Args:
        totals: (patients, ...) the sum of the value over the images of a patient.
        trials: (patients, ...) these images.
        confidence: the interval's coverage.

    Returns:
        Arrays (...), NaN with fewer than `FEWEST` patients.
    """
    patients = (trials > 0).sum(axis=0)
    mean = np.clip(over(totals.sum(axis=0), trials.sum(axis=0)), 0, 1)
    quantile = t_quantile(degrees_of_freedom(spread_weights(trials)), confidence)
    quantile = np.where(patients >= FEWEST, quantile, np.nan)
    most = mean * (1 - mean)
    variance = ratio_variance(totals, trials)
    worth = np.where(variance > 1e-24, over(most, variance), 1.0 * patients)
    return score_interval(mean, Effective(worth, quantile))


def median_interval(values: FloatArray, groups: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the interval of a median by the order of the values alone: whatever their distribution, also censored.

    The bounds are the values whose ranks a binomial with the chance 1/2 leaves outside in 2.5 % either way: of as many
    images as these are worth (`clusters`), so that ranks are fractions. Between two ranks the bound lies between their
    values; where values are equal, as doses of a grid are, it is the outer one.

    Args:
        values: (n,), infinite where censored.
        groups: (n,) the patient of each.
        confidence: the interval's coverage.

    Returns:
        Scalars; NaN with fewer than `FEWEST_OF_A_MEDIAN` images; where a patient has several, with fewer than
        `FEWEST_OF_SEVERAL` patients, with patients who count as fewer than `FEWEST_OF_A_MEDIAN` of equal weight, and
        where their images are so alike that the range of all of them covers less.

    Source: Hutson, J. Appl. Stat. 26 (1999) 343 (fractional order statistics); Woodruff, J. Am. Stat. Assoc. 47 (1952)
        635 (ranks from the variance of a share).
    """
    nothing = Interval(np.array(np.nan), np.array(np.nan))
    n = len(values)
    if n < FEWEST_OF_A_MEDIAN:
        return nothing
    ordered = np.sort(values)
    below, trials = (per_patient(each, groups) for each in (values <= ordered[(n - 1) // 2], np.ones(n)))
    if len(trials) < min(n, FEWEST_OF_SEVERAL) or as_many_equal(trials) < FEWEST_OF_A_MEDIAN:
        return nothing
    sample = effective_proportion(below, trials, confidence)
    worth, covered = float(sample.n), 2 * NormalDist().cdf(float(sample.quantile)) - 1
    outside = (1 - covered) / 2
    if np.isnan(worth) or 0.5**worth > outside:
        return nothing
    rank = root(lambda r: outside - float(betainc(worth + 1 - r, r, 0.5)), outside=1.0, inside=(worth + 1) / 2)
    place = max(rank / (worth + 1) * (n + 1), 1.0) - 1  # from 0
    finite = ordered[np.isfinite(ordered)]
    exact = len(np.unique(finite)) < len(finite)
    low, high = (_at_place(ordered, each, side, exact) for each, side in ((place, -1), (n - 1 - place, 1)))
    return Interval(np.array(low), np.array(high))


def _at_place(ordered: FloatArray, place: float, side: int, exact: bool) -> float:
    """Return the value at a fractional place, between its neighbours; if `exact`, the one that is on `side` (-1, 1)."""
    least, most = (float(ordered[int(each)]) for each in (np.floor(place + 1e-9), np.ceil(place - 1e-9)))
    if exact or not np.isfinite(most):
        return least if side < 0 else most
    return least + (most - least) * (place % 1)


def bootstrap_by_group(
    statistic: Statistic,
    groups: npt.ArrayLike,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = 0.95,
    equal: float | None = None,
) -> Interval:
    """Return expanded percentile bounds of `statistic` over resampled groups: a patient's rows are drawn together.

    Use it where no closed form does. The percentile bootstrap of few patients is much too narrow; its percentiles are
    moved outwards by as much as t's interval of a mean is wider than the bootstrap's, of as many groups of equal size
    (`clusters.as_many_equal`). Replicates in which the statistic is undefined (NaN) are left out; infinities count as
    large numbers, so a bound may be infinite. Where the groups count as fewer than `FEWEST_TO_RESAMPLE` of equal size
    the bounds are NaN.

    Args:
        statistic: called with weights (replicates, n); returns (replicates, ...).
        groups: (n,) the group, usually the patient, of each row.
        replicates: how many resamples.
        seed: of the resampling.
        confidence: the interval's coverage.
        equal: as how many of equal size the groups count, if their rows do not tell.

    Source: Field & Welsh, J. R. Stat. Soc. B 69 (2007) 369 (the cluster bootstrap); Hesterberg, Am. Stat. 69 (2015)
        371 (the expanded percentiles).
    """
    member = group_numbers(groups)  # (n,)
    sizes = np.bincount(member).astype(np.float64)
    count, equal = len(sizes), float(as_many_equal(sizes)) if equal is None else equal
    if not equal >= FEWEST_TO_RESAMPLE:
        blank = np.full(statistic(np.ones((1, len(member))))[0].shape, np.nan)
        return Interval(blank, blank)
    rng = np.random.default_rng(seed)
    step = max(_AT_LEAST, _CHUNK // len(member))
    values = []
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=size)  # (size, groups)
        values.append(statistic(drawn[:, member].astype(np.float64)))
    expanded = np.sqrt(equal / (equal - 1)) * stdtrit(equal - 1, (1 + confidence) / 2)
    return _percentiles(np.concatenate(values), NormalDist().cdf(-expanded))


def _percentiles(values: FloatArray, tail: float) -> Interval:
    ordered = np.sort(values, axis=0)  # NaN last
    valid = (~np.isnan(values)).sum(axis=0)
    skip = np.floor(tail * valid).astype(int)
    low = np.take_along_axis(ordered, skip[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.maximum(valid - 1 - skip, 0)[None], axis=0)[0]
    return Interval(low, high)
