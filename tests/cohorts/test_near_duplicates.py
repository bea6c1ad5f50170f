"""Near duplicates: copies that were cut, compressed, brightened or written upon are found, and nothing else is."""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.alignment import DETAIL_PX, aligned
from dosimeter.cohorts.base import Cohort, Decoded
from dosimeter.cohorts.groups import grouped, united
from dosimeter.cohorts.near_duplicates import LEAST_DETAIL, Look, look, near_duplicates, trimmed
from dosimeter.cohorts.split import divide
from dosimeter.sweeps.plan import pseudonymise_patients

Grey = npt.NDArray[np.uint8]


def cut(grey: Grey) -> Grey:
    height, width = grey.shape
    return grey[: round(0.95 * height), round(0.05 * width) :]


def compressed(grey: Grey) -> Grey:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


def brightened(grey: Grey) -> Grey:
    return np.rint(255 * (grey / 255) ** 0.8).astype(np.uint8)


def written_upon(grey: Grey) -> Grey:
    image = Image.fromarray(grey)
    ImageDraw.Draw(image).text((12, 12), "DAY 1 PORTABLE", fill=255, font_size=16)
    return np.asarray(image)


def framed(grey: Grey) -> Grey:
    return np.pad(grey, ((30, 10), (0, 50)), constant_values=255)


CHANGES: list[Callable[[Grey], Grey]] = [cut, compressed, brightened, written_upon, framed]


@cache
def phantoms(name: str = "phantom-xray") -> tuple[Grey, ...]:
    cohort = load_cohort(name, limit=24)
    return tuple(np.rint(255 * case.image[0]).astype(np.uint8) for case in cohort)


@cache
def seen(name: str = "phantom-xray") -> tuple[Look, ...]:
    return tuple(look(image(grey)) for grey in phantoms(name))


def image(grey: Grey) -> npt.NDArray[np.float32]:
    return (grey / 255).astype(np.float32)[None]


@pytest.mark.parametrize("change", CHANGES)
def test_a_planted_copy_is_found_and_nothing_else(change: Callable[[Grey], Grey]) -> None:
    patients = [record.patient_id for record in load_cohort("phantom-xray", limit=24).records]
    copy = look(image(change(phantoms()[5])))
    found = [pair for pair in near_duplicates([*seen(), copy]) if pair.second == 24]
    assert [patients[pair.first] for pair in found] == [patients[5]] * len(found)
    assert found[0].first == 5
    assert found[0].detail > 0.9


@pytest.mark.parametrize("name", ["phantom-xray", "phantom-ct"])
def test_phantoms_of_different_patients_are_no_near_duplicates(name: str) -> None:
    patients = [record.patient_id for record in load_cohort(name, limit=24).records]
    assert all(patients[pair.first] == patients[pair.second] for pair in near_duplicates(seen(name)))


def test_images_of_one_value_have_no_near_duplicate() -> None:
    flat = look(np.full((1, 40, 40), 0.5, np.float32))
    assert not flat.whole.any()
    assert near_duplicates([flat, flat]) == []


def test_a_pair_across_blocks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dosimeter.cohorts.near_duplicates._BLOCK", 3)
    monkeypatch.setattr("dosimeter.cohorts.near_duplicates._BATCH", 2)
    copy = look(image(brightened(phantoms()[1])))
    pairs = {(pair.first, pair.second) for pair in near_duplicates([*seen()[:10], copy])}
    monkeypatch.undo()
    assert (1, 10) in pairs
    assert pairs == {(pair.first, pair.second) for pair in near_duplicates([*seen()[:10], copy])}


def test_a_scaled_and_shifted_image_is_aligned() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.random((60, 60)).astype(np.float32)).resize((400, 400), Image.Resampling.BICUBIC)
    whole, part = noise.resize((DETAIL_PX, DETAIL_PX)), noise.crop((16, 8, 396, 384)).resize((DETAIL_PX, DETAIL_PX))
    other = Image.fromarray(rng.random((60, 60)).astype(np.float32)).resize((DETAIL_PX, DETAIL_PX))
    assert aligned(np.asarray(whole), np.asarray(part)) > 0.95
    assert aligned(np.asarray(whole), np.asarray(other)) < 0.3
    assert aligned(np.asarray(whole), np.asarray(whole)) == pytest.approx(1, abs=1e-5)


def test_borders_are_trimmed_though_text_stands_on_them() -> None:
    picture = np.random.default_rng(0).random((50, 60)).astype(np.float32)
    bordered = np.pad(picture, ((20, 5), (0, 30)))
    bordered[3:8, 1:3] = 1  # a few letters, 2 % of each line
    assert trimmed(bordered).shape == picture.shape
    assert trimmed(np.zeros((20, 30), np.float32)).shape == (20, 30)


def test_groups_are_the_components_of_patients_and_pairs() -> None:
    assert united(["a", "b", "a", None, None, "c"], [(1, 3), (3, 5)]) == [0, 1, 0, 1, 2, 1]
    assert united([None, None], []) == [0, 1]
    assert united([], []) == []


def with_copies(n_copies: int) -> Cohort:
    """24 phantoms, the last of them copies of the first, under other patients' names."""
    cohort = load_cohort("phantom-xray", limit=24)
    records = list(cohort.records)
    for place in range(n_copies):
        picture = Decoded(image(brightened(phantoms()[place])), 8)
        target = len(records) - 1 - place
        records[target] = replace(records[target], read=partial(Decoded, *picture), patient_id=f"new-{place}")
    return replace(cohort, records=tuple(records))


def test_grouping_by_duplicates_keeps_copies_on_one_side_and_their_intervals_together() -> None:
    cohort = grouped(with_copies(3), "duplicates")
    units = [record.unit for record in cohort.records]
    assert units[:3] == units[:-4:-1]
    for seed in range(5):
        halves = divide(cohort, "patient", seed=seed)
        assert not {record.unit for record in halves.train.records} & {record.unit for record in halves.test.records}
    names = pseudonymise_patients(cohort)
    assert names[units[0] or ""] == "p0001"
    assert "groups" in cohort.provenance


def test_images_of_unknown_patients_are_grouped_by_their_copies_alone() -> None:
    cohort = with_copies(1)
    unknown = replace(cohort, records=tuple(replace(record, patient_id=None) for record in cohort.records))
    found = grouped(unknown, "duplicates")
    assert found.records[0].unit == found.records[23].unit
    assert all(record.patient_id is None for record in found.records)
    divide(found, "patient")  # which could not be made before
    assert grouped(unknown, "patient") is unknown


@pytest.mark.real
def test_the_known_pairs_of_the_public_cohorts_are_found(real_data: Path) -> None:
    for name, expected in (("xray-268", 2), ("covid-ct", 7)):
        cohort = load_cohort(name, data=real_data)
        pairs = near_duplicates([look(record.read().image) for record in cohort.records])
        patients = [record.patient_id for record in cohort.records]
        others = [pair for pair in pairs if patients[pair.first] != patients[pair.second]]
        assert len(others) == expected, name
        assert min(pair.detail for pair in others) > LEAST_DETAIL + 0.1
