"""What is to be told of images, class by class or finding by finding, and how well something told it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm

from dosimeter.cohorts.base import Cohort
from dosimeter.record.data_audit import Probe

Ids = npt.NDArray[np.int64]


class Target(NamedTuple):
    """A class, or a finding, told from the rest.

    Attributes:
        name: of the class or the finding.
        column: its place among them.
        places: of the images of which it is known.
        positive: (len(places),), which of them have it.
        patients_known: whether it is known of each of them whose it is.
    """

    name: str
    column: int
    places: Ids
    positive: npt.NDArray[np.bool_]
    patients_known: bool


def targets(cohort: Cohort) -> Iterator[Target]:
    """Yield each finding, or each class, of two the positive one; some image may not have it, or all."""
    truth = cohort.known_findings if cohort.findings else cohort.labels[:, None] == np.arange(len(cohort.classes))
    named = np.array([record.unit is not None for record in cohort.records])
    names = cohort.findings or cohort.classes
    columns = [1] if not cohort.findings and len(names) == 2 else range(len(names))
    for column in columns:
        known = truth[:, column].astype(np.float64)
        places = np.flatnonzero(~np.isnan(known))
        yield Target(names[column], column, places, known[places] == 1, bool(named[places].all()))


def probe_of(name: str, target: Target, auc: float, groups: Ids, *, n_targets: int = 1) -> Probe:
    """Return how well `target` was told, with the interval of the AUC.

    Args:
        name: of what told it.
        auc: over the target's images.
        groups: (n,), of all the cohort's images; each counts once.
        n_targets: of how many the best is looked at (Bonferroni).
    """
    mine = groups[target.places]
    n_positive, n_negative = (len(set(mine[side].tolist())) for side in (target.positive, ~target.positive))
    low, high = interval(auc, n_positive, n_negative, z=float(norm.ppf(1 - 0.025 / n_targets)))
    return Probe(
        name=name,
        target=target.name,
        n=len(target.places),
        n_groups=len(set(mine.tolist())),
        patients_known=target.patients_known,
        auc=auc,
        low=low,
        high=high,
    )


def interval(auc: float, n_positive: int, n_negative: int, *, z: float) -> tuple[float, float]:
    """Return the interval of an AUC, `z` standard errors to each side, within [0, 1].

    At 0 and 1 that error is 0, however few the images: there it is the error of the bound itself that reaches them.

    Source: Hanley and McNeil 1982; at 0 and 1 Newcombe 2006, Stat Med 25:559, method 5.
    """
    if 0 < auc < 1:
        margin = z * standard_error(auc, n_positive, n_negative)
        return max(0.0, auc - margin), min(1.0, auc + margin)
    spare = (n_positive + n_negative) / 2 - 1

    def excess(apart: float) -> float:  # of an area so far from the end
        spread = 1 + spare * (apart / (1 + apart) + (1 - apart) / (2 - apart))
        return apart - z**2 * (1 - apart) * spread / (n_positive * n_negative)

    reach = float(brentq(excess, 0.0, 1.0))
    return (0.0, reach) if auc == 0 else (1 - reach, 1.0)


def standard_error(auc: float, n_positive: int, n_negative: int) -> float:
    """Return the standard error of an AUC.

    Source: Hanley and McNeil 1982, Radiology 143:29, equations 1 and 2.
    """
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc) + (n_positive - 1) * (both_positive - auc**2) + (n_negative - 1) * (both_negative - auc**2)
    )
    return float(np.sqrt(max(variance, 0.0) / (n_positive * n_negative)))
