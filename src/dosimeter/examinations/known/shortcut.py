"""Examination: does the classifier look where the organ is? A part of the data audit, on the test images."""

from collections.abc import Iterator
from functools import partial

from dosimeter.examinations.base import Examination, Examined, Facts, Question
from dosimeter.examinations.shortcut import named_probes
from dosimeter.record.provenance import digest_of


def ask(examined: Examined) -> Iterator[Question]:
    """Ask of a classifier without a defence, where the images are audited."""
    if examined.settings.data_audit and not examined.classifier.card.get("defence"):
        whose = digest_of([str(record.unit) for record in examined.trial.split.test.records])
        told = {"model": examined.model}
        yield Question("the images without their centre", [whose, examined.model], partial(_found, examined), told)


def _found(examined: Examined) -> list[Facts]:
    probes, checks = named_probes(examined.classifier, examined.trial.split.test, examined.model)
    return [{name: [each.model_dump() for each in made] for name, made in (("probes", probes), ("checks", checks))}]


ENTRY = Examination(note="whether a classifier tells the label without the centre of the images", ask=ask)
