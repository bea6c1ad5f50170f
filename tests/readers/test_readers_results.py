"""From answers to thresholds, tables and the report, with readers whose threshold is known."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pages import Page, write_responses
from reader_study import make_study_folder
from response_factory import make_responses

from dosimeter.analysis.intervals import wilson
from dosimeter.cli import main
from dosimeter.errors import DosimeterError
from dosimeter.readers.design import read_design
from dosimeter.readers.export import answers_table, export_answers
from dosimeter.readers.joining import join
from dosimeter.readers.psychometric import Curve
from dosimeter.readers.results import results, sentences
from dosimeter.readers.simulate import simulate
from dosimeter.readers.store import Answer, Store
from dosimeter.record import table as responses
from dosimeter.record.table import Responses
from dosimeter.report.build import build_tables
from dosimeter.report.html import render
from dosimeter.report.summary import summarise
from dosimeter.sections.readers.figures import psychometric_curves
from dosimeter.sections.readers.page import reader_sentences

THRESHOLD = 0.015


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "study"
    design = make_study_folder(folder, n_images=24, epsilons=(0.004, 0.01, 0.02, 0.06))
    store = Store(folder, design)
    simulate(store, curve=Curve.through(THRESHOLD, width=0.6, lapse=0.02), n_readers=3)
    store.close()
    return folder


def opened(folder: Path) -> Store:
    return Store(folder, read_design(folder))


def found(folder: Path) -> dict:  # type: ignore[type-arg]
    store = opened(folder)
    return results(store.design, store)


def test_a_simulated_threshold_is_recovered(simulated: Path) -> None:
    what = found(simulated)
    assert what["simulated"] is True
    assert what["n_answers"] == 3 * 24 * 9
    assert {(curve["kind"], curve["reader"]) for curve in what["curves"]} == {
        (kind, reader) for kind in ("adversarial", "random") for reader in (None, 1, 2, 3)
    }
    for curve in what["curves"]:
        if curve["reader"] is None:
            assert curve["low"]["epsilon"] <= THRESHOLD <= curve["high"]["epsilon"]
            assert curve["n"] == sum(level["n"] for level in curve["levels"]) == 3 * 24 * 4
    catch = what["catch"][0]
    assert catch["n"] == 72
    assert catch["low"] <= 0.5 <= catch["high"]
    json.dumps(what, allow_nan=False)


def test_answers_about_one_image_count_for_less_than_as_many_images(simulated: Path) -> None:
    for curve in found(simulated)["curves"]:
        for level in curve["levels"]:
            low, high = (float(bound) for bound in wilson(level["right"], level["n"]))
            if curve["reader"] is None:  # three answers about each image
                assert level["low"] <= low + 1e-12
                assert level["high"] >= high - 1e-12
            else:
                assert (level["low"], level["high"]) == pytest.approx((low, high))


def test_counts_are_those_of_the_answers(tmp_path: Path) -> None:
    """A reader who always says left is right in half of the trials, and biased in every catch trial."""
    store = Store(tmp_path / "study", make_study_folder(tmp_path / "study"))
    store.join("alpha")
    for place, _ in store.upcoming(1, 100):
        store.answer(1, place, Answer("left", 2.0))
    what = results(store.design, store)
    for curve in what["curves"]:
        assert [(level["n"], level["right"]) for level in curve["levels"]] == [(4, 2)] * 3
        assert curve["threshold"]["words"] == "above 0.1"
    assert what["catch"][0]["n_left"] == what["catch"][0]["n"] == 4
    text = "\n".join(sentences(what))
    assert "only 4 answers at one epsilon" in text
    assert "SIMULATED" not in text
    assert "alpha" not in text + json.dumps(what)


def test_a_study_without_answers_has_no_results(tmp_path: Path) -> None:
    store = Store(tmp_path / "study", make_study_folder(tmp_path / "study"))
    store.join("alpha")
    with pytest.raises(DosimeterError, match="no answers yet"):
        results(store.design, store)


def test_a_study_that_was_broken_off_has_results_of_what_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "study", make_study_folder(tmp_path / "study"))
    store.join("alpha")
    for place, trial in store.upcoming(1, 5):
        store.answer(1, place, Answer(trial.altered, 1.0))
    what = results(store.design, store)
    assert what["n_answers"] == 3  # two were practice
    json.dumps(what, allow_nan=False)
    list(sentences(what))
    for flips in ([0.01], [], [float("nan")]):
        psychometric_curves(what, pd.DataFrame({"epsilon50": flips}, dtype=float))


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_export_has_every_answer_and_no_pseudonym(tmp_path: Path, ending: str) -> None:
    store = Store(tmp_path / "study", make_study_folder(tmp_path / "study", window="free"))
    store.join("Jane-Doe")
    for place, trial in store.upcoming(1, 100):
        store.answer(1, place, Answer(trial.altered, 1.25, 0.5, 0.8))
    path = tmp_path / f"answers{ending}"
    assert export_answers(store.design, store, path) == 30
    table = pd.read_csv(path) if ending == ".csv" else pd.read_parquet(path)
    assert list(table) == list(answers_table(store.design, store))
    assert len(table) == 30
    assert table["practice"].sum() == 2
    assert table["correct"].isna().sum() == 4  # catch trials
    assert table["correct"].dropna().astype(bool).all()
    assert set(table["response_s"]) == {1.25}
    assert b"Jane" not in path.read_bytes()
    with pytest.raises(DosimeterError, match=r"must end in \.csv or \.parquet"):
        export_answers(store.design, store, tmp_path / "answers.xlsx")


@pytest.fixture(scope="module")
def run() -> Responses:
    made = make_responses(cohorts={"xray-268": "xray"}, epsilons=(0.0, 0.004, 0.02, 0.06), n_cases=8)
    return Responses(made.frame, {**made.meta, "run_id": "0123456789ab"})


@pytest.fixture(scope="module")
def joined(simulated: Path, run: Responses, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_responses(run, folder)
    store = opened(simulated)
    for _ in range(2):  # the second takes the place of the first
        assert "SIMULATED readers" in join(store.design, store, folder)
    return folder


def test_joining_changes_no_row(joined: Path, run: Responses, tmp_path: Path) -> None:
    write_responses(run, tmp_path)
    path = joined / "responses.parquet"
    assert (
        pq.read_table(path).replace_schema_metadata()
        == pq.read_table(tmp_path / "responses.parquet").replace_schema_metadata()
    )
    meta = responses.read_meta(path)
    assert [entry["study"] for entry in meta["readers"]] == ["5eed0001"]
    assert {name: value for name, value in meta.items() if name not in ("readers", "n_rows")} == run.meta
    assert sorted(file.name for file in joined.iterdir()) == [".lock", "responses.parquet"]


def test_the_report_shows_what_readers_saw(joined: Path, tmp_path: Path) -> None:
    shutil.copy(joined / "responses.parquet", tmp_path)
    main_with("report", str(tmp_path))
    html = (tmp_path / "report.html").read_text()
    Page(html)
    assert "What readers saw" in html
    assert html.index('id="readers"') < html.index('id="claims"')
    assert "Simulated readers" in html
    assert "3 SIMULATED readers saw phantom images" in html
    assert "was not measured with readers" in html  # simulated readers measure nothing
    assert "Half of the correctly answered images have flipped at epsilon" in html
    assert "compliant" not in html
    assert list((tmp_path / "figures").glob("xray-268-paper-readers-vgg16-5eed0001.svg"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["reader_studies"][0]["simulated"] is True


def test_a_run_without_readers_says_so(run: Responses) -> None:
    tables = build_tables(run)
    html = render(run, tables, [])
    assert "What readers saw" not in html
    assert "was not measured with readers" in html
    assert "reader_studies" not in summarise(run, tables)


def test_flips_are_placed_against_the_interval(simulated: Path, run: Responses) -> None:
    what = found(simulated)
    tables = build_tables(run)
    for epsilon, words in ((0.001, "below"), (THRESHOLD, "within"), (0.05, "above")):
        half = tables["epsilon50"].assign(epsilon50=epsilon, seed=7)
        (sentence,) = reader_sentences([what], {"epsilon50": half})
        assert sentence.endswith(f"{words} that interval.")
        (sentence,) = reader_sentences([what], {"epsilon50": half.assign(seed=8)})  # another classifier's
        assert "flipped" not in sentence


def test_a_study_is_joined_to_its_own_run_only(simulated: Path, run: Responses, tmp_path: Path) -> None:
    write_responses(Responses(run.frame, {**run.meta, "run_id": "another"}), tmp_path)
    before = (tmp_path / "responses.parquet").read_bytes()
    store = opened(simulated)
    with pytest.raises(DosimeterError, match="Name the run that the study was made from"):
        join(store.design, store, tmp_path)
    assert (tmp_path / "responses.parquet").read_bytes() == before


def main_with(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["dosimeter", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
    assert stopped.value.code == 0


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    make_study_folder(study, n_images=6)
    main_with("readers", "simulate", str(study), "--threshold", "4/255", "--n", "2")
    assert "SIMULATED: 2 readers" in capsys.readouterr().out
    main_with("readers", "fit", str(study))
    out = capsys.readouterr().out
    assert out.startswith("SIMULATED READERS")
    assert "PHANTOM IMAGES" in out
    assert "adversarial, all readers: 75 % threshold epsilon" in out
    main_with("readers", "export", str(study), str(tmp_path / "answers.csv"))
    assert "88 answers, SIMULATED" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "answers.csv")
    assert table["simulated"].all()
    assert np.isnan(table["response_s"]).all()
