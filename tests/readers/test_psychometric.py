"""The psychometric fit finds what is there, says what is not, and agrees with psignifit."""

import math

import numpy as np
import pytest
from scipy.optimize import differential_evolution

from dosimeter.errors import DosimeterError
from dosimeter.readers.psychometric import MAX_LAPSE, WIDTHS, Bound, Curve, d_prime, fit, fit_curve, in_words

EPSILONS = np.geomspace(0.002, 0.1, 7)


def answers(curve: Curve, *, readers: int = 3, images: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    n = np.ones((readers, images, len(EPSILONS)))
    return (np.random.default_rng(seed).random(n.shape) < curve.share(EPSILONS)).astype(float), n


def test_the_curve_is_the_one_that_was_meant() -> None:
    curve = Curve(centre=-2.0, width=0.8, lapse=0.04)
    assert curve.share(0.01) == pytest.approx(0.5 + 0.46 / 2)
    assert curve.share(10 ** (-2.4)) == pytest.approx(0.5 + 0.46 * 0.05)
    assert curve.share(10 ** (-1.6)) == pytest.approx(0.5 + 0.46 * 0.95)
    assert curve.share(curve.threshold) == pytest.approx(0.75)
    assert Curve(-2.0, 0.8, 0.0).threshold == pytest.approx(0.01)
    assert Curve.through(0.02, width=0.6, lapse=0.03).threshold == pytest.approx(0.02)


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"width": 0.0}, {"lapse": 0.3}, {"lapse": -0.1}])
def test_an_impossible_reader_is_refused(wrong: dict[str, float]) -> None:
    values = {"threshold": 0.02, "width": 0.6, "lapse": 0.02, **wrong}
    with pytest.raises(DosimeterError, match="a reader must have"):
        Curve.through(values["threshold"], width=values["width"], lapse=values["lapse"])


def test_exact_shares_give_the_curve_back() -> None:
    curve = Curve(centre=-1.9, width=0.7, lapse=0.02)
    found = fit_curve(EPSILONS, 1e5 * curve.share(EPSILONS), np.full(7, 1e5))
    assert np.array(found) == pytest.approx(np.array(curve), abs=2e-3)


def test_a_known_threshold_lies_in_its_interval() -> None:
    """Of 16 simulated studies a 95 % interval may well miss one."""
    curve = Curve.through(0.015, width=0.6, lapse=0.02)
    inside = 0
    for seed in range(16):
        found = fit(EPSILONS, *answers(curve, seed=seed), seed=seed)
        assert found.low.epsilon is not None
        assert found.high.epsilon is not None
        assert found.threshold.epsilon == pytest.approx(0.015, rel=0.5)
        inside += found.low.epsilon <= 0.015 <= found.high.epsilon
    assert inside >= 14


Counts = tuple[np.ndarray, np.ndarray, np.ndarray]


def made_up(n_sets: int) -> list[Counts]:
    """Epsilons, right answers and answers of studies of all kinds; in every fifth the readers follow no curve."""
    rng = np.random.default_rng(0)
    sets = []
    for index in range(n_sets):
        levels = int(rng.integers(3, 10))
        epsilons = np.geomspace(10 ** rng.uniform(-3.5, -2), 10 ** rng.uniform(-1.7, -0.5), levels)
        ends = np.log10([epsilons[0], epsilons[-1]])
        curve = Curve(rng.uniform(ends[0] - 0.3, ends[1] + 0.3), 10 ** rng.uniform(-1, 0.47), rng.uniform(0, 0.06))
        n = rng.integers(4, 60, levels)
        share = curve.share(epsilons) if index % 5 else rng.uniform(0.4, 1, levels)
        sets.append((epsilons, rng.binomial(n, share).astype(float), n.astype(float)))
    return sets


def log_likelihood(curve: np.ndarray | Curve, epsilons: np.ndarray, right: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Of one curve, or of many, (..., 3)."""
    centre, width, lapse = (np.asarray(each)[..., None] for each in np.moveaxis(np.asarray(curve), -1, 0))
    share = np.clip(Curve(centre, width, lapse).share(epsilons), 0.5, 1 - 1e-9)
    return np.asarray((right * np.log(share) + (n - right) * np.log(1 - share)).sum(axis=-1))


def search_space(epsilons: np.ndarray) -> list[tuple[float, float]]:
    low, high = np.log10([epsilons.min(), epsilons.max()])
    return [(low - 1, high + 1), WIDTHS, (0.0, MAX_LAPSE)]


@pytest.mark.parametrize("n_studies", [25, pytest.param(150, marks=pytest.mark.slow)])  # 9,000 likelihoods each
def test_no_curve_of_a_fine_grid_is_likelier_than_the_fitted_one(n_studies: int) -> None:
    for epsilons, right, n in made_up(n_studies):
        (low, high), widths, lapses = search_space(epsilons)
        axes = np.linspace(low, high, 150), np.geomspace(*widths, 20), np.linspace(*lapses, 3)
        cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        best = log_likelihood(cells, epsilons, right, n).max()
        found = log_likelihood(fit_curve(epsilons, right, n), epsilons, right, n)
        assert found >= best - 1e-6 * abs(best)


@pytest.mark.parametrize("index", [49, 137, 174, 294, 327, 0, 1])
def test_the_fitted_curve_is_the_likeliest_that_an_evolutionary_search_finds(index: int) -> None:
    epsilons, right, n = made_up(index + 1)[index]
    searched = differential_evolution(
        lambda values: -float(log_likelihood(values, epsilons, right, n)),
        search_space(epsilons), seed=0, popsize=20, tol=1e-10, maxiter=300,
    )  # fmt: skip
    found = log_likelihood(fit_curve(epsilons, right, n), epsilons, right, n)
    assert found >= -searched.fun - 1e-6 * abs(searched.fun)


def test_few_answers_give_a_wider_interval() -> None:
    curve = Curve.through(0.015, width=0.6, lapse=0.02)
    few, many = (fit(EPSILONS, *answers(curve, images=images)) for images in (8, 80))
    assert few.high.epsilon / few.low.epsilon > 1.5 * many.high.epsilon / many.low.epsilon  # type: ignore[operator]


def test_readers_who_differ_widen_the_interval() -> None:
    """Answers of four readers of very different thresholds tell less than as many of equal readers."""
    curves = [Curve.through(threshold, width=0.5, lapse=0.01) for threshold in (0.004, 0.01, 0.025, 0.06)]
    parts = [answers(curve, readers=1, seed=seed)[0] for seed, curve in enumerate(curves)]
    n = np.ones((4, 30, 7))
    differ = fit(EPSILONS, np.concatenate(parts), n)
    alike = fit(EPSILONS, *answers(Curve.through(0.015, width=1.2, lapse=0.01), readers=4))
    assert differ.high.epsilon / differ.low.epsilon > 1.5 * alike.high.epsilon / alike.low.epsilon  # type: ignore[operator]


@pytest.mark.parametrize(
    ("share", "words"), [(1.0, "below 0.002"), (0.5, "above 0.1"), (0.3, "above 0.1"), (0.0, "above 0.1")]
)
def test_degenerate_answers_give_words_instead_of_a_number(share: float, words: str) -> None:
    n = np.full((2, 10, 7), 10.0)
    found = fit(EPSILONS, share * n, n)
    assert found.threshold.epsilon is None
    assert in_words(found.threshold, EPSILONS) == words
    assert in_words(found.low, EPSILONS) == in_words(found.high, EPSILONS) == words


def test_what_is_not_known_is_not_made_up() -> None:
    assert in_words(Bound(None), EPSILONS) == "not known"
    right, n = answers(Curve.through(0.015, width=0.6, lapse=0.02), readers=1, images=1)
    found = fit(EPSILONS, right, n)
    assert (found.low, found.high) == (Bound(None), Bound(None))  # nothing to resample


def test_a_step_is_put_between_the_two_epsilons() -> None:
    n = np.full((1, 20, 7), 5.0)
    right = n * np.array([0.5, 0.5, 0.5, 1, 1, 1, 1])
    found = fit(EPSILONS, right, n).threshold.epsilon
    assert found is not None
    assert EPSILONS[2] < found < EPSILONS[3]


def test_d_prime() -> None:
    assert d_prime(75, 100).d_prime == pytest.approx(math.sqrt(2) * 0.6744897501960817)
    assert d_prime(50, 100).d_prime == pytest.approx(0)
    low, high = d_prime(75, 100)[1:]
    assert low < d_prime(75, 100).d_prime < high
    assert d_prime(20, 20).d_prime == pytest.approx(d_prime(19.5, 20).d_prime)
    assert math.isfinite(d_prime(0, 20).d_prime)
    assert math.isnan(d_prime(0, 0).d_prime)


def test_psignifit_finds_the_same() -> None:
    psignifit = pytest.importorskip("psignifit")
    curve = Curve.through(0.015, width=0.6, lapse=0.02)
    right, n = answers(curve, readers=4, images=40)
    k, trials = right.sum((0, 1)), n.sum((0, 1))
    data = np.stack([np.log10(EPSILONS), k, trials], axis=1)
    other = psignifit.psignifit(data, experiment_type="2AFC", sigmoid="norm")
    assert fit_curve(EPSILONS, k, trials).centre == pytest.approx(other.parameter_estimate["threshold"], abs=0.05)
