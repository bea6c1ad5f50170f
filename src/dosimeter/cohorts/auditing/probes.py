"""Shortcut probes: what should not tell the label, and how well a logistic regression tells it all the same.

A classifier that is given such data may learn the shortcut. That a probe succeeds does not show that it did.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dosimeter.cohorts.auditing.seeing import THUMBNAIL_PX, Seen, centre
from dosimeter.cohorts.auditing.targets import Ids, Target, probe_of, targets
from dosimeter.cohorts.base import Cohort
from dosimeter.record.data_audit import DataCheck, Level, Probe

N_FOLDS = 5
N_PERMUTATIONS = 3
LEAST_IMAGES = 10
"""Images of a class, and of the rest, that a probe needs; of as many groups as there are folds."""

ACCEPTABLE, OUTSTANDING = 0.7, 0.9
"""AUC from which discrimination is called acceptable, and outstanding."""

RULE = (
    f"the lower bound of the AUC's 95 % interval: up to 0.5 pass, above 0.5 info, above {ACCEPTABLE} warn, "
    f"above {OUTSTANDING} fail"
)
RULE_WHOLE = "info: the whole image, coarse, for comparison with the others and with the classifier's own AUC"
SOURCE = (
    "Hosmer, Lemeshow and Sturdivant 2013, Applied Logistic Regression, 5.2.4 (0.7 acceptable, 0.9 outstanding); "
    "Newcombe 2006 after Hanley and McNeil 1982 (interval, with groups in place of images); "
    "DeGrave et al. 2021, Maguolo and Nanni 2021 (shortcuts in chest X-rays)"
)
_REMEDY = {
    "size": "resize or crop all images alike before they are stored, or take classes from one source",
    "histogram": "take classes from one source, or show that the classifier holds on another",
    "border": "crop borders and markers, or take classes from one source",
    "thumbnail without its centre": (
        "mask or crop what lies outside the organ, or take classes from one source, unless the finding itself shows "
        "there"
    ),
}

Floats = npt.NDArray[np.float64]


def probes(cohort: Cohort, seen: Sequence[Seen], groups: Ids, *, seed: int = 0) -> list[Probe]:
    """Return how well each probe tells each class from the rest; of two classes the positive one.

    Args:
        cohort: the images.
        seen: of every image.
        groups: (n,), what may not be in training and test at once.
        seed: of the folds, and of the permutations of labels.
    """
    asked = [target for target in targets(cohort) if is_enough(target, groups)]
    found = []
    for name, features in _features(seen):
        mine = [_probe(name, target, features, groups, len(asked), seed) for target in asked]
        if mine:
            best = max(range(len(mine)), key=lambda place: mine[place].low)
            mine[best] = mine[best].model_copy(update={"permuted": _permuted(asked[best], features, groups, seed)})
        found += mine
    return found


def checks(found: Sequence[Probe]) -> Iterator[DataCheck]:
    """Yield a check for each probe, by the class that it tells best; one without numbers where none could be asked."""
    by_name: dict[str, list[Probe]] = {}
    for probe in found:
        by_name.setdefault(probe.name, []).append(probe)
    for name, what in _WHAT.items():
        best = max(by_name.get(name, []), key=lambda probe: probe.low, default=None)
        level: Level = "info" if best is None or name == WHOLE else level_of(best.low)
        yield DataCheck(
            id=f"probe: {name}",
            title=f"{what} tell the label?",
            level=level,
            measured=f"Not asked: {_TOO_FEW}." if best is None else _sentence(best),
            rule=RULE_WHOLE if name == WHOLE else RULE,
            source=SOURCE,
            remedy=_REMEDY[name] if level in ("warn", "fail") else "",
            numbers={} if best is None else best.model_dump(),
        )


def level_of(low: float) -> Level:
    """Return the verdict on an AUC whose interval begins at `low`."""
    return "fail" if low > OUTSTANDING else "warn" if low > ACCEPTABLE else "info" if low > 0.5 else "pass"


WHOLE = "thumbnail"

_WHAT = {
    "size": "Does size alone (height, width, channels, depth)",
    "histogram": "Does the histogram alone (16 bins)",
    "border": "Do edges and corners alone (mean and spread)",
    "thumbnail without its centre": "Does a thumbnail (24 x 24) without its centre (two thirds of each side)",
    "thumbnail": "Does a thumbnail (24 x 24)",
}
_TOO_FEW = f"a class, or the rest, has fewer than {LEAST_IMAGES} images or {N_FOLDS} patients"


def _sentence(probe: Probe) -> str:
    permuted = "" if probe.permuted is None else f"; with permuted labels {probe.permuted:.3f}"
    whose = f"{probe.n_groups} patients" if probe.patients_known else "patients not known"
    return (
        f"AUC {probe.auc:.3f} ({probe.low:.3f} to {probe.high:.3f}) for {probe.target}, {probe.n} images of "
        f"{whose}{permuted}."
    )


def _features(seen: Sequence[Seen]) -> Iterator[tuple[str, Floats]]:
    """Yield each probe and what it is given, (n, k), one at a time."""
    outside = ~centre(THUMBNAIL_PX, THUMBNAIL_PX)
    yield "size", np.array([_size(each) for each in seen])
    yield "histogram", np.stack([each.histogram for each in seen])
    yield "border", np.stack([each.border for each in seen])
    yield "thumbnail without its centre", np.stack([each.thumbnail[outside] for each in seen], dtype=np.float64)
    yield WHOLE, np.stack([each.thumbnail.ravel() for each in seen], dtype=np.float64)


def _size(seen: Seen) -> list[float]:
    height, width, channels, bits, *_ = seen.pixels
    return [float(np.log(height)), float(np.log(width)), float(np.log(height / width)), channels, bits]


def is_enough(target: Target, groups: Ids) -> bool:
    """Whether both sides of a target have the images and groups that folds need."""
    sides = (target.places[target.positive], target.places[~target.positive])
    return all(len(side) >= LEAST_IMAGES and len(set(groups[side].tolist())) >= N_FOLDS for side in sides)


def _probe(name: str, target: Target, features: Floats, groups: Ids, n_targets: int, seed: int) -> Probe:
    auc = _auc(features[target.places], target.positive, groups[target.places], seed)
    return probe_of(name, target, auc, groups, n_targets=n_targets)


def _auc(features: Floats, positive: npt.NDArray[np.bool_], groups: Ids, seed: int) -> float:
    return float(roc_auc_score(positive, out_of_fold(features, positive, groups, seed)))


def out_of_fold(features: Floats, positive: npt.NDArray[np.bool_], groups: Ids, seed: int) -> Floats:
    """Return scores (n,) that were each given by a regression that saw nothing of the image's group."""
    scores = np.zeros(len(positive))
    folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(features, positive, groups):
        if positive[train].all() or not positive[train].any():
            continue
        strength = 1 / np.sqrt(features.shape[1])  # many pixels, few images: the more of them, the stiffer
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300, class_weight="balanced"))
        model.fit(features[train], positive[train])
        scores[test] = model.decision_function(features[test])
    return scores


def _permuted(target: Target, features: Floats, groups: Ids, seed: int) -> float:
    """Return the mean AUC where each group has the labels of another: a half, unless the probing itself leaks."""
    rng = np.random.default_rng(seed)
    _, mine = np.unique(groups[target.places], return_inverse=True)
    share = np.bincount(mine, target.positive) / np.bincount(mine)
    aucs = []
    for _ in range(N_PERMUTATIONS):
        permuted = rng.permutation(share >= 0.5)[mine]
        if permuted.any() and not permuted.all():
            aucs.append(_auc(features[target.places], permuted, mine, seed))
    return float(np.mean(aucs)) if aucs else 0.5
