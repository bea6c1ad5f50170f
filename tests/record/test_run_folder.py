"""What a command may touch in a folder: of a run its own places, of anything else nothing."""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from reader_study import make_study_folder
from response_factory import make_responses, write_table
from tiny import settings

from dosimeter.cli import main
from dosimeter.errors import DosimeterError
from dosimeter.readers.joining import join
from dosimeter.readers.store import Answer, Store
from dosimeter.record.run import Run, held
from dosimeter.record.table import SCHEMA
from dosimeter.report import redraw
from dosimeter.study.run import run_study

LITTER = (
    "parts/0a1b.11-22.tmp",
    ".redraw-abcd1234/tables/a.csv",
    "classifiers/x/card.11-22.tmp",
    ".unfinished-8/a.png",
)


def content(folder: Path) -> dict[str, str]:
    """Return what lies in a folder, its sub-folders included."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
    return {
        name: hashlib.sha256(b"" if path.is_dir() else path.read_bytes()).hexdigest() for name, path in found.items()
    }


def strew(folder: Path) -> None:
    """Leave what killed processes leave."""
    for name in LITTER:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder that is no run: two runs lie in it, one of them at work, and files of somebody's own."""
    for name in ("one", "deep/two"):
        run = tmp_path / "shelf" / name
        run.mkdir(parents=True)
        Run(run).save_manifest()
        strew(run)
    shelf = tmp_path / "shelf"
    for name in ("notes.11-22.tmp", ".redraw-mine/plan.txt", "parts/thesis.parquet", "mine/.unfinished-abc/x"):
        (shelf / name).parent.mkdir(parents=True, exist_ok=True)
        (shelf / name).write_text("mine")
    return shelf


def run_command(*arguments: str) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["dosimeter", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
    return caught.value.code


@pytest.mark.parametrize(
    "arguments",
    [
        ("report",),
        ("report", "--partial"),
        ("export", "--epsilon", "0.01", "--storage", "png8"),
        ("readers", "new", "--epsilons", "0.01,0.02", "--out"),
    ],
)
def test_a_folder_that_is_no_run_stays_as_it_is(shelf: Path, arguments: tuple[str, ...], tmp_path: Path) -> None:
    before = content(shelf)
    command = [*arguments, str(shelf)] if arguments[0] != "readers" else ["readers", "new", str(shelf), *arguments[2:]]
    if arguments[0] in ("export", "readers"):
        command.append(str(tmp_path / "out"))
    assert run_command(*command) == 2
    assert content(shelf) == before
    with held(shelf):
        assert content(shelf) == before


def test_readers_are_joined_to_a_run_or_nothing_is_touched(shelf: Path, tmp_path: Path) -> None:
    design = make_study_folder(tmp_path / "study")
    store = Store(tmp_path / "study", design)
    reader = store.join("reader-1")
    for upcoming in store.upcoming(reader.number, 5):
        store.answer(reader.number, upcoming.place, Answer("left"))
    before = content(shelf)
    with pytest.raises(DosimeterError, match="does not exist"):
        join(design, store, shelf)
    with pytest.raises(DosimeterError, match="does not exist"):
        join(design, store, tmp_path / "nowhere")
    store.close()
    assert content(shelf) == before
    assert not (tmp_path / "nowhere").exists()


def test_a_table_of_somebody_else_s_makes_no_run(shelf: Path) -> None:
    pa.parquet.write_table(pa.table({"a": [1]}), shelf / "responses.parquet")
    before = content(shelf)
    assert run_command("report", str(shelf)) == 2
    assert content(shelf) == before


@pytest.mark.usefixtures("tiny_networks", "no_report")
def test_a_study_into_a_folder_of_runs_leaves_them_alone(image_folder: Path, shelf: Path) -> None:
    shutil.rmtree(shelf / "parts")
    before = content(shelf)
    run_study(settings(image_folder, shelf, model="vgg16", epochs=1))
    assert before.items() <= content(shelf).items()
    run_study(settings(image_folder, shelf, model="vgg16", epochs=1))  # now the folder is a run itself
    litter = {name for name in before if name.startswith(("notes.11-22.tmp", ".redraw-mine"))}
    assert {name: digest for name, digest in before.items() if name not in litter}.items() <= content(shelf).items()


@pytest.mark.usefixtures("tiny_networks", "no_report")
@pytest.mark.parametrize(
    "name",
    [
        *("config.toml", "tables/x.csv", "figures/x.png", "report.html", "summary.json", "manifest.json"),
        *("interim.json", "parts/thesis.parquet", "pictures/x.json", "classifiers/x/card.json", "examined/x.json"),
        "learned/x",
    ],
)
def test_a_study_takes_no_folder_that_holds_what_it_would_replace(
    image_folder: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text('{"name": "mine"}')
    before = content(out)
    with pytest.raises(DosimeterError, match="is no run, so a study would overwrite it"):
        run_study(settings(image_folder, out, model="vgg16", epochs=1))
    assert content(out) == before


def test_of_a_run_its_own_places_are_swept_and_nothing_else(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    strew(elsewhere)
    strew(run)
    strew(run / "old runs" / "one")
    strew(run / "tables")
    (run / "examined").symlink_to(elsewhere / "parts")
    with Run(run).open():
        assert not any((run / name).exists() for name in LITTER)
        assert all((run / "old runs" / "one" / name).exists() for name in LITTER)
        assert all((run / "tables" / name).exists() for name in LITTER)
        assert all((elsewhere / name).exists() for name in LITTER)


def test_a_run_is_known_by_its_manifest_its_parts_or_its_table(tmp_path: Path) -> None:
    made = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",), n_cases=8)
    for name in ("manifest", "parts", "table"):
        (tmp_path / name).mkdir()
    Run(tmp_path / "manifest").save_manifest()
    (tmp_path / "parts" / "parts").mkdir()
    (tmp_path / "parts" / "parts" / f"{'0a' * 12}.parquet").touch()
    (tmp_path / "parts" / "manifest.json").write_text("damaged")
    write_table(pa.Table.from_pandas(made.frame, schema=SCHEMA, preserve_index=False), made.meta, tmp_path / "table")
    for folder in tmp_path.iterdir():
        (folder / ".redraw-abcd1234").mkdir()
        with held(folder):
            assert not (folder / ".redraw-abcd1234").exists()
            with pytest.raises(DosimeterError, match="in use"), held(folder):
                pass


def test_a_new_run_is_one_from_its_first_moment(tmp_path: Path) -> None:
    with Run(tmp_path / "run").open():
        assert json.loads((tmp_path / "run" / "manifest.json").read_text())["finished"] is None
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        *(".lock", "log.txt", "manifest.json"),
        "parts",
    ]


@pytest.mark.parametrize(
    ("name", "there"),
    [("report.html", "a folder"), ("summary.json", "a folder"), ("tables/clean_metrics.csv", "a folder"),
     ("tables", "a file"), ("figures", "a file")],
)  # fmt: skip
def test_a_folder_in_the_place_of_a_file_is_named_and_nothing_is_replaced(
    tmp_path: Path, name: str, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dosimeter.report.write_figures", lambda *given, **_: given[2].mkdir() or [])
    monkeypatch.setattr("dosimeter.report.write_report", lambda *given, **_: given[3].write_text("page"))
    made = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",), n_cases=4, epsilons=(0, 1e-3))
    write_table(pa.Table.from_pandas(made.frame, SCHEMA), made.meta, tmp_path)
    Run(tmp_path).save_manifest()
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine") if there == "a file" else (path / "mine").mkdir(parents=True)
    before = content(tmp_path)
    with pytest.raises(DosimeterError, match=f"{name} in .* must be a .*, it is {there}: rename or remove it"):
        redraw(tmp_path)
    after = content(tmp_path)
    assert {file: after[file] for file in before} == before
    assert not (tmp_path / "summary.json").is_file()


def test_a_report_writes_nothing_where_a_link_leads(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.csv").write_text("x")
    run = tmp_path / "run"
    run.mkdir()
    made = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",), n_cases=8)
    write_table(pa.Table.from_pandas(made.frame, SCHEMA), made.meta, run)
    redraw(run)
    shutil.rmtree(run / "tables")
    (run / "tables").symlink_to(outside)
    redraw(run)
    assert [path.name for path in outside.iterdir()] == ["mine.csv"]
    assert not (run / "tables").is_symlink()
    assert (run / "tables" / "clean_metrics.csv").is_file()
