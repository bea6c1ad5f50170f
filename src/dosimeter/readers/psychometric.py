"""The psychometric function: how often a reader finds the altered image, against epsilon.

P(right) = 0.5 + (0.5 - lapse) Psi(log10 epsilon), Psi a cumulative normal that rises from 5 % to 95 % over `width`
decades around `centre`. 0.5 is what guessing earns; a lapse is a mistake that has nothing to do with the image.

Source: Wichmann & Hill, Percept. Psychophys. 63 (2001) 1293 and 1314; Macmillan & Creelman, Detection Theory.
"""

import functools
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter
from scipy.optimize import minimize
from scipy.special import ndtr, ndtri

from dosimeter.analysis.intervals import Interval, wilson
from dosimeter.errors import DosimeterError

FloatArray = npt.NDArray[np.float64]

GUESS = 0.5
TARGET = 0.75
"""The share of right answers that defines the threshold: half way between guessing and certainty."""

MAX_LAPSE = 0.06
WIDTHS = (0.1, 3.0)
"""Widths that are looked for, in decades of epsilon."""

REPLICATES = 1000
_SPREAD = NormalDist().inv_cdf(0.95) - NormalDist().inv_cdf(0.05)  # standard deviations from 5 % to 95 %
_BEYOND = 1.0  # decades outside the epsilons shown in which a centre is looked for
_CEILING = 1 - 1e-9
_CHUNK = 50
_PEAKS = 8  # summits of the grid that are climbed from; most data sets have one or two
_EQUAL = 1e-9  # likelihoods that differ by less than this share are equal


class Curve(NamedTuple):
    """A psychometric function.

    Attributes:
        centre: log10 of the epsilon half way between guessing and the ceiling.
        width: decades from 5 % to 95 % of the way.
        lapse: 1 less the ceiling.
    """

    centre: float
    width: float
    lapse: float

    @classmethod
    def through(cls, threshold: float, *, width: float, lapse: float) -> "Curve":
        """Return the curve whose threshold is the epsilon `threshold`.

        Raises:
            DosimeterError: `threshold` or `width` is not above 0, or `lapse` not in [0, 0.25).
        """
        if not (threshold > 0 and width > 0 and 0 <= lapse < 1 - TARGET):
            raise DosimeterError(
                f"a reader must have threshold > 0, width > 0 and 0 <= lapse < {1 - TARGET:g}, got {threshold:g}, "
                f"{width:g} and {lapse:g}. Try 0.02, 0.6 and 0.02."
            )
        return cls(float(np.log10(threshold) - _threshold(0, width, lapse)), width, lapse)

    def share(self, epsilon: npt.ArrayLike) -> FloatArray:
        """Return the expected share of right answers at `epsilon`, any shape, all above 0."""
        distance = (np.log10(np.asarray(epsilon, np.float64)) - self.centre) / self.width
        expected: FloatArray = GUESS + (1 - GUESS - self.lapse) * ndtr(_SPREAD * distance)
        return expected

    @property
    def threshold(self) -> float:
        """The epsilon at which the share is `TARGET`."""
        return float(10 ** _threshold(self.centre, self.width, self.lapse))


class Bound(NamedTuple):
    """An epsilon, or that it lies beyond those that were shown.

    Attributes:
        epsilon: None where it is not a number.
        beyond: "below" the smallest shown, "above" the largest, or "" if it lies between or is not known at all.
    """

    epsilon: float | None
    beyond: str = ""


class Fit(NamedTuple):
    """A fitted curve, its threshold, and that threshold's 95 % interval."""

    curve: Curve
    threshold: Bound
    low: Bound
    high: Bound


class Sensitivity(NamedTuple):
    """d' and its 95 % interval."""

    d_prime: float
    low: float
    high: float


def fit_curve(epsilons: npt.ArrayLike, right: npt.ArrayLike, n: npt.ArrayLike) -> Curve:
    """Return the curve of maximum likelihood.

    The likelihood may have several summits: the highest places of a grid are climbed from, and the highest summit is
    taken. Where curves are equally likely, as of a step between two epsilons, it is the middle one.

    Args:
        epsilons: (levels,) above 0.
        right: (levels,) right answers.
        n: (levels,) answers.
    """
    doses, k, trials = (np.asarray(each, np.float64) for each in (epsilons, right, n))
    grid = _Grid(doses)
    starts = grid.summits(k, trials)
    loss = functools.partial(_loss, log_doses=np.log10(doses), right=k, wrong=trials - k)
    summits = [_climb(loss, start, grid.ends) for start in starts]
    least = min(height for _, height in summits)
    limit = least + _EQUAL * (1 + least)
    if loss(starts[0])[0] <= limit:
        return Curve(*(float(value) for value in starts[0]))
    equal = [Curve(*(float(value) for value in found)) for found, height in summits if height <= limit]
    thresholds = np.log10([curve.threshold for curve in equal])
    middle = (thresholds.min() + thresholds.max()) / 2
    return equal[int(np.abs(thresholds - middle).argmin())]


def fit(epsilons: npt.ArrayLike, right: npt.ArrayLike, n: npt.ArrayLike, *, seed: int = 0) -> Fit:
    """Return the curve of several readers' answers together, and its threshold with an interval.

    The interval is that of a bootstrap over readers and images at once: both are drawn with replacement, an answer
    counts as often as its reader and its image were drawn, and the curve is fitted anew. Of a single reader it is over
    images alone, and holds for that reader. A threshold is a number only between the smallest and the largest epsilon
    that were shown; outside, the direction is all that the answers tell.

    Args:
        epsilons: (levels,) above 0, ascending.
        right: (readers, images, levels) right answers.
        n: (readers, images, levels) answers.
        seed: of the bootstrap.

    Source: Owen, Ann. Appl. Stat. 1 (2007) 386 (the bootstrap over two crossed factors; it errs on the wide side).
    """
    doses, k, trials = (np.asarray(each, np.float64) for each in (epsilons, right, n))
    curve = fit_curve(doses, k.sum(axis=(0, 1)), trials.sum(axis=(0, 1)))
    grid = _Grid(doses)
    rng = np.random.default_rng(seed)
    thresholds = []
    for start in range(0, REPLICATES, _CHUNK):
        size = min(_CHUNK, REPLICATES - start)
        readers, images = (_drawn(rng, size, count) for count in k.shape[:2])
        drawn = [np.einsum("br,bi,ril->bl", readers, images, each, optimize=True) for each in (k, trials)]
        best = grid.cells[grid.best(*drawn)]
        values = _threshold(best[:, 0], best[:, 1], best[:, 2])
        thresholds.append(np.where(drawn[1].any(axis=1), values, np.nan))
    low, high = _ends(np.concatenate(thresholds))
    spread = max(k.shape[:2]) > 1
    return Fit(
        curve,
        _bound(float(np.log10(curve.threshold)), doses),
        _bound(low, doses) if spread else Bound(None),
        _bound(high, doses) if spread else Bound(None),
    )


def in_words(bound: Bound, epsilons: npt.ArrayLike) -> str:
    """Return a bound as people read it: "0.0123", or that it lies below or above the epsilons shown."""
    doses = np.asarray(epsilons, np.float64)
    if bound.epsilon is not None:
        return f"{bound.epsilon:.3g}"
    ends = {"below": f"below {doses.min():g}", "above": f"above {doses.max():g}"}
    return ends.get(bound.beyond, "not known")


def d_prime(right: float, n: float, share: Interval | None = None) -> Sensitivity:
    """Return d' = sqrt(2) z(share right) of a two-alternative forced choice, with the share's interval carried over.

    A share of 0 or 1 is moved half an answer inwards, without which d' would be infinite. NaN without answers.

    Args:
        right: right answers.
        n: answers.
        share: the interval of right / n; by default Wilson's, of independent answers.
    """
    if n == 0:
        return Sensitivity(np.nan, np.nan, np.nan)
    low, high = share or wilson(right, n)
    inside = [min(max(share, 0.5 / n), 1 - 0.5 / n) for share in (right / n, float(low), float(high))]
    return Sensitivity(*(float(np.sqrt(2) * ndtri(share)) for share in inside))


class _Grid:
    """Curves of every centre, width and lapse, whose likelihoods of many data sets are two matrix products."""

    def __init__(self, epsilons: FloatArray) -> None:
        low, high = np.log10([epsilons.min(), epsilons.max()])
        self.ends = float(low) - _BEYOND, float(high) + _BEYOND
        centres = np.arange(*self.ends, 0.02)
        axes = np.meshgrid(centres, np.geomspace(*WIDTHS, 12), np.linspace(0, MAX_LAPSE, 3), indexing="ij")
        self._shape = axes[0].shape
        self.cells = np.stack([axis.ravel() for axis in axes], axis=1)  # (cells, 3)
        centre, width, lapse = (column[:, None] for column in self.cells.T)
        share = GUESS + (1 - GUESS - lapse) * ndtr(_SPREAD * (np.log10(epsilons) - centre) / width)
        share = np.clip(share, GUESS, _CEILING)  # (cells, levels)
        self._log_right, self._log_wrong = np.log(share).T, np.log(1 - share).T

    def best(self, right: FloatArray, n: FloatArray) -> npt.NDArray[np.int64]:
        """Return the most likely cell of each data set; of several equally likely ones, the middle one.

        Args:
            right: (sets, levels) right answers.
            n: (sets, levels) answers.
        """
        likelihood = self._likelihood(right, n)  # (sets, cells)
        top = likelihood >= likelihood.max(axis=1, keepdims=True) - 1e-6
        middle = (top.sum(axis=1, keepdims=True) + 1) // 2
        place: npt.NDArray[np.int64] = (np.cumsum(top, axis=1) >= middle).argmax(axis=1)
        return place

    def summits(self, right: FloatArray, n: FloatArray) -> FloatArray:
        """Return the most likely cell of one data set, then other places to climb from: (starts, 3).

        They are the cells that none of their neighbours surpasses, the most likely first, and the best cell of every
        width, from which ridges are climbed that lie between the widths of the grid.
        """
        likelihood = self._likelihood(right[None], n[None]).reshape(self._shape)
        peaks = np.flatnonzero(likelihood >= maximum_filter(likelihood, size=3, mode="nearest"))
        peaks = peaks[np.argsort(-likelihood.ravel()[peaks], kind="stable")][:_PEAKS]
        by_width = np.moveaxis(likelihood, 1, 0)  # (widths, centres, lapses)
        places = by_width.reshape(len(by_width), -1).argmax(axis=1)
        centre, lapse = np.unravel_index(places, by_width.shape[1:])
        ridge = np.ravel_multi_index((centre, np.arange(len(by_width)), lapse), self._shape)
        starts = np.concatenate([self.best(right[None], n[None]), peaks, ridge])
        return self.cells[list(dict.fromkeys(starts.tolist()))]

    def _likelihood(self, right: FloatArray, n: FloatArray) -> FloatArray:
        likelihood: FloatArray = right @ self._log_right + (n - right) @ self._log_wrong
        return likelihood


def _loss(
    values: FloatArray, *, log_doses: FloatArray, right: FloatArray, wrong: FloatArray
) -> tuple[float, FloatArray]:
    """Return what is to be least, the negative log-likelihood of (centre, width, lapse), and its gradient (3,)."""
    centre, width, lapse = values
    z = _SPREAD * (log_doses - centre) / width
    risen = ndtr(z)
    share = np.minimum(GUESS + (1 - GUESS - lapse) * risen, _CEILING)  # (levels,)
    slope = np.where(share < _CEILING, right / share - wrong / (1 - share), 0.0)
    density = (1 - GUESS - lapse) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    moved = np.stack([-density * _SPREAD / width, -density * z / width, -risen])  # (3, levels), d share / d value
    return -float(right @ np.log(share) + wrong @ np.log(1 - share)), -(moved @ slope)


def _climb(
    loss: Callable[[FloatArray], tuple[float, FloatArray]], start: FloatArray, ends: tuple[float, float]
) -> tuple[FloatArray, float]:
    """Return the summit above `start` and its loss."""
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[ends, WIDTHS, (0.0, MAX_LAPSE)],
        options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 200},
    )  # fmt: skip
    return found.x, float(found.fun)


def _threshold(
    centre: FloatArray | float, width: FloatArray | float, lapse: FloatArray | float
) -> npt.NDArray[np.float64]:
    """Return log10 of the epsilon at which the share is `TARGET`."""
    reached = ndtri((TARGET - GUESS) / (1 - GUESS - np.asarray(lapse)))
    return np.asarray(centre + width / _SPREAD * reached, np.float64)


def _drawn(rng: np.random.Generator, size: int, count: int) -> FloatArray:
    """Return how often each of `count` is drawn, (size, count); of one alone there is nothing to draw."""
    return rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)


def _ends(values: FloatArray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def _bound(log_epsilon: float, epsilons: FloatArray) -> Bound:
    if np.isnan(log_epsilon):
        return Bound(None)
    epsilon = float(10**log_epsilon)
    if epsilon < epsilons.min() * (1 - 1e-9):
        return Bound(None, "below")
    if epsilon > epsilons.max() * (1 + 1e-9):
        return Bound(None, "above")
    return Bound(epsilon)
