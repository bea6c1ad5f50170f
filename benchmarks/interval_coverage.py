"""How often the report's 95 % intervals hold the truth: `python benchmarks/coverage.py` writes RESULTS-COVERAGE.md.

Made-up answers whose truth is known, again and again, each time through the functions that the report uses. Where
patients have several images, their numbers are those of the official test split of the CT cohort, or of every fourth or
seventh patient; or a few patients have many and the others one each. `icc` is the correlation of two images of one
patient. All draws are seeded; the last digit is chance.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from coverage_page import EACH, EVERY, FEW, RANGES, Line, page, ranges, sample_of
from scipy.special import expit, ndtr, ndtri

from dosimeter.analysis.attacks import paired_by_patient
from dosimeter.analysis.auc import auc_interval
from dosimeter.analysis.bands import simultaneous_band
from dosimeter.analysis.clusters import per_patient
from dosimeter.analysis.intervals import (
    Interval,
    bootstrap_by_group,
    difference_interval,
    mean_interval,
    median_interval,
    proportion_interval,
    unit_mean_interval,
)
from dosimeter.analysis.paired import compare
from dosimeter.analysis.repeats import interval_over_splits
from dosimeter.analysis.susceptibility import weighted_spearman
from dosimeter.readers.psychometric import Curve, fit, fit_curve

FloatArray = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator], tuple[float, float]]
"""One study: the bounds of its interval."""

NEGATIVE = [9, 8, *[5] * 3, *[4] * 6, *[3] * 5, *[2] * 8, *[1] * 18]
POSITIVE = [8, 8, 6, 5, 4, 4, 3, 3, *[2] * 12, *[1] * 33]
"""Images of each patient in the official test split of the CT cohort, by class: 105 and 98 images."""

ICCS = (0.05, 0.3, 0.57)


class Design(NamedTuple):
    """How many images each patient has, and how the table names that."""

    sizes: list[int]
    name: str

    @property
    def patient(self) -> npt.NDArray[np.int64]:
        """The patient of each image."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def sample(self) -> str:
        """Whose images these are."""
        return sample_of(sum(self.sizes), len(self.sizes))


def alone(n: int) -> Design:
    return Design([1] * n, f"{n} images")


def shared(sizes: list[int]) -> Design:
    return Design(sizes, f"{sum(sizes)} images of {len(sizes)} patients")


def unequal(n_large: int, images: int, n_single: int) -> Design:
    """A few patients of many images, and others of one each."""
    return Design([images] * n_large + [1] * n_single, f"{n_large} patients of {images} images and {n_single} of 1")


ALONE = [alone(n) for n in (5, 10, 20, 54, 203)]
UNEQUAL = [unequal(*each) for each in ((2, 30, 15), (3, 20, 30), (5, 10, 50), (1, 40, 60))]
SHARED = [
    *(shared(sizes) for sizes in (NEGATIVE + POSITIVE, NEGATIVE, POSITIVE[::4], NEGATIVE[::4], NEGATIVE[::7])),
    *UNEQUAL,
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "RESULTS-COVERAGE.md")
    parser.add_argument("--ranges", type=Path, default=RANGES, help="the same by kind, as reports quote it")
    parser.add_argument("--only", default="", help="kinds that begin so; the table is then printed, not written")
    parser.add_argument("--studies", type=float, default=1, help="how many times the usual number of studies")
    options = parser.parse_args()
    started = time.process_time()
    lines = [line for part in PARTS if part.__name__.startswith(options.only) for line in part(options.studies)]
    text = page(lines, " ".join(__doc__.split("\n\n")[1].split()), time.process_time() - started)
    if options.only:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")
        options.ranges.write_text(ranges(lines), encoding="utf-8")
        print(f"written: {options.out}, {options.ranges}")


def counted(kind: str, setting: str, bounds: Interval, truth: float, sample: str = "") -> Line:
    """Return the line of studies whose bounds are known, (studies,) each."""
    low, high = (np.asarray(each, np.float64) for each in bounds)
    known = ~(np.isnan(low) | np.isnan(high))
    covered = float(((low <= truth + 1e-12) & (high >= truth - 1e-12))[known].mean()) if known.any() else np.nan
    width = float(np.median((high - low)[known])) if known.any() else np.nan
    return Line(kind, setting, len(low), covered, float(1 - known.mean()), width, sample)


def drawn(
    kind: str, setting: str, truth: float, draw: Draw, studies: float, sample: str = "", *, seed: int = 0
) -> Line:
    """Return the line of `studies` calls of `draw`."""
    rng = np.random.default_rng(seed)
    low, high = np.array([draw(rng) for _ in range(int(studies))]).T
    return counted(kind, setting, Interval(low, high), truth, sample)


def latent(rng: np.random.Generator, design: Design, icc: float) -> FloatArray:
    """Return a normal number for each image, of which two of one patient correlate by `icc`."""
    of_patient = rng.normal(size=len(design.sizes))[design.patient]
    own: FloatArray = rng.normal(size=len(design.patient))
    return np.sqrt(icc) * of_patient + np.sqrt(1 - icc) * own


def designs() -> Iterator[tuple[Design, float, str]]:
    """Yield images alone and shared, with their icc and how the table names both."""
    for design in ALONE:
        yield design, 0.0, design.name
    for design in SHARED:
        for icc in ICCS[::2]:
            yield design, icc, f"{design.name}, icc {icc:g}"


def shares(studies: float) -> Iterator[Line]:
    """Accuracy, sensitivity, specificity, precision, survival, flips, transfer: a share of images."""
    rng, many = np.random.default_rng(1), int(EVERY * studies)
    for share in (0.5, 0.75, 0.9, 0.97):
        for design in [alone(3), alone(4), alone(6), alone(8), *ALONE]:
            hits = rng.binomial(1, share, (len(design.sizes), many)).astype(np.float64)
            bounds = proportion_interval(hits, np.ones(hits.shape))
            yield counted("share of images", f"{design.name}, {share:g}", bounds, share, design.sample)
    for share in (0.75, 0.9):
        for design in SHARED:
            sizes = np.array(design.sizes)[:, None]
            for icc in ICCS:
                alpha = 1 / icc - 1
                own = rng.beta(share * alpha, (1 - share) * alpha, (len(sizes), many))
                hits = rng.binomial(sizes, own).astype(np.float64)
                trials = np.broadcast_to(sizes, hits.shape).astype(np.float64)
                setting = f"{design.name}, {share:g}, icc {icc:g}"
                yield counted("share of images", setting, proportion_interval(hits, trials), share, design.sample)


def aucs(studies: float) -> Iterator[Line]:
    """The AUC without attack."""
    pairs = [(alone(3), alone(3)), (alone(5), alone(5)), (alone(28), alone(26)), (alone(98), alone(105))]
    pairs += [(shared(POSITIVE), shared(NEGATIVE)), (shared(POSITIVE[::4]), shared(NEGATIVE[::4]))]
    pairs += [*((each, each) for each in UNEQUAL[:3]), (UNEQUAL[0], alone(50)), (UNEQUAL[3], alone(50))]
    for positive, negative in pairs:
        labels = np.repeat([1, 0], [len(positive.patient), len(negative.patient)])
        patients = np.concatenate([positive.patient, len(positive.sizes) + negative.patient])
        for auc in (0.8, 0.9, 0.97):
            for icc in (0.0,) if max(positive.sizes) == 1 else ICCS[::2]:
                apart = np.sqrt(2) * ndtri(auc)

                def draw(rng: np.random.Generator, apart: float = apart, icc: float = icc) -> tuple[float, float]:
                    scores = [latent(rng, design, icc) for design in (positive, negative)]  # noqa: B023
                    found = auc_interval(labels, np.concatenate([scores[0] + apart, scores[1]]), patients)  # noqa: B023
                    return found.low, found.high

                setting = f"{positive.name} and {negative.name}, {auc:g}{f', icc {icc:g}' if icc else ''}"
                n = min(len(positive.patient), len(negative.patient))
                sample = sample_of(n, n if max(positive.sizes) == 1 else 0)
                yield drawn("AUC", setting, auc, draw, EACH / 2 * studies, sample)


def bands(studies: float) -> Iterator[Line]:
    """Accuracy at every epsilon of a curve, all of them at once; the width is the mean over epsilons."""
    doses = np.log10([1e-4, 3e-4, 5e-4, 7e-4, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 7e-3, 9e-3, 0.01, 0.08])
    truth = 0.85 * np.append(1.0, ndtr(-(doses + 3) / 0.5))
    for design, icc, name in designs():
        rng, trials = np.random.default_rng(0), per_patient(np.ones((len(design.patient), len(truth))), design.patient)
        held, widths = [], []
        for _ in range(int(FEW * studies)):
            right = latent(rng, design, icc) < ndtri(0.85)
            flips = -3 + 0.5 * latent(rng, design, icc)
            curve = np.column_stack([right, right[:, None] & (flips[:, None] > doses)])
            low, high = simultaneous_band(per_patient(curve, design.patient), trials)
            held.append(bool(((low <= truth) & (truth <= high)).all()))
            widths.append(float(np.mean(high - low)))
        yield Line(
            "accuracy, whole curve (band)",
            name,
            len(held),
            float(np.mean(held)),
            0.0,
            float(np.median(widths)),
            design.sample,
        )


def medians(studies: float) -> Iterator[Line]:
    """Epsilon50, and the deployed epsilon: the median of what flips an image, some of which never flip."""
    for design, icc, name in (*designs(), (alone(6), 0.0, "6 images")):

        def draw(rng: np.random.Generator, design: Design = design, icc: float = icc) -> tuple[float, float]:
            flips = 0.003 * np.exp(latent(rng, design, icc))
            low, high = median_interval(np.where(flips > 0.01, np.inf, flips), design.patient)
            return float(low), float(high)

        yield drawn("epsilon50 (ranks)", name, 0.003, draw, EACH / 2 * studies, design.sample)


def _decrease(logits: FloatArray, moves: FloatArray) -> FloatArray:
    decrease: FloatArray = expit(2 + 1.5 * logits) - expit(2 + 1.5 * logits - np.exp(0.5 * moves))
    return decrease


def means(studies: float) -> Iterator[Line]:
    """The mean probability drop, and the area under a curve."""
    rng = np.random.default_rng(2)
    drop = float(_decrease(*rng.normal(size=(2, 4_000_000))).mean())
    area = float(np.minimum(np.exp(rng.normal(size=4_000_000) - 1), 1).mean())
    for design, icc, name in designs():
        ones = per_patient(np.ones(len(design.patient)), design.patient)

        def of_drops(rng: np.random.Generator, design: Design = design, icc: float = icc, ones: FloatArray = ones) \
                -> tuple[float, float]:  # fmt: skip
            values = _decrease(latent(rng, design, icc), latent(rng, design, icc))
            low, high = mean_interval(per_patient(values, design.patient), ones)
            return float(low), float(high)

        def of_areas(rng: np.random.Generator, design: Design = design, icc: float = icc, ones: FloatArray = ones) \
                -> tuple[float, float]:  # fmt: skip
            values = np.minimum(np.exp(latent(rng, design, icc) - 1), 1)
            low, high = unit_mean_interval(per_patient(values, design.patient), ones)
            return float(low), float(high)

        yield drawn("probability drop (t)", name, drop, of_drops, EACH * studies, design.sample)
        yield drawn("area under a curve", name, area, of_areas, EACH * studies, design.sample)


def gains(studies: float) -> Iterator[Line]:
    """The gain over random signs, and paired comparisons: a difference of two shares of the same images."""
    shares = np.array([0.1, 0.25, 0.05, 0.6])  # wrong under both, under the first alone, the second alone, neither
    for design, icc, name in designs():

        def kinds(rng: np.random.Generator, design: Design = design, icc: float = icc) -> FloatArray:
            n_patients = len(design.sizes)
            own = rng.dirichlet(shares * (1 / icc - 1), n_patients) if icc else np.tile(shares, (n_patients, 1))
            return np.array([rng.multinomial(n, p) for n, p in zip(design.sizes, own, strict=True)], float)

        def of_gain(rng: np.random.Generator) -> tuple[float, float]:
            counts = kinds(rng)
            low, high = paired_by_patient(*counts[:, :3].T, counts.sum(axis=1))
            return float(low), float(high)

        def of_pair(rng: np.random.Generator) -> tuple[float, float]:
            kind = np.concatenate([np.repeat(np.arange(4), row.astype(int)) for row in kinds(rng)])
            answers = [np.isin(kind, wrong).astype(float)[:, None] for wrong in ((0, 1), (0, 2))]
            found = compare(*answers, design.patient)  # noqa: B023
            return float(found.low[0]), float(found.high[0])

        yield drawn("gain over random signs", name, 0.2, of_gain, EACH / 2 * studies, design.sample)
        if icc:
            yield drawn("paired comparison", name, 0.2, of_pair, FEW * studies, design.sample)


def gaps(studies: float) -> Iterator[Line]:
    """The gap in accuracy between two subgroups, of patients of one of them each, or of two views of each patient."""
    for design, icc, name in designs():
        kinds = {"every second patient": design.patient % 2 == 0}
        if icc:
            kinds["every second image"] = np.arange(len(design.patient)) % 2 == 0
        for divided, first in kinds.items():

            def draw(
                rng: np.random.Generator,
                design: Design = design,
                icc: float = icc,
                first: npt.NDArray[np.bool_] = first,
            ) -> tuple[float, float]:
                right = ndtr(latent(rng, design, icc)) < np.where(first, 0.85, 0.65)
                counts = [
                    per_patient(np.where(side, values, 0.0), design.patient)
                    for side in (first, ~first)
                    for values in (right, 1.0)
                ]
                low, high = difference_interval(*counts)
                return float(low), float(high)

            setting = f"{name}, {divided}" if icc else name
            yield drawn("gap between subgroups", setting, 0.2, draw, EACH / 2 * studies, design.sample)


def agreements(studies: float) -> Iterator[Line]:
    """Rank agreement of two models' flips: Spearman's correlation, a bootstrap by patient."""
    normal = 0.8
    spearman = 6 / np.pi * np.arcsin(normal / 2)
    several = [each for each in designs() if each[0] in (*ALONE[1:], SHARED[0], SHARED[3], *UNEQUAL)]
    for design, icc, name in several:

        def draw(rng: np.random.Generator, design: Design = design, icc: float = icc) -> tuple[float, float]:
            one, other = latent(rng, design, icc), latent(rng, design, icc)
            both = weighted_spearman(one, normal * one + np.sqrt(1 - normal**2) * other)
            low, high = bootstrap_by_group(both, design.patient)
            return float(low), float(high)

        yield drawn("rank agreement (bootstrap)", name, spearman, draw, FEW * studies, design.sample)


def repeats(studies: float) -> Iterator[Line]:
    """Accuracy over splits of the same images; and over trainings on one split."""
    n, test, dimensions, apart = 268, 54, 10, 0.35
    for n_seeds in (3, 5, 10):
        found, accuracies = [], []
        rng = np.random.default_rng(3)
        for _ in range(int(EACH / 4 * studies)):
            labels = np.arange(n) % 2
            images = rng.normal(size=(n, dimensions)) + apart * (2 * labels[:, None] - 1)
            scores = []
            for _ in range(n_seeds):
                order = rng.permutation(n)
                tested, trained = order[:test], order[test:]
                means = [images[trained][labels[trained] == each].mean(axis=0) for each in (0, 1)]
                weights, middle = means[1] - means[0], (means[0] + means[1]) / 2
                answers = (images[tested] - middle) @ weights > 0
                scores.append(float((answers == labels[tested]).mean()))
                reach = np.array([apart * weights.sum() - middle @ weights, apart * weights.sum() + middle @ weights])
                accuracies.append(float(ndtr(reach / np.linalg.norm(weights)).mean()))
            found.append(interval_over_splits(np.array(scores), test / (n - test)))
        bounds = Interval(*(np.array([float(each[end]) for each in found]) for end in (0, 1)))
        yield counted("mean over splits", f"{n_seeds} splits of {n} images", bounds, float(np.mean(accuracies)))

    def trained(rng: np.random.Generator) -> tuple[float, float]:
        low, high = interval_over_splits(np.round(203 * rng.normal(0.8, 0.02, 5)) / 203, 0.0)
        return float(low), float(high)

    yield drawn("mean over trainings", "5 trainings on one split", 0.8, trained, EACH * studies)


READERS = Curve.through(0.02, width=0.6, lapse=0.02)
DOSES = np.array([0.005, 0.01, 0.02, 0.04, 0.08])


def _answers(rng: np.random.Generator, n_readers: int, n_images: int, *, spread: float) -> FloatArray:
    """Return right answers (readers, images, levels) of readers and images that differ in their thresholds."""
    shift = spread * rng.normal(size=(n_readers, 1, 1)) + 0.15 * rng.normal(size=(1, n_images, 1))
    return rng.binomial(1, READERS.share(DOSES * 10**shift)).astype(np.float64)


def readers(studies: float) -> Iterator[Line]:
    """The 75 % threshold of readers, and how many answers are right at one epsilon."""
    for n_readers, n_images in ((1, 20), (5, 20), (10, 40)):
        spread = 0.0 if n_readers == 1 else 0.1
        crowd = _answers(np.random.default_rng(4), 300, 1000, spread=spread)
        truth = fit_curve(DOSES, crowd.sum(axis=(0, 1)), np.full(5, 300_000.0)).threshold
        name = f"{n_readers} reader{'s' * (n_readers > 1)}, {n_images} images, 5 epsilons"

        def threshold(rng: np.random.Generator) -> tuple[float, float]:
            right = _answers(rng, n_readers, n_images, spread=spread)  # noqa: B023
            _, _, low, high = fit(DOSES, right, np.ones(right.shape))
            if "" == low.beyond == high.beyond and None in (low.epsilon, high.epsilon):
                return np.nan, np.nan
            ends = {"below": 0.0, "above": 1.0}
            return low.epsilon or ends.get(low.beyond, np.nan), high.epsilon or ends.get(high.beyond, np.nan)

        def level(rng: np.random.Generator) -> tuple[float, float]:
            right = _answers(rng, n_readers, n_images, spread=0.0)[:, :, 2].sum(axis=0)  # noqa: B023
            low, high = proportion_interval(right, np.full(n_images, float(n_readers)))  # noqa: B023
            return float(low), float(high)

        at_level = float(_answers(np.random.default_rng(5), 300, 1000, spread=0.0)[:, :, 2].mean())
        yield drawn("readers' threshold", name, truth, threshold, FEW * studies)
        yield drawn("answers right at one epsilon", name, at_level, level, EACH * studies)


PARTS = (shares, bands, aucs, medians, means, gains, gaps, agreements, repeats, readers)
