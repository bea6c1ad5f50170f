"""The three protocols: disjoint, stratified, seeded, and without leaks where they promise none."""

import os

import numpy as np
import pytest

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.base import Cohort, Decoded, Record
from dosimeter.cohorts.split import Split, draw_tests, shared_patients, split
from dosimeter.errors import DosimeterError

DATA = os.environ.get("DOSIMETER_DATA")


def make_cohort(
    labels: list[int], patients: list[str | None] | None = None, official: list[str | None] | None = None
) -> Cohort:
    n = len(labels)
    records = tuple(
        Record(
            case_id=f"{index:05d}",
            label=label,
            sha256="0",
            read=lambda: Decoded(np.zeros((1, 2, 2), np.float32), 8),
            patient_id=(patients or [None] * n)[index],
            official_split=(official or [None] * n)[index],
        )
        for index, label in enumerate(labels)
    )
    return Cohort("made", ("clear", "ill"), records)


PAPER = make_cohort([0] * 127 + [1] * 141)
GROUPED = make_cohort([i // 3 % 2 for i in range(300)], [f"p{i // 3}" for i in range(300)])


def ids(cohort: Cohort) -> list[str]:
    return [record.case_id for record in cohort.records]


@pytest.mark.parametrize("protocol", ["paper", "patient"])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_sides_are_disjoint_complete_ordered_and_stratified(protocol: str, seed: int) -> None:
    sides = split(GROUPED, protocol, seed=seed)
    assert sorted(ids(sides.train) + ids(sides.test)) == ids(GROUPED)
    assert ids(sides.train) == sorted(ids(sides.train))
    assert ids(sides.test) == sorted(ids(sides.test))
    assert sides.n_unused == 0
    assert (sides.protocol, sides.seed) == (protocol, seed)
    assert abs(len(sides.test) - 60) <= 3
    assert abs(sides.test.labels.mean() - 0.5) < 0.06
    assert split(GROUPED, protocol, seed=seed) == sides
    assert ids(split(GROUPED, protocol, seed=seed + 1).test) != ids(sides.test)


@pytest.mark.parametrize(("n_other", "n_covid", "n_test"), [(127, 141, 54), (397, 349, 150)])
def test_the_paper_has_54_and_150_test_images(n_other: int, n_covid: int, n_test: int) -> None:
    sides = split(make_cohort([0] * n_other + [1] * n_covid), "paper")
    assert len(sides.test) == n_test
    assert sides.test.counts["ill"] == round(n_test * n_covid / (n_other + n_covid))


@pytest.mark.parametrize(("n_images", "counts"), [(16, (8, 8)), (2, (1, 1)), (1000, (26, 28))])
def test_fewer_tests_keep_the_training_and_the_shares(n_images: int, counts: tuple[int, int]) -> None:
    whole = split(PAPER, "paper")
    fewer = draw_tests(whole, n_images)
    assert fewer.train == whole.train
    assert tuple(fewer.test.counts.values()) == counts
    assert set(ids(fewer.test)) <= set(ids(whole.test))
    assert ids(fewer.test) == sorted(ids(fewer.test))
    assert len(fewer.test) + fewer.n_unused == len(whole.test)
    assert draw_tests(whole, n_images) == fewer


def test_only_the_patient_protocol_keeps_patients_apart() -> None:
    assert shared_patients(split(GROUPED, "patient")) == 0
    by_image = split(GROUPED, "paper")
    trained = {record.patient_id for record in by_image.train.records}
    expected = sum(record.patient_id in trained for record in by_image.test.records)
    assert shared_patients(by_image) == expected > 40


def test_shared_patients_counts_test_images_and_knows_what_it_does_not_know() -> None:
    train = make_cohort([0, 1], ["a", "b"])
    test = make_cohort([0, 0, 1], ["a", "a", "c"])
    assert shared_patients(Split(train, test, "paper", 0, 0)) == 2
    assert shared_patients(Split(train, make_cohort([0, 1], ["a", None]), "paper", 0, 0)) is None
    assert shared_patients(split(PAPER, "paper")) is None


def test_the_official_split_leaves_validation_out() -> None:
    official = ["train", "test", "val", "train", "test", None]
    sides = split(make_cohort([0, 1, 0, 1, 0, 1], official=official), "official", seed=3)
    assert ids(sides.train) == ["00000", "00003"]
    assert ids(sides.test) == ["00001", "00004"]
    assert sides.n_unused == 2


@pytest.mark.parametrize(("share", "n_test"), [(0.25, 67), (0.5, 134), (0.1, 27)])
def test_the_share_is_an_option(share: float, n_test: int) -> None:
    assert len(split(PAPER, "paper", test_share=share).test) == n_test


@pytest.mark.parametrize(
    ("cohort", "protocol", "options", "message"),
    [
        (PAPER, "patients", {}, "Did you mean 'patient'"),
        (PAPER, "paper", {"test_share": 0.8}, "above 0 and at most 0.5, got 0.8"),
        (PAPER, "patient", {}, "268 of the 268 images of made have none.*patient_id column"),
        (PAPER, "official", {}, "made has 0 and 0"),
        (make_cohort([0] * 9 + [1]), "paper", {}, "at least 2 images of each class, made has 1 of class ill"),
        (make_cohort([0, 0, 1, 1]), "paper", {}, "a test image of each class"),
        (make_cohort([0] * 60 + [1] * 2), "paper", {}, "the test side has no image of class ill"),
        (make_cohort([0] * 9 + [1] * 4, list("abcdefghijklm")), "patient", {}, "at least 5 images of each class"),
        (make_cohort([0] * 5 + [1] * 5, list("aabbbccddd")), "patient", {}, "at least 5 patients, made has 4"),
        (make_cohort([0] * 6 + [1] * 6, list("abcdef" + "g" * 6)), "patient", {}, "side has no image of class"),
        (make_cohort([0, 0, 0]), "whole", {}, "must be of every class, none is of class ill. Bring some of it too"),
        (make_cohort([0, 1, 0], None, ["train", "train", "test"]), "official", {}, "test side .* class ill"),
    ],
)
def test_impossible_splits_are_one_clear_sentence(
    cohort: Cohort, protocol: str, options: dict[str, float], message: str
) -> None:
    with pytest.raises(DosimeterError, match=message):
        split(cohort, protocol, **options)


@pytest.mark.real
@pytest.mark.skipif(not DATA, reason="DOSIMETER_DATA is not set")
def test_the_real_splits() -> None:
    xray, ct = load_cohort("xray-268"), load_cohort("covid-ct")
    assert len(split(xray, "paper").test) == 54
    assert len(split(ct, "paper").test) == 150
    official = split(ct, "official")
    assert (len(official.train), official.n_unused, len(official.test)) == (425, 118, 203)
    assert official.train.counts == {"other": 234, "COVID-19": 191}
    assert official.test.counts == {"other": 105, "COVID-19": 98}
    assert shared_patients(official) == 0
    leaks = [shared_patients(split(ct, "paper", seed=seed)) or 0 for seed in range(20)]
    assert 0.60 < np.mean(leaks) / 150 < 0.70
    for cohort in (xray, ct):
        for seed in range(5):
            sides = split(cohort, "patient", seed=seed)
            assert shared_patients(sides) == 0
            assert abs(len(sides.test) / len(cohort) - 0.2) < 0.01
