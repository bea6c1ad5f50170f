"""Labels that may be wrong: those that a coarse look at the images, learned from other patients, speaks against.

A regression on thumbnails and texture sees little of a subtle finding. Where it cannot tell the classes it is sure of
nothing, names no image, and the check says that labels could not be judged.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dosimeter.cohorts.auditing.probes import ACCEPTABLE, is_enough, out_of_fold
from dosimeter.cohorts.auditing.seeing import Seen
from dosimeter.cohorts.auditing.targets import Ids, Target, targets
from dosimeter.cohorts.base import Cohort
from dosimeter.record.data_audit import DataCheck, Level

DOUBTED = 0.05
"""The probability of a label below which it is doubted."""

MOST_SHARE = 0.01
"""The share of doubted labels above which the check warns."""

Floats = npt.NDArray[np.float64]


class Told(NamedTuple):
    """What a regression says of a class or a finding.

    Attributes:
        target: the class or the finding.
        probability: (n,), that an image of the cohort has it; NaN where that is not asked.
        auc: of the images of which it is known.
    """

    target: Target
    probability: Floats
    auc: float


def check(cohort: Cohort, seen: Sequence[Seen], groups: Ids, *, seed: int = 0) -> DataCheck:
    """Return the images whose labels are doubted, the least probable label first.

    Args:
        cohort: the images.
        seen: of every image.
        groups: (n,), what may not be in training and test at once.
        seed: of the folds.
    """
    told = _told(cohort, seen, groups, seed)
    probability = _of_label(cohort, told)  # (n,)
    found = [int(place) for place in np.argsort(probability, kind="stable") if probability[place] < DOUBTED]
    best = max(told, key=lambda each: each.auc, default=None)
    is_blind = best is None or best.auc < ACCEPTABLE
    share = len(found) / len(seen)
    level: Level = "warn" if share > MOST_SHARE else "info" if found or is_blind else "pass"
    return DataCheck(
        id="labels",
        title="Are there images whose label speaks against their looks?",
        level=level,
        measured=_sentence(len(found), len(seen), float(probability[found].sum()), best),
        rule=f"a regression on thumbnail and texture that saw no image of the patient gives the label a probability "
        f"below {DOUBTED:g} (of several classes: and another one above {1 - DOUBTED:g}); warn above {MOST_SHARE:.0%} "
        f"of the images, info if any, or if its AUC is below {ACCEPTABLE}",
        source="after Northcutt et al. 2021, J Artif Intell Res 70:1373 (out-of-sample probabilities of given labels); "
        "Platt 1999 (calibration); the limits are dosimeter's own",
        remedy="look at these images: a wrong label, or a rare look of a right one" if found else "",
        numbers={"n": len(found), "expected": float(probability[found].sum()), "auc": best.auc if best else None},
        cases=[cohort.records[place].case_id for place in found],
    )


def _sentence(n_found: int, n: int, expected: float, best: Told | None) -> str:
    if best is None:
        return "Not asked: a class, or the rest, has too few images or patients."
    power = f"the regression's AUC is {best.auc:.3f} for {best.target.name}"
    if not n_found and best.auc < ACCEPTABLE:
        return f"Not judged: {power}, too little to doubt a label."
    return f"{n_found} of {n} labels are doubted, {expected:.1f} if labels were right; {power}."


def _told(cohort: Cohort, seen: Sequence[Seen], groups: Ids, seed: int) -> list[Told]:
    asked = [target for target in targets(cohort) if is_enough(target, groups)]
    if not asked:
        return []
    features = np.stack([np.concatenate([each.thumbnail.ravel(), each.texture]) for each in seen], dtype=np.float64)
    found = []
    for target in asked:
        scores = out_of_fold(features[target.places], target.positive, groups[target.places], seed)
        probability = np.full(len(seen), np.nan)
        probability[target.places] = _calibrated(scores, target.positive)
        found.append(Told(target, probability, float(roc_auc_score(target.positive, scores))))
    return found


def _calibrated(scores: Floats, positive: npt.NDArray[np.bool_]) -> Floats:
    """Return probabilities, as if both sides had as many images; scores that say nothing become a half."""
    line = LogisticRegression(class_weight="balanced").fit(scores[:, None], positive)
    probability: Floats = line.predict_proba(scores[:, None])[:, 1]
    return probability if line.coef_[0, 0] > 0 else np.full(len(scores), 0.5)


def _of_label(cohort: Cohort, told: Sequence[Told]) -> Floats:
    """Return the probability of each image's label, (n,); of several findings the least; 1 where nothing was asked."""
    found = np.ones(len(cohort))
    for each in told:
        places, positive = each.target.places, each.target.positive
        stated = np.where(positive, each.probability[places], 1 - each.probability[places])
        if not cohort.findings and len(cohort.classes) > 2:
            others = [other.probability[places] for other in told if other is not each]
            likely = np.max(others, axis=0) if others else np.zeros(len(places))
            stated[~positive | (likely <= 1 - DOUBTED)] = 1  # not being of another class says nothing of its own
        found[places] = np.minimum(found[places], stated)
    return found
