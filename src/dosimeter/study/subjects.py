"""Classifiers and cohorts that a Python session brings to a study, where a command names files."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dosimeter.cohorts.base import Cohort
from dosimeter.models.base import Classifier


@dataclass(frozen=True)
class Subjects:
    """What settings call "memory:NAME", by that name.

    Attributes:
        classifiers: trained ones.
        cohorts: images, all of which are tested.
    """

    classifiers: Mapping[str, Classifier] = field(default_factory=dict)
    cohorts: Mapping[str, Cohort] = field(default_factory=dict)


NOBODY = Subjects()
