"""A classifier that looks at the border is told from one that looks at the centre."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tiny
import torch

import dosimeter as dm
from dosimeter.cohorts.auditing.base import audit_cohort
from dosimeter.cohorts.auditing.seeing import centre
from dosimeter.cohorts.base import Cohort, Decoded, Record
from dosimeter.errors import DosimeterError
from dosimeter.examinations.shortcut import (
    INSIDE,
    OUTSIDE,
    WHOLE,
    shortcut_checks,
    shortcut_probes,
    with_classifier,
)
from dosimeter.models.decisions import Findings
from dosimeter.report.data_page import data_page

SIZE_PX, N = 24, 40


def cohort(width: int = SIZE_PX) -> Cohort:
    """Images that are brighter all over in those who are ill."""
    rng = np.random.default_rng(0)
    records = []
    for place in range(N):
        image = 0.4 + 0.2 * (place % 2) + rng.normal(0, 0.05, (1, SIZE_PX, width))
        decoded = Decoded(image.clip(0, 1).astype(np.float32), 8)
        records.append(Record(f"{place:05d}", place % 2, str(place), partial(Decoded, *decoded), f"p{place}"))
    return Cohort("made", ("clear", "opacity"), tuple(records))


def weights(where: np.ndarray) -> torch.Tensor:
    """Weights of a linear classifier that looks at the mean grey of `where`, and at nothing else."""
    return torch.from_numpy(where.astype(np.float32)).expand(3, -1, -1).contiguous() / where.sum()


@pytest.mark.parametrize("width", [SIZE_PX, 2 * SIZE_PX])
@pytest.mark.parametrize(("looks", "told"), [(OUTSIDE, "warn"), (INSIDE, "pass")])
def test_where_a_classifier_looks_is_found(looks: str, told: str, width: int) -> None:
    inside = centre(SIZE_PX, width)
    corner = np.zeros_like(inside)
    corner[:2, :2] = True
    where = corner if looks == OUTSIDE else inside
    images = cohort(width)
    masked = replace(images, records=tuple(map(_only(where), images.records)))
    classifier = tiny.linear_classifier(weights(where))
    probes = {probe.name: probe for probe in shortcut_probes(classifier, masked)}
    assert probes[WHOLE].auc > 0.95
    assert probes[looks].auc > 0.95
    other = OUTSIDE if looks == INSIDE else INSIDE
    assert probes[other].low < 0.7
    (check,) = shortcut_checks(list(probes.values()))
    assert check.level == told


def _only(where: np.ndarray):  # type: ignore[no-untyped-def]
    """Return what leaves a record's label in `where`, and noise elsewhere."""

    def change(record: Record) -> Record:
        rng = np.random.default_rng(int(record.case_id))
        noise = (0.5 + rng.normal(0, 0.05, where.shape)).clip(0, 1)
        image = np.where(where, record.read().image[0], noise)[None].astype(np.float32)
        return replace(record, read=partial(Decoded, image, 8))

    return change


def test_findings_are_told_each_where_they_are_known() -> None:
    images = cohort()
    records = tuple(
        replace(record, findings=(record.label, None if place < 10 else 1 - record.label))
        for place, record in enumerate(images.records)
    )
    many = replace(images, findings=("a", "b"), records=records)
    classifier = tiny.convolutional_classifier(classes=Findings(("a", "b")))
    probes = shortcut_probes(classifier, many)
    assert [(probe.target, probe.n) for probe in probes] == [("a", 40)] * 3 + [("b", 30)] * 3


def test_other_classes_are_refused() -> None:
    classifier = tiny.linear_classifier(torch.ones(3, SIZE_PX, SIZE_PX))
    with pytest.raises(DosimeterError, match="must be the classifier's"):
        shortcut_probes(classifier, replace(cohort(), classes=("a", "b")))


def test_a_classifier_of_labels_alone_is_not_asked_for_an_auc() -> None:
    def decide(images: torch.Tensor) -> list[int]:
        return [int(image.mean() > 0) for image in images]

    blind = dm.classifier(decide, size_px=SIZE_PX, classes=("clear", "opacity"), channels=1, outputs="labels")
    before = audit_cohort(cohort())
    after = with_classifier(before, blind, cohort())
    assert after.probes == before.probes
    (check,) = [check for check in after.checks if check.id.startswith("centre:")]
    assert (check.level, check.measured) == ("info", "not asked: it tells labels alone, and an AUC is of scores")
    assert "not asked: it tells labels alone" in data_page(after)


def test_an_audit_takes_up_what_was_found_of_a_classifier() -> None:
    images = cohort()
    before = audit_cohort(images)
    after = with_classifier(before, tiny.linear_classifier(torch.ones(3, SIZE_PX, SIZE_PX)), images)
    assert [probe.name for probe in after.probes[-3:]] == [f"linear: {name}" for name in (WHOLE, OUTSIDE, INSIDE)]
    assert {check.id for check in after.checks} - {check.id for check in before.checks} == {"centre: linear: opacity"}
    page = data_page(after)
    assert "linear: without their centre" in page
    assert "Does linear tell opacity without the centre of the images?" in page
