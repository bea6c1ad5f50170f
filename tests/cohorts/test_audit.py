"""The data audit: each check fires on a cohort made to fail it and stays quiet on a sound one."""

import json
import os
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats.contingency import association

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.audit import Finding, audit, cramers_v
from dosimeter.cohorts.base import Cohort, Decoded, Record, Skipped

DATA = os.environ.get("DOSIMETER_DATA")
N = 40


def make_cohort(**columns: list[Any]) -> Cohort:
    """40 images of 40 patients, two sources with both labels; `columns` replace a field for every image."""
    ramp = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 4)
    images = [Decoded(ramp * (215 + index) / 255, 8) for index in range(N)]
    fields = {
        "label": [index % 2 for index in range(N)],
        "patient_id": [f"p{index}" for index in range(N)],
        "source": ["ab"[index // 2 % 2] for index in range(N)],
        "official_split": [None] * N,
        "decoded": images,
    } | columns
    records = tuple(
        Record(
            case_id=f"{index:05d}",
            sha256="0",
            read=lambda decoded=fields["decoded"][index]: decoded,
            **{name: fields[name][index] for name in ("label", "patient_id", "source", "official_split")},
        )
        for index in range(N)
    )
    return Cohort("made", ("clear", "ill"), records)


def found(cohort: Cohort) -> dict[str, Finding]:
    findings = audit(cohort)
    assert len({finding.check for finding in findings}) == len(findings)
    for finding in findings:
        assert finding.message.endswith(".")
        json.dumps(finding.numbers)
    return {finding.check: finding for finding in findings}


def test_a_sound_cohort_passes() -> None:
    findings = found(make_cohort())
    assert {check: finding.level for check, finding in findings.items()} == {
        "classes": "info",
        "unreadable": "pass",
        "sizes": "info",
        "depths": "info",
        "contrast": "pass",
        "patients": "info",
        "patients in both sides, paper split": "pass",
        "images in both sides, paper split": "pass",
        "images in both sides, patient split": "pass",
        "duplicates": "pass",
        "sources": "pass",
        "licences": "info",
    }
    assert findings["classes"].numbers == {"n": 40, "clear": 20, "ill": 20}
    assert findings["sources"].numbers["cramers_v"] == pytest.approx(0)


def test_sizes_and_depths_are_measured() -> None:
    shapes = [(1, 3 + index, 50 - index) for index in range(N)]
    images = [Decoded(np.full(shape, 0.5, np.float32), 8) for shape in shapes]
    images[0] = Decoded(np.full((3, 100, 9), 0.05, np.float32), 16)
    images[1] = Decoded(np.full((1, 2, 2), 0.9, np.float32), 16)
    findings = found(make_cohort(decoded=images))
    assert findings["sizes"].numbers["height"] == {"min": 2, "median": 23.5, "max": 100}
    assert findings["sizes"].numbers["width"] == {"min": 2, "median": 28.5, "max": 48}
    assert findings["depths"].numbers == {"bits": {"8": 38, "16": 2}, "grey": 39, "colour": 1}
    assert findings["depths"].level == "info"


@pytest.mark.parametrize(("n_flat", "level"), [(0, "pass"), (1, "warn"), (4, "warn"), (5, "fail"), (N, "fail")])
def test_flat_images_are_named(n_flat: int, level: str) -> None:
    ramp = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 4)
    flat = [Decoded(0.5 + 0.03 * ramp + index / 1000, 16) for index in range(n_flat)]
    finding = found(make_cohort(decoded=flat + [Decoded(ramp, 8)] * (N - n_flat)))["contrast"]
    assert finding.level == level
    assert finding.numbers["n"] == n_flat
    assert finding.numbers["cases"] == [f"{index:05d}" for index in range(n_flat)]
    assert (f"{n_flat} of 40 images" in finding.message) == (n_flat > 0)


def test_modalities_are_counted_where_headers_state_them() -> None:
    cohort = make_cohort()
    assert "modalities" not in found(cohort)
    for stated, level in ((["ct"] * N, "info"), (["ct", "xray"] * (N // 2), "warn"), ([None] + ["ct"] * 39, "warn")):
        records = tuple(replace(record, modality=name) for record, name in zip(cohort.records, stated, strict=True))
        assert found(replace(cohort, records=records))["modalities"].level == level


def test_rare_classes_and_unreadable_files_are_warned_of() -> None:
    cohort = make_cohort(label=[1] * 3 + [0] * 37)
    findings = found(replace(cohort, skipped=(Skipped("a.png", "the file is empty."),)))
    assert findings["classes"].level == "warn"
    assert findings["unreadable"].level == "warn"
    assert findings["unreadable"].numbers == {"n": 1, "files": [["a.png", "the file is empty."]]}


def test_patients_on_both_sides_are_counted() -> None:
    leaky = found(make_cohort(patient_id=[f"p{index // 8}" for index in range(N)]))
    assert leaky["patients"].numbers["n_patients"] == 5
    assert leaky["patients"].numbers["most_images"] == 8
    assert leaky["patients in both sides, paper split"].level == "warn"
    assert leaky["patients in both sides, paper split"].numbers == {"n_test": 8, "n_shared": 8}


def test_unknown_patients_are_a_warning_not_a_pass() -> None:
    findings = found(make_cohort(patient_id=[None] * 10 + [f"p{i}" for i in range(30)]))
    assert findings["patients"].level == "warn"
    assert findings["patients"].numbers["n_unknown"] == 10
    assert findings["patients in both sides, paper split"].level == "warn"
    assert found(make_cohort(patient_id=[None] * N))["patients"].numbers["images_per_patient"] is None


def test_ids_that_are_one_number_or_name_written_twice_are_a_warning_that_names_none() -> None:
    ids = ["17", "017", "17.0", "Miller", "miller ", *(f"p{index}" for index in range(N - 5))]
    finding = found(make_cohort(patient_id=ids))["patients"]
    assert finding.level == "warn"
    assert finding.numbers["n_written_twice"] == 5
    assert "5 of 40 patient ids are another one written otherwise" in finding.message
    assert "17.0" not in finding.message
    assert "iller" not in finding.message
    assert found(make_cohort(patient_id=[str(index) for index in range(N)]))["patients"].level == "info"


@pytest.mark.parametrize(("patient", "level"), [("p0", "fail"), ("new", "pass")])
def test_a_leaking_official_split_fails(patient: str, level: str) -> None:
    sides = ["train"] * 30 + ["test"] * 10
    patients = [f"p{index}" for index in range(N - 1)] + [patient]
    finding = found(make_cohort(official_split=sides, patient_id=patients))["patients in both sides, official split"]
    assert finding.level == level
    assert finding.numbers == {"n_test": 10, "n_shared": int(level == "fail")}


def test_a_split_that_cannot_be_made_is_said() -> None:
    finding = found(make_cohort(label=[1] + [0] * 39))["patients in both sides, paper split"]
    assert finding.level == "info"
    assert "Not checked" in finding.message


@pytest.mark.parametrize(("copy_of", "level", "n_conflicts"), [(2, "warn", 0), (1, "fail", 1)])
def test_duplicates_by_pixels(copy_of: int, level: str, n_conflicts: int) -> None:
    images = [Decoded(np.full((1, 3, 4), (index + 1) / 255, np.float32), 8) for index in range(N)]
    images[0] = Decoded(images[copy_of].image.copy(), 8)
    finding = found(make_cohort(decoded=images))["duplicates"]
    assert finding.level == level
    assert finding.numbers["n_conflicts"] == n_conflicts
    assert finding.numbers["groups"] == [["00000", f"{copy_of:05d}"]]
    images[0] = Decoded(images[copy_of].image.reshape(1, 4, 3), 8)  # the same values, another picture
    assert found(make_cohort(decoded=images))["duplicates"].level == "pass"


def test_pixels_on_both_sides_are_counted() -> None:
    sides = ["train"] * 30 + ["test"] * 10
    images = [Decoded(np.full((1, 3, 4), (index + 1) / 255, np.float32), 8) for index in range(N)]
    for test, train in ((30, 0), (31, 0), (35, 7)):
        images[test] = Decoded(images[train].image.copy(), 16)
    finding = found(make_cohort(decoded=images, official_split=sides))["images in both sides, official split"]
    assert finding.level == "fail"
    assert finding.numbers == {"n_test": 10, "n_shared": 3}


def test_what_is_not_read_by_rule_is_said() -> None:
    cohort = replace(make_cohort(), notes=("columns that have no meaning here were not read: age.",))
    assert found(cohort)["not read"].message.endswith("age.")


@pytest.mark.parametrize(
    ("source", "level", "message"),
    [
        (["ab"[index % 2] for index in range(N)], "warn", "Every source has one label only .*may learn the source"),
        (["c" if index == 0 else "ab"[index // 2 % 2] for index in range(N)], "warn", "1 have one label only"),
        (["ab"[(index % 2 + (index >= 30)) % 2] for index in range(N)], "warn", "V .* is 0\\.50 .*may learn"),
        ([None] * N, "warn", "No image names its source"),
        ([None if index < 4 else "ab"[index // 2 % 2] for index in range(N)], "warn", "4 images name no source"),
        (["a"] * N, "pass", "All images are of one source."),
    ],
)
def test_sources_against_labels(source: list[str | None], level: str, message: str) -> None:
    finding = found(make_cohort(source=source))["sources"]
    assert finding.level == level
    assert re.search(message, finding.message)


def test_cramers_v_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        table = rng.integers(1, 30, (rng.integers(2, 6), 2))
        assert cramers_v(table) == pytest.approx(association(table, method="cramer"))
    assert cramers_v([[7, 0], [0, 3]]) == pytest.approx(1)
    assert cramers_v([[5, 5], [0, 0]]) == 0


def test_licences_are_listed() -> None:
    cohort = replace(make_cohort(), provenance={"licences": {"CC0": 39, "not stated": 1}})
    assert found(cohort)["licences"].numbers == {"CC0": 39, "not stated": 1}


@pytest.mark.real
@pytest.mark.skipif(not DATA, reason="DOSIMETER_DATA is not set")
@pytest.mark.parametrize("name", ["xray-268", "xray-268-child"])
def test_the_real_xrays_are_flagged_as_source_detectors(name: str) -> None:
    finding = found(load_cohort(name))["sources"]
    assert finding.level == "warn"
    assert finding.numbers["n_single_label"] == len(finding.numbers["table"]) == 2
    assert finding.numbers["cramers_v"] == pytest.approx(1)


@pytest.mark.real
@pytest.mark.skipif(not DATA, reason="DOSIMETER_DATA is not set")
def test_the_real_slices_share_patients_only_in_the_paper_split() -> None:
    findings = found(load_cohort("covid-ct"))
    assert findings["patients in both sides, paper split"].numbers == {"n_test": 150, "n_shared": 101}
    assert findings["patients in both sides, official split"].level == "pass"
    assert findings["duplicates"].level == "pass"
    assert findings["depths"].numbers["bits"] == {"8": 746}
