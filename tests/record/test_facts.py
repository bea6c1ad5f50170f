"""Facts that travel with a table: whoever writes them can read them again, and what is malformed is one sentence."""

import contextlib
import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from pydantic import ValidationError
from reader_study import make_study_folder
from tiny import settings

import dosimeter.study.run
from dosimeter.analysis.evaluation import evaluate
from dosimeter.errors import DosimeterError
from dosimeter.readers.joining import join
from dosimeter.readers.store import Answer, Store
from dosimeter.record import table as responses
from dosimeter.record.facts import check_facts
from dosimeter.record.table import Responses
from dosimeter.report import write_summary
from dosimeter.report.build import build_tables
from dosimeter.report.html import render
from dosimeter.study.run import run_study

Facts = dict[str, Any]
Keys = tuple[str | int, ...]


@pytest.fixture(scope="module")
def run(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose facts have entries of every kind: attacks, convergence, an observer, pictures, readers."""
    folder = tmp_path_factory.mktemp("facts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOSIMETER_CACHE", str(folder / "cache"))
        tiny.install(patch.setitem)
        patch.setattr(dosimeter.study.run, "redraw", lambda *_, **__: None)
        wanted = {"model": "vgg16", "attack": "pgd", "effort": "quick", "epochs": 2, "visibility": "0.009"}
        run_study(settings(image_folder, folder / "run", **wanted))
    broken_off(folder / "study", folder / "run", n_answers=12)
    return folder / "run"


def broken_off(study: Path, run: Path, *, n_answers: int) -> Facts:
    """Join a study that its reader broke off, and return what the run's table then says of it."""
    table = run / "responses.parquet"
    curve = {"cohort": "csv:cases.csv", "protocol": "paper", "seed": 0, "model": "vgg16", "preset": "sound"}
    design = make_study_folder(study, run_id=responses.read_meta(table)["run_id"], curve=curve)
    store = Store(study, design)
    reader = store.join("reader-1")
    for upcoming in store.upcoming(reader.number, n_answers):
        store.answer(reader.number, upcoming.place, Answer("left"))
    join(design, store, run)
    store.close()
    found: Facts = responses.read_meta(table)["readers"][0]
    return found


# --- what is written can be read ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_answers", [3, 5, 8, 14, 30])
def test_a_study_with_few_answers_can_be_joined_and_read(run: Path, tmp_path: Path, n_answers: int) -> None:
    before = responses.read(run / "responses.parquet")
    found = broken_off(tmp_path / "study", run, n_answers=n_answers)
    after = responses.read(run / "responses.parquet")
    pd.testing.assert_frame_equal(before.frame, after.frame)
    for catch in found["catch"]:
        assert (catch["low"] is None) == (catch["high"] is None)
        assert catch["n"] < 3 or catch["low"] is not None
    few = replace(after, frame=after.frame[after.frame["preset"] == "sound"])
    write_summary(few, build_tables(few), tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text())["reader_studies"][0]["catch"] == found["catch"]


def test_every_kind_of_fact_is_there_and_comes_back_as_it_was_written(run: Path, tmp_path: Path) -> None:
    table = run / "responses.parquet"
    meta = responses.read_meta(table)
    lists = ("classifiers", "engines", "attacks", "preflights", "convergence", "observer", "exemplars", "readers")
    assert all(meta[name] for name in (*lists, "cohorts", "stages"))
    written = json.loads(json.dumps(meta))
    assert check_facts(written) == written
    parts = sorted((run / "parts").iterdir())
    responses.merge_parts(parts, tmp_path / "again.parquet", meta)
    assert responses.read_meta(tmp_path / "again.parquet") == meta


@pytest.mark.parametrize("facts", [{"readers": [{"study": 1}]}, {"incomplete": "much"}, {"preflights": [{}]}])
def test_facts_that_could_not_be_read_again_are_not_written(run: Path, tmp_path: Path, facts: Facts) -> None:
    table, part = run / "responses.parquet", next((run / "parts").iterdir())
    before = table.read_bytes()
    with pytest.raises(DosimeterError, match=next(iter(facts))):
        responses.annotate(table, facts)
    with pytest.raises(DosimeterError, match=next(iter(facts))):
        responses.merge_parts([part], table, {**responses.read_meta(table), **facts})
    assert table.read_bytes() == before
    assert not list(run.glob("*.tmp"))


def test_numbers_that_are_not_finite_do_not_stop_a_summary(run: Path, tmp_path: Path) -> None:
    found = responses.read(run / "responses.parquet")
    meta = copy.deepcopy(found.meta)
    meta["observer"][0]["d_image"] = math.nan
    meta["readers"][0]["curves"][0]["width"] = math.inf
    found = Responses(found.frame, check_facts(meta))
    tables = build_tables(found)
    write_summary(found, tables, tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text())["observer"][0]["d_image"] is None


# --- what is malformed is one sentence -------------------------------------------------------------------------

MISSING = object()
WRONG = (MISSING, None, "x", -1, 10**9, math.nan, [], {"n": 3})


def places(value: Any, at: Keys = ()) -> Iterator[Keys]:
    """Yield where every value of nested facts lies; of a list the first entry stands for all."""
    if at:
        yield at
    if isinstance(value, dict):
        for name, each in value.items():
            yield from places(each, (*at, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*at, 0))


def changed(facts: Facts, at: Keys, value: Any) -> Facts:
    facts = copy.deepcopy(facts)
    place: Any = facts
    for key in at[:-1]:
        place = place[key]
    if value is MISSING:
        del place[at[-1]]
    else:
        place[at[-1]] = value
    return facts


def judged(facts: Facts, frame: pd.DataFrame) -> None:
    evaluate(frame, facts.get("preflights", ()), convergence=facts.get("convergence", ()))


def drawn(facts: Facts, frame: pd.DataFrame, folder: Path) -> None:
    """Do what a report does with facts; its figures show pictures, which were opened when they were read."""
    found = Responses(frame, facts)
    tables = build_tables(found)
    write_summary(found, tables, folder / "summary.json")
    render(found, tables, [])


def accepted(facts: Facts, name: str) -> Iterator[tuple[Keys, Any, Facts]]:
    """Yield the changes below one of the facts that are not refused when they are read."""
    n_refused = 0
    for at in places(facts[name], (name,)):
        for value in WRONG:
            try:
                yield at, value, check_facts(changed(facts, at, value))
            except ValidationError:
                n_refused += 1
    assert n_refused > 50


@pytest.fixture(scope="module")
def found(run: Path) -> Responses:
    found = responses.read_compact(run / "responses.parquet")
    return Responses(found.frame, json.loads(json.dumps({**found.meta, "exemplars": []})))


@pytest.mark.parametrize("name", ["preflights", "convergence"])
def test_a_malformed_measurement_is_refused_or_judged(found: Responses, name: str) -> None:
    few = found.frame[:0]
    for at, value, facts in accepted(found.meta, name):
        try:
            judged(facts, few)
        except Exception as error:
            raise AssertionError(f"{at} = {value!r} is read, and then {error!r}") from error


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(MISSING, id="missing"),
        pytest.param(None, id="none"),
        *(
            pytest.param(value, id=name, marks=pytest.mark.slow)  # a report each, half a minute
            for name, value in (("text", "x"), ("zero", 0), ("nan", math.nan), ("list", []))
        ),
    ],
)
def test_malformed_facts_are_refused_or_do_no_harm(found: Responses, tmp_path: Path, wrong: Any) -> None:
    """All that is accepted at once: a report reads facts of each kind apart from the others."""
    facts, scope = found.meta, ("cohort", "protocol", "model", "seed", "preset", "kind", "reader")
    for name in ("config", "cohorts", "classifiers", "engines", "attacks", "observer", "stages", "readers"):
        for at in places(found.meta[name], (name,)):
            if at[-1] not in scope and len(at) > 2:
                with contextlib.suppress(ValidationError, KeyError, IndexError, TypeError):  # refused, or gone already
                    facts = check_facts(changed(facts, at, wrong))
    assert facts != found.meta
    drawn(facts, found.frame, tmp_path)


@pytest.mark.parametrize(
    "at",
    [*(("stages", 0, name) for name in ("cohort", "protocol", "model")), ("readers", 0, "curves", 0, "low", "beyond")],
)
def test_what_a_report_reads_must_be_there(found: Responses, at: Keys) -> None:
    with pytest.raises(ValidationError, match=str(at[-1])):
        check_facts(changed(found.meta, at, MISSING))


def test_a_reader_who_answered_identical_pairs_only_is_reported(found: Responses, tmp_path: Path) -> None:
    study = {**found.meta["readers"][0], "curves": []}
    drawn(check_facts({**found.meta, "readers": [study]}), found.frame, tmp_path)


@pytest.mark.parametrize("name", ["cohort", "protocol"])
@pytest.mark.parametrize("value", ["another", "csv:\x1b[2J\n"])
def test_rows_of_which_the_facts_tell_nothing_are_one_sentence(
    run: Path, tmp_path: Path, name: str, value: str
) -> None:
    meta = responses.read_meta(run / "responses.parquet")
    meta["cohorts"][0][name] = value
    parts = sorted((run / "parts").iterdir())
    responses.merge_parts(parts, tmp_path / "responses.parquet", meta)
    with pytest.raises(DosimeterError, match=r"its facts tell nothing of csv:cases\.csv, paper protocol"):
        responses.read_compact(tmp_path / "responses.parquet")
