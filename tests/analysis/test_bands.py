"""The band of a whole curve: closed forms at the ends, and what it covers."""

import numpy as np
import pytest
from scipy.stats import beta, norm

from dosimeter.analysis.bands import max_t, simultaneous_band
from dosimeter.analysis.clusters import per_patient
from dosimeter.analysis.intervals import proportion_interval

LOG_EPSILONS = np.log10([1e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 7e-3, 0.01, 0.08])


def test_one_point_has_its_own_interval() -> None:
    hits = np.r_[np.ones(30), np.zeros(10)][:, None]
    trials = np.ones((40, 1))
    assert max_t(hits, trials) == pytest.approx(norm.ppf(0.975), abs=0.03)
    band, pointwise = simultaneous_band(hits, trials), proportion_interval(hits, trials)
    tail = norm.sf(max_t(hits, trials))
    low, high = beta.ppf([tail, 1 - tail], 30.5, 10.5)
    expected = min(low, float(pointwise.low[0])), max(high, float(pointwise.high[0]))
    assert (float(band.low[0]), float(band.high[0])) == pytest.approx(expected)


def test_a_band_is_the_jeffreys_interval_at_the_level_of_the_worst_point() -> None:
    rng = np.random.default_rng(1)
    hits, trials = (rng.random((60, 12)) < np.linspace(0.9, 0.3, 12)).astype(float), np.ones((60, 12))
    tail = norm.sf(max_t(hits, trials))
    k = hits.sum(axis=0)
    low, high = simultaneous_band(hits, trials)
    np.testing.assert_allclose(low, beta.ppf(tail, k + 0.5, 60 - k + 0.5))
    np.testing.assert_allclose(high, beta.ppf(1 - tail, k + 0.5, 60 - k + 0.5))
    pointwise = proportion_interval(hits, trials)
    assert (low <= pointwise.low).all()
    assert (high >= pointwise.high).all()


def test_points_that_are_one_count_once_and_independent_ones_as_sidak_says() -> None:
    rng = np.random.default_rng(0)
    one = (rng.random((4000, 1)) < 0.5).astype(float)
    trials = np.ones((4000, 8))
    assert max_t(np.repeat(one, 8, axis=1), trials) == pytest.approx(norm.ppf(0.975), abs=0.03)
    independent = (rng.random((4000, 8)) < 0.5).astype(float)
    assert max_t(independent, trials) == pytest.approx(norm.ppf((1 + 0.95 ** (1 / 8)) / 2), abs=0.04)


def test_shares_of_0_and_1_keep_an_end_and_a_width() -> None:
    hits = np.column_stack([np.ones(20), np.zeros(20)])
    low, high = simultaneous_band(hits, np.ones((20, 2)))
    assert (high[0], low[1]) == (1, 0)
    assert 0.7 < low[0] < 0.95
    assert high[1] == pytest.approx(1 - low[0])


def test_too_few_images_have_no_band() -> None:
    low, high = simultaneous_band(np.ones((2, 3)), np.ones((2, 3)))
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize(("n_patients", "most"), [(54, 1), (60, 6)])
def test_the_band_holds_the_whole_curve_as_often_as_it_says(n_patients: int, most: int) -> None:
    """Images of a patient resemble one another; pointwise intervals hold all points at once far less often."""
    rng = np.random.default_rng(0)
    truth = 0.85 * norm.sf((LOG_EPSILONS + 3) / 0.5)
    inside = {"band": 0, "pointwise": 0}
    for _ in range(300):
        patient = np.repeat(np.arange(n_patients), rng.integers(1, most + 1, n_patients))
        alike = 0.0 if most == 1 else 0.4
        level = np.sqrt(alike) * rng.normal(size=(2, n_patients))[:, patient]
        level += np.sqrt(1 - alike) * rng.normal(size=(2, len(patient)))
        right = (level[0] < norm.ppf(0.85))[:, None] & (-3 + 0.5 * level[1][:, None] > LOG_EPSILONS)
        hits, trials = per_patient(right, patient), per_patient(np.ones(right.shape), patient)
        for name, found in (("band", simultaneous_band), ("pointwise", proportion_interval)):
            low, high = found(hits, trials)
            inside[name] += bool(((low <= truth) & (truth <= high)).all())
    assert 0.92 <= inside["band"] / 300 <= 0.99
    assert inside["pointwise"] / 300 < 0.86
