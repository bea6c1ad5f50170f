"""Runs compared on the images that they share: the numbers are those of the paired analysis, of these images alone."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from every_table import everyday
from pages import write_responses
from response_factory import make_responses

from dosimeter.analysis import names
from dosimeter.analysis.paired import compare as paired_compare
from dosimeter.analysis.wording import records
from dosimeter.cli import main
from dosimeter.cli.compare import labels
from dosimeter.comparison.compare import COLUMNS, PHYSICAL, Comparison, compare, in_force, lines, quoted
from dosimeter.comparison.page import as_json, render
from dosimeter.comparison.write import write
from dosimeter.errors import DosimeterError
from dosimeter.record.table import Responses, compact, responses_of

NETWORKS: dict[str, Any] = {
    "cohorts": {"xray-268": "xray"},
    "epsilons": (0.0, 1e-3, 3e-3),
    "models": ("vgg16",),
    "refine": False,
    "exemplars": False,
    "error_row": False,
}


def responses(**changes: Any) -> Responses:
    made = make_responses(**{**NETWORKS, **changes})
    return Responses(compact(made.frame), made.meta)


@pytest.fixture(scope="module")
def old() -> Responses:
    return responses()


def broken(run: Responses, n: int) -> Responses:
    """The run, with the first right answers of every curve at epsilon 0.001 made wrong."""
    frame = run.frame.copy()
    there = (frame["epsilon"] == 1e-3) & frame["correct"]
    cases = sorted(frame.loc[there, "case_id"].unique())[:n]
    hit = there & frame["case_id"].isin(cases)
    frame.loc[hit, "predicted"] = 1 - frame.loc[hit, "label"]
    frame.loc[hit, "correct"] = False
    return Responses(frame, run.meta)


def compared(*runs: tuple[str, Responses]) -> Comparison:
    with in_force(runs):
        return compare(runs)


def right(run: Responses, preset: str, epsilon: float) -> "pd.Series[float]":
    rows = run.frame[
        (run.frame["preset"] == preset) & (run.frame["storage"] == "float") & (run.frame["epsilon"] == epsilon)
    ]
    return rows.set_index("case_id")["correct"].astype(float).sort_index()


def test_a_difference_is_that_of_the_paired_analysis(old: Responses) -> None:
    new = broken(old, 4)
    found = compared(("old", old), ("new", new))
    assert list(found.table.columns) == COLUMNS
    rows = found.table[(found.table["preset"] == "sound") & (found.table["storage"] == "float")].set_index("epsilon")
    after, before = right(new, "sound", 1e-3), right(old, "sound", 1e-3)
    patients = [case.partition("-")[0] for case in before.index]
    patients = [str(int(place) // 2) for place in patients]
    expected = paired_compare(after.to_numpy()[:, None], before.to_numpy()[:, None], np.array(patients))
    row = rows.loc[1e-3]
    assert row["difference"] == pytest.approx(-4 / len(before))
    assert (row["right_alone"], row["right_alone_against"]) == (0, 4)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low[0], expected.high[0]))
    assert row["p_mcnemar"] == pytest.approx(0.125)  # 2 * (1/2)^4
    assert (rows.loc[[0.0, 3e-3], "difference"] == 0).all()


def test_only_shared_images_count(old: Responses) -> None:
    kept = sorted(old.frame["case_id"].unique())[::2]
    fewer = Responses(old.frame[old.frame["case_id"].isin(kept)], old.meta)
    found = compared(("old", old), ("half", fewer))
    assert (found.shared[0].n, found.shared[0].n_first, found.shared[0].n_other) == (len(kept), 24, len(kept))
    assert str(found.shared[0]) == "12 test images are shared, of 24 and 12"
    assert (found.table["n_common"] == len(kept)).all()
    row = found.table[(found.table["preset"] == "sound") & (found.table["epsilon"] == 1e-3)].iloc[0]
    assert row["accuracy"] == row["accuracy_against"] == right(fewer, "sound", 1e-3).mean()


def test_the_only_model_of_each_is_compared_whatever_its_name(old: Responses) -> None:
    other = responses(models=("inception_v3",))
    found = compared(("old", old), ("new", other))
    assert set(found.table["model"]) == {"inception_v3"}
    assert set(found.table["against"]) == {"vgg16"}
    assert any("Inception-v3 against VGG16" in line for line in lines(found))


def test_seeds_are_told_apart(old: Responses) -> None:
    several = responses(repeats=2)
    said = "\n".join(lines(compared(("a", several), ("b", several))))
    assert "seed 0)" in said
    assert "seed 1)" in said
    other = Responses(several.frame[several.frame["seed"] == 1], several.meta)
    assert "VGG16 against seed 0 on" in "\n".join(lines(compared(("a", old), ("b", other))))


def test_several_runs_are_compared_with_the_first(old: Responses) -> None:
    found = compared(("a", old), ("c", broken(old, 2)), ("b", broken(old, 3)))
    assert list(dict.fromkeys(quoted(found)["run"])) == ["c", "b"]  # as they were named, not as they sort
    assert set(found.table["reference"]) == {"a"}


def test_the_worst_case_is_quoted_where_there_is_one(old: Responses) -> None:
    several = responses(attacks=("pgd", "random_sign"))
    attacked = quoted(compared(("a", several), ("b", several)))
    assert set(attacked.loc[attacked["epsilon"] > 0, "preset"]) == {"worst case"}
    assert set(attacked["evaluation"]) <= {"", "PASS", "CAUTION", "UNRELIABLE"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda run: Responses(run.frame.assign(cohort=pd.Categorical(["x"] * len(run.frame))), run.meta),
            "share none",
        ),
        (lambda run: Responses(run.frame.assign(label=1 - run.frame["label"]), run.meta), "must have one label"),
        (
            lambda run: Responses(run.frame, {**run.meta, "schema_version": 3}),
            "one schema version, old has 1 and new 3",
        ),
        (lambda run: Responses(run.frame[run.frame["storage"] == "png8"], run.meta), None),
        (
            lambda run: Responses(
                run.frame.assign(epsilon=run.frame["epsilon"] * 1.5)[run.frame["epsilon"] > 0], run.meta
            ),
            "share none",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_one_sentence(old: Responses, change: Any, said: str | None) -> None:
    if said is None:  # what both have is compared
        assert set(compared(("old", old), ("new", change(old))).table["storage"]) == {"png8"}
        return
    with pytest.raises(DosimeterError, match=said):
        compared(("old", old), ("new", change(old)))


def test_one_run_is_nothing_to_compare(old: Responses) -> None:
    with pytest.raises(DosimeterError, match="two runs or more"):
        compared(("old", old))


def test_the_page_is_one_file_that_needs_nothing(old: Responses, tmp_path: Path) -> None:
    runs = (("old <b>", old), ("new", broken(old, 4)))
    with in_force(runs):
        found = compare(runs)
        page = render(found)
        assert write(found, tmp_path / "out") == tmp_path / "out" / "comparison.html"
    assert "old &lt;b&gt;" in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "all 24 test images are shared" in page
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert list(table.columns) == COLUMNS
    assert len(table) == len(found.table)
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written == json.loads(json.dumps(as_json(found)))
    assert written["shared"]["new"]["n"] == 24
    (tmp_path / "file").write_text("")
    with in_force(runs), pytest.raises(DosimeterError, match="must be a folder that can be written"):
        write(found, tmp_path / "file" / "out")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_responses(make_responses(**NETWORKS), tmp_path / name)
    command = ["dosimeter", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "b against a: all 24 test images are shared"
    assert printed[-1] == f"comparison: {tmp_path / 'c' / 'comparison.html'}"


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert labels([tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "z"]) == ["run (1)", "run (2)", "z"]


# --- physical changes


def changed(frame: pd.DataFrame, meta: dict[str, Any]) -> Responses:
    with names.of(meta):
        return responses_of(compact(frame), meta)


def test_physical_changes_are_compared_severity_by_severity() -> None:
    made = everyday()
    frame = made.frame.copy()
    lost = (frame["preset"] == "dose_fraction") & (frame["severity"] == 0.5) & (frame["case_id"] < "00010")
    frame.loc[lost, "correct"] = False
    frame.loc[lost, "predicted"] = 1 - frame.loc[lost, "label"]
    runs = ("old", changed(made.frame, made.meta)), ("new", changed(frame, made.meta))
    found = compared(*runs)
    assert list(found.physical.columns) == PHYSICAL
    rows = {(row["change"], row["severity"]): row for row in records(found.physical)}
    assert set(rows) == {("dose_fraction", each) for each in (1.0, 0.5, 0.25, 0.1)} | {
        ("rotation", each) for each in (0.0, -5.0, -10.0)
    }
    row = rows.pop(("dose_fraction", 0.5))
    was = frame.loc[lost, "case_id"].nunique() - 4  # four of the ten were wrong before
    assert (row["right_alone"], row["right_alone_against"]) == (0, was)
    assert row["difference"] == pytest.approx(-was / 20)
    assert row["p_mcnemar"] == pytest.approx(2 * 0.5**was)
    assert {each["difference"] for each in rows.values()} == {0}
    assert len(found.table) == len(compared(("old", runs[0][1]), ("new", runs[0][1])).table)  # attacks are as they were
    with in_force(runs):
        assert (
            "new: physical changes, 7 severities in all, are compared on the page: dose fraction, rotation."
            in lines(found)
        )
        assert "Physical changes" in render(found)
        assert [each["severity"] for each in as_json(found)["physical"]] == list(found.physical["severity"])


def test_runs_without_physical_changes_say_nothing_of_them(old: Responses) -> None:
    found = compared(("old", old), ("new", old))
    assert found.physical.empty
    with in_force([("old", old), ("new", old)]):
        assert "Physical changes" not in render(found)
