"""One file, or one entry point, adds a thing: it then stands in lists, studies, tables, figures, report and summary."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import sketches
from typer.testing import CliRunner

import dosimeter.attacks.known
import dosimeter.defences.known
import dosimeter.examinations.known
import dosimeter.models.known
import dosimeter.sections
from dosimeter import registry
from dosimeter.cli.app import app
from dosimeter.errors import DosimeterError
from dosimeter.record import table as responses

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
SECTION = """
import functools

import pandas as pd
from matplotlib.figure import Figure

from dosimeter.presentation.numbers import Cell, count
from dosimeter.presentation.section import Drawing, Page, Section
from dosimeter.presentation.style import panels
from dosimeter.presentation.views import Head, View


def draw(table: pd.DataFrame) -> Figure:
    figure, axes = panels(1, 1, height=2.0)
    axes[0, 0].bar(table["model"], table["n"])
    return figure


class Counted(Section):
    title = "{title}"
    note = "images counted: {name}"
    captions = {{"{name}": "Images of each model, by a test."}}
    unattacked = ("{name}",)

    def tables(self, rows):
        asked = rows.frame.groupby(["cohort", "protocol", "model"], observed=True)["case_id"].nunique()
        return {{"{name}": asked.rename("n").reset_index()}}

    def page(self, run):
        rows = [[Cell(str(row.model), kind="name"), Cell(count(row.n))] for row in run.firsts["{name}"].itertuples()]
        return Page(text=["Each image once."], tables=[View("{title}, counted", [[Head("model"), Head("n")]], rows)])

    def figures(self, panel):
        yield Drawing("{name}", "{title}", functools.partial(draw, panel.tables["{name}"]), ["Bars are images."])

    def summary(self, run):
        return {{"{name}": int(run.firsts["{name}"]["n"].sum())}}

    def of_attack(self, run, keys):
        return {{"{name}": keys["preset"]}}


ENTRY = Counted()
"""
CHECK = """
from dosimeter.analysis.checks import CAUTION, Finding, Rule


def lucky(trial):
    bright = trial.examined["bright"][0]
    return Finding(CAUTION, f"{len(trial.attacks)} attacks and {bright['n']} images examined, by a test.")


ENTRY = Rule("lucky", "Luck is small", "never passed", "a test", "Do nothing.", lucky)
"""
EXAMINATION = """
from dosimeter.examinations.base import Examination, Question


def ask(examined):
    test = examined.trial.split.test
    yield Question("how bright", [], lambda: [{{"n": len(test), "by": "{name}"}}], examined.scope)


ENTRY = Examination(note="how bright images are: {name}", ask=ask, before={before})
"""
DEFENCE = """
from dataclasses import dataclass

from torch import nn

from dosimeter.defences.base import Entry, InputDefence


class Darker(nn.Module):
    def forward(self, images):
        return images * 0.9


@dataclass(frozen=True)
class Dark(InputDefence):
    by: str = "{name}"

    def transform(self):
        return Darker()


ENTRY = Entry(lambda setting: Dark(), "darker by a tenth: {name}", "{name}", "input", "a test")
"""


@pytest.fixture
def additions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An attack, a backbone, a section, an examination and a defence, each as a file of its folder and of a package.

    The package brings a storage and a check, too.
    """
    for package, name, content in (
        (dosimeter.sections, "counted", SECTION.format(name="counted", title="Counted by a folder")),
        (dosimeter.attacks.known, "brighter", ATTACK.format(name="brighter", title="Brighter by a file")),
        (dosimeter.examinations.known, "bright", EXAMINATION.format(name="bright", before=True)),
        (dosimeter.defences.known, "dusk", DEFENCE.format(name="dusk")),
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
        "[dosimeter.checks]\nlucky = addition_check:ENTRY\n"
        "[dosimeter.examinations]\ndark = addition_examination:ENTRY\n"
        "[dosimeter.defences]\nnight = addition_defence:ENTRY\n"
        "[dosimeter.sections]\ntallied = addition_section:ENTRY\n"
    )
    (site / "addition_attack.py").write_text(ATTACK.format(name="other", title="Brighter by a package"))
    (site / "addition_storage.py").write_text(STORAGE)
    (site / "addition_backbone.py").write_text(BACKBONE.format(name="foreign", title="Foreign by a package"))
    (site / "addition_examination.py").write_text(EXAMINATION.format(name="dark", before=False))
    (site / "addition_defence.py").write_text(DEFENCE.format(name="night"))
    (site / "addition_check.py").write_text(CHECK)
    (site / "addition_section.py").write_text(SECTION.format(name="tallied", title="Tallied by a package"))
    monkeypatch.syspath_prepend(site)
    registry._brought.cache_clear()
    yield
    registry._brought.cache_clear()
    mine = ("addition_", *(f"dosimeter.{name}" for name in ("attacks.known.brighter", "models.known.smallest")))
    mine += ("dosimeter.sections.counted", "dosimeter.examinations.known.bright", "dosimeter.defences.known.dusk")
    for name in [each for each in sys.modules if each.startswith(mine)]:
        del sys.modules[name]


@pytest.mark.usefixtures("tiny_networks", "additions")
def test_what_one_file_or_one_entry_point_adds_stands_everywhere(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [
        *("study", "--cohort", "phantom-xray", "--limit", "30", "--epochs", "1", "--protocol", "paper"),
        *(
            "--model",
            "smallest,foreign",
            "--defence",
            "dusk+night",
            "--attack",
            "brighter,other",
            "--storage",
            "png8-again",
        ),
        *("--epsilons", "0.02,0.1,0.4", "--visibility", "none", "--out", str(run)),
    ]
    with sketches.drawn_alone("counted", "tallied"):
        result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    sections = {"counted": "Counted by a folder", "tallied": "Tallied by a package"}
    attacks, models = ("Brighter by a file", "Brighter by a package"), ("Smallest by a file", "Foreign by a package")
    page = (run / "report.html").read_text()
    for title in (*attacks, *models, *sections.values(), "PNG of a test", "Smallest by a file + dusk+night"):
        assert title in page
    robust = pd.read_csv(run / "tables" / "robust_accuracy.csv")
    assert {"brighter", "other"} <= set(robust["preset"])
    systems = [name for model in ("smallest", "foreign") for name in (model, f"{model} + dusk+night")]
    assert set(systems) == set(robust["model"])
    assert {"none", "dusk+night"} == set(robust["defence"])
    assert "png8-again" in set(robust["storage"])
    figures = {path.name for path in (run / "figures").glob("*.svg")}
    assert any("security" in name for name in figures)
    assert any("survival" in name for name in figures)
    summary = json.loads((run / "summary.json").read_text())
    for name, title in sections.items():
        assert list(pd.read_csv(run / "tables" / f"{name}.csv").columns) == ["cohort", "protocol", "model", "n"]
        assert not (run / "tables" / f"{name}.tex").exists()  # it does not say what a paper shows of it
        assert f"phantom-xray-paper-{name}.svg" in figures
        assert f'<section id="{name}"' in page
        assert f"{title}: phantom-xray, paper protocol" in page  # its figure's title
        assert summary[name] == summary["results"][0]["n"] * len(systems)
        assert summary["results"][0]["attacks"][0][name] == summary["results"][0]["attacks"][0]["preset"]
    assert "lucky" in set(pd.read_csv(run / "tables" / "evaluation.csv")["id"])
    assert "Luck is small" in page
    n_test = summary["results"][0]["n"]
    assert f"and {n_test} images examined, by a test." in page
    examined = responses.read_meta(run / "responses.parquet")["examined"]
    for name in ("bright", "dark"):
        assert [fact["model"] for fact in examined[name]] == systems
        assert all(fact["n"] == n_test and fact["by"] == name for fact in examined[name])
    evaluations = [each for result in summary["results"] for each in result["evaluations"]]
    assert all("Luck is small" in [check["title"] for check in each["checks"]] for each in evaluations)
    assert {"brighter", "other"} <= {each["preset"] for each in summary["results"][0]["attacks"]}
    assert {each["title"] for each in summary["kinds"]["attacks"]} >= set(attacks)


@pytest.mark.usefixtures("additions")
def test_lists_name_what_was_added() -> None:
    for what, name, note in (
        ("attacks", "brighter", "every pixel up"),
        ("attacks", "broken", "cannot be loaded"),
        ("storages", "png8-again", "8-bit PNG of a test"),
        ("models", "foreign", "tiny, of a test"),
        ("checks", "lucky", "Luck is small: never passed"),
        ("examinations", "bright", "how bright images are: bright"),
        ("examinations", "dark", "how bright images are: dark"),
        ("defences", "dusk", "darker by a tenth: dusk"),
        ("defences", "night", "darker by a tenth: night"),
        ("sections", "counted", "images counted"),
        ("sections", "tallied", "images counted"),
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
