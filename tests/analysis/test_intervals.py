"""Intervals against closed forms, brute force and scikit-learn; the bootstrap against what it promises."""

from itertools import product
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
import scipy.stats
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from dosimeter.analysis.auc import auc_interval, auc_newcombe
from dosimeter.analysis.clusters import count_alike, effective_proportion, over, per_patient, ratio_variance
from dosimeter.analysis.intervals import (
    FEWEST_OF_A_MEDIAN,
    Statistic,
    bootstrap_by_group,
    mean_interval,
    median_interval,
    proportion_interval,
    unit_mean_interval,
    wilson,
)

Z = NormalDist().inv_cdf(0.975)


def scored(seed: int, n: int = 40, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and overlapping scores; with `levels`, rounded so that many are equal."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3 // 2
    scores = rng.normal(labels, 1.0)
    return labels, np.round(scores * levels) / levels if levels else scores


def structural_components(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """AUC and DeLong's variance from all pairs (DeLong et al. 1988, equations 4 to 6)."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = np.array([[(x > y) + 0.5 * (x == y) for y in negative] for x in positive])
    auc = wins.mean()
    by_positive = sum((row.mean() - auc) ** 2 for row in wins) / (len(positive) - 1)
    by_negative = sum((column.mean() - auc) ** 2 for column in wins.T) / (len(negative) - 1)
    return auc, by_positive / len(positive) + by_negative / len(negative)


def test_wilson_of_the_papers_plateau() -> None:
    low, high = wilson(30, 54)
    assert float(low) == pytest.approx(0.4241, abs=5e-4)
    assert float(high) == pytest.approx(0.6796, abs=5e-4)


@pytest.mark.parametrize(("k", "n"), [(1, 2), (30, 54), (53, 54), (126, 150), (1, 10_000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_bounds_lie_z_standard_errors_from_the_estimate(k: int, n: int, confidence: float) -> None:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = (float(bound) for bound in wilson(k, n, confidence))
    assert 0 < low < k / n < high < 1
    for bound in (low, high):
        assert abs(k / n - bound) == pytest.approx(z * sqrt(bound * (1 - bound) / n))


def test_wilson_at_the_ends_and_of_nothing() -> None:
    low, high = wilson([0, 5, 0], [5, 5, 0])
    assert low[0] == 0
    assert high[0] == pytest.approx(Z**2 / (5 + Z**2))
    assert high[1] == 1
    assert low[1] == pytest.approx(5 / (5 + Z**2))
    assert np.isnan([low[2], high[2]]).all()


CT_SIZES = [9, 8, 5, 5, 5, *[4] * 6, *[3] * 5, *[2] * 8, *[1] * 18]
"""Images of each of the 42 patients without COVID-19 in the official test split of the CT cohort."""


def drawn(rng: np.random.Generator, share: float, icc: float, sizes: list[int]) -> np.ndarray:
    """Right answers of each patient, whose own share is Beta distributed so that two images of one correlate by icc."""
    alpha = 1 / icc - 1
    return rng.binomial(sizes, rng.beta(share * alpha, (1 - share) * alpha, len(sizes))).astype(float)


def test_without_a_patient_of_two_images_a_proportion_has_wilsons_interval() -> None:
    right = (np.arange(54) < 30).astype(float)
    assert np.allclose(proportion_interval(right, np.ones(54)), wilson(30, 54), rtol=1e-12)
    both = np.stack([right, 1 - right], axis=1)
    assert np.allclose(proportion_interval(both, np.ones((54, 2))), wilson([30, 24], 54), rtol=1e-12)


@pytest.mark.parametrize("icc", [0.05, 0.57])
def test_the_ratio_variance_is_the_jackknifes(icc: float) -> None:
    sizes = np.array(CT_SIZES)
    hits = drawn(np.random.default_rng(1), 0.75, icc, CT_SIZES)
    patients = len(sizes)
    without = [(hits.sum() - k) / (105 - n) for k, n in zip(hits, sizes, strict=True)]
    by_hand = (patients - 1) / patients * sum((each - hits.sum() / 105) ** 2 for each in without)
    assert float(ratio_variance(hits, sizes)) == pytest.approx(by_hand)


def test_the_ratio_variance_of_patients_with_as_many_images_is_that_of_their_means() -> None:
    hits = np.array([3.0, 4, 0, 1, 4, 2])
    assert float(ratio_variance(hits, np.full(6, 4.0))) == pytest.approx((hits / 4).var(ddof=1) / 6)


def test_images_of_one_patient_that_are_all_alike_count_as_patients() -> None:
    right, sizes = np.array([1.0] * 12 + [0.0] * 8), np.full(20, 5.0)
    sample = effective_proportion(5 * right, sizes)
    assert float(sample.n) == pytest.approx(20, rel=0.06)  # 19 degrees of freedom and the weight of two patients
    for hits in (sizes, 0 * sizes):  # all right, all wrong: no variance, so nothing speaks for more
        assert float(effective_proportion(hits, sizes).n) == pytest.approx(20)
        low, high = proportion_interval(hits, sizes)
        assert high - low > wilson(20, 20).high - wilson(20, 20).low


@pytest.mark.parametrize("icc", [0.05, 0.3, 0.57])
@pytest.mark.parametrize("sizes", [CT_SIZES, CT_SIZES[::4]], ids=["42 patients", "11 patients"])
def test_the_interval_of_a_proportion_covers_where_patients_repeat(icc: float, sizes: list[int]) -> None:
    rng = np.random.default_rng(2)
    hits = np.stack([drawn(rng, 0.75, icc, sizes) for _ in range(10_000)], axis=1)  # (patients, replicates)
    trials = np.broadcast_to(np.array(sizes, float)[:, None], hits.shape)
    low, high = proportion_interval(hits, trials)
    assert 0.93 <= ((low <= 0.75) & (high >= 0.75)).mean() <= 0.995
    low, high = wilson(hits.sum(axis=0), sum(sizes))
    assert ((low <= 0.75) & (high >= 0.75)).mean() < 0.97 - 0.3 * icc  # as independent images


@pytest.mark.parametrize(("icc", "most"), [(0.05, 0.18), (0.57, 0.45)])
def test_many_images_of_few_patients_are_worth_what_they_differ(icc: float, most: float) -> None:
    sizes = [30] * 12
    rng = np.random.default_rng(5)
    hits = np.stack([drawn(rng, 0.75, icc, sizes) for _ in range(4000)], axis=1)
    low, high = proportion_interval(hits, np.full(hits.shape, 30.0))
    assert 0.93 <= ((low <= 0.75) & (high >= 0.75)).mean() <= 0.985
    assert np.median(high - low) < most  # of 12 images it would be 0.47


@pytest.mark.parametrize("interval", [mean_interval, unit_mean_interval])
def test_the_interval_of_a_mean_covers_where_few_patients_have_unlike_numbers_of_images(interval) -> None:  # type: ignore[no-untyped-def]
    rng, sizes = np.random.default_rng(9), np.array(CT_SIZES[::4], float)[:, None]
    own = rng.beta(2, 2, (len(sizes), 4000))
    values = np.clip(own + 0.1 * rng.normal(size=own.shape) / np.sqrt(sizes), 0, 1)  # means of a patient's images
    low, high = interval(sizes * values, np.broadcast_to(sizes, values.shape))
    assert 0.93 <= ((low <= 0.5) & (high >= 0.5)).mean() <= 0.985


UNEQUAL = {
    "2 of 30, 15 of 1": [30] * 2 + [1] * 15,
    "3 of 20, 30 of 1": [20] * 3 + [1] * 30,
    "5 of 10, 50 of 1": [10] * 5 + [1] * 50,
    "2 of 50, 100 of 1": [50] * 2 + [1] * 100,
}
"""Images of each patient where a few have many: as one scanner's follow-ups beside single visits."""


def latent(rng: np.random.Generator, sizes: list[int], icc: float, n: int) -> np.ndarray:
    """Normal numbers (images, n) of which two of one patient correlate by icc."""
    shared = np.repeat(rng.normal(size=(len(sizes), n)), sizes, axis=0)
    return sqrt(icc) * shared + sqrt(1 - icc) * rng.normal(size=(sum(sizes), n))


@pytest.mark.parametrize("icc", [0.05, 0.3, 0.57, 0.8])
@pytest.mark.parametrize("share", [0.75, 0.9])
@pytest.mark.parametrize("sizes", UNEQUAL.values(), ids=UNEQUAL)
def test_a_proportion_covers_where_a_few_patients_have_most_images(sizes: list[int], share: float, icc: float) -> None:
    rng = np.random.default_rng(12)
    hits = np.stack([drawn(rng, share, icc, sizes) for _ in range(4000)], axis=1)
    low, high = proportion_interval(hits, np.broadcast_to(np.array(sizes, float)[:, None], hits.shape))
    assert ((low <= share) & (high >= share)).mean() >= 0.93
    assert np.median(high - low) < 0.85, "it is no interval if it says nothing"


def test_images_that_never_differ_are_worth_kishs_number_of_patients() -> None:
    sizes = np.array([30.0, 30, *[1] * 15])
    for hits in (sizes, 0 * sizes):
        assert float(effective_proportion(hits, sizes).n) == pytest.approx(75**2 / (2 * 30**2 + 15))


def test_patients_of_one_image_do_not_tell_how_alike_images_of_one_patient_are() -> None:
    sizes = np.array([10.0] * 5 + [1] * 50)
    singles = np.where(np.arange(55) < 5, sizes, np.arange(55) % 4 > 0)  # the wrong ones are of single images
    larger = np.where(np.arange(55) < 1, 0.0, sizes)  # one of the large is all wrong
    assert float(count_alike(sizes, singles < sizes)) < 0.2
    assert float(count_alike(sizes, larger < sizes)) == pytest.approx(1.1, abs=0.01)
    assert float(count_alike(np.full(9, 4.0), np.arange(9) < 3)) == pytest.approx(3)
    alike = 100**2 / (5 * 10**2 + 50)
    assert float(effective_proportion(singles, sizes).n) == pytest.approx(alike, rel=0.05)


@pytest.mark.parametrize("icc", [0.05, 0.57])
@pytest.mark.parametrize("interval", [mean_interval, unit_mean_interval])
@pytest.mark.parametrize("sizes", list(UNEQUAL.values())[:3], ids=list(UNEQUAL)[:3])
def test_a_mean_covers_where_a_few_patients_have_most_images(sizes, interval, icc) -> None:  # type: ignore[no-untyped-def]
    values = scipy.stats.norm.cdf(0.7 * latent(np.random.default_rng(13), sizes, icc, 3000))  # mean 0.5
    patient = np.repeat(np.arange(len(sizes)), sizes)
    low, high = interval(per_patient(values, patient), per_patient(np.ones(values.shape), patient))
    assert ((low <= 0.5) & (high >= 0.5)).mean() >= 0.93


@pytest.mark.parametrize("auc", [0.8, 0.95])
@pytest.mark.parametrize("icc", [0.05, 0.57])
@pytest.mark.parametrize("sizes", list(UNEQUAL.values())[:3], ids=list(UNEQUAL)[:3])
def test_an_auc_covers_where_a_few_patients_have_most_images(sizes: list[int], icc: float, auc: float) -> None:
    rng, images = np.random.default_rng(14), sum(sizes)
    patients = np.repeat(np.arange(2 * len(sizes)), 2 * sizes)
    scores = latent(rng, 2 * sizes, icc, 600)
    labels = np.repeat([1, 0], images)
    apart = sqrt(2) * NormalDist().inv_cdf(auc)
    found = [auc_interval(labels, each + apart * labels, patients) for each in scores.T]
    assert np.mean([each.low <= auc <= each.high for each in found]) >= 0.93


@pytest.mark.parametrize("icc", [0.05, 0.57])
def test_a_median_has_an_interval_that_covers_or_none_where_a_few_patients_have_most_images(icc: float) -> None:
    for name, sizes in UNEQUAL.items():
        patient = np.repeat(np.arange(len(sizes)), sizes)
        found = [
            median_interval(np.exp(each), patient) for each in latent(np.random.default_rng(15), sizes, icc, 300).T
        ]
        known = [each for each in found if not np.isnan(each.low)]
        if sum(sizes) ** 2 / sum(size**2 for size in sizes) < FEWEST_OF_A_MEDIAN:
            assert not known, name
        else:
            assert len(known) > 0.8 * len(found), name
            assert np.mean([each.low <= 1 <= each.high for each in known]) >= 0.92, name


def test_the_bootstrap_counts_patients_by_their_images() -> None:
    few, many = (np.repeat(np.arange(len(sizes)), sizes) for sizes in ([30] * 4 + [1] * 15, [4] * 20))
    values = np.random.default_rng(16).normal(size=(len(few), 1))
    assert np.isnan(bootstrap_by_group(weighted_mean(values, values == values), few)).all()  # as many as 5 would be
    values = values[: len(many)]
    assert np.isfinite(bootstrap_by_group(weighted_mean(values, values == values), many)).all()


@pytest.mark.parametrize(("hits", "trials"), [([1.0, 1.0], [1.0, 1.0]), ([3.0, 1.0], [5.0, 4.0]), ([2.0], [4.0])])
def test_two_images_or_two_patients_have_no_interval(hits: list[float], trials: list[float]) -> None:
    assert np.isnan(proportion_interval(np.array(hits), np.array(trials))).all()
    assert np.isnan(mean_interval(np.array(hits), np.array(trials))).all()
    assert np.isnan(proportion_interval(np.zeros((0, 3)), np.zeros((0, 3)))).all()


def test_a_mean_has_the_t_interval_of_its_patients() -> None:
    values = np.random.default_rng(3).normal(size=9)
    low, high = mean_interval(values, np.ones(9))
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high))
    low, high = mean_interval(4 * values, np.full(9, 4.0))  # four equal images of each
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high))
    assert np.isnan(mean_interval(0.1 * np.arange(1, 5.0), np.arange(1, 5.0))).all()  # all equal but for rounding


def binomial_bounds(n: int) -> tuple[int, int]:
    """The ranks whose interval covers a median with at least 95 %, as many as may be left out on either side."""
    rank = max(r for r in range(1, n) if scipy.stats.binom.cdf(r - 1, n, 0.5) <= 0.025)
    return rank, n + 1 - rank


@pytest.mark.parametrize("n", [6, 10, 11, 20, 54, 203])
def test_a_median_lies_between_the_values_of_binomial_ranks(n: int) -> None:
    values = np.random.default_rng(n).lognormal(size=n)
    low, high = (float(bound) for bound in median_interval(values, np.arange(n)))
    first, last = binomial_bounds(n)
    ordered = np.sort(values)
    assert ordered[first - 1] <= low <= ordered[first]  # the next rank in covers less than 95 %
    assert ordered[last - 2] <= high <= ordered[last - 1]
    tied = np.round(values, 1) + 0.1
    low, high = (float(bound) for bound in median_interval(np.repeat(tied, 2)[:n], np.arange(n)))
    assert {low, high} <= set(tied)


def test_a_median_of_few_has_no_interval_and_a_censored_one_an_open_end() -> None:
    assert np.isnan(median_interval(np.arange(5.0), np.arange(5))).all()
    for patients, known in ((3, False), (7, False), (8, True)):
        assert np.isnan(median_interval(np.arange(24.0), np.arange(24) % patients)).any() != known
    half = np.where(np.arange(20) < 11, np.arange(20), np.inf)
    low, high = median_interval(half, np.arange(20))
    assert 4 < low < 6
    assert np.isinf(high)
    assert np.isinf(median_interval(np.full(9, np.inf), np.arange(9))).all()


@pytest.mark.parametrize(("sizes", "icc"), [([1] * 7, 0.0), ([1] * 20, 0.0), (CT_SIZES, 0.6)])
def test_the_interval_of_a_median_covers(sizes: list[int], icc: float) -> None:
    rng, patient = np.random.default_rng(4), np.repeat(np.arange(len(sizes)), sizes)
    covered = []
    for _ in range(1000):
        shared = rng.normal(size=len(sizes))[patient]
        values = sqrt(icc) * shared + sqrt(1 - icc) * rng.normal(size=len(patient))
        low, high = median_interval(np.exp(values), patient)
        covered.append(low <= 1 <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


def logit_interval(auc: float, variance: float, quantile: float) -> tuple[float, float]:
    half = quantile * sqrt(variance) / (auc * (1 - auc))
    return tuple(float(expit(logit(auc) + sign * half)) for sign in (-1, 1))  # type: ignore[return-value]


@pytest.mark.parametrize(("seed", "levels"), list(product(range(4), (0, 1, 3))))
def test_without_a_patient_of_two_images_an_auc_has_delongs_variance(seed: int, levels: int) -> None:
    labels, scores = scored(seed, levels=levels)
    auc, variance = structural_components(labels, scores)
    found = auc_interval(labels, scores, np.arange(40))
    assert found.method == "DeLong, logit"
    assert found.auc == pytest.approx(auc)
    assert found.auc == pytest.approx(roc_auc_score(labels, scores))
    assert (found.low, found.high) == pytest.approx(logit_interval(auc, variance, Z))


def moves(wins: np.ndarray, own: np.ndarray) -> dict[int, float]:
    """How far the mean of `wins` (images, others) moves, in its own scale, when the images of one patient are left."""
    auc = wins.mean()
    return {p: (auc - wins[own != p].mean()) if (own == p).any() else 0.0 for p in set(own.tolist())}


def obuchowski_by_hand(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> tuple[float, float, float]:
    """The variance of Obuchowski 1997, equations 4 to 7, with the jackknife's parts; and that of either class."""
    wins = np.array([[(x > y) + 0.5 * (x == y) for y in scores[labels == 0]] for x in scores[labels == 1]])
    x, y = moves(wins, patients[labels == 1]), moves(wins.T, patients[labels == 0])
    i10, i01, i = len(x), len(y), len({*x, *y})
    s10, s01 = (i10 - 1) / i10 * sum(v**2 for v in x.values()), (i01 - 1) / i01 * sum(v**2 for v in y.values())
    s11 = (i - 1) / i * sum(x[p] * y.get(p, 0.0) for p in x)
    return s10 + s01 + 2 * s11, s10, s01


@pytest.mark.parametrize(
    "patients", [np.arange(40) // 2, np.arange(40) % 7, np.arange(40) % 3 * 10 + np.arange(40) // 8]
)
def test_with_several_images_a_patient_an_auc_has_obuchowskis_variance(patients: np.ndarray) -> None:
    labels, scores = scored(7, levels=3)
    found = auc_interval(labels, scores, patients)
    assert found.method == "Obuchowski, logit"
    variance, *own = obuchowski_by_hand(labels, scores, patients)
    fewer = min(len(set(patients[labels == each])) for each in (0, 1))
    weights = np.zeros(patients.max() + 1)
    for label, part in zip((1, 0), own, strict=True):
        images = np.bincount(patients[labels == label], minlength=len(weights)) ** 1.5
        weights += part * images / images.sum()
    count = (weights > 0).sum()
    free = min(fewer - 1, weights.sum() ** 2 / (weights**2).sum() * (count - 1) / count)
    expected = logit_interval(found.auc, variance, scipy.stats.t.ppf(0.975, free))
    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize(("labels", "defined"), [([1, 1, 1], False), ([0, 0], False), ([], False), ([0, 1, 1], True)])
def test_an_auc_is_never_guessed(labels: list[int], defined: bool) -> None:
    for scores in (np.arange(len(labels), dtype=float), np.zeros(len(labels))):
        found = auc_interval(labels, scores, np.arange(len(labels)))
        assert np.isnan(found.auc) == (not defined)
        assert np.isnan([found.low, found.high]).all()  # a class with two images has no interval


@pytest.mark.parametrize("auc", [0.8, 0.9, 0.97])
def test_the_interval_of_an_auc_covers_near_1(auc: float) -> None:
    rng = np.random.default_rng(6)
    labels, apart = np.repeat([1, 0], [28, 26]), sqrt(2) * NormalDist().inv_cdf(auc)
    found = [auc_interval(labels, rng.normal(apart * labels), np.arange(54)) for _ in range(1500)]
    assert 0.93 <= np.mean([each.low <= auc <= each.high for each in found]) <= 0.97


@pytest.mark.parametrize(("auc", "m", "n"), [(0.5, 5, 9), (0.9, 27, 27), (1.0, 28, 26), (0.0, 28, 26)])
def test_newcombe_bounds_solve_its_equation(auc: float, m: int, n: int) -> None:
    found = auc_newcombe(auc, m, n)
    spare = (m + n) / 2 - 1
    assert 0 <= found.low <= auc <= found.high <= 1
    for area in (found.low, found.high):
        if area not in (0, 1):
            spread = 1 + spare * ((1 - area) / (2 - area) + area / (1 + area))
            assert abs(area - auc) == pytest.approx(Z * sqrt(area * (1 - area) * spread / (m * n)), rel=1e-6)
    assert found.high - found.low > 0.02


def test_newcombe_is_symmetric_and_needs_both_classes() -> None:
    below, above = auc_newcombe(0.0, 20, 20), auc_newcombe(1.0, 20, 20)
    assert below.high == pytest.approx(1 - above.low)
    assert np.isnan(auc_newcombe(1.0, 0, 20).low)


def test_complete_separation_counts_patients_and_not_images() -> None:
    labels = np.repeat([1, 0], 20)
    for scores, auc in ((labels, 1), (-labels, 0), (0 * labels, 0.5)):
        for patients, count in ((np.arange(40), 20), (np.arange(40) // 4, 5)):
            found = auc_interval(labels, scores.astype(float), patients)
            assert found[:3] == pytest.approx(auc_newcombe(auc, count, count)[:3])
            assert found.high - found.low > 0.05, "no one is certain of an AUC from 40 images"


def weighted_mean(values: np.ndarray, included: np.ndarray) -> Statistic:
    """The statistic "mean of each column of `values` (n, k) over the rows `included` (n, k)"."""
    return lambda weights: over(weights @ np.where(included, values, 0.0), weights @ included.astype(float))


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=(60, 2))
    statistic = weighted_mean(values, np.ones_like(values, dtype=bool))
    first, again = (bootstrap_by_group(statistic, np.arange(60), seed=3) for _ in range(2))
    other = bootstrap_by_group(statistic, np.arange(60), seed=4)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_bootstrap_of_a_mean_agrees_with_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=(200, 1))
    low, high = bootstrap_by_group(weighted_mean(values, values == values), np.arange(200), replicates=4000)
    half = scipy.stats.t.ppf(0.975, 199) * values.std(ddof=1) / sqrt(200)
    assert low[0] == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high[0] == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_by_patient_is_wider_than_by_image_where_patients_repeat() -> None:
    values = np.repeat(np.random.default_rng(2).normal(size=20), 5)[:, None]  # five equal images of each patient
    statistic = weighted_mean(values, values == values)
    low, high = bootstrap_by_group(statistic, np.repeat(np.arange(20), 5))
    image_low, image_high = bootstrap_by_group(statistic, np.arange(100))
    assert (high - low)[0] / (image_high - image_low)[0] == pytest.approx(sqrt(5), rel=0.2)


@pytest.mark.parametrize("n", [6, 10, 15])
def test_the_bootstrap_of_few_patients_covers(n: int) -> None:
    rng, covered = np.random.default_rng(8), []
    for _ in range(600):
        values = rng.normal(size=(n, 1))
        low, high = bootstrap_by_group(weighted_mean(values, values == values), np.arange(n))
        covered.append(low[0] <= 0 <= high[0])
    assert 0.92 <= np.mean(covered) <= 0.98  # the plain percentile bootstrap: 0.84, 0.89 and 0.92


def test_a_bootstrap_of_five_patients_or_fewer_is_undefined() -> None:
    for n, patients in ((0, 1), (1, 1), (4, 1), (2, 2), (20, 5)):
        values = np.random.default_rng(n).normal(size=(n, 3))
        low, high = bootstrap_by_group(weighted_mean(values, values == values), np.arange(n) % patients)
        assert low.shape == high.shape == (3,)
        assert np.isnan([low, high]).all()


def test_undefined_replicates_are_left_out_and_infinite_ones_kept() -> None:
    values, included = np.ones((6, 2)), np.zeros((6, 2), dtype=bool)
    included[0, 0] = True
    low, high = bootstrap_by_group(weighted_mean(values, included), np.arange(6))
    assert (low[0], high[0]) == (1, 1)
    assert np.isnan([low[1], high[1]]).all()
    low, high = bootstrap_by_group(lambda weights: np.where(weights[:, 0] > 0, np.inf, 1.0), np.arange(6))
    assert float(low) == 1
    assert np.isinf(high)


def test_many_rows_are_resampled_in_chunks_like_few(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).normal(size=(50, 1))
    statistic = weighted_mean(values, values == values)
    whole = bootstrap_by_group(statistic, np.arange(50))
    monkeypatch.setattr("dosimeter.analysis.intervals._CHUNK", 50 * 7)
    assert np.array_equal(bootstrap_by_group(statistic, np.arange(50)), whole)
