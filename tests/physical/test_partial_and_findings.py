"""Physical changes of runs that are not the plain case: interrupted, of several findings, of many classes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from response_factory import class_row

import dosimeter as dm
from dosimeter.analysis.physical import physical_accuracy, physical_ranking
from dosimeter.cohorts.arrays import cohort_of
from dosimeter.models.decisions import Findings
from dosimeter.record.compact import apart, compact
from dosimeter.record.table import to_frame
from dosimeter.report import redraw_partial

_FILE = Path(__file__).parent.parent / "report" / "test_partial.py"


@pytest.mark.usefixtures("tiny_networks")
def test_an_interrupted_run_reports_the_changes_that_were_made(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec = importlib.util.spec_from_file_location("interrupting", _FILE)
    assert spec is not None
    assert spec.loader is not None
    interrupting = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(interrupting)
    asked = {"preset": "sound", "model": "vgg16", "attack": "rotation", "severities": "5"}
    interrupting.interrupted(image_folder, tmp_path, 3, monkeypatch, **asked)  # two cells of FGSM, one of the change
    page = redraw_partial(tmp_path).read_text(encoding="utf-8")
    assert "What everyday changes do" in page
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["status"] == "partial"
    table = pd.read_csv(tmp_path / "tables" / "physical_accuracy.csv")
    assert set(table["severity"]) == {0.0, 5.0}
    assert (table["n"] == 4).all()
    assert "preset rotation 4 of 8" in " ".join(page.split())


def test_findings_are_decisions_of_their_own():
    found = Findings(("mass", "effusion"), (0.5, 0.5))
    classifier = tiny.convolutional_classifier(classes=found)
    images = np.random.default_rng(0).random((6, 1, tiny.SIZE_PX, tiny.SIZE_PX), dtype=np.float32)
    cohort = cohort_of(
        images, [[1, 0], [0, 1], [1, 1], [0, 0], [1, None], [0, 1]], findings=found.names, modality="xray"
    )
    rows = compact(
        dm.sweep(
            classifier, cohort, dm.change("mtf_blur", severities=[2]), compute=dm.Compute(engine="torch", workers=1)
        ).frame
    )
    table = physical_accuracy(rows)
    assert set(table["decision"]) == {"mass", "effusion"}
    assert table[table["decision"] == "mass"]["n"].tolist() == [6, 6]
    assert table[table["decision"] == "effusion"]["n"].tolist() == [5, 5]


def test_three_classes_without_a_positive_one():
    changed = {"epsilon": None, "unit": "px", "preset": "motion", "attack": "motion"}
    rows = [
        class_row(logits, label, case_id=f"{label}", severity=severity, unchanged=not severity, **changed)
        for severity, all_logits in ((0.0, np.eye(3).tolist()), (4.0, np.eye(3)[[1, 1, 1]].tolist()))
        for label, logits in enumerate(all_logits)
    ]
    physical = apart(compact(to_frame(rows)))[1]
    table = physical_accuracy(physical).set_index("severity")
    assert table["accuracy"].tolist() == pytest.approx([1, 1 / 3])
    assert table[["auc", "sensitivity", "specificity"]].isna().all(axis=None)
    assert table.loc[4.0, ["lost", "missed", "false_alarms"]].tolist() == [2, 0, 0]
    assert physical_ranking(physical)["severity50"].tolist() == [4.0]
