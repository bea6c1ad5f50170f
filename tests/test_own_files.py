"""What dosimeter wrote and reads again: damaged, it is one sentence, or made again; litter is swept."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from filelock import FileLock
from reader_study import make_study_folder
from response_factory import make_responses, response_row, write_table
from tiny import settings

from dosimeter.cli import main
from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.split import split
from dosimeter.errors import DosimeterError
from dosimeter.models.backbones import get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.fit import fit
from dosimeter.models.saved import ClassifierDamaged, load_classifier, save_classifier
from dosimeter.models.training import FitOptions
from dosimeter.readers.design import read_design
from dosimeter.readers.results import results
from dosimeter.readers.store import Answer, Store
from dosimeter.record import table as responses
from dosimeter.record.run import Run, keep, kept
from dosimeter.record.table import SCHEMA
from dosimeter.report import redraw
from dosimeter.report.build import build_tables
from dosimeter.study.run import run_study

Facts = dict[str, Any]


def rewrite(table: Path, change: Callable[[Facts], Any]) -> None:
    """Change the facts of a table as an editor would, its digest left out."""
    content = pq.read_table(table)
    facts = json.loads(content.schema.metadata[responses.METADATA_KEY])
    facts.pop("facts_sha256")
    changed = json.dumps(change(facts)).encode()
    pq.write_table(content.replace_schema_metadata({responses.METADATA_KEY: changed}), table)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    run = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",), n_cases=8)
    return write_table(pa.Table.from_pandas(run.frame, schema=SCHEMA, preserve_index=False), run.meta, tmp_path)


def put(*path: str | int, value: Any) -> Callable[[Facts], Facts]:
    def change(facts: Facts) -> Facts:
        place: Any = facts
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        return facts

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda facts: {"schema_version": 3}, "run_id"),
        (lambda facts: [facts], "damaged"),
        (put("cohorts", value={"xray-268": 1}), "cohorts"),
        (put("cohorts", 0, "classes", value=["one"]), "cohorts.0.classes"),
        (put("cohorts", 0, "n_test", value=-1), "cohorts.0.n_test"),
        (put("classifiers", value=None), "classifiers"),
        (put("classifiers", 0, "weights", value={}), "classifiers.0.weights"),
        (put("classifiers", 0, "history", value=[1, 2]), "classifiers.0.history"),
        (put("stages", value=[1, 2]), "stages.0"),
        (put("stages", 0, "duration_s", value="long"), "stages.0.duration_s"),
        (put("exemplars", 0, "original_png", value="bm8gcG5n"), "exemplars.0.original_png"),
        (put("exemplars", 0, "direction_png", value="%%"), "exemplars.0.direction_png"),
        (put("created", value="yesterday"), "created"),
        (put("incomplete", value="vgg16"), "incomplete"),
        (put("preflights", value=[{"cohort": "xray-268"}]), "preflights.0"),
        (put("readers", value=[{"study": "5eed0001"}]), "readers.0"),
        (put("n_rows", value=3), "3 were written"),
    ],
)
def test_facts_that_are_not_what_a_run_writes_are_one_sentence(
    table: Path, change: Callable[[Facts], Any], said: str
) -> None:
    rewrite(table, change)
    with pytest.raises(DosimeterError, match=said) as caught:
        redraw(table.parent)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_facts_carry_their_digest(table: Path) -> None:
    content = pq.read_table(table)
    facts = json.loads(content.schema.metadata[responses.METADATA_KEY])
    facts["cohorts"][0]["n_test"] += 1  # well formed, and not what was written
    metadata = {responses.METADATA_KEY: json.dumps(facts).encode()}
    pq.write_table(content.replace_schema_metadata(metadata), table)
    with pytest.raises(DosimeterError, match="not those that were written"):
        responses.read_meta(table)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", np.nan),
        ("epsilon", 2.0),
        ("label", 7),
        ("predicted", None),
        ("cohort", None),
        ("case_id", None),
        ("logits", [np.nan, 1.0]),
        ("logits", [1.0, 2.0, 3.0]),
        ("probabilities", [-0.5, 1.5]),
    ],
)
def test_rows_that_no_sweep_writes_are_one_sentence(tmp_path: Path, name: str, value: Any) -> None:
    good = [response_row(case_id=f"{index}") for index in range(3)]
    meta = make_responses(n_cases=4).meta
    path = write_table(pa.Table.from_pylist(good, schema=SCHEMA), meta, tmp_path)
    assert len(responses.read_compact(path).frame) == 3
    bad = [*good, {**response_row(case_id="bad"), name: value}]
    path = write_table(pa.Table.from_pylist(bad, schema=SCHEMA), meta, tmp_path)
    with pytest.raises(DosimeterError, match=name):
        responses.read_compact(path)


# --- parts ----------------------------------------------------------------------------------------------------


def part_of(rows: list[dict[str, Any]], path: Path) -> pa.Table:
    responses.write_part(rows, path)
    return pq.read_table(path)


def test_a_part_carries_a_digest_of_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "cell.parquet"
    rows = [response_row(epsilon=epsilon / 10, patient_id=None if epsilon else "p1") for epsilon in range(4)]
    written = part_of(rows, path)
    assert responses.is_done(path)
    pq.write_table(written, path, compression="none", row_group_size=2)  # the same rows in another file
    assert responses.is_done(path)
    for damaged in (
        written.slice(0, 2),
        written.take(pa.array([1, 0, 2, 3])),
        written.set_column(written.schema.get_field_index("linf"), "linf", pa.array([0.0, 0.0, 0.0, 1e-9])),
        written.set_column(
            written.schema.get_field_index("linf"), "linf", pa.array([0.0, 0.0, 0.0, None], pa.float64())
        ),
        written.replace_schema_metadata({}),
    ):
        pq.write_table(damaged, path)
        assert not responses.is_done(path)


# --- a run's folder -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    ['{"stages": null}', '{"stages": [1]}', "[1]", "7", '{"recomputed": {"a": 1}}', '{"engine_plans": [1]}', "\x00"],
)
def test_what_is_damaged_of_a_manifest_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    manifest = Run(tmp_path).manifest
    assert (manifest.stages, manifest.engine_plans, manifest.recomputed) == ([], {}, [])


def test_of_a_manifest_what_is_whole_stays(tmp_path: Path) -> None:
    good = {"name": "winograd", "batch_size": 4, "tolerance": 1e-4}
    plans = {"good": good, "bad": {"name": "winograd"}, "worse": 3}
    (tmp_path / "manifest.json").write_text(json.dumps({"engine_plans": plans, "stages": 3, "command": "dosimeter"}))
    run = Run(tmp_path)
    assert list(run.manifest.engine_plans) == ["good"]
    run.save_manifest(status="running")
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert written["command"] == "dosimeter"
    assert written["engine_plans"]["good"]["tolerance"] == 1e-4


def test_what_is_kept_comes_back_or_is_absent(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "facts.json"
    assert kept(file) is None
    keep(file, [{"n": 1}])
    assert kept(file) == [{"n": 1}]
    for content in (file.read_text().replace("1}", "2}"), file.read_text()[:-5], "null", '[{"a": 1}]', "{}"):
        file.write_text(content)
        assert kept(file) is None


LITTER = (".redraw-1/tables/a.csv", "parts/0123.11-22.tmp", "classifiers/x/card.11-22.tmp", ".unfinished-8/a.png")


def test_what_a_killed_run_left_is_swept_when_the_next_begins(tmp_path: Path) -> None:
    for name in (*LITTER, "notes.tmp", "mine/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".lock").touch()
    with Run(tmp_path).open():
        assert not any((tmp_path / name).exists() for name in LITTER)
        assert (tmp_path / "notes.tmp").exists()  # not ours
        assert (tmp_path / "mine" / ".hidden").exists()


def test_a_folder_in_use_is_neither_swept_nor_drawn(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (table.parent / ".redraw-1").mkdir()
    with FileLock(table.parent / ".lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dosimeter", "report", str(table.parent)])
        with pytest.raises(SystemExit) as caught:
            main()
    assert caught.value.code == 2
    assert "in use" in capsys.readouterr().err
    assert (table.parent / ".redraw-1").is_dir()


@pytest.mark.usefixtures("tiny_networks", "no_report")
@pytest.mark.parametrize("content", ["null", '[{"a": 1}]', '{"a": 1}'])
def test_pictures_and_examinations_that_are_nonsense_are_made_again(
    study_copy: Callable[..., Path], image_folder: Path, tmp_path: Path, content: str
) -> None:
    study_copy(tmp_path / "run", model="vgg16", epochs=1)
    config = settings(image_folder, tmp_path / "run", model="vgg16", epochs=1)
    before = responses.read_meta(tmp_path / "run" / "responses.parquet")
    for pattern in ("pictures/*", "examined/preflights-*"):
        files = list((tmp_path / "run").glob(pattern))
        assert files
        for file in files:
            file.write_text(content)
    (tmp_path / "run" / "responses.parquet").unlink()
    run_study(config)
    after = responses.read_meta(tmp_path / "run" / "responses.parquet")
    assert after["exemplars"] == before["exemplars"]
    assert after["preflights"] == before["preflights"]


SLOW = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
    "import sys, time; sys.path.insert(0, sys.argv[1]); import tiny, operator\n"
    "tiny.install(operator.setitem)\n"
    "from dosimeter.executors import local as executor\n"
    "whole = executor.execute_cell\n"
    "def slow(*arguments, **options):\n"
    "    time.sleep(0.3); return whole(*arguments, **options)\n"
    "executor.execute_cell = slow\n"
    "from dosimeter.cli import main\n"
    "sys.argv[:] = ['dosimeter', *sys.argv[2:]]; main()\n"
)


def test_a_command_that_is_over_leaves_sigterm_to_whoever_had_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends the interpreter would swallow the exception that stands for it."""
    monkeypatch.setattr(sys, "argv", ["dosimeter", "--version"])
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            main()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],  # a process each; test_cli sends SIGINT too
)
def test_sigterm_ends_a_study_as_ctrl_c_does(image_folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    options = ["study", "--cohort", f"csv:{image_folder / 'cases.csv'}", "--epochs", "1", "--out", str(run)]
    command = [sys.executable, "-c", SLOW, str(Path(tiny.__file__).parent), *options]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(run.glob("parts/*.parquet")):
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in err
    assert "Traceback" not in err
    assert not list(run.rglob("*.tmp"))


# --- classifiers ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> Classifier:
    halves = split(load_cohort("phantom-xray", limit=16, seed=0), "paper", seed=0)
    with pytest.MonkeyPatch.context() as patched:
        tiny.install(patched.setitem)
        return fit("vgg16", halves, options=FitOptions(epochs=1))


@pytest.fixture
def saved(tiny_networks: None, fitted: Classifier, tmp_path: Path) -> Path:
    save_classifier(fitted, tmp_path / "classifier")
    return tmp_path / "classifier"


def without(name: str) -> Callable[[Facts], Facts]:
    return lambda card: {key: value for key, value in card.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        *map(without, ("model", "weights", "head", "classes", "sha256", "preprocessing", "card_version")),
        lambda card: [card],
        put("model", value=["vgg16"]),
        put("classes", value="clear"),
        put("head", "hidden", value=10**9),
        put("head", "hidden", value=9),
        put("head", "pool", value="half"),
        put("head", "dropout", value=None),
        put("weights", "sha256", value=1),
    ],
)
def test_a_card_that_is_not_what_was_written_is_one_sentence(saved: Path, change: Callable[[Facts], Any]) -> None:
    card = json.loads((saved / "card.json").read_text())
    load_classifier(saved)
    (saved / "card.json").write_text(json.dumps(change(card)))
    with pytest.raises(ClassifierDamaged, match="is damaged") as caught:
        load_classifier(saved)
    assert "\n" not in str(caught.value)


def test_a_card_of_a_newer_version_says_so(saved: Path) -> None:
    card = json.loads((saved / "card.json").read_text())
    (saved / "card.json").write_text(json.dumps({**card, "card_version": 99}))
    with pytest.raises(DosimeterError, match=r"version 99.*Upgrade"):
        load_classifier(saved)


@pytest.mark.usefixtures("tiny_networks")
def test_a_cached_feature_map_that_was_changed_is_computed_again(tmp_path: Path) -> None:
    halves = split(load_cohort("phantom-xray", limit=16, seed=0), "paper", seed=0)

    def train() -> str:
        return fit("vgg16", halves, options=FitOptions(epochs=1), features=tmp_path).fingerprint

    first = train()
    files = sorted(tmp_path.rglob("*.npy"))
    shape = get_backbone("vgg16").map_shape
    maps = {file: np.load(file) for file in files}
    assert {array.shape for array in maps.values()} == {shape}
    flipped = bytearray(files[0].read_bytes())
    flipped[300] ^= 1
    files[0].write_bytes(flipped)
    np.save(files[1], np.full(shape, np.nan, np.float32))
    np.save(files[2], np.zeros((2, 2)))
    files[3].write_bytes(b"")
    assert train() == first
    for file in files[:4]:
        np.testing.assert_array_equal(np.load(file), maps[file])


# --- reader studies -------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> Iterator[tuple[Path, Store]]:
    design = make_study_folder(tmp_path / "study")
    store = Store(tmp_path / "study", design)
    reader = store.join("reader-1")
    for upcoming in store.upcoming(reader.number, reader.n_trials):
        store.answer(reader.number, upcoming.place, Answer("left"))
    yield tmp_path / "study", store
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trials SET pair = 999 WHERE practice = 0",
        "UPDATE trials SET chosen = 'up'",
        "UPDATE trials SET altered = 3",
        "UPDATE trials SET response_s = 'soon'",
        "UPDATE readers SET display = '{'",
        "UPDATE readers SET display = '[1]'",
        'UPDATE readers SET display = \'{"dark_seen": "maybe"}\'',
    ],
)
def test_answers_that_no_reader_gave_are_one_sentence(study: tuple[Path, Store], change: str) -> None:
    folder, store = study
    results(store.design, store)
    with sqlite3.connect(folder / "answers.sqlite") as database:
        database.execute(change)
    with pytest.raises(DosimeterError, match="no reader could have answered"):
        results(store.design, store)


@pytest.mark.parametrize(
    "change",
    [
        put("pairs", 0, "plain", value=10_000),
        put("pairs", 0, "kind", value="invisible"),
        put("pairs", value=[]),
        put("break_every", value=0),
        put("epsilons", value="all"),
        put("seed", value=None),
        put("window", value="open"),
        put("extra", value=1),
    ],
)
def test_a_design_that_describes_no_study_is_one_sentence(tmp_path: Path, change: Callable[[Facts], Any]) -> None:
    make_study_folder(tmp_path / "study")
    file = tmp_path / "study" / "design.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(DosimeterError, match=r"design\.json"):
        read_design(tmp_path / "study")


def test_a_whole_table_still_gives_every_table(table: Path) -> None:
    assert "epsilon50" in build_tables(responses.read_compact(table))
