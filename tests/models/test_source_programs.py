"""Files that are programs, TorchScript, exported and pickled ones: with trust they answer, without none runs."""

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cards import write_card
from torch import nn

from dosimeter.errors import DosimeterError
from dosimeter.models.source import bring

MODULE = """
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 3 * 3, 2)

    def forward(self, images):
        return self.head(self.layers(images))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "programs_of_a_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "programs_of_a_test", raising=False)
    return tmp_path


def network() -> nn.Module:
    import programs_of_a_test  # type: ignore[import-not-found]

    made: nn.Module = programs_of_a_test.Network().eval()
    return made


def save(path: Path, kind: str) -> str:
    """Write the network in one of the ways there are; return its source."""
    own, image = network(), torch.rand(1, 3, 16, 16)
    if kind in ("scripted", "traced", "frozen"):
        made = torch.jit.trace(own, image) if kind == "traced" else torch.jit.script(own)
        torch.jit.save(torch.jit.freeze(made) if kind == "frozen" else made, path)
        return "torchscript"
    if kind == "pickled":
        torch.save(own, path)
        return "pickle"
    shapes = {"images": {0: torch.export.Dim("n", min=1, max=64)}} if kind == "exported, any batch" else None
    image = torch.rand(2, 3, 16, 16) if shapes else image
    torch.export.save(torch.export.export(own, (image,), dynamic_shapes=shapes), path)
    return "export"


KINDS = ["scripted", "traced", "frozen", "pickled", "exported", "exported, any batch"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_trusted_program_answers_as_it_was(here: Path, kind: str) -> None:
    file = "a.pt2" if "export" in kind else "a.pt"
    card = write_card(here, source=save(here / file, kind), weights=file, size_px=16)
    with pytest.raises(DosimeterError, match=r"must be trusted: .* Add --trust if you do"):
        bring(card)
    classifier = bring(card, trust=True)
    images = torch.rand(5, 3, 16, 16, requires_grad=True)
    own = images.detach().clone().requires_grad_()
    logits, wanted = classifier(images), network()(own)
    torch.testing.assert_close(logits, wanted)
    (gradient,), (right,) = (torch.autograd.grad(each[:, 1].sum(), x) for each, x in ((logits, images), (wanted, own)))
    torch.testing.assert_close(gradient, right)
    assert bring(card, trust=True).fingerprint == classifier.fingerprint
    assert bring(write_card(here, source=card_source(card), weights=file, size_px=16, interpolation="box"), trust=True
                 ).fingerprint != classifier.fingerprint  # fmt: skip


def card_source(card: Path) -> str:
    return next(line.split('"')[1] for line in card.read_text().splitlines() if line.startswith("source"))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_frozen_programs_of_other_weights_have_other_names(here: Path) -> None:
    names = set()
    for seed in (3, 4):
        (here / "programs_of_a_test.py").write_text(MODULE.replace("manual_seed(3)", f"manual_seed({seed})"))
        sys.modules.pop("programs_of_a_test", None)
        save(here / "a.pt", "frozen")
        names.add(bring(write_card(here, source="torchscript", weights="a.pt", size_px=16), trust=True).fingerprint)
    assert len(names) == 2


@pytest.mark.parametrize("source", ["torchscript", "export", "pickle"])
def test_no_code_runs_without_trust(here: Path, source: str) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (here / "ran",)

    (here / "a.pt2").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DosimeterError, match="must be trusted"):
        bring(write_card(here, source=source, weights="a.pt2", size_px=16))
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("kind", "source", "changes", "said"),
    [
        ("scripted", "torchscript", {"size_px": None}, "must say size_px: a TorchScript file does not"),
        ("scripted", "torchscript", {"classes": ["a", "b", "c"]}, "says 3 outputs .* gives 2"),
        ("scripted", "torchscript", {"size_px": 20}, "fails on images of 20 x 20"),
        ("exported", "export", {"size_px": 20}, "says size_px 20, its file 16"),
        ("exported", "export", {"channels": 1}, "says channels 1, its file 3"),
        ("pickled", "pickle", {"weights": "gone.pt"}, "gone.pt are not beside the model card"),
        ("pickled", "torchscript", {}, "cannot be read as TorchScript"),
        ("pickled", "export", {}, "cannot be read as an exported program"),
        ("tensors", "pickle", {}, "holds tensors without their network"),
        ("text", "pickle", {}, "must hold a torch.nn.Module, got str"),
        ("damaged", "pickle", {}, "cannot be unpickled"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_be_used_is_one_sentence(
    here: Path, kind: str, source: str, changes: dict[str, Any], said: str
) -> None:
    if kind in KINDS:
        save(here / "a.pt2", kind)
    elif kind == "damaged":
        (here / "a.pt2").write_bytes(b"damaged")
    else:
        torch.save(network().state_dict() if kind == "tensors" else "a network", here / "a.pt2")
    facts = {"source": source, "weights": "a.pt2", "size_px": 16}
    with pytest.raises(DosimeterError, match=said) as caught:
        bring(write_card(here, **(facts | changes)), trust=True)
    assert "\n" not in str(caught.value)
