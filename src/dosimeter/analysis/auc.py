"""Areas under the ROC curve, with intervals that know which images are of one patient."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dosimeter.analysis.clusters import (
    FEWEST,
    as_many_equal,
    degrees_of_freedom,
    group_numbers,
    normal_quantile,
    spread_weights,
    t_quantile,
)
from dosimeter.analysis.intervals import FloatArray
from dosimeter.bounds import newcombe


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
    with as many degrees of freedom as the class of fewer patients has patients, less 1, or fewer where some patients
    make up much of the variance (`_degrees_of_freedom`). Where there is no variance, as when the classes separate
    completely or all scores are equal, it is Newcombe's, of patients instead of images: of as many of equal weight
    (`clusters.as_many_equal`).

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
    parts = [PerPatient.of(values, auc, member, label == each) for each, values in ((1, above), (0, below))]
    variance = obuchowski_variance(*parts)
    if not 0 < auc < 1 or variance <= 0:
        m, n = (float(as_many_equal(each.share)) for each in parts)
        return auc_newcombe(auc, m, n, confidence)
    free = min(min(patients) - 1, _degrees_of_freedom(*parts))
    quantile = normal_quantile(confidence) if alone else float(t_quantile(np.asarray(free), confidence))
    half = quantile * np.sqrt(variance) / (auc * (1 - auc))
    low, high = (1 / (1 + (1 - auc) / auc * np.exp(-shift)) for shift in (-half, half))
    return Auc(auc, float(low), float(high), "DeLong, logit" if alone else "Obuchowski, logit")


def macro_auc_interval(
    labels: npt.ArrayLike, scores: FloatArray, groups: npt.ArrayLike, confidence: float = 0.95
) -> Auc:
    """Return the mean over classes of the AUC of each against all others, with its interval by patient.

    An image adds to the AUC of every class. What a patient's images add to the mean gives its variance; the interval is
    symmetric on the logit's scale, with t's quantile.

    Args:
        labels: (n,) classes.
        scores: (n, classes), larger for the class.
        groups: (n,) the patient of each image.
        confidence: the interval's coverage.

    Returns:
        NaNs if no class has both images and others; classes that no image has are left out. NaN bounds with fewer than
        `FEWEST` patients, or where the AUC of every class is 0 or 1.

    Source: DeLong et al., Biometrics 44 (1988) 837 (the components); Obuchowski, Biometrics 53 (1997) 567 (patients);
        Provost & Domingos, Machine Learning 52 (2003) 199 (the mean, here with equal weights).
    """
    label, member = np.asarray(labels), group_numbers(groups)
    areas, moved = [], np.zeros(int(member.max(initial=-1)) + 1)
    for place, column in enumerate(scores.T):
        mine = label == place
        area, above, below = auc_components(mine, column)
        if np.isnan(area):
            continue
        areas.append(area)
        for which, values in ((mine, above), (~mine, below)):
            moved += np.bincount(member[which], values - area, len(moved)) / len(values)
    if not areas:
        return Auc(np.nan, np.nan, np.nan)
    auc, patients = float(np.mean(areas)), len(moved)
    spread = np.sqrt(patients / max(patients - 1, 1) * float(moved @ moved)) / len(areas)
    if patients < FEWEST or spread <= 0 or not 0 < auc < 1:
        return Auc(auc, np.nan, np.nan)
    images = np.bincount(member).astype(np.float64)
    free = degrees_of_freedom(spread_weights(images))
    half = float(t_quantile(free, confidence)) * spread / (auc * (1 - auc))
    low, high = (1 / (1 + (1 - auc) / auc * np.exp(-shift)) for shift in (-half, half))
    return Auc(auc, float(low), float(high), "DeLong by patient, logit")


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


class PerPatient(NamedTuple):
    """What each patient adds to an AUC through the images of one class, (patients,) each; 0 where there are none.

    Attributes:
        share: of the images of the class, those of the patient.
        moved: how far the patient's images lie from the AUC, in parts of it, as it moves without them.
    """

    share: FloatArray
    moved: FloatArray

    @classmethod
    def of(
        cls, values: FloatArray, auc: float, member: npt.NDArray[np.int64], mine: npt.NDArray[np.bool_]
    ) -> "PerPatient":
        """Return it from the `values` of one class, as `auc_components` returns them, and each image's patient."""
        size = int(member.max()) + 1
        share = np.bincount(member[mine], minlength=size) / len(values)
        apart = np.bincount(member[mine], values, size) / len(values) - share * auc
        return cls(share, apart / (1 - share))

    @property
    def variance(self) -> float:
        """The variance of the AUC through this class."""
        patients = int((self.share > 0).sum())
        return (patients - 1) / patients * float(self.moved @ self.moved)


def obuchowski_variance(positive: PerPatient, negative: PerPatient) -> float:
    """Return the variance of an AUC whose images are of fewer patients; DeLong's if each image has its own.

    A patient's part is as large as the AUC would move without the patient, as in `clusters.ratio_variance`: where
    patients of a class have as many images each it is Obuchowski's, where some have many more it is larger, as it must.

    Source: Obuchowski, Biometrics 53 (1997) 567, equations 4 to 7; Bell & McCaffrey, Survey Methodology 28 (2002) 169.
    """
    either = int(((positive.share > 0) | (negative.share > 0)).sum())
    return positive.variance + negative.variance + 2 * (either - 1) / either * float(positive.moved @ negative.moved)


def _degrees_of_freedom(positive: PerPatient, negative: PerPatient) -> float:
    """Return those of the variance, to which patients add through both classes (`clusters.spread_weights`)."""
    weights = [spread_weights(each.share) for each in (positive, negative)]
    parts = [each / each.sum() * part.variance for each, part in zip(weights, (positive, negative), strict=True)]
    return float(degrees_of_freedom(parts[0] + parts[1]))


def auc_newcombe(auc: float, n_positive: float, n_negative: float, confidence: float = 0.95) -> Auc:
    """Return Newcombe's score interval of an AUC, which keeps its width at 0 and 1.

    Source: Newcombe, Stat. Med. 25 (2006) 559, method 5 (`bounds.newcombe`).
    """
    if min(n_positive, n_negative) == 0:
        return Auc(np.nan, np.nan, np.nan)
    low, high = newcombe(auc, n_positive, n_negative, z=normal_quantile(confidence))
    return Auc(auc, low, high, "Newcombe")


def _midranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1, ties sharing the mean of their places."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[level]
