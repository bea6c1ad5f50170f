"""Areas under the ROC curve, with intervals that know which images are of one patient."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from dosimeter.analysis.clusters import FEWEST, group_numbers, normal_quantile
from dosimeter.analysis.intervals import FloatArray, root


class Auc(NamedTuple):
    """An area under the ROC curve with its bounds, and how they were found."""

    auc: float
    low: float
    high: float
    method: str = ""


def auc_interval(labels: npt.ArrayLike, scores: npt.ArrayLike, groups: npt.ArrayLike, confidence: float = 0.95) -> Auc:
    """Return the AUC with the interval that fits the data, and its method's name.

    The variance is DeLong's, or Obuchowski's where a patient has several images; the interval is symmetric on the
    logit's scale, so that it stays in (0, 1) and covers near 1 too. With several images a patient its quantile is t's,
    with as many degrees of freedom as the class of fewer patients has patients, less 1. Where there is no variance, as
    when the classes separate completely or all scores are equal, it is Newcombe's, of patients instead of images.

    Args:
        labels: (n,) of 0 and 1.
        scores: (n,), larger for class 1.
        groups: (n,) the patient of each image, or the image itself where the patient is unknown.
        confidence: the interval's coverage.

    Returns:
        NaNs if a class is absent; NaN bounds if a class has fewer than `FEWEST` patients.

    Source: DeLong et al., Biometrics 44 (1988) 837; Obuchowski, Biometrics 53 (1997) 567; the logit: Pepe, The
        Statistical Evaluation of Medical Tests (2003), section 5.2.
    """
    label, member = np.asarray(labels), group_numbers(groups)
    auc, above, below = auc_components(label, scores)
    if np.isnan(auc):
        return Auc(np.nan, np.nan, np.nan)
    alone = len(np.unique(member)) == len(member)
    patients = [len(np.unique(member[label == each])) for each in (1, 0)]
    if min(patients) < FEWEST:
        return Auc(auc, np.nan, np.nan)
    variance = obuchowski_variance(auc, above, below, member[label == 1], member[label == 0])
    if not 0 < auc < 1 or variance <= 0:
        return auc_newcombe(auc, patients[0], patients[1], confidence)
    quantile = normal_quantile(confidence) if alone else float(stdtrit(min(patients) - 1, (1 + confidence) / 2))
    half = quantile * np.sqrt(variance) / (auc * (1 - auc))
    low, high = (1 / (1 + (1 - auc) / auc * np.exp(-shift)) for shift in (-half, half))
    return Auc(auc, float(low), float(high), "DeLong, logit" if alone else "Obuchowski, logit")


def auc_components(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[float, FloatArray, FloatArray]:
    """Return the AUC, the share of negatives below each positive, and of positives above each negative, ties half.

    Source: DeLong et al. 1988, by the mid-ranks of Sun & Xu, IEEE Signal Process. Lett. 21 (2014) 1389.
    """
    label, score = np.asarray(labels), np.asarray(scores, np.float64)
    positive, negative = score[label == 1], score[label == 0]
    m, n = len(positive), len(negative)
    if m == 0 or n == 0:
        return np.nan, np.full(m, np.nan), np.full(n, np.nan)
    ranks = _midranks(np.concatenate([positive, negative]))
    above = (ranks[:m] - _midranks(positive)) / n  # (m,)
    below = 1 - (ranks[m:] - _midranks(negative)) / m  # (n,)
    return float(above.mean()), above, below


def obuchowski_variance(
    auc: float,
    above: FloatArray,
    below: FloatArray,
    positive: npt.NDArray[np.int64],
    negative: npt.NDArray[np.int64],
) -> float:
    """Return the variance of an AUC whose images are of fewer patients; DeLong's if each image has its own.

    Args:
        auc: the area.
        above: (m,) as `auc_components` returns it.
        below: (n,) as `auc_components` returns it.
        positive: (m,) the patient's number of each positive.
        negative: (n,) the patient's number of each negative.

    Source: Obuchowski, Biometrics 53 (1997) 567, equations 4 to 7.
    """
    size = int(max(positive.max(), negative.max())) + 1
    sums, counts = [], []
    for member, values in ((positive, above), (negative, below)):
        images = np.bincount(member, minlength=size)
        sums.append((np.bincount(member, values, size) - images * auc) / len(member))
        counts.append(int((images > 0).sum()))
    either = len(np.union1d(positive, negative))
    own = sum(n / (n - 1) * float(each @ each) for n, each in zip(counts, sums, strict=True))
    return own + 2 * either / (either - 1) * float(sums[0] @ sums[1])


def auc_newcombe(auc: float, n_positive: int, n_negative: int, confidence: float = 0.95) -> Auc:
    """Return Newcombe's score interval of an AUC, which keeps its width at 0 and 1.

    The bounds are the two areas A at which `auc` lies exactly z standard errors away, with the Hanley-McNeil
    error of A itself.

    Source: Newcombe, Stat. Med. 25 (2006) 559, method 5.
    """
    if min(n_positive, n_negative) == 0:
        return Auc(np.nan, np.nan, np.nan)
    z = normal_quantile(confidence)
    spare = (n_positive + n_negative) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + spare * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - auc) ** 2 - z**2 * area * (1 - area) * spread / (n_positive * n_negative)

    low = 0.0 if auc == 0 else root(excess, outside=0.0, inside=auc)
    high = 1.0 if auc == 1 else root(excess, outside=1.0, inside=auc)
    return Auc(auc, low, high, "Newcombe")


def _midranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1, ties sharing the mean of their places."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[level]
