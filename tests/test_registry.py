"""One file, or one entry point, adds a thing: it then stands in lists, studies, tables, figures, report and summary."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import dosimeter.attacks.known
import dosimeter.models.known
from dosimeter import registry
from dosimeter.cli.app import app
from dosimeter.errors import DosimeterError

ATTACK = '''
from dataclasses import dataclass
from typing import Literal

import torch

from dosimeter.attacks.base import Direction, Problem
from dosimeter.attacks.registry import Entry


@dataclass(frozen=True)
class Brighter:
    """Every pixel up."""

    channels: Literal["tied", "free"] = "tied"
    name: str = "{name}"
    loss: str = "none"

    def direction(self, problem: Problem) -> Direction:
        return Direction(torch.ones_like(problem.images), torch.zeros(len(problem), dtype=torch.bool))


ENTRY = Entry(
    build=lambda effort: Brighter(),
    note="every pixel up: {name}",
    source="a test",
    title="{title}",
    family="shade",
    access="nothing",
)
'''
STORAGE = """
from dosimeter.storage.base import Storage
from dosimeter.storage.raster import encode_png8

ENTRY = Storage("png8-again", "8-bit PNG of a test", encode_png8, 255, ".png", bits=8, title="PNG of a test")
"""
BACKBONE = """
from dataclasses import replace

import tiny

ENTRY = replace(tiny.tiny_backbone("vgg16"), name="{name}", title="{title}", note="tiny, of a test")
"""


@pytest.fixture
def additions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An attack and a backbone as files of the folders, and one of each and a storage of another package."""
    for package, name, content in (
        (dosimeter.attacks.known, "brighter", ATTACK.format(name="brighter", title="Brighter by a file")),
        (dosimeter.models.known, "smallest", BACKBONE.format(name="smallest", title="Smallest by a file")),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(content)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    site = tmp_path / "site"
    info = site / "addition-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: addition\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dosimeter.attacks]\nother = addition_attack:ENTRY\nbroken = addition_nothing:ENTRY\n"
        "[dosimeter.storages]\npng8-again = addition_storage:ENTRY\n"
        "[dosimeter.backbones]\nforeign = addition_backbone:ENTRY\n"
    )
    (site / "addition_attack.py").write_text(ATTACK.format(name="other", title="Brighter by a package"))
    (site / "addition_storage.py").write_text(STORAGE)
    (site / "addition_backbone.py").write_text(BACKBONE.format(name="foreign", title="Foreign by a package"))
    monkeypatch.syspath_prepend(site)
    registry._brought.cache_clear()
    yield
    registry._brought.cache_clear()
    mine = ("addition_", "dosimeter.attacks.known.brighter", "dosimeter.models.known.smallest")
    for name in [each for each in sys.modules if each.startswith(mine)]:
        del sys.modules[name]


@pytest.mark.usefixtures("tiny_networks", "additions", "drawn")
def test_what_one_file_or_one_entry_point_adds_stands_everywhere(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = CliRunner().invoke(
        app,
        [
            *("study", "--cohort", "phantom-xray", "--limit", "30", "--epochs", "1", "--protocol", "paper"),
            *("--model", "smallest,foreign", "--attack", "brighter,other", "--storage", "png8-again"),
            *("--epsilons", "0.02,0.1,0.4", "--visibility", "none", "--out", str(run)),
        ],
    )
    assert result.exit_code == 0, result.output
    attacks, models = ("Brighter by a file", "Brighter by a package"), ("Smallest by a file", "Foreign by a package")
    page = (run / "report.html").read_text()
    for title in (*attacks, *models, "PNG of a test"):
        assert title in page
    robust = pd.read_csv(run / "tables" / "robust_accuracy.csv")
    assert {"brighter", "other"} <= set(robust["preset"])
    assert {"smallest", "foreign"} == set(robust["model"])
    assert "png8-again" in set(robust["storage"])
    figures = {path.name for path in (run / "figures").glob("*.svg")}
    assert any("security" in name for name in figures)
    assert any("survival" in name for name in figures)
    summary = json.loads((run / "summary.json").read_text())
    assert {"brighter", "other"} <= {each["preset"] for each in summary["results"][0]["attacks"]}
    assert {each["title"] for each in summary["kinds"]["attacks"]} >= set(attacks)


@pytest.mark.usefixtures("additions")
def test_lists_name_what_was_added() -> None:
    for what, name, note in (
        ("attacks", "brighter", "every pixel up"),
        ("attacks", "broken", "cannot be loaded"),
        ("storages", "png8-again", "8-bit PNG of a test"),
        ("models", "foreign", "tiny, of a test"),
    ):
        lines = CliRunner().invoke(app, ["list", what]).output.splitlines()
        assert any(name in line and note in line for line in lines)
    assert {"brighter", "other", "broken"} <= set(registry.names("attacks"))
    assert registry.get("attacks", "brighter").title == "Brighter by a file"


@pytest.mark.usefixtures("additions")
def test_what_cannot_be_imported_is_one_sentence() -> None:
    with pytest.raises(DosimeterError, match=r"attack 'broken' of the package addition cannot be loaded .*uninstall"):
        registry.get("attacks", "broken")
    with pytest.raises(DosimeterError, match="Did you mean 'brighter'"):
        registry.get("attacks", "brigther")


def test_names_are_read_without_torch() -> None:
    code = "import sys; from dosimeter import registry; registry.names('attacks'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
