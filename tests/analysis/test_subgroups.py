"""Subgroups: who is in which, what a gap's interval holds, and that none is said without one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import dosimeter as dm
from dosimeter.analysis.clusters import per_patient
from dosimeter.analysis.intervals import difference_interval, wilson
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.subgroups import members, told
from dosimeter.sections.subgroups.page import gap_sentences

SIZE_PX, CLASSES = 8, ("dark", "bright")
NARROW, WIDE = round(4 / 255, 9), round(16 / 255, 9)


def brightness() -> dm.Classifier:
    """A classifier of the mean grey: an image falls at the epsilon by which it is brighter or darker than 0.5."""
    layer = nn.Linear(SIZE_PX**2, 2)
    layer.weight.data = torch.stack([-torch.ones(SIZE_PX**2), torch.ones(SIZE_PX**2)]) * 20 / SIZE_PX**2
    layer.bias.data = torch.tensor([10.0, -10.0])
    net = nn.Sequential(nn.Flatten(), layer)
    return dm.classifier(net, size_px=SIZE_PX, classes=CLASSES, channels=1, name="brightness")


def divided(sizes: dict[str, tuple[int, float]]) -> Cohort:
    """Flat images: of each value of sex so many, so far from the boundary."""
    label = [place % 2 for n, _ in sizes.values() for place in range(n)]
    far = np.array([each for n, each in sizes.values() for _ in range(n)])
    level = 0.5 + far * (2 * np.array(label) - 1) + np.linspace(0, 1e-3, len(label))  # no two are the same image
    images = np.ones((len(label), 1, SIZE_PX, SIZE_PX)) * level[:, None, None, None]
    plain = dm.cohort_of(images.astype(np.float32), label, CLASSES)
    sexes = [sex for sex, (n, _) in sizes.items() for _ in range(n)]
    records = tuple(
        replace(record, facts=(("sex", sex),) if sex else (), source=("east", "west")[place % 2])
        for place, (record, sex) in enumerate(zip(plain.records, sexes, strict=True))
    )
    return replace(plain, records=records)


@pytest.fixture(scope="module")
def audit() -> "dm.study.audit.Audit":  # type: ignore[name-defined]
    cohort = divided({"female": (20, 0.3), "male": (16, 0.02), "other": (4, 0.3), "": (3, 0.3)})
    return dm.audit(brightness(), cohort, attacks="pgd", epsilons=["4/255", "16/255"], data_audit=False)


def test_who_is_in_which_subgroup() -> None:
    cohort = divided({"female": (3, 0.1), "male": (2, 0.1), "": (1, 0.1)})
    found = members(cohort)
    assert {value: len(cases) for value, cases in found["sex"].items()} == {"female": 3, "male": 2}
    assert set(found["source"]) == {"east", "west"}
    assert next(told(cohort)).order == ["female", "male", "not stated"]
    alone = replace(cohort, records=tuple(replace(each, source="east", facts=()) for each in cohort.records))
    assert members(alone) == {}, "what does not divide the images is no fact of subgroups"


def test_accuracies_are_those_of_the_closed_form(audit) -> None:  # type: ignore[no-untyped-def]
    table = read(audit, "subgroup_accuracy")
    sexes = table[table["fact"] == "sex"].set_index(["value", "epsilon"])
    assert sexes.loc[("female", WIDE), "accuracy"] == 1
    assert sexes.loc[("male", NARROW), "accuracy"] == 1
    assert sexes.loc[("male", WIDE), "accuracy"] == 0
    assert sexes.loc[("male", WIDE), "ci_high"] == pytest.approx(float(wilson(0, 16).high))
    assert set(table["preset"]) == {"worst case"}
    assert np.isnan(sexes.loc[("other", 0.0), "accuracy"])
    assert sexes.loc[("other", 0.0), "n"] == 4
    halves = read(audit, "subgroup_epsilon50").set_index("value")
    assert halves.loc["male", "epsilon50"] == pytest.approx(0.02, abs=2e-3)
    assert halves.loc["female", "censored"]
    assert "other" not in halves.index


def test_a_gap_is_told_against_all_others_and_said_where_it_is_clear(audit) -> None:  # type: ignore[no-untyped-def]
    gaps = read(audit, "subgroup_gaps")
    male = gaps[(gaps["value"] == "male") & np.isclose(gaps["epsilon"], WIDE)].iloc[0]
    assert (male["n"], male["n_against"], male["against"]) == (16, 24, "all others")  # who is not stated is in neither
    assert male["difference"] == -1
    assert male["difference_high"] < -0.5
    assert set(gaps.loc[gaps["fact"] == "source", "value"]) == {"east"}, "of two values the gap is told once"
    assert set(gaps["n_gaps"]) == {6}  # female, male and source, without attack and under it
    east = gaps[(gaps["fact"] == "source") & np.isclose(gaps["epsilon"], WIDE)].iloc[0]
    assert east["difference_low"] < 0 < east["difference_high"]


def test_the_report_says_what_is_clear_and_what_was_omitted(audit) -> None:  # type: ignore[no-untyped-def]
    page = (audit.folder / "report.html").read_text()
    assert "Subgroup by subgroup" in page
    assert "Omitted, with fewer than 10 images: sex other (4)." in page
    summary = json.loads((audit.folder / "summary.json").read_text())["subgroups"]
    assert {row["value"] for row in summary["accuracy"]} == {"female", "male", "other", "east", "west"}
    for sentence in summary["said"]:
        assert sentence in page
        assert "source" not in sentence, "its interval holds 0"


def test_where_none_is_clear_that_is_said(audit) -> None:  # type: ignore[no-untyped-def]
    gaps = read(audit, "subgroup_gaps")
    clean = gaps[gaps["epsilon"] == 0]
    assert gap_sentences({"subgroup_gaps": clean}) == [
        "No gap between subgroups is clear: the interval of each of 3 holds 0."
    ]


def test_images_of_a_cohort_without_facts_have_no_such_section(tmp_path: Path) -> None:
    plain = divided({"": (12, 0.1)})
    plain = replace(plain, records=tuple(replace(each, source=None) for each in plain.records))
    found = dm.audit(brightness(), plain, attacks="pgd", epsilons=["4/255"], data_audit=False, out=tmp_path / "run")
    assert not list(found.folder.glob("tables/subgroup*"))
    assert "Subgroup by subgroup" not in (found.folder / "report.html").read_text()


def test_a_difference_is_newcombe_s_where_no_patient_is_in_both() -> None:
    patient = np.arange(36)
    kind = patient < 16
    right = np.where(kind, patient % 2, patient % 4 > 0).astype(float)  # 8 of 16; 15 of 20
    counts = [per_patient(np.where(side, values, 0), patient) for side in (kind, ~kind) for values in (right, 1.0)]
    low, high = difference_interval(*counts)
    one, two = wilson(8, 16), wilson(15, 20)
    assert float(low) == pytest.approx(0.5 - 0.75 - np.hypot(0.5 - one.low, two.high - 0.75))
    assert float(high) == pytest.approx(0.5 - 0.75 + np.hypot(one.high - 0.5, 0.75 - two.low))


def test_it_is_narrower_where_patients_are_alike_in_both() -> None:
    ones = np.ones(40)
    first = (np.arange(40) % 2).astype(float)
    alike, apart = difference_interval(first, ones, first, ones), difference_interval(first, ones, 1 - first, ones)
    assert alike.high - alike.low < 0.05
    assert apart.high - apart.low > 0.5


def read(audit, name: str):  # type: ignore[no-untyped-def]
    table = pd.read_csv(audit.folder / "tables" / f"{name}.csv")
    return table.assign(epsilon=table["epsilon"].round(9)) if "epsilon" in table else table
