"""Confidence intervals: Wilson for proportions, DeLong and Newcombe for AUCs, else a bootstrap by patient.

An interval that cannot be estimated (nothing counted, one patient, one class) is NaN, never a guess.
Everything is vectorised numpy, and seeded: the same numbers give the same interval.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]
"""Weights (replicates, n), how often each of n rows was drawn, to a statistic (replicates, ...)."""

REPLICATES = 1000
_CHUNK = 125_000  # weights held at once: 1 MB, whatever the cohort, with a few arrays of the same size beside them
_AT_LEAST = 20  # replicates at a time: with fewer, reading the values again and again would take the time


class Interval(NamedTuple):
    """Lower and upper bounds, arrays of the shape of what they bound."""

    low: FloatArray
    high: FloatArray


class Auc(NamedTuple):
    """An area under the ROC curve with its bounds, and how they were found."""

    auc: float
    low: float
    high: float
    method: str = ""


def wilson(k: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of the proportion k / n.

    It treats the n images as independent: where patients have several images the truth is wider.

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
    z = _quantile(confidence)
    share = hits / trials
    centre = share + z**2 / (2 * trials)
    half = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    low = np.where(hits == 0, np.where(np.isnan(trials), np.nan, 0.0), (centre - half) / scale)
    high = np.where(hits == trials, 1.0, (centre + half) / scale)
    return Interval(low, high)


def auc_delong(labels: npt.ArrayLike, scores: npt.ArrayLike, confidence: float = 0.95) -> Auc:
    """Return the AUC with DeLong's interval, cut at 0 and 1.

    Do not use it where a patient has several images (see `auc_interval`). With complete separation (AUC 0 or
    1) DeLong's variance is 0 and the interval claims a certainty nobody has.

    Args:
        labels: (n,) of 0 and 1.
        scores: (n,), larger for class 1.
        confidence: the interval's coverage.

    Returns:
        NaNs if a class is absent; NaN bounds if a class has a single image.

    Source: DeLong et al., Biometrics 44 (1988) 837, by the mid-ranks of Sun & Xu, IEEE Signal Process. Lett.
        21 (2014) 1389.
    """
    label, score = np.asarray(labels), np.asarray(scores, np.float64)
    positive, negative = score[label == 1], score[label == 0]
    m, n = len(positive), len(negative)
    if m == 0 or n == 0:
        return Auc(np.nan, np.nan, np.nan)
    ranks = _midranks(np.concatenate([positive, negative]))
    above_negatives = (ranks[:m] - _midranks(positive)) / n  # (m,) share of negatives below each positive
    below_positives = 1 - (ranks[m:] - _midranks(negative)) / m  # (n,)
    auc = float(above_negatives.mean())
    if m == 1 or n == 1:
        return Auc(auc, np.nan, np.nan, "DeLong")
    variance = above_negatives.var(ddof=1) / m + below_positives.var(ddof=1) / n
    half = _quantile(confidence) * float(np.sqrt(variance))
    return Auc(auc, max(0.0, auc - half), min(1.0, auc + half), "DeLong")


def auc_newcombe(auc: float, n_positive: int, n_negative: int, confidence: float = 0.95) -> Auc:
    """Return Newcombe's score interval of an AUC, which keeps its width at 0 and 1.

    The bounds are the two areas A at which `auc` lies exactly z standard errors away, with the Hanley-McNeil
    error of A itself.

    Source: Newcombe, Stat. Med. 25 (2006) 559, method 5.
    """
    if min(n_positive, n_negative) == 0:
        return Auc(np.nan, np.nan, np.nan)
    z = _quantile(confidence)
    spare = (n_positive + n_negative) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + spare * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - auc) ** 2 - z**2 * area * (1 - area) * spread / (n_positive * n_negative)

    low = 0.0 if auc == 0 else _root(excess, outside=0.0, inside=auc)
    high = 1.0 if auc == 1 else _root(excess, outside=1.0, inside=auc)
    return Auc(auc, low, high, "Newcombe")


def auc_interval(labels: npt.ArrayLike, scores: npt.ArrayLike, groups: npt.ArrayLike, confidence: float = 0.95) -> Auc:
    """Return the AUC with the interval that fits the data, and its method's name.

    Newcombe's where DeLong's has no width, as when the classes separate completely or all scores are equal
    (elsewhere its model of the scores is not needed), a bootstrap by patient where a patient has several images,
    DeLong's otherwise.

    Args:
        labels: (n,) of 0 and 1.
        scores: (n,), larger for class 1.
        groups: (n,) the patient of each image, or the image itself where the patient is unknown.
        confidence: the interval's coverage.
    """
    label, score = np.asarray(labels), np.asarray(scores, np.float64)
    estimate = auc_delong(label, score, confidence)
    if estimate.auc in (0.0, 1.0) or estimate.low == estimate.high:
        return auc_newcombe(estimate.auc, int((label == 1).sum()), int((label == 0).sum()), confidence)
    patients = np.asarray(groups, dtype=object)
    if np.isnan(estimate.auc) or len(set(patients)) == len(patients):
        return estimate
    low, high = bootstrap_by_group(weighted_auc(label, score), patients, confidence=confidence)
    return Auc(estimate.auc, float(low), float(high), "bootstrap by patient")


def bootstrap_by_group(
    statistic: Statistic,
    groups: npt.ArrayLike,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return percentile bounds of `statistic` over resampled groups: a patient's rows are drawn together.

    Replicates in which the statistic is undefined (NaN) are left out; infinities count as large numbers, so a
    bound may be infinite. With fewer than two groups nothing can be resampled and the bounds are NaN.

    Args:
        statistic: called with weights (replicates, n); returns (replicates, ...).
        groups: (n,) the group, usually the patient, of each row.
        replicates: how many resamples.
        seed: of the resampling.
        confidence: the interval's coverage.

    Source: Field & Welsh, J. R. Stat. Soc. B 69 (2007) 369 (the cluster bootstrap).
    """
    member = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]  # (n,)
    count = int(member.max()) + 1 if len(member) else 0
    if count < 2:
        blank = np.full(statistic(np.ones((1, len(member))))[0].shape, np.nan)
        return Interval(blank, blank)
    rng = np.random.default_rng(seed)
    step = max(_AT_LEAST, _CHUNK // len(member))
    values = []
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=size)  # (size, groups)
        values.append(statistic(drawn[:, member].astype(np.float64)))
    return _percentiles(np.concatenate(values), confidence)


def weighted_mean(values: FloatArray, included: npt.NDArray[np.bool_]) -> Statistic:
    """Return the statistic "mean of each column of `values` (n, k) over the rows `included` (n, k)"."""
    totals, ones = np.where(included, values, 0.0), included.astype(np.float64)

    def statistic(weights: FloatArray) -> FloatArray:
        return _ratio(weights @ totals, weights @ ones)

    return statistic


def weighted_median(values: FloatArray) -> Statistic:
    """Return the statistic "lower median of `values` (n,)": the smallest that at least half do not exceed."""
    order = np.argsort(values, kind="stable")

    def statistic(weights: FloatArray) -> FloatArray:
        if not len(values):
            return np.full(len(weights), np.nan)
        reached = np.cumsum(weights[:, order], axis=1)
        first = (reached < reached[:, -1:] / 2).sum(axis=1)
        median: FloatArray = values[order][first]
        return median

    return statistic


def weighted_auc(labels: npt.NDArray[np.int64], scores: FloatArray) -> Statistic:
    """Return the statistic "AUC of `scores` (n,) for `labels` (n,)", ties counting half."""
    level = np.unique(scores, return_inverse=True)[1]
    positive = np.flatnonzero(labels == 1)[np.argsort(level[labels == 1], kind="stable")]
    negative = np.flatnonzero(labels == 0)[np.argsort(level[labels == 0], kind="stable")]
    below = np.searchsorted(level[negative], level[positive], side="left")
    upto = np.searchsorted(level[negative], level[positive], side="right")

    def statistic(weights: FloatArray) -> FloatArray:
        wins = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights[:, negative], axis=1)], axis=1)
        won = (weights[:, positive] * (wins[:, below] + wins[:, upto]) / 2).sum(axis=1)
        return _ratio(won, weights[:, positive].sum(axis=1) * wins[:, -1])

    return statistic


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, giving NaN where the denominator is 0."""
    return numerator / np.where(denominator > 0, denominator, np.nan)


def _percentiles(values: FloatArray, confidence: float) -> Interval:
    ordered = np.sort(values, axis=0)  # NaN last
    valid = (~np.isnan(values)).sum(axis=0)
    skip = np.floor((1 - confidence) / 2 * valid).astype(int)
    low = np.take_along_axis(ordered, skip[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.maximum(valid - 1 - skip, 0)[None], axis=0)[0]
    return Interval(low, high)


def _root(function: Callable[[float], float], *, outside: float, inside: float) -> float:
    """Bisect between a point where `function` is positive or zero and one where it is negative."""
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if function(middle) > 0 else (outside, middle)
    return outside


def _midranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1, ties sharing the mean of their places."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[level]


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
