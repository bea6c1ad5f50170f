"""Files of a run that were damaged or replaced since: made again, or one sentence with its remedy."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from response_factory import make_responses, write_table
from safetensors.torch import save_file
from tiny import settings

from dosimeter.cli.showing import facts_of
from dosimeter.defences.keeping import Learned, digest_of_tensors, keep, read_kept
from dosimeter.errors import DosimeterError
from dosimeter.files import json_in, json_of, write_text
from dosimeter.models.saved import read_card
from dosimeter.readers.design import read_design
from dosimeter.record.facts import Interim
from dosimeter.record.finished import finished_table
from dosimeter.record.model_card import undefended_name
from dosimeter.record.run import MERGING, RUNNING, Run, is_study, kept, require_kinds
from dosimeter.record.table import SCHEMA
from dosimeter.report.answer import answer
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
