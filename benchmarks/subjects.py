"""What is attacked: a trained network, and test images it has not seen."""

import os
from typing import NamedTuple

import torch
from torch import Tensor

import dosimeter as dm
from dosimeter.cohorts import DATA_VARIABLE

MODELS = ("vgg16", "inception_v3")
TEST_SHARE = 0.2


class Subject(NamedTuple):
    """A classifier and the images it is attacked on.

    Attributes:
        images: (n, 3, H, W), the cases of `cohort` as the classifier is fed them.
        labels: (n,).
    """

    classifier: dm.Classifier
    cohort: dm.Cohort
    images: Tensor
    labels: Tensor


def cohort_names() -> tuple[str, ...]:
    """Return the CT and the X-ray cohort: the real ones if their folder is named, else phantoms."""
    return ("covid-ct", "xray-268") if os.environ.get(DATA_VARIABLE) else ("phantom-ct", "phantom-xray")


def load_subject(model: str, *, n_images: int) -> Subject:
    """Train the head of `model` on a few CT slices and return it with `n_images` others.

    Raises:
        DosimeterError: there are no weights for `model`, or no data.
    """
    cohort = dm.load_cohort(cohort_names()[0], limit=max(10, round(n_images / TEST_SHARE)))
    halves = dm.split(cohort, "paper", test_share=TEST_SHARE)
    classifier = dm.fit(model, halves)
    test = halves.test.subset(range(n_images))
    images = torch.stack([classifier.prepare(case) for case in test])
    return Subject(classifier, test, images, torch.from_numpy(test.labels))
