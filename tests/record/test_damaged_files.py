"""Files of a run that were damaged or replaced since: made again, or one sentence with its remedy."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from response_factory import make_responses, write_table
from safetensors.torch import save_file
from tiny import settings

from dosimeter.attacks.threat import read_mask
from dosimeter.cli.serving import _password
from dosimeter.cli.showing import facts_of
from dosimeter.cohorts import load_cohort
from dosimeter.defences.keeping import Learned, digest_of_tensors, keep, read_kept
from dosimeter.errors import DosimeterError
from dosimeter.files import json_in, json_of, write_text
from dosimeter.models.opening import facts_of as network_facts
from dosimeter.models.saved import read_card
from dosimeter.models.source import bring
from dosimeter.readers.design import read_design
from dosimeter.readers.store import Store
from dosimeter.record.facts import Interim
from dosimeter.record.finished import finished_table
from dosimeter.record.model_card import undefended_name
from dosimeter.record.run import MERGING, RUNNING, Run, _Log, is_run, is_study, kept, require_kinds
from dosimeter.record.table import METADATA_KEY, SCHEMA, read_meta
from dosimeter.replay.replay import Replay
from dosimeter.report.answer import answer
from dosimeter.report.partial import read_partial
from dosimeter.study.config import load_config
from dosimeter.study.run import run_study

DEEP = "[" * 200_000


def test_json_that_is_nested_too_deeply_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        json_of(DEEP)


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("summary.json", answer),
        ("card.json", read_card),
        ("design.json", read_design),
        ("defended.json", lambda folder: undefended_name(str(folder))),
    ],
)
@pytest.mark.parametrize("damage", ["deep", "folder", "pipe", "bytes"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, file: str, read: Callable[[Path], Any], damage: str) -> None:
    path = tmp_path / file
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)  # whoever opens it waits
    else:
        path.write_bytes(DEEP.encode() if damage == "deep" else b"\xff\xfe{}")
    if file == "defended.json" and damage in ("folder", "pipe"):
        assert undefended_name(str(tmp_path)) == ""  # no folder of a defended classifier
        return
    with pytest.raises(DosimeterError, match=r"damaged|cannot be read|no readable|holds no classifier"):
        read(tmp_path)


@pytest.mark.parametrize("content", [DEEP, "", "null", "[]"])
def test_a_damaged_manifest_is_written_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    assert not is_study(tmp_path)
    assert Run(tmp_path).manifest.status is None
    (tmp_path / "manifest.json").unlink()
    os.mkfifo(tmp_path / "manifest.json")
    assert not is_study(tmp_path)
    with pytest.raises(ValueError, match="no file"):
        json_in(tmp_path / "manifest.json")


@pytest.mark.parametrize("place", ["log.txt", ".lock", "summary.json"])
def test_a_folder_in_the_place_of_a_run_s_file_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir()
    with pytest.raises(DosimeterError, match=r"must be a file, it is a folder: rename or remove it"):
        require_kinds(tmp_path)


def stand_in(path: Path, kind: str) -> None:
    """Put at `path` what is no file: whoever opens a pipe waits, and a device has no end."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.toml", lambda path: load_config(path)),
        ("m.toml", lambda path: bring(str(path))),
        ("mask.png", lambda path: read_mask(path, 32)),
        ("images.npz", lambda path: load_cohort(f"npz:{path}")),
        ("password", _password),
        ("answers.sqlite", lambda path: Store(path.parent, None)),  # type: ignore[arg-type]
        ("network.pt", lambda path: network_facts(str(path))),
    ],
)
def test_a_pipe_or_a_device_in_the_place_of_a_file_is_one_sentence(
    tmp_path: Path, name: str, read: Callable[[Path], Any], kind: str
) -> None:
    stand_in(tmp_path / name, kind)
    with pytest.raises(DosimeterError, match=r"cannot be read|is no file"):
        read(tmp_path / name)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_in_the_place_of_a_run_s_file_is_not_read(run: Path, kind: str) -> None:
    stand_in(run / "log.txt", kind)
    with pytest.raises(DosimeterError, match=r"log\.txt in .* must be a file, it is a pipe or a device: remove it"):
        require_kinds(run)
    (run / "log.txt").unlink()
    (run / "log.txt").symlink_to(os.devnull)
    require_kinds(run)
    stand_in(run / "interim.json", kind)
    with pytest.raises(DosimeterError, match="is no file: remove it"):
        read_partial(run)
    stand_in(run / "kept.safetensors", kind)
    assert read_kept(run / "kept.safetensors") is None
    (run / "manifest.json").unlink()
    shutil.rmtree(run / "parts")
    assert is_run(run)
    stand_in(run / "responses.parquet", kind)
    assert not is_run(run)


def test_a_log_on_a_full_disk_stops_no_study_and_is_said_once(run: Path, capfd: Any) -> None:
    handler = _Log(run / "log.txt")
    handler.stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 (the handler closes it)
    for _ in range(2):
        handler.emit(logging.LogRecord("dosimeter", logging.INFO, "", 0, "a line", (), None))
    handler.close()
    said = capfd.readouterr().err
    assert said.count("log.txt cannot be written (No space left on device): lines of it are lost.") == 1
    assert "Traceback" not in said


def test_an_interrupted_run_cannot_be_replayed(run: Path) -> None:
    with pytest.raises(DosimeterError, match="under way or was interrupted"):
        Replay(run)


def test_a_table_whose_version_is_no_number_is_one_sentence(run: Path) -> None:
    rows = pq.read_table(run / "responses.parquet")
    for facts, said in (({METADATA_KEY: b'{"schema_version": Infinity}'}, "infinity"), (None, "no facts of a run")):
        pq.write_table(rows.replace_schema_metadata(facts), run / "responses.parquet")
        with pytest.raises(DosimeterError, match=f"is damaged .*{said}"):
            read_meta(run / "responses.parquet")


def test_a_folder_in_the_place_of_any_file_is_named_and_stays(tmp_path: Path) -> None:
    (tmp_path / "part.parquet").mkdir()
    with pytest.raises(DosimeterError, match=r"part\.parquet must be a file, it is a folder: rename or remove it"):
        write_text(tmp_path / "part.parquet", "rows")
    assert [path.name for path in tmp_path.iterdir()] == ["part.parquet"]
    assert kept(tmp_path / "part.parquet") is None


def test_seconds_of_learning_that_are_no_number_are_damage(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2)}
    keep(Learned(tensors, 1.0), tmp_path / "a")
    found = read_kept(tmp_path / "a")
    assert found is not None
    assert found.seconds == 1
    save_file(tensors, tmp_path / "a", metadata={"sha256": digest_of_tensors(tensors), "seconds": "long"})
    assert read_kept(tmp_path / "a") is None


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose study was merged, and another begun after it, which was interrupted."""
    made = make_responses()
    write_table(pa.Table.from_pandas(made.frame, SCHEMA), made.meta, tmp_path)
    begun = Run(tmp_path)
    begun.parts.mkdir()
    (begun.parts / "0a1b.parquet").write_bytes(b"")
    begun.save_manifest(status=RUNNING)
    write_text(begun.interim, json.dumps(Interim(facts={}, planned=[]).model_dump()))
    return tmp_path


def test_where_a_damaged_manifest_says_nothing_what_lies_there_does(run: Path) -> None:
    with pytest.raises(DosimeterError, match="under way or was interrupted"):
        finished_table(run)
    (run / "manifest.json").write_text("{")
    with pytest.raises(DosimeterError, match="under way or was interrupted"):
        finished_table(run)
    assert facts_of("run", str(run))["status"] == RUNNING
    Run(run).interim.unlink()
    assert finished_table(run).is_file()


def test_show_says_what_a_run_lacks(run: Path) -> None:
    Run(run).finish()
    assert facts_of("run", str(run))["answer"] == [f"there is no summary.json: dosimeter report {run}"]
    (run / "responses.parquet").unlink()
    assert "no responses.parquet" in facts_of("run", str(run))["next"]
    Run(run).save_manifest(status=MERGING)
    assert "--partial" in facts_of("run", str(run))["next"]


@pytest.mark.usefixtures("tiny_networks", "no_report")
def test_a_study_makes_again_what_was_damaged(image_folder: Path, tmp_path: Path) -> None:
    config = settings(image_folder, tmp_path / "run", model="vgg16", epochs=1)
    run_study(config)
    assert run_study(config).reused
    card = next((tmp_path / "run" / "classifiers").glob("*/card.json"))
    card.write_text(card.read_text().replace('"layers": "', '"layers": "another '))
    assert run_study(config).reused
    (tmp_path / "run" / "summary.json").write_text("{")
    assert not run_study(config).reused
    part = next((tmp_path / "run" / "parts").iterdir())
    part.unlink()
    part.mkdir()
    with pytest.raises(DosimeterError, match="is a folder: rename or remove it"):
        run_study(config)
    shutil.rmtree(part)
    run_study(config)
    assert run_study(config).reused
