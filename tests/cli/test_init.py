"""`dosimeter init`: what a file says is written, what it does not say is asked, with counts that are right."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from dosimeter import registry
from dosimeter.cli.app import app
from dosimeter.errors import DosimeterError
from dosimeter.models.evidence import Outputs
from dosimeter.models.opening import facts_of
from dosimeter.models.proposal import _kind
from dosimeter.models.source import Source, bring

MODULE = """
import torch
from torch import nn


class Bright(nn.Module):
    '''Bright where the mean of its input is above .4; the second of two outputs.'''

    def __init__(self, n=2):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.n = n

    def forward(self, images):
        logit = self.scale * (images.mean(dim=(1, 2, 3)) - 0.4)
        return torch.stack([-logit, logit], dim=1)[:, 2 - self.n:]


def two():
    return Bright()


def one():
    return Bright(1)


def shares():
    return nn.Sequential(Bright(), nn.Softmax(dim=1))


def share():
    return nn.Sequential(Bright(1), nn.Sigmoid())


def three():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 3))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module, and images: 8 of mean .2, dark, and 8 of mean .5, bright."""
    (tmp_path / "init_of_a_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "init_of_a_test", raising=False)
    generator = np.random.default_rng(0)
    for name, level in (("bright", 128), ("dark", 51)):
        (tmp_path / "films" / name).mkdir(parents=True)
        for place in range(8):
            levels = np.full((16, 16), level, np.uint8) + generator.integers(0, 2, (16, 16), dtype=np.uint8)
            Image.fromarray(levels).save(tmp_path / "films" / name / f"{place}.png")
    return tmp_path


def run(*asked: str) -> Any:
    return CliRunner().invoke(app, ["init", *asked])


def initialise(function: str, *more: str) -> str:
    usual = ("folder:films", "--positive", "bright", "--size-px", "16", "--trust", "--out", "card.toml")
    result = run(f"python:init_of_a_test:{function}", *usual, *more)
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "Answer in it: classes, scale, mean, std, " in result.output
    return Path("card.toml").read_text()


def row(text: str, words: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"#   {words}"))


@pytest.mark.parametrize(
    ("function", "outputs"),
    [("two", "logits"), ("one", "one logit"), ("shares", "probabilities"), ("share", "one probability")],
)
def test_counts_are_those_of_the_network(here: Path, function: str, outputs: str) -> None:
    """At a threshold of .4, mean .2 and .5 are told apart on [0, 1]; on [-1, 1] both are below, on [0, 255] above."""
    text = initialise(function)
    assert f'outputs = "{outputs}"' in text.splitlines()
    assert row(text, "black 0, white 1").endswith("16 (dark, bright); 0 (bright, dark)")
    assert row(text, "black -1, white 1").endswith("8 (dark, bright); 8 (bright, dark)")
    assert row(text, "black 0, white 255").endswith("8 (dark, bright); 8 (bright, dark)")
    assert row(text, "squash, nearest").endswith("16 (dark, bright); 0 (bright, dark)")
    assert "# ? channel_order" not in text  # of grey images no order is told


def test_a_card_is_refused_until_its_questions_are_answered(here: Path) -> None:
    text = initialise("two", "--images", "4")
    assert "Right of 4 images" in text
    with pytest.raises(DosimeterError, match="classes: it must be there"):
        bring(here / "card.toml", trust=True)
    answers = {"classes": ["dark", "bright"], "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}
    lines = text.splitlines()
    for key, value in answers.items():
        with pytest.raises(DosimeterError):
            bring(here / "card.toml", trust=True)
        place = next(place for place, line in enumerate(lines) if line.startswith(f"# ? {key} ="))
        lines[place] = f"{key} = {json.dumps(value)}"
        (here / "card.toml").write_text("\n".join(lines))
    classifier = bring(here / "card.toml", trust=True)
    assert classifier(torch.full((1, 3, 16, 16), 0.9)).argmax().item() == 1
    assert classifier.card["model"] == "two"


def test_without_a_size_nothing_is_asked_of_the_network(here: Path) -> None:
    result = run("python:init_of_a_test:two", "folder:films", "--positive", "bright", "--trust", "--out", "card.toml")
    assert result.exit_code == 0, result.output
    text = Path("card.toml").read_text()
    assert "# ? size_px = 224" in text
    assert "Right of" not in text


def test_other_numbers_of_classes_are_said(here: Path) -> None:
    text = initialise("three")
    assert "# The network has 3, the data 2: dark, bright." in text
    assert "# ? classes =" in text.splitlines()
    assert "Right of" not in text


def test_colour_is_asked_in_both_orders(here: Path) -> None:
    for path in (here / "films").rglob("*.png"):
        levels = np.asarray(Image.open(path))
        Image.fromarray(np.stack([levels, levels // 2, levels // 4], axis=2)).save(path)
    text = initialise("two")
    assert "# The same with blue first:" in text
    assert '# ? channel_order = "rgb"' in text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["gone.keras"], "model must be a file, a folder or one of timm:NAME"),
        (["times:resnet18"], "Did you mean 'timm'"),
        (["torchvision:resnet18"], "must come with --weights FILE, or with --random-weights"),
        (["tensors.pt"], "holds tensors, not their network: name it"),
        (["films"], r"must be a folder with config.json"),
        (["notes.txt"], "must be a folder, or end in one of .keras, .h5"),
        (["python:init_of_a_test:two"], "must be trusted: the source python imports"),
        (
            ["python:init_of_a_test:two", "--trust", "--size-px", "16x16x3"],
            "--size-px must be a number, or HEIGHTxWIDTH",
        ),
        (["python:init_of_a_test:gone", "--trust"], "init_of_a_test:gone cannot be called"),
        (["python:init_of_a_test:two", "--trust", "--out", "notes.txt"], "notes.txt is there already"),
        (["torchvision:resnet18", "--weights", "tensors.pt"], "does not hold the tensors of resnet18"),
    ],
)
def test_what_cannot_be_begun_is_one_sentence(here: Path, asked: list[str], said: str) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), here / "tensors.pt")
    (here / "notes.txt").write_text("notes")
    result = run(asked[0], "folder:films", "--positive", "bright", *asked[1:])
    assert isinstance(result.exception, DosimeterError)
    with pytest.raises(DosimeterError, match=said):
        raise result.exception
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize("model", ["net.pt", "models/net.keras", "timm:resnet50"])
def test_an_audit_of_what_has_no_card_names_init(here: Path, model: str) -> None:
    result = CliRunner().invoke(app, ["audit", "--model", model, "--data", "phantom-xray"])
    assert f"dosimeter init {model} DATA writes one" in str(result.exception)


def test_files_are_known_by_what_they_are(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(nn.Linear(2, 2), here / "whole.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.rand(1, 2)), here / "script.pt")
    for folder, file in (("hub", "config.json"), ("bundle", "configs/metadata.json")):
        (here / folder / file).parent.mkdir(parents=True)
        (here / folder / file).write_text("{}")
    (here / "a.onnx").touch()
    for file in ("a.hdf5", "a.pt2"):
        (here / file).touch()
    assert [facts_of(name)["source"] for name in ("a.hdf5", "a.pt2")] == ["keras", "export"]
    monkeypatch.setitem(registry.ADDED, ("sources", "mine"), Source("mine", pytest.fail, suffixes=(".mine",)))
    (here / "a.mine").touch()
    assert facts_of("a.mine")["source"] == "mine"
    found = {name: facts_of(name)["source"] for name in ("whole.pt", "script.pt", "hub", "bundle", "a.onnx")}
    assert found == {"whole.pt": "pickle", "script.pt": "torchscript", "hub": "huggingface", "bundle": "monai",
                     "a.onnx": "onnx"}  # fmt: skip
    assert facts_of("xrv:all")["source"] == "torchxrayvision"


def test_what_a_source_knows_is_written_and_makes_a_whole_card(here: Path) -> None:
    pytest.importorskip("timm")
    usual = ("folder:films", "--positive", "bright", "--random-weights", "--images", "4", "--out", "card.toml")
    result = run("timm:test_vit", *usual)
    assert result.exit_code == 0, result.output
    assert "Answer in it: classes." in result.output
    text = Path("card.toml").read_text()
    (here / "card.toml").write_text(text.replace("# ? classes", "classes"))
    assert bring(here / "card.toml").grid.crop_pct == 0.95
    assert "#   as above" in text


@pytest.mark.parametrize("name", ["init", "fit"])
def test_what_labels_mean_is_said_as_an_audit_takes_it(here: Path, name: str) -> None:
    """A list of the folder's files with findings; a network of as many; and the audit that is named takes the same."""
    pytest.importorskip("timm")
    files = sorted((here / "films").rglob("*.png"))
    rows = [
        f"{path.relative_to(here / 'films')},{place % 2},{place % 4 // 3},{place}" for place, path in enumerate(files)
    ]
    (here / "list.csv").write_text("\n".join(["file,effusion,nodule,patient_id", *rows]) + "\n")
    meant = ("--findings", "effusion,nodule", "--labels", "list.csv")
    usual = ("--random-weights", "--size-px", "32", "--out", "card.toml", *meant)
    result = CliRunner().invoke(app, [name, "timm:test_resnet", "folder:films", *usual])
    assert result.exit_code == 0, result.output + str(result.exception)
    card = Path("card.toml").read_text()
    assert 'outputs = "findings"' in card.splitlines()
    assert "effusion" in card
    then = f"--model card.toml --data folder:films --labels list.csv --findings {meant[1]}"
    assert f"Then: dosimeter audit {then}" in result.output


@pytest.mark.parametrize("name", ["init", "fit"])
def test_what_is_said_of_images_reaches_their_cohort(here: Path, name: str) -> None:
    usual = ("timm:test_resnet", "--random-weights", "--size-px", "32", "--out", "card.toml")
    for data, meant, said in (
        ("folder:films", ("--classes", "dark"), "classes is for cohorts npz:, got it for"),
        ("csv:films.csv", ("--label-tag", "ViewPosition"), "label_tag is for cohorts folder:, got it for"),
        ("folder:films", ("--patients", "some"), "patients must be list or dicom, got 'some'"),
    ):
        result = CliRunner().invoke(app, [name, usual[0], data, *usual[1:], *meant])
        assert isinstance(result.exception, DosimeterError), result.output
        assert said in str(result.exception)


def test_whole_numbers_are_asked_about_and_not_called_a_logit() -> None:
    places = torch.tensor([[0.0], [2.0], [1.0]])
    assert _kind(Outputs(places, places), 1, "")[0] == ""
    assert _kind(Outputs(places + 0.25, 9 * places), 1, "")[0] == "one logit"
