"""Source shift: which sources can be left out, the splits, and the table of what each costs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import dosimeter as dm
from dosimeter.cli.app import app
from dosimeter.cohorts.arrays import cohort_of
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.sources import leave_out, sources_of
from dosimeter.errors import DosimeterError


def cohort(rows: list[tuple[str | None, int, str]]) -> Cohort:
    """Images of (source, label, patient)."""
    images = np.random.default_rng(0).random((len(rows), 1, 8, 8), dtype=np.float32)
    made = cohort_of(images, [label for _, label, _ in rows], classes=("clear", "opacity"), name="mine")
    records = [
        replace(record, source=source, patient_id=patient)
        for record, (source, _, patient) in zip(made.records, rows, strict=True)
    ]
    return replace(made, records=tuple(records))


ROWS = [(source, place % 2, f"{source}{place}") for source in ("A", "B", "C") for place in range(6)]


def test_a_source_that_is_left_out_is_in_no_training_and_neither_are_its_patients():
    images = cohort([*ROWS, ("A", 0, "B1"), ("D", 1, "d"), ("D", 1, "e"), (None, 0, "f")])
    assert sources_of(images).names == ["A", "B", "C"]
    assert sources_of(images).refused == ["D (2 opacity)"]
    halves = leave_out(images, "B", seed=3)
    assert {record.source for record in halves.test.records} == {"B"}
    assert {record.source for record in halves.train.records} == {"A", "C"}
    assert "B1" not in {record.patient_id for record in halves.train.records}
    assert (len(halves.test), len(halves.train), halves.n_unused, halves.protocol) == (6, 12, 4, "source")
    with pytest.raises(DosimeterError, match="has no source 'D' with every class"):
        leave_out(images, "D", seed=0)


def test_sources_of_one_label_each_are_refused_with_the_reason():
    images = cohort([("A", 0, "a"), ("A", 0, "b"), ("B", 1, "c"), ("B", 1, "d")])
    with pytest.raises(
        DosimeterError, match="2 of its 2 sources carry one label each, so that what a new source costs"
    ):
        sources_of(images)
    with pytest.raises(DosimeterError, match=r"states no source. Give its list a column source"):
        sources_of(cohort([(None, 0, "a"), (None, 1, "b")]))


@pytest.mark.usefixtures("tiny_networks", "only_tables")
def test_the_command_says_what_each_source_costs(image_folder: Path, tmp_path: Path):
    listed = pd.read_csv(image_folder / "cases.csv")
    listed["source"] = ["north" if each % 4 < 2 else "south" for each in range(len(listed))]
    cases = image_folder / "sources.csv"
    listed.to_csv(cases, index=False)
    out = tmp_path / "shift"
    asked = ["--cohort", f"csv:{cases}", "--model", "vgg16", "--epochs", "1", "--epsilons", "0.01", "--out", str(out)]
    result = CliRunner().invoke(app, ["shift", *asked])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out / "source_shift.csv")
    assert table["source"].tolist() == ["north", "south"]
    assert table["n"].sum() == len(listed)
    for row in table.to_dict("records"):
        folder = out / f"without-source-{['north', 'south'].index(row['source'])}"
        rows = dm.read_responses(folder / "responses.parquet").frame
        clean = rows[(rows["epsilon"] == 0) & (rows["storage"] == "float")]
        assert row["accuracy"] == pytest.approx(clean["correct"].mean())
        assert row["cost"] == pytest.approx(row["within"] - row["accuracy"], nan_ok=True)
        assert row["n_train"] + row["n"] <= len(listed)
        assert not row["cost_low"] > row["cost"]
    assert "left out of training" in result.output


def test_x_rays_whose_sources_carry_one_label_each_are_refused(image_folder: Path, tmp_path: Path):
    listed = pd.read_csv(image_folder / "cases.csv")
    listed["source"] = "of " + listed["label"].astype(str)
    cases = image_folder / "apart.csv"
    listed.to_csv(cases, index=False)
    told = CliRunner().invoke(
        app, ["shift", "--cohort", f"csv:{cases}", "--model", "vgg16", "--out", str(tmp_path / "x")]
    )
    assert isinstance(told.exception, DosimeterError)
    assert "sources carry one label each" in str(told.exception)
    assert not (tmp_path / "x").exists()
