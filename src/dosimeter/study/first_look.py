"""The first number of an audit: a card that is wrong shows before anything takes long."""

import logging

from dosimeter.cohorts.base import Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.trained import accuracy_of

log = logging.getLogger(__name__)

N_FIRST = 8
"""Images that a trained classifier is asked about before anything else."""


def first_look(classifier: Classifier, test: Cohort) -> str:
    """Return how many of the first test images a classifier has right, as a sentence.

    Returns:
        "" of a classifier that is only asked, since questions may have a budget, and where one of these images cannot
        be read: the sweep tells of that.
    """
    if classifier.access != "gradients":
        return ""
    try:
        right, n = accuracy_of(classifier, test.subset(range(min(N_FIRST, len(test)))))
    except DosimeterError as error:
        log.warning("%s", error)
        return ""
    what = "answers about findings" if classifier.findings is not None else "test images"
    return f"{right} of the first {n} {what} are right."
