"""What is to be told of images, class by class or finding by finding, and how well something told it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from dosimeter.bounds import newcombe
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
    named = np.array([record.patient_id is not None for record in cohort.records])
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
    low, high = newcombe(auc, n_positive, n_negative, z=float(norm.ppf(1 - 0.025 / n_targets)))
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
