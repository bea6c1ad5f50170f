"""MONAI's networks and bundles: literal ones are built, metadata.json is read as a card, code asks for trust."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from cards import write_card
from safetensors.torch import save_file
from typer.testing import CliRunner

from dosimeter.cli.app import app
from dosimeter.errors import DosimeterError
from dosimeter.models.source import bring

nets = pytest.importorskip("monai.networks.nets")
SMALL: dict[str, Any] = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1]}
THREE = ["clear", "opacity", "effusion"]
METADATA = {
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "spatial_shape": [32, 40], "value_range": [-1, 1]}},
        "outputs": {"pred": {"channel_def": {"0": "clear", "1": "opacity", "2": "effusion"}}},
    }
}


def network_of() -> Any:
    torch.manual_seed(1)
    network = nets.DenseNet(spatial_dims=2, in_channels=1, out_channels=3, **SMALL)
    network.train()(torch.rand(4, 1, 32, 40))
    return network.eval()


def card(here: Path, **changes: Any) -> Path:
    facts = {"source": "monai", "architecture": "DenseNet", "arguments": SMALL, "weights": "net.safetensors"}
    return write_card(here, **(facts | {"classes": THREE, "channels": 1, "size_px": [32, 40]} | changes))


def bundle(folder: Path, definition: dict[str, Any] | None = None, **metadata: Any) -> Any:
    network = network_of()
    literal = {"_target_": "DenseNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 3} | SMALL
    for part in ("configs", "models"):
        (folder / part).mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA | metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps({"network_def": literal | (definition or {})}))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return network


def of_bundle(here: Path, **changes: Any) -> Path:
    unsaid = dict.fromkeys(("architecture", "arguments", "size_px", "mean", "std"))
    return card(here, **(unsaid | {"weights": "bundle"} | changes))


def test_a_network_answers_as_it_does_by_itself(tmp_path: Path) -> None:
    network = network_of()
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    images = torch.rand(2, 3, 32, 40)
    torch.testing.assert_close(bring(card(tmp_path))(images), network(images.mean(dim=1, keepdim=True)))


def test_a_network_that_also_returns_what_is_within_answers(tmp_path: Path) -> None:
    arguments = {"patch_size": 8, "hidden_size": 16, "mlp_dim": 16, "num_layers": 1, "num_heads": 2}
    facts = {"architecture": "ViT", "arguments": arguments | {"classification": True}, "random_weights": True}
    classifier = bring(card(tmp_path, **facts, weights=None, size_px=32))
    assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_the_metadata_of_a_bundle_is_its_card(tmp_path: Path) -> None:
    network = bundle(tmp_path / "bundle")
    classifier = bring(of_bundle(tmp_path))
    images = torch.rand(2, 3, 32, 40)
    assert classifier.size_px == (32, 40)
    torch.testing.assert_close(classifier(images), network(images.mean(dim=1, keepdim=True) * 2 - 1))
    with pytest.raises(DosimeterError, match=r"says classes \['effusion', 'opacity', 'clear'\], its file \['clear'"):
        bring(of_bundle(tmp_path, classes=THREE[::-1]))
    with pytest.raises(DosimeterError, match="says channels 3, its bundle 1"):
        bring(of_bundle(tmp_path, channels=3))
    with pytest.raises(DosimeterError, match=r"says size_px 64, its file \[32, 40\]"):
        bring(of_bundle(tmp_path, size_px=64))


def test_the_card_of_a_bundle_is_written_by_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundle(tmp_path / "bundle")
    result = CliRunner().invoke(app, ["init", "bundle", "phantom-3", "--images", "3", "--out", "bundle.toml"])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "bundle.toml").read_text()
    for line in (
        'weights = "bundle"',
        'classes = ["clear", "opacity", "effusion"]',
        "size_px = [32, 40]",
        "channels = 1",
    ):
        assert line in text.splitlines()
    assert bring(tmp_path / "bundle.toml").classes == tuple(THREE)


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"_target_": "os.system"}, "_target_ os.system"),
        ({"_target_": "monai.networks.nets.DenseNet.from_file"}, "_target_ monai.networks.nets.DenseNet.from_file"),
        ({"growth_rate": "$open('ran', 'w') and 4"}, r"\$open"),
        ({"growth_rate": "@rate"}, "@rate"),
        ({"act": {"_target_": "pathlib.Path.touch", "self": "ran"}}, "_target_ pathlib.Path.touch"),
        ({"act": [["$__import__('os')"]]}, r"\$__import__"),
        ({"_requires_": "$open('ran', 'w')"}, "_requires_"),
    ],
)
def test_a_bundle_that_is_code_asks_for_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, definition: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle(tmp_path / "bundle", definition)
    with pytest.raises(DosimeterError, match=rf"must be trusted: the bundle's network_def has {said}.* Add --trust"):
        bring(of_bundle(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_bundle_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("monai.networks.nets.hovernet.download_url", lambda url, **_: asked.append(url))
    definition = {"_target_": "HoVerNet", "mode": "fast", "in_channels": 3, "out_classes": 0}
    for part in ("configs", "models"):
        (tmp_path / "bundle" / part).mkdir(parents=True)
    definition |= {"np_out_channels": 2, "pretrained_url": "http://127.0.0.1:9/who"}
    (tmp_path / "bundle" / "configs" / "inference.json").write_text(json.dumps({"network_def": definition}))
    with pytest.raises(DosimeterError, match="arguments of HoVerNet must not fetch tensors, got pretrained_url"):
        bring(of_bundle(tmp_path, channels=3, size_px=256, mean=[0, 0, 0], std=[1, 1, 1]))
    assert not asked


def test_a_drop_path_is_no_path(tmp_path: Path) -> None:
    arguments = {"feature_size": 12, "dropout_path_rate": 0.1}
    with pytest.raises(DosimeterError, match="network gives 3 x 64 x 64 an image"):
        bring(
            card(tmp_path, architecture="SwinUNETR", arguments=arguments, weights=None, random_weights=True, size_px=64)
        )


def test_a_trusted_bundle_answers(tmp_path: Path) -> None:
    network = bundle(tmp_path / "bundle", {"growth_rate": "$2 + 2"})
    images = torch.rand(2, 3, 32, 40)
    classifier = bring(of_bundle(tmp_path), trust=True)
    torch.testing.assert_close(classifier(images), network(images.mean(dim=1, keepdim=True) * 2 - 1))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({"spatial_shape": [0, 40]}, "metadata.json must take images of 1 to 4096 pixels a side, got 0"),
        ({"spatial_shape": [32, 10**9]}, "got 1000000000"),
        ({"value_range": [1, 0]}, r"value_range of metadata.json must ascend, got \[1, 0\]"),
    ],
)
def test_metadata_that_cannot_be_is_one_sentence(tmp_path: Path, image: dict[str, Any], said: str) -> None:
    bundle(tmp_path / "bundle", network_data_format={"inputs": {"image": image}, "outputs": {}})
    with pytest.raises(DosimeterError, match=said):
        bring(of_bundle(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "DenseNet12"}, "no class of monai.networks.nets. Did you mean 'densenet121'"),
        ({"architecture": "os"}, "architecture 'os' is no class of monai.networks.nets"),
        ({"architecture": "resnet18"}, "architecture 'resnet18' is no class of monai.networks.nets"),
        ({"architecture": "get_pretrained_resnet_medicalnet"}, "is no class of monai.networks.nets"),
        ({"architecture": "Transchex"}, "made without fetching tensors, got Transchex"),
        ({"arguments": SMALL | {"weights_file": "a.pt"}}, "must not fetch tensors, got weights_file"),
        ({"arguments": SMALL | {"path_or_repo_id": "a/b"}}, "must not fetch tensors, got path_or_repo_id"),
        ({"arguments": SMALL | {"pretrained": True}}, "must not fetch tensors, got pretrained"),
        ({"arguments": SMALL | {"growth": 3}}, "DenseNet cannot be made with arguments"),
        ({"arguments": SMALL | {"growth_rate": 8}}, "does not hold the tensors of DenseNet"),
        ({"arguments": SMALL | {"spatial_dims": 3}}, "does not hold the tensors of DenseNet .* of other shapes"),
        ({"weights": "code.pt"}, "code.pt cannot be read as tensors alone"),
        ({"source": "onnx", "weights": "a.onnx"}, "has arguments, which the source onnx does not take"),
        ({"weights": "empty", "arguments": None}, "must be a bundle with a network_def"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "empty").mkdir()
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Payload()))
    save_file(network_of().state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(DosimeterError, match=said) as caught:
        bring(card(tmp_path, **changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
