"""TorchXRayVision's networks: raw logits, decisions at its operating points, files read without running code."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cards import write_card
from torch import nn

from dosimeter.errors import DosimeterError
from dosimeter.models.source import bring
from dosimeter.models.sources.torchxrayvision import findings, import_xrv

pytest.importorskip("skimage")
SMALL = {"growth_rate": 4, "block_config": (1, 1, 1, 1), "num_init_features": 8}
RSNA = ["Pneumonia", "Lung Opacity"]


@pytest.fixture(scope="module")
def xrv() -> Any:
    try:
        return import_xrv()
    except DosimeterError as error:
        pytest.skip(str(error))


@pytest.fixture
def small(xrv: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """DenseNets of four layers in place of the published ones."""
    real = xrv.models.DenseNet.__init__
    monkeypatch.setattr(xrv.models.DenseNet, "__init__", lambda self, **how: real(self, **(SMALL | how)))
    return xrv


def network_of(xrv: Any, seed: int = 1) -> Any:
    torch.manual_seed(seed)
    network = xrv.models.DenseNet(weights=None)
    for part in network.modules():  # as training leaves it: random ones saturate on [-1024, 1024]
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    network.train()(torch.rand(4, 1, 224, 224) * 2048 - 1024)
    return network.eval()


def card(here: Path, **changes: Any) -> Path:
    facts = {"source": "torchxrayvision", "architecture": "densenet121-res224-all", "weights": "net.pt"}
    usual = {"outputs": "findings", "channels": 1, "mean": None, "std": None}
    return write_card(here, **(facts | usual | changes))


@pytest.mark.parametrize("pickled", [True, False])
def test_a_file_decides_as_the_package_does(small: Any, tmp_path: Path, pickled: bool) -> None:
    network = network_of(small)
    torch.save(network if pickled else network.state_dict(), tmp_path / "net.pt")
    facts = small.models.model_urls["densenet121-res224-all"]
    classifier = bring(card(tmp_path, classes=facts["labels"]))
    images = torch.rand(5, 3, 224, 224, requires_grad=True)
    logits = classifier(images)
    wanted = network(images.detach().mean(dim=1, keepdim=True) * 2048 - 1024)
    torch.testing.assert_close(logits.detach(), wanted.detach(), atol=1e-4, rtol=1e-4)
    normed = small.models.op_norm(wanted.sigmoid(), torch.tensor(facts["op_threshs"]))
    assert classifier.findings is not None
    there = classifier.findings.right(logits, torch.ones(5, 18))
    assert torch.equal(there, normed > 0.5)
    assert 0 < there.float().mean() < 1
    assert float(torch.autograd.grad(logits.sum(), images)[0].abs().sum()) > 0
    assert (classifier.grid.resize, classifier.size_px) == ("crop", 224)


def test_findings_without_a_name_are_left_out(small: Any, tmp_path: Path) -> None:
    network = network_of(small)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    classifier = bring(card(tmp_path, architecture="densenet121-res224-rsna", classes=RSNA))
    images = torch.rand(2, 3, 224, 224)
    wanted = network(images.mean(dim=1, keepdim=True) * 2048 - 1024)
    torch.testing.assert_close(classifier(images), wanted[:, [8, 16]], atol=1e-4, rtol=1e-4)
    assert findings({"labels": ["a", "", "b"], "op_threshs": [0.1, float("nan"), float("nan")]}) == (
        ("a", "b"),
        (0.1, 0.5),
    )


def test_a_card_may_take_some_findings_in_its_own_order(small: Any, tmp_path: Path) -> None:
    network = network_of(small)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    classifier = bring(card(tmp_path, classes=["Pneumonia", "Effusion", "Atelectasis"]))
    images = torch.rand(2, 3, 224, 224)
    wanted = network(images.mean(dim=1, keepdim=True) * 2048 - 1024)
    torch.testing.assert_close(classifier(images), wanted[:, [8, 7, 0]], atol=1e-4, rtol=1e-4)
    assert classifier.findings is not None
    assert classifier.findings.thresholds[1] == 0.103246614


def test_thresholds_of_the_card_win(small: Any, tmp_path: Path) -> None:
    torch.save(network_of(small).state_dict(), tmp_path / "net.pt")
    facts: dict[str, Any] = {"architecture": "densenet121-res224-rsna", "classes": RSNA}
    published = bring(card(tmp_path, **facts))
    own = bring(card(tmp_path, **facts, thresholds=[0.3, 0.4]))
    assert own.findings is not None
    assert own.findings.thresholds == (0.3, 0.4)
    assert own.fingerprint != published.fingerprint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "densenet121-res224-al"}, "none of torchxrayvision's. Did you mean 'densenet121-res224-all'"),
        ({"channels": 3}, "must say outputs = 'findings' and channels = 1, got 'findings' and 3"),
        ({"outputs": "logits"}, "must say outputs = 'findings'"),
        ({"classes": ["Pneumonia", "Mass"]}, r"says classes \['Pneumonia', 'Mass'\], its file \['Pneumonia', 'Lung"),
        ({"weights": None}, r"must be named by the card or lie in TorchXRayVision's cache.*fetch https://"),
        ({"weights": "other.pt"}, "other.pt does not hold the tensors of"),
        ({"weights": "code.pt"}, "code.pt cannot be read as tensors and layers alone"),
        ({"weights": "gone.pt"}, "gone.pt are not beside the model card"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    monkeypatch.setattr(small.utils, "get_cache_dir", lambda: str(tmp_path / "cache"))
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Payload()))
    torch.save(network_of(small).state_dict(), tmp_path / "net.pt")
    facts = {"architecture": "densenet121-res224-rsna", "classes": RSNA}
    with pytest.raises(DosimeterError, match=said) as caught:
        bring(card(tmp_path, **(facts | changes)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_importing_it_leaves_warnings_on() -> None:
    code = (
        "import warnings, dosimeter.models.sources.torchxrayvision as source;"
        "before = list(warnings.filters); source.import_xrv(); assert list(warnings.filters) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
