"""`dosimeter fit`: its last layer is scikit-learn's logistic regression; an audit leaves out what it has seen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cards import write_card
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import nn
from typer.testing import CliRunner

import dosimeter as dm
from dosimeter.cli.app import app
from dosimeter.cli.options import triple
from dosimeter.errors import DosimeterError
from dosimeter.models.trained import card_for
from dosimeter.models.transfer import TransferOptions, last_layer, regress, transfer
from dosimeter.record import table as responses
from dosimeter.record.model_card import checked, read_model_card, trained_on


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_last_layer_is_scikit_learns_logistic_regression(n_classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(90, 5, generator=generator) * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0]) + 2
    labels = torch.randint(0, n_classes, (90,), generator=generator)
    layer, penalty = nn.Linear(5, n_classes), 0.02
    regress(layer, features, labels, penalty=penalty)
    mean, spread = features.mean(dim=0), features.std(dim=0)
    # scikit-learn minimises |w|^2 / 2 + C times the sum of losses; of two classes it has one weight vector, of which
    # ours are minus and plus one half
    c = 1 / (2 * penalty * len(labels)) * (2 if n_classes == 2 else 1)
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=5000).fit((features - mean) / spread, labels)
    found = torch.softmax(layer(features), dim=1).detach().numpy()
    np.testing.assert_allclose(found, theirs.predict_proba((features - mean) / spread), atol=2e-4)


def test_only_a_linear_last_layer_can_be_trained() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert last_layer(network, 2)[0] == "2"
    with pytest.raises(DosimeterError, match="must end in a linear layer of 3 outputs"):
        last_layer(network, 3)
    with pytest.raises(DosimeterError, match="must end in a linear layer"):
        last_layer(nn.Conv2d(3, 2, 1), 2)


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments])


def test_a_fitted_network_is_audited_on_what_was_held_out(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    out = tmp_path / "net.toml"
    asked = ("fit", "timm:test_resnet", "phantom-xray", "--random-weights", "--size-px", "32", "--limit", "40")
    result = command(*asked, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "of 8 held out (patient, seed 0)" in result.output
    assert len(trained_on(str(out))) == 32
    told = dm.bring(out)
    assert "trained by dosimeter on 32 images of phantom-xray (patient, seed 0)" in told.card["weights"]["note"]
    held = dm.split(dm.load_cohort("phantom-xray", limit=40), "patient").test
    run = tmp_path / "run"
    audit = (
        "audit",
        "--model",
        str(out),
        "--data",
        "phantom-xray",
        "--attack",
        "random_sign",
        "--epsilons",
        "0.01",
        "--no-data-audit",
    )
    # of the whole cohort, 40 images are the first of it
    result = command(*audit, "--images", "12", "--out", str(run))
    assert result.exit_code == 0, result.output
    rows = responses.read(run / "responses.parquet").frame
    seen = {record.sha256[:8] for record in dm.load_cohort("phantom-xray", limit=40).records} - {
        record.sha256[:8] for record in held.records
    }
    assert not {case_id.partition("-")[2] for case_id in rows["case_id"]} & seen
    assert "32 images that a model was trained on were left out" in (run / "log.txt").read_text() + result.output
    again = command(*asked, "--out", str(out))
    assert isinstance(again.exception, DosimeterError)
    assert "is there already" in str(again.exception)


def test_opened_blocks_are_trained_too_and_the_tensors_of_the_file_are_the_start(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    cohort = dm.load_cohort("phantom-xray", limit=16)
    facts = {"source": "timm", "architecture": "test_resnet", "classes": cohort.classes, "name": "a", "size_px": 32}
    card = checked({**facts, "random_weights": True}, "test")
    plain = transfer(card, cohort, TransferOptions())
    opened = transfer(card, cohort, TransferOptions(open_blocks=1, epochs=2, learning_rate=1e-3))
    assert len(plain.trained) == 1
    assert len(opened.trained) == 2
    before, after = plain.network.state_dict(), opened.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith(opened.trained) for name in moved)
    assert any(name.startswith(opened.trained[1]) for name in moved)
    assert not any("running" in name for name in moved)  # statistics stay
    torch.save({**before, f"{plain.trained[0]}.weight": torch.zeros(1000, 3)}, tmp_path / "of_imagenet.pt")
    started = transfer(checked({**facts, "weights": tmp_path / "of_imagenet.pt"}, "test"), cohort, TransferOptions())
    assert all(torch.equal(before[name], value) for name, value in started.network.state_dict().items())
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(DosimeterError, match="does not hold the tensors of test_resnet; missing or of other shapes"):
        transfer(checked({**facts, "weights": tmp_path / "other.pt"}, "test"), cohort, TransferOptions())
    with pytest.raises(DosimeterError, match="open must be at most"):
        transfer(card, cohort, TransferOptions(open_blocks=99))


def test_what_a_network_was_trained_on_before_is_not_forgotten(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    asked = ("phantom-xray", "--limit", "40", "--out")
    command("fit", "timm:test_resnet", *asked, str(tmp_path / "a.toml"), "--random-weights", "--size-px", "32")
    result = command("fit", str(tmp_path / "a.toml"), *asked, str(tmp_path / "b.toml"), "--seed", "1")
    assert result.exit_code == 0, result.output
    cohort = dm.load_cohort("phantom-xray", limit=40)
    first, second = (dm.split(dm.load_cohort("phantom-xray", limit=40, seed=s), "patient", seed=s) for s in (0, 1))
    digests = {record.sha256 for half in (first, second) for record in half.train.records}
    assert trained_on(str(tmp_path / "b.toml")) == digests
    assert len(cohort) == 40


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("resnet50", {"random_weights": True}, "model must be a model card or one of timm:NAME"),
        ("timm:resnet50", {"random_weights": False}, "weights of resnet50 must be given"),
        ("keras:x", {"random_weights": True}, "got 'keras:x'"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(model: str, given: dict[str, bool], said: str) -> None:
    cohort = dm.load_cohort("phantom-xray", limit=4)
    with pytest.raises(DosimeterError, match=said):
        card_for(model, cohort, name="a", weights=None, **given)


def test_a_network_of_monai_is_fitted_and_brought_again(tmp_path: Path) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    arguments = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1]}
    network = nets.DenseNet(spatial_dims=2, in_channels=1, out_channels=7, **arguments)
    save_file(network.state_dict(), tmp_path / "seven.safetensors")
    facts = {"source": "monai", "architecture": "DenseNet", "arguments": arguments, "weights": "seven.safetensors"}
    card = write_card(tmp_path, **facts, channels=1, size_px=32)
    result = command("fit", str(card), "phantom-xray", "--limit", "20", "--out", str(tmp_path / "net.toml"))
    assert result.exit_code == 0, result.output + str(result.exception)
    fitted, start = load_file(tmp_path / "net.safetensors"), network.state_dict()
    assert fitted.keys() == start.keys()
    assert {name for name in fitted if not torch.equal(fitted[name], start[name])} == {
        "class_layers.out.weight",
        "class_layers.out.bias",
    }
    classifier = dm.bring(tmp_path / "net.toml")
    assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, 2)


def test_a_network_that_is_only_named_asks_how_images_are_shown_to_it(tmp_path: Path) -> None:
    pytest.importorskip("monai.networks.nets")
    out = ("--out", str(tmp_path / "a.toml"))
    asked = ("fit", "monai:DenseNet121", "phantom-xray", "--limit", "20", "--random-weights", *out)
    said = str(command(*asked).exception)
    assert "must say size_px and mean and std: the source monai does not know" in said
    assert "--size-px, --mean and --std" in said
    said = str(command(*asked, "--mean", "black").exception)
    assert "mean must be one number, or three with commas, got 'black'" in said


@pytest.mark.parametrize(
    ("text", "numbers"), [("0.5", (0.5, 0.5, 0.5)), ("0.4,0.5,0.6", (0.4, 0.5, 0.6)), (None, None)]
)
def test_numbers_by_channel(text: str | None, numbers: tuple[float, ...] | None) -> None:
    assert triple(text, "mean") == numbers


@pytest.mark.parametrize("text", ["", "0.4,0.5", "a"])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(DosimeterError, match="std must be one number"):
        triple(text, "std")


def test_a_card_says_how_images_are_shown_to_a_named_network() -> None:
    cohort = dm.load_cohort("phantom-xray", limit=4)
    seen = {"size_px": 64, "channels": 1, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    card = card_for("monai:DenseNet121", cohort, name="a", weights=None, random_weights=True, seen=seen)
    assert {key: getattr(card, key) for key in seen} == seen


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"source": "keras"}, "fit takes a network by its name, of monai, timm, torchvision; got the source keras"),
        ({"source": "huggingface", "weights": "folder"}, "got the source huggingface"),
        ({"source": "python", "architecture": "os:getcwd"}, "got the source python"),
        ({"source": "monai", "weights": "folder"}, "weights must be a file of tensors for fit, got the folder folder"),
        ({"source": "monai", "weights": "code"}, r"fit runs no code that comes with a network: .* has \$open"),
    ],
)
def test_a_source_that_cannot_be_fitted_is_one_sentence(tmp_path: Path, facts: dict[str, str], said: str) -> None:
    for folder, rate in (("folder", "4"), ("code", "$open('ran', 'w')")):
        (tmp_path / folder / "configs").mkdir(parents=True)
        definition = {"network_def": {"_target_": "DenseNet", "growth_rate": rate}}
        (tmp_path / folder / "configs" / "inference.json").write_text(json.dumps(definition))
    card = read_model_card(write_card(tmp_path, **facts))
    with pytest.raises(DosimeterError, match=said) as caught:
        transfer(card, dm.load_cohort("phantom-xray", limit=4), TransferOptions())
    assert "\n" not in str(caught.value)
