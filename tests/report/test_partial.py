"""A run that was interrupted is reported as far as it came, and says so; the answer of a run in its last lines."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sketches
from response_factory import make_responses
from tiny import settings

import dosimeter.executors.local
import dosimeter.report
import dosimeter.study.run
from dosimeter.analysis.repeats import first_repeat
from dosimeter.cli import main
from dosimeter.errors import DosimeterError
from dosimeter.record import table as responses
from dosimeter.record.table import Responses
from dosimeter.report import redraw, redraw_partial, summarise, unreported
from dosimeter.report.answer import answer
from dosimeter.report.build import build_tables
from dosimeter.report.partial import read_partial
from dosimeter.study.run import run_study


def interrupted(images: Path, folder: Path, n_cells: int, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Leave a run that was stopped by Ctrl-C once `n_cells` cells were done."""
    whole, n_done = dosimeter.executors.local.execute_cell, 0

    def stopping(*arguments: Any, **options: Any) -> Any:
        nonlocal n_done
        if n_done == n_cells:
            raise KeyboardInterrupt
        n_done += 1
        return whole(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(dosimeter.executors.local, "execute_cell", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_study(settings(images, folder, **{"epochs": 1, "workers": 1, **changes}))


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize(
    "n_cells",
    [1, *(pytest.param(each, marks=pytest.mark.slow) for each in (2, 5)), 3, 7],  # a study and two reports each
)
def test_an_interrupted_run_is_reported_as_far_as_it_came(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_cells: int
) -> None:
    interrupted(image_folder, tmp_path, n_cells, monkeypatch, attack="random_sign" if n_cells == 3 else "")
    parts = sorted((tmp_path / "parts").iterdir())
    with sketches.drawn_alone("accuracy", "drop") if n_cells == 5 else nullcontext():
        page = redraw_partial(tmp_path).read_text()
    assert page.count("PARTIAL") >= 2
    assert "not begun" in page or n_cells > 4
    assert "no random sample" in page
    assert 'class="everywhere"' in page
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "partial"
    assert answer(tmp_path)[0].startswith("PARTIAL RUN: This run was interrupted")
    for table in (tmp_path / "tables").glob("*.tex"):
        assert table.read_text().startswith("% PARTIAL"), table.name
    drawn = [figure.read_text() for figure in (tmp_path / "figures").glob("*.svg")]
    assert drawn
    assert all("PARTIAL" in figure for figure in drawn)
    rows = pd.concat(responses.read_part(part) for part in parts)
    curves = pd.read_csv(tmp_path / "tables" / "fgsm_accuracy.csv")
    for row in curves.itertuples():
        names = {name: getattr(row, name) for name in ("model", "preset", "storage", "epsilon")}
        mine = rows[rows["on_grid"] & (rows[list(names)] == pd.Series(names)).all(axis=1)]
        assert (row.n, row.correct) == (len(mine), mine["correct"].sum())


@pytest.mark.usefixtures("tiny_networks")
def test_a_repeat_that_has_not_begun_is_told_as_such_and_nowhere_else(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(image_folder, tmp_path, 3, monkeypatch, model="vgg16", repeats=2)
    found = read_partial(tmp_path)
    assert len(found.meta["cohorts"]) == 2
    assert [card["seed"] for card in first_repeat(found, {})[0].meta["cohorts"]] == [0]
    page = redraw_partial(tmp_path).read_text()
    assert "seed 1): not begun." in page
    said = json.loads((tmp_path / "summary.json").read_text())
    assert sum("show a patient who is also in training" in sentence for sentence in said["verdict"]) == 1


@pytest.mark.usefixtures("tiny_networks")
def test_the_run_goes_on_and_the_mark_goes_away(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(image_folder, tmp_path, 2, monkeypatch, model="vgg16")
    redraw_partial(tmp_path)
    with pytest.raises(DosimeterError, match="does not exist"):
        redraw(tmp_path)
    run_study(settings(image_folder, tmp_path, epochs=1, workers=1, model="vgg16"))
    assert "PARTIAL" not in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "interim.json").exists()
    with pytest.raises(DosimeterError, match="Leave out --partial"):
        redraw_partial(tmp_path)


@pytest.mark.usefixtures("tiny_networks")
def test_what_cannot_be_reported_is_one_sentence(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DosimeterError, match="is no run"):
        redraw_partial(tmp_path / "nothing")
    (tmp_path / "parts").mkdir()
    with pytest.raises(DosimeterError, match="before its sweep began"):
        redraw_partial(tmp_path)
    interrupted(image_folder, tmp_path, 0, monkeypatch)
    with pytest.raises(DosimeterError, match="no part of this run is done"):
        redraw_partial(tmp_path)
    (tmp_path / "interim.json").write_text('{"facts": {}}')
    with pytest.raises(DosimeterError, match="damaged"):
        redraw_partial(tmp_path)


@pytest.mark.usefixtures("tiny_networks")
def test_the_command(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    interrupted(image_folder, tmp_path, 3, monkeypatch)
    monkeypatch.setattr(sys, "argv", ["dosimeter", "report", str(tmp_path), "--partial"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("PARTIAL RUN")
    assert said.out.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    assert "figures" in said.err  # its progress


# --- what stands in the folder is what is said of it ----------------------------------------------------------


def status(folder: Path) -> str:
    """Return what the summary that stands there says of its run."""
    return str(json.loads((folder / "summary.json").read_text())["status"])


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())  # type: ignore[no-any-return]


def shown(folder: Path) -> set[float]:
    """Return the epsilons of the report that stands there."""
    return set(pd.read_csv(folder / "tables" / "fgsm_accuracy.csv")["epsilon"]) - {0.0}


def stopping(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def stopped_in(images: Path, folder: Path, where: Any, name: str, **changes: Any) -> None:
    """Leave a run that was stopped by Ctrl-C in one function."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(where, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            run_study(settings(images, folder, **changes))


ONE: dict[str, Any] = {"model": "vgg16", "epochs": 1, "workers": 1, "epsilons": "0.001,0.08"}
OTHER = {**ONE, "epsilons": "0.003,0.08"}


@pytest.fixture
def finished(study_copy: Callable[..., Path], tmp_path: Path, tiny_networks: None) -> Path:
    return study_copy(tmp_path, **ONE)


def test_a_partial_report_of_other_settings_never_passes_for_the_finished_one(
    image_folder: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(image_folder, finished, 1, monkeypatch, **OTHER)
    assert shown(finished) == {0.001, 0.08}  # untouched so far
    redraw_partial(finished)
    assert (status(finished), shown(finished)) == ("partial", {0.003, 0.08})
    assert manifest(finished)["finished"] is None
    assert not run_study(settings(image_folder, finished, **ONE)).reused
    assert (status(finished), shown(finished)) == ("complete", {0.001, 0.08})
    assert not (finished / "interim.json").exists()
    with pytest.raises(DosimeterError, match="is finished, not interrupted"):
        redraw_partial(finished)
    assert run_study(settings(image_folder, finished, **ONE)).reused


def test_a_partial_report_that_is_killed_is_not_taken_for_the_finished_one(
    image_folder: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(image_folder, finished, 1, monkeypatch, **OTHER)
    with monkeypatch.context() as patched:
        patched.setattr(dosimeter.report, "write_report", stopping)
        with pytest.raises(KeyboardInterrupt):
            redraw_partial(finished)
    assert not run_study(settings(image_folder, finished, **ONE)).reused
    assert (status(finished), shown(finished)) == ("complete", {0.001, 0.08})


@pytest.mark.usefixtures("tiny_networks")
def test_interrupted_reported_resumed_and_finished_is_the_same_as_straight(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, straight = tmp_path / "run", tmp_path / "straight"
    for n_cells in (1, 1):
        interrupted(image_folder, run, n_cells, monkeypatch, **ONE)
        redraw_partial(run)
        assert (status(run), manifest(run)["finished"]) == ("partial", None)
        assert any("no random sample" in sentence for sentence in sentences_of(run))
    run_study(settings(image_folder, run, **ONE))
    run_study(settings(image_folder, straight, **ONE))
    assert status(run) == "complete"
    for table in (straight / "tables").iterdir():
        assert (run / "tables" / table.name).read_bytes() == table.read_bytes(), table.name
    redraw(run)
    assert status(run) == "complete"


def sentences_of(folder: Path) -> list[str]:
    return list(json.loads((folder / "summary.json").read_text())["incomplete"])


def test_asking_again_for_a_finished_run_leaves_it_finished(image_folder: Path, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*.html")}
    assert run_study(settings(image_folder, finished, **ONE)).reused
    assert not (finished / "interim.json").exists()
    stopped_in(image_folder, finished, dosimeter.study.run._Study, "_finished", **ONE)
    with pytest.raises(DosimeterError, match="is finished, not interrupted"):
        redraw_partial(finished)
    assert unreported(finished) is None
    assert {path: path.read_bytes() for path in finished.rglob("*.html")} == before


def test_other_settings_that_were_stopped_before_their_sweep(image_folder: Path, finished: Path) -> None:
    stopped_in(image_folder, finished, dosimeter.models.fit, "load_weights", **OTHER)
    with pytest.raises(DosimeterError, match=r"stopped before its sweep began.*of a study that was finished before it"):
        redraw_partial(finished)
    redraw(finished)
    assert (status(finished), shown(finished)) == ("complete", {0.001, 0.08})
    assert run_study(settings(image_folder, finished, **ONE)).reused
    assert manifest(finished)["status"] == "finished"


@pytest.mark.usefixtures("tiny_networks")
def test_what_one_study_left_is_not_reported_of_the_next(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(image_folder, tmp_path, 1, monkeypatch, **ONE)
    stopped_in(image_folder, tmp_path, dosimeter.models.fit, "load_weights", **OTHER)
    with pytest.raises(DosimeterError, match=r"stopped before its sweep began, so there is nothing to report\. Run"):
        redraw_partial(tmp_path)


def test_a_mistake_changes_nothing_that_is_said_of_a_run(image_folder: Path, finished: Path) -> None:
    before = (finished / "manifest.json").read_bytes()
    with pytest.raises(DosimeterError):
        run_study(settings(image_folder, finished, **{**ONE, "cohort": "csv:nowhere.csv"}))
    assert (finished / "manifest.json").read_bytes() == before
    with pytest.raises(DosimeterError, match="is finished, not interrupted"):
        redraw_partial(finished)


@pytest.mark.slow  # two reports; other tests stop a run before
@pytest.mark.usefixtures("tiny_networks")
def test_stopped_when_all_images_were_done(image_folder: Path, tmp_path: Path) -> None:
    stopped_in(image_folder, tmp_path, responses, "merge_parts", **ONE)
    redraw_partial(tmp_path)
    assert any("when all of its images were done" in each for each in sentences_of(tmp_path))
    assert not any("no random sample" in each for each in sentences_of(tmp_path))
    stopped_in(image_folder, tmp_path, dosimeter.study.run, "redraw", **ONE)
    with pytest.raises(DosimeterError, match=r"all rows of this run are in responses\.parquet\. Leave out"):
        redraw_partial(tmp_path)
    redraw(tmp_path)
    assert status(tmp_path) == "complete"


def test_a_report_says_that_a_later_study_was_interrupted(
    image_folder: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    interrupted(image_folder, finished, 1, monkeypatch, **OTHER)
    monkeypatch.setattr(sys, "argv", ["dosimeter", "report", str(finished)])
    with pytest.raises(SystemExit):
        main()
    assert "A later one was interrupted: add --partial" in capsys.readouterr().err
    assert shown(finished) == {0.001, 0.08}


def test_a_finished_run_whose_table_is_gone_says_so(image_folder: Path, finished: Path) -> None:
    (finished / "responses.parquet").unlink()
    with pytest.raises(DosimeterError, match=r"was finished, but its responses\.parquet is gone"):
        redraw_partial(finished)
    assert not run_study(settings(image_folder, finished, **ONE)).reused
    assert status(finished) == "complete"


# --- the answer -----------------------------------------------------------------------------------------------


def summary_of(run: Responses, tables: dict[str, pd.DataFrame], folder: Path) -> dict[str, Any]:
    summary = summarise(run, tables)
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary


@pytest.mark.parametrize("attacks", [(), ("pgd", "square", "random_sign")])
def test_the_answer_has_the_summary_s_numbers(tmp_path: Path, attacks: tuple[str, ...]) -> None:
    run = make_responses(
        cohorts={"xray-268": "xray"}, epsilons=(0.0, 1e-3, 3e-3, 0.08), attacks=attacks, error_row=False
    )
    tables = build_tables(run)
    summary = summary_of(run, tables, tmp_path)
    lines = answer(tmp_path)
    assert len(lines) == len(summary["results"]) == 2
    for line, result in zip(lines, summary["results"], strict=True):
        preset = "worst case" if attacks else "sound"
        half = tables["epsilon50"]
        half = half[(half["model"] == result["model"]) & (half["storage"] == "float") & (half["preset"] == preset)]
        row = half.iloc[0]
        assert f"= {row['grey_levels']:.2f} grey levels" in line
        assert f"{row['grey_levels_low']:.2f} to {row['grey_levels_high']:.2f}" in line
        curves = tables["robust_accuracy" if attacks else "fgsm_accuracy"]
        at = curves[
            (curves["model"] == result["model"]) & (curves["storage"] == "float") & (curves["epsilon"] == 0.003)
        ]
        lowest = at[~at["preset"].isin(["paper", "random_sign"])]["accuracy"].min()
        assert f"worst-case accuracy at epsilon 0.003 {100 * lowest:.1f} %" in line


def test_the_answer_is_marked_with_its_verdict(tmp_path: Path) -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",), epsilons=(0.0, 3e-3, 0.08))
    summary = summary_of(run, build_tables(run), tmp_path)
    for verdict in ("UNRELIABLE", "CAUTION", "PASS"):
        because = "" if verdict == "PASS" else "The gradient is not zero"
        judged = {"preset": "sound", "verdict": verdict, "because": because, "checks": []}
        summary["results"][0]["evaluations"] = [{**judged, "preset": "paper", "verdict": "UNRELIABLE"}, judged]
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        line = answer(tmp_path)[-1]
        assert line.startswith(f"{verdict}: VGG16 on xray-268 (paper protocol")
        assert line.endswith(f"{verdict}: not passed: {because}" if because else ")")


def test_an_answer_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    for content in ("not drawn", "{}", "[]", '{"status": "complete", "phantom": false, "results": [1]}'):
        (tmp_path / "summary.json").write_text(content)
        with pytest.raises(DosimeterError, match="Draw it again: dosimeter report"):
            answer(tmp_path)
