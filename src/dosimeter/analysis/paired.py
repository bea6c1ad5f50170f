"""Paired comparisons: two curves over the same images, at every epsilon.

Two classifiers, attacks, storages or trainings are mostly asked about the same images. Then the images on which they
differ tell more than two intervals side by side: those may overlap although the difference is clear.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binom

from dosimeter.analysis.attacks import paired_by_patient
from dosimeter.analysis.base import APART, TRIAL, answered, groups, roles, told_apart
from dosimeter.analysis.clusters import as_many_equal
from dosimeter.analysis.intervals import FloatArray, bootstrap_by_group
from dosimeter.analysis.names import WORST_CASE, place
from dosimeter.analysis.worst_case import with_worst_case

PAIRABLE = [*TRIAL, "defence", "decision", "modality"]
"""Keys of the curves of which two may be compared."""

SERIES = ["model", "seed", "preset", "storage"]
"""What names one of them."""

_DIFFERS = {"classifiers": "model", "presets": "preset", "storages": "storage", "seeds": "seed"}
KINDS = tuple(_DIFFERS)
"""What the two curves of a comparison differ in."""

NUMBERS = [
    *("n_common", "accuracy", "accuracy_against", "difference", "difference_low", "difference_high"),
    *("right_alone", "right_alone_against", "p_mcnemar", "p_patient", "p_holm", "method"),
]
COLUMNS = [*TRIAL, "compared", "model", "preset", "storage", "against", "epsilon", *NUMBERS, "modality"]

BY_IMAGE = "Newcombe; exact McNemar"
BY_PATIENT = "bootstrap by patient; exact sign flips by patient"
BY_WORTH = "Newcombe on what the images are worth; exact sign flips by patient"
"""What `method` says: how the interval and p_patient were found."""

FEWEST_RESAMPLED = 20
"""Patients of equal weight below which the bootstrap holds too few of the true differences (benchmarks/coverage.py)."""

_REFERENCE = "sound"  # the preset that others are compared with, if it is there


class Comparison(NamedTuple):
    """Two series over the same images, at each of several epsilons: arrays (epsilons,).

    Attributes:
        n: images that both answered.
        right: the share that the first answers correctly.
        right_other: the share that the other answers correctly.
        first_only: images that the first alone answers correctly.
        other_only: images that the other alone answers correctly.
        low: lower bound of the difference right - right_other.
        high: its upper bound.
        p_mcnemar: of the exact McNemar test, which takes images as independent.
        p_patient: of exact sign flips by patient; where every patient has one image, the same number.
        method: `BY_IMAGE`, `BY_PATIENT`, or `BY_WORTH` where patients have several images, but none differs or too
            few patients are there to be resampled.
    """

    n: FloatArray
    right: FloatArray
    right_other: FloatArray
    first_only: FloatArray
    other_only: FloatArray
    low: FloatArray
    high: FloatArray
    p_mcnemar: FloatArray
    p_patient: FloatArray
    method: "npt.NDArray[np.str_]"


def compare(first: FloatArray, other: FloatArray, patients: npt.ArrayLike) -> Comparison:
    """Compare two series over the same images.

    Where every patient has one image the interval is Newcombe's for paired proportions and the test McNemar's. Where
    patients have several, both are by patient: a bootstrap, and the exact distribution of the sum of the differences
    if each patient's might as well have had the other sign, as it might if the series were exchangeable. Where no image
    differs a bootstrap has no width, and of patients who count as fewer than `FEWEST_RESAMPLED` of equal weight it is
    too narrow: then the interval is Newcombe's, of as many images as theirs are worth (`clusters`). With fewer than
    three images or patients there is none.

    Args:
        first: (images, epsilons) 1 where the answer is right, 0 where it is wrong, NaN where there is none.
        other: (images, epsilons) the same of the other series.
        patients: (images,) the patient of each.

    Source: McNemar, Psychometrika 12 (1947) 153, its exact form; Newcombe, Stat. Med. 17 (1998) 2635, method 10; Field
        & Welsh, J. R. Stat. Soc. B 69 (2007) 369; Pesarin, Multivariate Permutation Tests (2001), the sign flips.
    """
    asked = ~(np.isnan(first) | np.isnan(other))
    one, two = np.where(asked, first, 0.0), np.where(asked, other, 0.0)
    parts = one * two, one * (1 - two), (1 - one) * two
    both, first_only, other_only = (each.sum(0) for each in parts)
    member = np.unique(np.asarray(patients), return_inverse=True)[1]
    sums, images = _added(one - two, member), _added(asked.astype(np.float64), member)  # (patients, epsilons)
    n, clustered = asked.sum(0).astype(np.float64), (images > 1).any(0)
    counted = np.where(n > 0, n, np.nan)
    by_patient = [_added(each, member) for each in parts]
    low, high = paired_by_patient(by_patient[0], by_patient[1], by_patient[2], images)
    resampled = clustered & (first_only + other_only > 0) & (as_many_equal(images) >= FEWEST_RESAMPLED)
    if resampled.any():
        low[resampled], high[resampled] = _bootstrapped(sums[:, resampled], images[:, resampled])
    return Comparison(
        n, (both + first_only) / counted, (both + other_only) / counted, first_only, other_only, low, high,
        np.where(n > 0, mcnemar(first_only, other_only), np.nan),
        np.array([sign_flips(each) if some else np.nan for each, some in zip(sums.T, n > 0, strict=True)]),
        np.select([resampled, clustered], [BY_PATIENT, BY_WORTH], BY_IMAGE),
    )  # fmt: skip


def mcnemar(first_only: npt.ArrayLike, other_only: npt.ArrayLike) -> FloatArray:
    """Return the two-sided p of the exact McNemar test, any shape; 1 where no image differs.

    Args:
        first_only: images that the first alone answers correctly.
        other_only: images that the other alone answers correctly.

    Example:
        >>> float(mcnemar(1, 7))
        0.0703125
    """
    b, c = (np.asarray(each, np.float64) for each in (first_only, other_only))
    return np.asarray(np.minimum(1.0, 2 * binom.cdf(np.minimum(b, c), b + c, 0.5)), np.float64)


def sign_flips(sums: npt.ArrayLike) -> float:
    """Return the two-sided p of a sum of differences, if each patient's might as well have had the other sign.

    It is exact, not sampled: patients whose differences have one size add a binomial, and binomials are folded.

    Args:
        sums: (patients,) whole numbers, images right in the first series less those right in the other.
    """
    signed = np.rint(np.asarray(sums, np.float64)).astype(np.int64)
    sizes, counts = np.unique(np.abs(signed[signed != 0]), return_counts=True)
    chances = np.ones(1)  # of each number of units by which the sum lies above its smallest
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, steps)
    below = (len(chances) - 1) // 2 - abs(int(signed.sum()))  # sums are symmetric around the middle
    return float(min(1.0, 2 * chances[: below + 1].sum()))


def holm(p: npt.ArrayLike) -> FloatArray:
    """Return p values adjusted for their number by Holm's method; NaN are not counted and stay.

    Source: Holm, Scand. J. Stat. 6 (1979) 65.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]
    adjusted = np.full(values.shape, np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return adjusted


def paired(frame: pd.DataFrame) -> pd.DataFrame:
    """Return paired comparisons at every epsilon of the grid, one row per (pair, epsilon).

    The pairs: two models under one preset and storage; each preset of a model against `sound` (without it, the first),
    where it is the model's own and no control; each storage of a preset against float; the first seed against every
    other.

    Args:
        frame: a response table; the worst case is added to it where there are several attacks.

    Returns:
        compared, one of `KINDS`; model, preset and storage of the first series, and seed if the run has several;
        against, what the other has instead; n_common images that both answered; both accuracies; their difference,
        the first less the other, with the 95 % bounds difference_low and difference_high; right_alone and
        right_alone_against, the images that one alone answers correctly; p_mcnemar, p_patient and method, see
        `compare`; p_holm, p_patient adjusted by Holm for the epsilons of the pair. Where a patient has several images
        p_patient is the one to take.
    """
    names = [*PAIRABLE, *SERIES, "attack", "made_on", "on_grid", "case_id", "cluster", "epsilon", "correct"]
    rows = with_worst_case(answered(frame))[names]
    rows = rows[rows["on_grid"]]
    parts = [table.assign(**trial, **pair) for trial, mine in groups(rows, PAIRABLE) for pair, table in _of(mine)]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*COLUMNS, *APART])
    after = COLUMNS.index("model") + 1
    return table[[*COLUMNS[:after], *told_apart(rows), *COLUMNS[after:]]]


class Curves:
    """What every series of one trial answered about each of its cases, at each epsilon."""

    def __init__(self, rows: pd.DataFrame, like: "Curves | None" = None) -> None:
        """Take `rows` of one cohort and protocol, on the grid; of the cases and epsilons of `like` alone, if given."""
        if like is None:
            known = rows.drop_duplicates("case_id")
            self.cases = pd.Index(known["case_id"].astype(str))
            self.patients = known["cluster"].cat.codes.to_numpy()
            self.epsilons = np.unique(rows["epsilon"].to_numpy(np.float64))
        else:
            self.cases, self.patients, self.epsilons = like.cases, like.patients, like.epsilons
        names = rows["case_id"].cat
        case = self.cases.get_indexer(names.categories.astype(str))[names.codes.to_numpy()]
        dose = pd.Index(self.epsilons).get_indexer(rows["epsilon"].to_numpy(np.float64))
        there = (case >= 0) & (dose >= 0)
        rows, case, dose = rows[there], case[there], dose[there]
        right = rows["correct"].to_numpy(np.float64)
        self.roles: dict[Series, str] = {}
        self._right: dict[Series, FloatArray] = {}
        for key, where in rows.groupby(SERIES, observed=True, sort=True).indices.items():
            model, seed, preset, storage = cast("tuple[str, int, str, str]", key)
            series = Series(model, int(seed), preset, storage)
            self._right[series] = np.full((len(self.cases), len(self.epsilons)), np.nan)
            self._right[series][case[where], dose[where]] = right[where]
            self.roles[series] = str(roles(rows.iloc[where[:1]])[0])

    def compared(self, first: "Series", other: "Series", *, of: "Curves | None" = None) -> pd.DataFrame:
        """Return a series compared with another, of this trial or of one made `like` it, where both have answers."""
        table = as_table(self.epsilons, compare(self._right[first], (of or self)._right[other], self.patients))
        return table[table["n_common"] > 0]


class Series(NamedTuple):
    """The names of one curve of a trial."""

    model: str
    seed: int
    preset: str
    storage: str


def as_table(epsilons: FloatArray, found: Comparison) -> pd.DataFrame:
    """Return a comparison as a table of `epsilon` and the columns `NUMBERS`."""
    return pd.DataFrame(
        {
            "epsilon": epsilons,
            "n_common": found.n.astype(np.int64),
            "accuracy": found.right,
            "accuracy_against": found.right_other,
            "difference": (found.first_only - found.other_only) / np.where(found.n > 0, found.n, np.nan),
            "difference_low": found.low,
            "difference_high": found.high,
            "right_alone": found.first_only.astype(np.int64),
            "right_alone_against": found.other_only.astype(np.int64),
            "p_mcnemar": found.p_mcnemar,
            "p_patient": found.p_patient,
            "p_holm": holm(found.p_patient),
            "method": found.method,
        }
    )


def _of(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the names and the table of every pair of one trial; of pairs without a common image there is none."""
    curves = Curves(rows)
    for compared, first, other in _pairs(curves.roles):
        table = curves.compared(first, other)
        if len(table):
            differs = _DIFFERS[compared]
            against = getattr(other, differs)
            name = f"seed {against}" if differs == "seed" else against
            yield {"compared": compared, **first._asdict(), "against": name}, table


def _pairs(series: Mapping[Series, str]) -> Iterator[tuple[str, Series, Series]]:
    """Yield what the pairs differ in, and the two, kind by kind."""
    models = list(dict.fromkeys(each.model for each in series))
    for index, model in enumerate(models):
        for other in models[index + 1 :]:
            yield from _matched("classifiers", series, {"model": model}, {"model": other})
    own = [each.preset for each, role in series.items() if role in ("attack", "published", WORST_CASE)]
    presets = sorted(set(own), key=lambda each: (each != _REFERENCE, place(each)))
    for preset in presets[1:]:
        yield from _matched("presets", series, {"preset": preset}, {"preset": presets[0]})
    for storage in sorted({each.storage for each in series} - {"float"}):
        yield from _matched("storages", series, {"storage": storage}, {"storage": "float"})
    seeds = sorted({each.seed for each in series})
    for seed in seeds[1:]:
        yield from _matched("seeds", series, {"seed": seeds[0]}, {"seed": seed})


def _matched(
    compared: str, series: Mapping[Series, str], one: dict[str, Any], two: dict[str, Any]
) -> Iterator[tuple[str, Series, Series]]:
    """Yield the pairs of series that have `one` and `two`, and all else in common."""
    for first in series:
        other = first._replace(**two)
        if first._replace(**one) == first and other in series:
            yield compared, first, other


def _added(values: FloatArray, member: npt.NDArray[np.int64]) -> FloatArray:
    """Return the sums of `values` (images, ...) over the images of each patient."""
    order = np.argsort(member, kind="stable")
    starts = np.flatnonzero(np.diff(member[order], prepend=-1))
    sums: FloatArray = np.add.reduceat(values[order], starts, axis=0) if len(starts) else values
    return sums


def _bootstrapped(sums: FloatArray, images: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the bounds of the mean difference over resampled patients."""

    def statistic(weights: FloatArray) -> FloatArray:
        drawn = weights @ images
        mean: FloatArray = (weights @ sums) / np.where(drawn > 0, drawn, np.nan)
        return mean

    return bootstrap_by_group(statistic, np.arange(len(sums)), equal=float(as_many_equal(images).min()))
