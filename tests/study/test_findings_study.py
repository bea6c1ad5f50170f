"""Means over findings against closed forms, and studies of three classes and of several findings up to the report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from response_factory import response_row
from torch import nn

import dosimeter as dm
from dosimeter.analysis.decisions import macro_findings
from dosimeter.record.table import Responses, to_frame
from dosimeter.report.decisions import by_finding


def rows_of(finding: str, right: dict[int, int], n: int, patients: int | None = None) -> list[dict[str, object]]:
    """Rows of a finding, `n` images with it and `n` without, of each label the first `right` answered correctly."""
    found = []
    for label in (0, 1):
        for index in range(n):
            correct = index < right[label]
            probability = (0.9 if correct else 0.1) if label else (0.2 if correct else 0.8)
            found.append(
                response_row(
                    decision=finding, label=label, case_id=f"{label}{index:04d}", probability=probability,
                    patient_id=None if patients is None else f"p{index % patients}", cohort="made", modality="",
                )
            )  # fmt: skip
    return found


def test_means_over_findings_by_hand() -> None:
    frame = to_frame(
        [*rows_of("a", {0: 10, 1: 5}, 10), *rows_of("b", {0: 6, 1: 12}, 12), *rows_of("rare", {0: 1, 1: 1}, 9)]
    )
    row = macro_findings(frame).iloc[0]
    assert (row["n_findings"], row["omitted"]) == (2, "rare")
    assert row["macro_sensitivity"] == pytest.approx((5 / 10 + 1) / 2)
    assert row["macro_specificity"] == pytest.approx((1 + 6 / 12) / 2)
    areas = [0.5, 1.0]  # a: half of the positives above every negative; b: each positive at 0.9 above all negatives
    assert row["macro_auc"] == pytest.approx(np.mean(areas))
    assert row["macro_sensitivity_low"] < row["macro_sensitivity"] < row["macro_sensitivity_high"]


def test_where_all_findings_are_rare_there_is_no_mean() -> None:
    row = macro_findings(to_frame(rows_of("a", {0: 1, 1: 1}, 3))).iloc[0]
    assert (row["n_findings"], row["omitted"]) == (0, "a")
    assert np.isnan(row["macro_sensitivity"])


def test_decisions_about_several_findings_are_in_no_mean() -> None:
    assert macro_findings(to_frame(rows_of("(any)", {0: 5, 1: 5}, 10))).empty


def test_the_report_sees_each_finding_as_a_cohort() -> None:
    frame = to_frame([*rows_of("a", {0: 3, 1: 3}, 3), *rows_of("b", {0: 3, 1: 3}, 3)])
    counts = {side: {"present": 3, "absent": 3, "unknown": 1} for side in ("all", "train", "test")}
    card = {"cohort": "made", "protocol": "paper", "classes": ["no finding", "any finding"], "n": 7,
            "finding_counts": {"a": counts, "b": counts}}  # fmt: skip
    table = pd.DataFrame({"cohort": ["made", "made"], "decision": ["a", "b"], "n": [6, 6]})
    told, tables = by_finding(Responses(frame, {"cohorts": [card]}), {"clean": table})
    assert tables["clean"].to_dict("list") == {"cohort": ["made, a", "made, b"], "n": [6, 6]}
    assert [(each["cohort"], each["classes"], each["n"]) for each in told.meta["cohorts"]] == [
        ("made, a", ["no a", "a"], 6), ("made, b", ["no b", "b"], 6),
    ]  # fmt: skip
    assert set(told.frame["cohort"]) == {"made, a", "made, b"}


@pytest.mark.parametrize(
    "cohort",
    ["phantom-3", pytest.param("phantom-findings", marks=pytest.mark.slow)],  # every finding has tables of its own
)
def test_a_study_ends_in_a_report(cohort: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.install(monkeypatch.setitem)
    config = dm.StudyConfig(
        cohort=(cohort,), limit=32, out=tmp_path / "run", epochs=2, model=("vgg16",), effort="quick",
        epsilons="0.003,0.03", preset=("sound",), attack=("pgd",), device="cpu", workers=1,
    )  # fmt: skip
    outcome = dm.run_study(config)
    page = (outcome.run.folder / "report.html").read_text(encoding="utf-8")
    results = json.loads((outcome.run.folder / "summary.json").read_text())["results"]
    tables = {path.stem: pd.read_csv(path) for path in (outcome.run.folder / "tables").glob("*.csv")}
    if cohort == "phantom-3":
        assert "Class by class" in page
        assert "positive class" not in page
        assert results[0]["macro_auc"]["value"] == pytest.approx(tables["class_auc"]["auc"].iloc[-1])
        assert tables["macro_recall"]["n_classes"].eq(3).all()
    else:
        names = {"opacity", "effusion", "pacemaker"}
        assert set(tables["clean_metrics"]["decision"]) == names
        assert {result["cohort"] for result in results} == {f"phantom-findings, {name}" for name in names}
        assert "Findings together" in page
        assert set(tables["evaluation"]["decision"]) == names
    assert dm.run_study(config).reused


@pytest.mark.slow  # a study of several findings
def test_evidence_toward_frameworks_tells_every_finding() -> None:
    side, at_each_side = 16, torch.zeros(2, 16, 16)
    at_each_side[0, :, :8], at_each_side[1, :, 8:] = 1 / 128, 1 / 128
    layer = nn.Linear(side**2, 2)
    layer.weight.data, layer.bias.data = 20 * at_each_side.flatten(1), torch.full((2,), -10.0)
    names = ("left", "right")
    half = dm.classifier(
        nn.Sequential(nn.Flatten(), layer), size_px=side, classes=names, outputs="findings", channels=1, name="half"
    )
    there = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 3)
    images = np.repeat(0.5 + (2 * there - 1) * [0.1, 0.05], side // 2, axis=1)[:, None, None, :]
    cohort = dm.cohort_of(np.tile(images, (1, 1, side, 1)).astype(np.float32), there, findings=names)
    found = dm.audit(half, cohort, attacks="pgd", epsilons=["4/255", "64/255"])
    table = pd.read_csv(found.folder / "tables" / "evidence.csv").set_index("item")["shows"]
    robust = table["Robustness or sensitivity analysis"]
    assert "half, left 0.1 of the range" in robust  # each half is moved until its mean is the threshold
    assert "half, right 0.05 of the range" in robust
    said = table["Art. 15(3), accuracy to be declared"]
    assert said.count("100.0 %") == 2
    assert "half, left 100.0 %" in said
    judged = table["Art. 15(5), adversarial examples and model evasion"]
    assert "half, left PASS; half, right PASS" in judged
    assert "half, left 0." in table["22, calibration"]
    assert "half, right 0." in table["22, calibration"]
    (goal,) = {row for row in table[table.index.str.startswith("NISTAML")] if "Goal" in row}
    assert goal.startswith("Goal: another answer about the finding;")
