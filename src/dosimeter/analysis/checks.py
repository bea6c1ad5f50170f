"""What a check of an evaluation is, and the evidence that it looks at.

`checks_before` judges what the pre-flight measured, `checks_after` what the attacks did; `evaluation` asks them all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import bdtrc

from dosimeter.analysis.clusters import per_patient
from dosimeter.analysis.intervals import proportion_interval, wilson
from dosimeter.analysis.names import family
from dosimeter.analysis.wording import percent

PASS, CAUTION, UNRELIABLE = VERDICTS = ("PASS", "CAUTION", "UNRELIABLE")
"""From best to worst. They judge an evaluation, never the classifier's robustness."""

BoolArray = npt.NDArray[np.bool_]
Facts = Mapping[str, Any]


# --- the evidence -------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """One attack on one classifier, on the grid, as floats.

    Attributes:
        preset, attack, loss: its names; `searched` says that it looked into the ball of every epsilon.
        cases: (n,) codes of the cases that were answered at every epsilon, ascending.
        epsilons: (k,), ascending from 0.
        wrong: (n, k), True where the answer is wrong; an image that is rejected has none.
        found: (n, k), 1 where the attack says that it succeeded, 0 where it says that it did not, NaN without a claim.
        grad_zero: (n,), True where the gradient was exactly zero.
    """

    preset: str
    attack: str
    loss: str
    searched: bool
    cases: npt.NDArray[np.int64]
    epsilons: npt.NDArray[np.float64]
    wrong: BoolArray
    found: npt.NDArray[np.float64]
    grad_zero: BoolArray


def make_curve(rows: pd.DataFrame) -> Curve | None:
    """Return the curve of the rows of one preset, or None if no case was answered at every epsilon."""
    epsilons, dose = np.unique(rows["epsilon"].to_numpy(np.float64), return_inverse=True)
    cases, case = np.unique(rows["case_id"].cat.codes.to_numpy(np.int64), return_inverse=True)
    if not len(cases) or epsilons[0] != 0:
        return None
    wrong = np.full((len(cases), len(epsilons)), np.nan)
    found, grad_zero = wrong.copy(), np.zeros(len(cases), dtype=bool)
    wrong[case, dose] = ~rows["correct"].to_numpy(bool) & (rows["abstained"].to_numpy() != 1)
    found[case, dose] = rows["found"]
    grad_zero[case] = rows["grad_zero"].to_numpy() == 1
    whole = ~np.isnan(wrong).any(axis=1)
    names = rows[["preset", "attack", "loss", "effort"]].iloc[0]
    facts = (str(names["preset"]), str(names["attack"]), str(names["loss"]), names["effort"] == "thorough")
    curve = Curve(*facts, cases[whole], epsilons, wrong[whole] == 1, found[whole], grad_zero[whole])
    return curve if whole.any() else None


class Clean(NamedTuple):
    """How a classifier answers unperturbed images.

    Attributes:
        correct: answers.
        larger: images of the larger class.
        n: images.
        n_answers: classes that are ever answered, 0 if that is not known.
        low, high: 95 % interval of the accuracy, which knows which images are of one patient where the rows do.
        few: whether images or patients are too few for that, so that images are taken as independent.
    """

    correct: int
    larger: int
    n: int
    n_answers: int
    low: float
    high: float
    few: bool = False

    @classmethod
    def of(
        cls, correct: npt.NDArray[np.bool_], patients: npt.NDArray[np.object_], *, larger: int, n_answers: int
    ) -> "Clean":
        """Return it of answers (n,) to images of `patients` (n,); of too few for an interval by patient, Wilson's."""
        n, right = len(correct), int(correct.sum())
        interval = proportion_interval(per_patient(correct, patients), per_patient(np.ones(n), patients))
        few = bool(np.isnan(interval[0]))
        low, high = wilson(right, n) if few else interval
        return cls(right, larger, n, n_answers, float(low), float(high), few)


@dataclass(frozen=True)
class Trial:
    """One evaluation with its evidence: a classifier of one seed under the attacks of one family.

    Attributes:
        facts: what `preflight.examine` measured; what it measured with another loss is left out.
        attacks: of the family.
        others: of the other family on the same classifier: evidence against this one.
        controls: random noise.
        transfers: adversarial images of other classifiers.
        convergence: what `examinations.convergence` found of this classifier.
        examined: what every examination found of it, by name, those of other packages too.
        accuracy: of the unperturbed images of the rows; None without rows.
        failed: (cases without an answer to an attack of the family, cases), None without rows.
    """

    facts: Facts = field(default_factory=dict)
    attacks: Sequence[Curve] = ()
    others: Sequence[Curve] = ()
    controls: Sequence[Curve] = ()
    transfers: Sequence[Curve] = ()
    convergence: Facts | None = None
    examined: Mapping[str, Sequence[Facts]] = field(default_factory=dict)
    accuracy: Clean | None = None
    failed: tuple[int, int] | None = None

    def measured(self, name: str) -> dict[str, Any] | None:
        """Return what the pre-flight measured under this name, None if there was nothing to measure."""
        fact = self.facts.get(name)
        return dict(fact) if fact and fact["n"] else None

    @property
    def has_gradients(self) -> bool:
        """Whether an attacker can have gradients of the classifier, and not scores or labels alone."""
        return bool((self.measured("graph") or {}).get("access", "gradients") == "gradients")

    @property
    def clean(self) -> Clean | None:
        """Return how the unperturbed images are answered: all that were attacked, else the pre-flight's sample."""
        if self.accuracy is not None or (fact := self.measured("accuracy")) is None:
            return self.accuracy
        low, high = wilson(fact["correct"], fact["n"])
        return Clean(fact["correct"], fact["majority"], fact["n"], fact.get("n_answers", 0), float(low), float(high))

    def of(self, *families: str) -> list[Curve]:
        """Return the attacks of these families (see `names.FAMILIES`)."""
        return [curve for curve in self.attacks if family(curve.attack) in families]

    @property
    def one_step(self) -> list[Curve]:
        """Attacks of a single gradient."""
        return self.of("one step")

    @property
    def many_steps(self) -> list[Curve]:
        """Attacks that follow the gradient again and again."""
        return self.of("iterative", "minimum norm")


class Broken(NamedTuple):
    """What several attacks together break, each image by the one that breaks it first: their worst case.

    Attributes:
        cases: (n,) codes of the cases that all of them answered.
        epsilons: (k,) that all of them were asked.
        broken: (n, k), True where one of them has an adversarial image within epsilon.
    """

    cases: npt.NDArray[np.int64]
    epsilons: npt.NDArray[np.float64]
    broken: BoolArray


def broken(curves: Sequence[Curve]) -> Broken:
    """Return what `curves`, at least one, break; balls are nested: what breaks in one is broken in any larger one."""
    cases, epsilons = curves[0].cases, curves[0].epsilons
    for curve in curves[1:]:
        cases, epsilons = np.intersect1d(cases, curve.cases), np.intersect1d(epsilons, curve.epsilons)
    total = np.zeros((len(cases), len(epsilons)), dtype=bool)
    for curve in curves:
        envelope: BoolArray = np.logical_or.accumulate(curve.wrong, axis=1)
        total |= envelope[np.ix_(np.isin(curve.cases, cases), np.isin(curve.epsilons, epsilons))]
    return Broken(cases, epsilons, total)


class Excess(NamedTuple):
    """What one group of attacks breaks beyond another, over the cases and epsilons above 0 that both have.

    Attributes:
        n: cases.
        gap: by how many images the first leaves fewer unbroken than the second, at the epsilon where that is most.
        gap_at: that epsilon, where the first leaves `left`, the second `left_by_other`.
        n_right: cases that are answered rightly without attack.
        only: of these, those that only the first breaks, at the epsilon where they are most.
        only_at: that epsilon.
    """

    n: int
    gap: int
    gap_at: float
    left: int
    left_by_other: int
    n_right: int
    only: int
    only_at: float


def excess(first: Sequence[Curve], second: Sequence[Curve]) -> Excess | None:
    """Return what `first` breaks beyond `second`; None if they have no image or no epsilon above 0 in common."""
    if not first or not second:
        return None
    one, other = broken(first), broken(second)
    cases, epsilons = np.intersect1d(one.cases, other.cases), np.intersect1d(one.epsilons, other.epsilons)
    if not len(cases) or len(epsilons) < 2:
        return None
    a, b = (each.broken[np.ix_(np.isin(each.cases, cases), np.isin(each.epsilons, epsilons))] for each in (one, other))
    right = ~a[:, 0] & ~b[:, 0]
    a, b, epsilons = a[:, 1:], b[:, 1:], epsilons[1:]
    left, left_by_other = (~a).sum(axis=0), (~b).sum(axis=0)
    only = (a & ~b)[right].sum(axis=0)
    worst, most = int((left_by_other - left).argmax()), int(only.argmax())
    return Excess(
        n=len(cases),
        gap=int(left_by_other[worst] - left[worst]),
        gap_at=float(epsilons[worst]),
        left=int(left[worst]),
        left_by_other=int(left_by_other[worst]),
        n_right=int(right.sum()),
        only=int(only[most]),
        only_at=float(epsilons[most]),
    )


# --- the judgement ------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """A verdict and the sentence with its number."""

    verdict: str
    measured: str


Judge = Callable[[Trial], Finding | None]
"""A trial to what a check finds there; None if there was nothing to measure."""


@dataclass(frozen=True)
class Rule:
    """A check that can be made.

    Attributes:
        id: its name in tables.
        title: what is asked.
        rule: the thresholds in words.
        source: of the check; thresholds that have none are ours, and said to be.
        remedy: what to do if it is not passed.
        judge: makes it.
        alone: whether it compares the published setting with others, so that these are not asked.
    """

    id: str
    title: str
    rule: str
    source: str
    remedy: str
    judge: Judge
    alone: bool = False

    @property
    def note(self) -> str:
        """What `dosimeter list checks` says of it."""
        return f"{self.title}: {self.rule}"


def checker(rules: list[Rule]) -> Callable[..., Callable[[Judge], Judge]]:
    """Return a decorator that puts a judge among `rules`, under its own name."""

    def check(title: str, *, rule: str, source: str, remedy: str, alone: bool = False) -> Callable[[Judge], Judge]:
        def decorate(judge: Judge) -> Judge:
            rules.append(Rule(judge.__name__, title, rule, source, remedy, judge, alone))
            return judge

        return decorate

    return check


def worse(*, unreliable: bool, caution: bool) -> str:
    """Return the verdict of two conditions, the worse of which counts."""
    return UNRELIABLE if unreliable else CAUTION if caution else PASS


UNLIKELY = 0.02


def beyond(k: int, n: int, share: float) -> bool:
    """Whether `k` or more of `n` would be a chance below 2 % if each had the chance `share`, or less."""
    return k > 0 and bool(bdtrc(k - 1, n, share) < UNLIKELY)


def of(k: int, n: int, what: str = "images") -> str:
    """Return "3 of 54 images (5.6 %)"."""
    return f"{k} of {n} {what} ({percent(k / n)})"
