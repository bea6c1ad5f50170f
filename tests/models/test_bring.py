"""Trained classifiers that somebody brings: model cards, their sources, and an audit from end to end."""

import json
import os
import pickle
import runpy
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import dosimeter as dm
from dosimeter.cli.app import app
from dosimeter.cohorts.grids import Grid
from dosimeter.errors import DosimeterError
from dosimeter.models.outputs import Probabilities
from dosimeter.models.source import bring
from dosimeter.models.tensors import read_tensors
from dosimeter.record.model_card import is_brought, name_of, read_model_card
from dosimeter.replay.replay import Replay

CLASSES = ["clear", "opacity"]
PLAIN: dict[str, Any] = {
    "name": "mine",
    "source": "python",
    "architecture": "mine_of_a_test:make",
    "classes": CLASSES,
    "channels": 1,
    "size_px": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
MODULE = """
import torch
from torch import nn


def make(outputs=2):
    torch.manual_seed(3)
    layers = nn.Conv2d(1, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, outputs)
    return nn.Sequential(*layers)


def sure():
    return nn.Sequential(make(1), nn.Sigmoid())


def shares():
    return nn.Sequential(make(2), nn.Softmax(dim=1))


def one():
    return make(1)


def three():
    return make(3)


def nothing():
    return "a network"


def ends():
    raise SystemExit(3)
"""


def write_card(folder: Path, **changes: Any) -> Path:
    facts = {name: value for name, value in (PLAIN | changes).items() if value is not None}
    path = folder / f"{facts['name']}.toml"
    path.write_text(
        "\n".join(f"{name} = {json.dumps(value).replace('NaN', 'nan')}" for name, value in facts.items()),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that one works in, with a module of one's own."""
    (tmp_path / "mine_of_a_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_of_a_test", raising=False)
    return tmp_path


def made(here: Path) -> nn.Module:
    network: nn.Module = runpy.run_path(str(here / "mine_of_a_test.py"))["make"]()
    return network


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sauce": "python"}, "the key 'sauce', which is not known. Did you mean 'source'"),
        ({"classes": ["a"]}, "classes: .* at least 2"),
        ({"classes": ["a", "a"]}, "classes must differ"),
        ({"positive": "b"}, "positive must be one of the classes"),
        ({"std": None}, "mean and std must be given together"),
        ({"std": [0, 1, 1]}, "std must be above 0"),
        ({"mean": [float("nan"), 0, 0]}, "mean"),
        ({"scale": 0}, "scale: it must be greater than 0, got 0"),
        ({"size_px": 32.5}, "size_px"),
        ({"outputs": "sigmoid"}, "outputs: it must be 'logits'"),
        ({"outputs": "one logit", "classes": ["a", "b", "c"]}, "must have two classes, got 3"),
        ({"name": "../../etc"}, "name"),
        ({"thresholds": [0.2, 0.5]}, "thresholds must be one for each of several findings"),
        ({"outputs": "findings", "thresholds": [0.2]}, "thresholds must be one for each of several findings"),
        ({"outputs": "findings", "thresholds": [0.2, 1]}, "thresholds"),
        ({"source": "pyton"}, "source 'pyton' is not known. Did you mean 'python'"),
        ({"architecture": "mine_of_a_test"}, "must be MODULE:FUNCTION"),
        ({"architecture": "mine_of_a_test:gone"}, "cannot be called"),
        ({"architecture": "mine_of_a_test:nothing"}, r"must return a torch.nn.Module, got str"),
        ({"architecture": "mine_of_a_test:ends"}, r"cannot be called \(SystemExit: 3\)"),
        ({"outputs": "labels"}, "outputs 'labels' of mine must be of an endpoint, a function or an ONNX file"),
        ({"mean": None, "std": None}, "must say mean and std: the source python does not know"),
        ({"weights": "gone.pt"}, "gone.pt are not beside the model card"),
        ({"source": "torchvision", "architecture": "resnet19"}, "none of torchvision's. Did you mean 'resnet18'"),
        ({"source": "torchvision", "architecture": "squeezenet1_1"}, "must name its weights"),
    ],
)
def test_a_wrong_card_is_one_sentence(changes: dict[str, Any], said: str, here: Path) -> None:
    card = write_card(here, **{name: value for name, value in changes.items() if name != "name"})
    if "name" in changes:
        card.write_text(card.read_text().replace('"mine"', json.dumps(changes["name"])))
    with pytest.raises(DosimeterError, match=said) as caught:
        bring(card, trust=True)
    assert "\n" not in str(caught.value)


def test_code_runs_only_where_it_is_trusted(here: Path) -> None:
    card = write_card(here)
    with pytest.raises(DosimeterError, match=r"must be trusted: .* code may do anything. Add --trust"):
        bring(card)
    assert "mine_of_a_test" not in sys.modules

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (here / "ran",)

    for name in ("weights.pt", "weights.pth"):
        (here / name).write_bytes(pickle.dumps(Payload()))
        with pytest.raises(DosimeterError, match="cannot be read as tensors alone"):
            read_tensors(here / name)
    assert not (here / "ran").exists()


def test_what_a_network_gives_becomes_logits(here: Path) -> None:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    answers = {}
    for outputs, function in (
        ("logits", "make"),
        ("probabilities", "shares"),
        ("one logit", "one"),
        ("one probability", "sure"),
    ):
        card = write_card(here, outputs=outputs, architecture=f"mine_of_a_test:{function}")
        answers[outputs] = bring(card, trust=True)(images).softmax(dim=1)
    torch.testing.assert_close(answers["logits"], answers["probabilities"])
    torch.testing.assert_close(answers["one logit"], answers["one probability"])
    whole = torch.tensor([[0.0], [1.0]])
    assert Probabilities()(whole).isfinite().all()
    assert Probabilities()(whole).argmax(dim=1).tolist() == [0, 1]


def test_preprocessing_is_that_of_the_card(here: Path) -> None:
    images = torch.rand(2, 3, 32, 32)
    card = write_card(here, scale=255.0, mean=[10.0, 20.0, 30.0], std=[2.0, 2.0, 4.0], channel_order="bgr")
    planes = (images.flip(1) * 255 - torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1)) / torch.tensor(
        [2.0, 2.0, 4.0]
    ).view(3, 1, 1)
    torch.testing.assert_close(bring(card, trust=True)(images), made(here)(planes.mean(dim=1, keepdim=True)))


def test_tensors_of_a_file_are_loaded_or_named(here: Path) -> None:
    network = made(here)
    changed = {name: value + 1 for name, value in network.state_dict().items()}
    save_file(changed, here / "a.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in changed.items()}}, here / "a.pt")
    images = torch.rand(2, 3, 32, 32)
    network.load_state_dict(changed)
    wanted = network(images.mean(dim=1, keepdim=True) * 2 - 1)
    for file in ("a.safetensors", "a.pt"):
        torch.testing.assert_close(bring(write_card(here, weights=file), trust=True)(images), wanted)
    other = {"0.weight": changed["0.weight"][:2], "0.bias": changed["0.bias"], "9.bias": torch.zeros(1)}
    save_file(other, here / "b.safetensors")
    with pytest.raises(DosimeterError) as caught:
        bring(write_card(here, weights="b.safetensors"), trust=True)
    for part in ("missing: 3.bias, 3.weight", "not of this network: 9.bias", "of other shapes: 0.weight (2, 1, 5, 5)"):
        assert part in str(caught.value)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "net.backbone.", "model.model."])
def test_prefixes_of_wrappers_are_left_out(prefix: str, here: Path) -> None:
    network = made(here)
    checkpoint = {prefix + name: value + 1 for name, value in network.state_dict().items()}
    torch.save({"state_dict": checkpoint, "args": Namespace(lr=0.1), "epoch": 3}, here / "a.pt")
    network.load_state_dict({name: value + 1 for name, value in network.state_dict().items()})
    images = torch.rand(2, 3, 32, 32)
    wanted = network(images.mean(dim=1, keepdim=True) * 2 - 1)
    torch.testing.assert_close(bring(write_card(here, weights="a.pt"), trust=True)(images), wanted)


def test_which_of_several_state_dicts_is_taken_is_said(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = made(here).state_dict()
    torch.save({"state_dict_ema": {name: 2 * value for name, value in own.items()}, "state_dict": own}, here / "a.pt")
    bring(write_card(here, weights="a.pt"), trust=True)
    assert "a.pt: the tensors of 'state_dict' are taken, not those of state_dict_ema." in caplog.text


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "EOFError"),
        (b"<html>404</html>", "it is no such file, or holds code"),
        (pickle.dumps(Payload()), "it is no such file, or holds code"),
        ({"state_dict": {"a": torch.ones(1)}, "x": Payload()}, "it holds (posix|nt).system, which is no tensor"),
        (nn.Linear(2, 2), "it holds torch.nn.modules.linear.Linear, which is no tensor"),
    ],
)
def test_a_file_of_more_than_tensors_is_one_sentence_and_runs_nothing(content: Any, why: str, here: Path) -> None:
    if isinstance(content, bytes):
        (here / "a.pt").write_bytes(content)
    else:
        torch.save(content, here / "a.pt")
    with pytest.raises(DosimeterError, match=rf"a.pt cannot be read as tensors alone \({why}\). Save them") as caught:
        read_tensors(here / "a.pt")
    assert "\n" not in str(caught.value)
    assert not (here / "ran").exists()


def test_names_tell_cards_from_networks(here: Path) -> None:
    assert not is_brought("vgg16")
    assert is_brought(str(write_card(here)))
    assert name_of(str(here / "mine.toml")) == "mine"
    assert read_model_card(here / "mine.toml").size_px == 32
    with pytest.raises(DosimeterError, match="model must be trained ones alone"):
        dm.StudyConfig(model=("vgg16", str(here / "mine.toml")))
    with pytest.raises(DosimeterError, match="protocol must be 'whole' for trained models, got patient"):
        dm.StudyConfig(model=(str(here / "mine.toml"),), protocol=("patient",))
    with pytest.raises(DosimeterError, match="two are called 'mine'"):
        dm.StudyConfig(model=(str(here / "mine.toml"), str(here / "mine.toml").replace("mine.toml", "./mine.toml")))


def test_an_audit_from_end_to_end(here: Path) -> None:
    card, run = write_card(here), here / "run"
    asked = [
        *(
            "audit",
            "--model",
            str(card),
            "--data",
            "phantom-xray",
            "--images",
            "8",
            "--no-data-audit",
            "--trust",
            "--out",
            str(run),
        ),
        *("--attack", "pgd,random_sign", "--epsilons", "0.01,0.1", "--storage", "png8", "--visibility", "all"),
        *("--declared-accuracy", "mine=0.9", "--seed", "1"),
    ]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "mine on phantom-xray (whole protocol, 8 images)" in result.output
    summary = json.loads((run / "summary.json").read_text())
    (only,) = summary["results"]
    assert (only["model"], only["protocol"], only["n"]) == ("mine", "whole", 8)
    assert summary["cohorts"][0]["n_train"] == 0
    assert summary["cohorts"][0]["n_test_in_training"] is None  # nobody here knows
    assert {each["preset"] for each in only["attacks"]} >= {"sound", "pgd", "random_sign", "worst case"}
    page = (run / "report.html").read_text()
    assert "trained elsewhere" in page
    assert page.count("<td>not known here</td>") == 2
    assert "were trained, and" not in page
    assert str(here) not in page
    assert "Probabilities" not in page
    training = pd.read_csv(run / "tables" / "training.csv")
    assert training.empty
    assert "already finished" in CliRunner().invoke(app, asked).output
    with pytest.raises(DosimeterError, match=r"must be trusted: .* Add --trust"):
        Replay(run)  # whoever opens a run folder need not be who made it
    replay = Replay(run, trust=True)
    curve = replay.curves[next(key for key in replay.curves if key.preset == "pgd")]
    target = replay.target(curve, curve.case_ids[0])
    assert (target.path.at(target.image, 0.1) - target.image).abs().max() <= 0.1 + 1e-6
    (here / "mine_of_a_test.py").write_text(MODULE.replace("manual_seed(3)", "manual_seed(4)"))
    del sys.modules["mine_of_a_test"]
    with pytest.raises(DosimeterError, match="mine is another network now"):
        Replay(run, trust=True)


def test_a_cohort_of_other_classes_is_refused(here: Path) -> None:
    card = write_card(here, classes=["opacity", "clear"])
    result = CliRunner().invoke(
        app, ["audit", "--model", str(card), "--data", "phantom-xray", "--no-data-audit", "--trust"]
    )
    assert "must be the classifier's ['opacity', 'clear'], in that order" in str(result.exception)


def test_a_saved_classifier_is_brought_by_its_folder(tmp_path: Path) -> None:
    with pytest.raises(DosimeterError, match="holds no classifier"):
        bring(tmp_path)


def test_an_onnx_file_answers_as_the_network_it_was(here: Path) -> None:
    for name in ("onnxruntime", "onnx2pytorch", "onnxscript"):
        pytest.importorskip(name)
    network = made(here).eval()
    torch.onnx.export(network, (torch.randn(1, 1, 32, 32),), here / "mine.onnx", dynamo=True, verbose=False)
    card = write_card(here, source="onnx", architecture=None, weights="mine.onnx", size_px=None)
    classifier = bring(card)
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(classifier(images), network(images.mean(dim=1, keepdim=True) * 2 - 1))
    assert classifier.size_px == 32
    assert bring(card).fingerprint == classifier.fingerprint
    for changes, said in (
        ({"channels": 3}, "says channels 3, its file 1"),
        ({"size_px": 64}, "says size_px 64, its file 32"),
    ):
        with pytest.raises(DosimeterError, match=said):
            bring(write_card(here, **{"source": "onnx", "architecture": None, "weights": "mine.onnx"} | changes))
    (here / "mine.onnx").write_bytes(b"no graph")
    with pytest.raises(DosimeterError, match=r"mine\.onnx cannot be read as ONNX"):
        bring(card)


def test_a_network_of_timm_knows_its_normalisation(here: Path) -> None:
    timm = pytest.importorskip("timm")
    card = write_card(
        here,
        source="timm",
        architecture="test_vit",
        random_weights=True,
        **dict.fromkeys(("size_px", "mean", "std"), None),
        channels=3,
    )
    classifier = bring(card)
    config = timm.data.resolve_data_config({}, model=timm.create_model("test_vit"))
    assert classifier.size_px == config["input_size"][-1]
    assert classifier.preprocessing.mean == config["mean"]
    assert classifier.grid == Grid(160, 160, "crop", config["interpolation"], crop_pct=config["crop_pct"])
    assert classifier.fingerprint == bring(card).fingerprint
    assert not isinstance(classifier.base[0], nn.Identity)


@pytest.mark.slow  # an audit of several findings with its report
def test_findings_of_a_card_are_audited_one_by_one(here: Path) -> None:
    findings = ["opacity", "effusion", "pacemaker"]
    card = write_card(
        here, outputs="findings", classes=findings, thresholds=[0.3, 0.5, 0.5], architecture="mine_of_a_test:three"
    )
    asked = [
        "audit",
        "--model",
        str(card),
        "--data",
        "phantom-findings",
        "--images",
        "12",
        "--no-data-audit",
        "--trust",
    ]
    result = CliRunner().invoke(app, [*asked, "--attack", "pgd", "--epsilons", "0.05", "--out", str(here / "run")])
    assert result.exit_code == 0, result.output
    clean = pd.read_csv(here / "run" / "tables" / "clean_metrics.csv")
    assert set(clean["decision"]) == set(findings)
    assert "Findings together" in (here / "run" / "report.html").read_text()
    other = write_card(here, outputs="findings", classes=findings[::-1], architecture="mine_of_a_test:three")
    result = CliRunner().invoke(app, [*asked[:2], str(other), *asked[3:]])
    assert "must be the classifier's ['pacemaker', 'effusion', 'opacity']" in str(result.exception)
