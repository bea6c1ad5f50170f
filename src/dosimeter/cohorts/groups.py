"""What must stay on one side of a split: the images of a patient, and of patients who share a near duplicate."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.looks import looks
from dosimeter.cohorts.near_duplicates import near_duplicates

GROUPINGS = ("patient", "duplicates")
"""What one group is: the images of one patient, or those that patients and near duplicates connect."""


def grouped(cohort: Cohort, grouping: str) -> Cohort:
    """Return the cohort with the groups that a split keeps together and intervals resample.

    "patient" leaves each image to its patient. "duplicates" reads every image, and unites what is of one patient or
    a near duplicate (see `near_duplicates`); an image of an unknown patient that has none is a group by itself.
    """
    assert grouping in GROUPINGS
    if grouping == "patient":
        return cohort
    pairs = [(pair.first, pair.second) for pair in near_duplicates(looks(cohort))]
    numbers = united([record.patient_id for record in cohort.records], pairs)
    records = tuple(
        replace(record, group=f"group-{number:05d}") for record, number in zip(cohort.records, numbers, strict=True)
    )
    told = (
        "near duplicates, and images of the same patient where that is known, are grouped together: "
        f"{len(pairs)} pairs of near duplicates, {len(set(numbers))} groups"
    )
    return replace(cohort, records=records, provenance={**cohort.provenance, "groups": told})


def united(patients: Iterable[str | None], pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the number of each image's group: connected components of "of one patient" and of `pairs`.

    Groups are numbered in the order of their first images.

    Example:
        >>> united(["a", "a", "b", None], [(1, 2)])
        [0, 0, 0, 1]
    """
    known: dict[str, int] = {}
    ids = list(patients)
    links = [(known.setdefault(each, place), place) for place, each in enumerate(ids) if each is not None]
    links += pairs
    ends: npt.NDArray[np.int64] = np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(ids), len(ids)))
    _, found = connected_components(graph, directed=False)
    order = {number: place for place, number in enumerate(dict.fromkeys(found.tolist()))}
    return [order[number] for number in found.tolist()]
