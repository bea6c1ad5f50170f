"""Intervals against closed forms, brute force and scikit-learn; the bootstrap against what it promises."""

from itertools import product
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dosimeter.analysis.intervals import (
    auc_delong,
    auc_interval,
    auc_newcombe,
    bootstrap_by_group,
    weighted_auc,
    weighted_mean,
    weighted_median,
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


@pytest.mark.parametrize(("seed", "levels"), list(product(range(4), (0, 1, 3))))
def test_delong_equals_brute_force(seed: int, levels: int) -> None:
    labels, scores = scored(seed, levels=levels)
    auc, variance = structural_components(labels, scores)
    found = auc_delong(labels, scores)
    assert found.auc == pytest.approx(auc)
    assert found.auc == pytest.approx(roc_auc_score(labels, scores))
    assert found.low == pytest.approx(max(0, auc - Z * sqrt(variance)))
    assert found.high == pytest.approx(min(1, auc + Z * sqrt(variance)))


@pytest.mark.parametrize(("labels", "defined"), [([1, 1, 1], False), ([0, 0], False), ([], False), ([0, 1, 1], True)])
def test_delong_never_guesses(labels: list[int], defined: bool) -> None:
    found = auc_delong(labels, np.arange(len(labels), dtype=float))
    assert np.isnan(found.auc) == (not defined)
    assert np.isnan([found.low, found.high]).all()  # a class with a single image has no variance
    interval = auc_interval(labels, np.zeros(len(labels)), np.arange(len(labels)))
    assert np.isnan(interval.auc) == (not defined)


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


def test_auc_interval_chooses_the_method_that_fits() -> None:
    labels, scores = scored(0)
    alone, pairs = np.arange(40), np.arange(40) // 2
    assert auc_interval(labels, scores, alone) == auc_delong(labels, scores)
    assert auc_interval(labels, scores, pairs).method == "bootstrap by patient"
    for certain in (labels.astype(float), -labels.astype(float), np.zeros(40)):
        for groups in (alone, pairs):
            found = auc_interval(labels, certain, groups)
            assert found.method == "Newcombe"
            assert found.high - found.low > 0.05, "no one is certain of an AUC from 40 images"


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
    half = Z * values.std(ddof=1) / sqrt(200)
    assert low[0] == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high[0] == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_by_patient_is_wider_than_by_image_where_patients_repeat() -> None:
    values = np.repeat(np.random.default_rng(2).normal(size=20), 5)[:, None]  # five equal images of each patient
    statistic = weighted_mean(values, values == values)
    low, high = bootstrap_by_group(statistic, np.repeat(np.arange(20), 5))
    image_low, image_high = bootstrap_by_group(statistic, np.arange(100))
    assert (high - low)[0] / (image_high - image_low)[0] == pytest.approx(sqrt(5), rel=0.2)


def test_a_bootstrap_of_one_patient_or_none_is_undefined() -> None:
    for n in (0, 1, 4):
        values = np.ones((n, 3))
        low, high = bootstrap_by_group(weighted_mean(values, values == 1), np.zeros(n))
        assert low.shape == high.shape == (3,)
        assert np.isnan([low, high]).all()


def test_undefined_replicates_are_left_out_and_infinite_ones_kept() -> None:
    values, included = np.array([[1.0, 1.0]] * 3), np.array([[True, False], [False, False], [False, False]])
    low, high = bootstrap_by_group(weighted_mean(values, included), np.arange(3))
    assert (low[0], high[0]) == (1, 1)
    assert np.isnan([low[1], high[1]]).all()
    low, high = bootstrap_by_group(weighted_median(np.array([1.0, 2.0, np.inf, np.inf])), np.arange(4))
    assert float(low) == 1
    assert np.isinf(high)


def test_weighted_statistics_equal_those_of_the_repeated_rows() -> None:
    rng = np.random.default_rng(5)
    labels, scores = scored(5, 30, levels=2)
    weights = rng.integers(0, 4, (6, 30))
    median, auc = weighted_median(scores), weighted_auc(labels, scores)
    mean = weighted_mean(scores[:, None], np.ones((30, 1), dtype=bool))
    for row, counts in enumerate(weights):
        drawn, truth = np.repeat(scores, counts), np.repeat(labels, counts)
        assert auc(weights)[row] == pytest.approx(roc_auc_score(truth, drawn))
        assert mean(weights)[row, 0] == pytest.approx(drawn.mean())
        assert median(weights)[row] == np.sort(drawn)[(len(drawn) - 1) // 2]


def test_many_rows_are_resampled_in_chunks_like_few(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).normal(size=(50, 1))
    statistic = weighted_mean(values, values == values)
    whole = bootstrap_by_group(statistic, np.arange(50))
    monkeypatch.setattr("dosimeter.analysis.intervals._CHUNK", 50 * 7)
    assert np.array_equal(bootstrap_by_group(statistic, np.arange(50)), whole)
