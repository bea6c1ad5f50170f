"""What a card says, held against what its network answers: references, kinds of output, and how images are resized."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cards import write_card, write_image
from PIL import Image
from torch import nn

from dosimeter.cohorts.images import read_image
from dosimeter.errors import DosimeterError
from dosimeter.models.source import bring

MODULE = """
import torch
from torch import nn


def make(n=2, size=16):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, n))
    nn.init.normal_(network[1].weight, std=0.3)
    return network


def softmax():
    return nn.Sequential(make(3), nn.Softmax(dim=1))


class Half(nn.Module):
    '''A softmax that computes with 16 bits.'''

    def __init__(self):
        super().__init__()
        self.network = softmax().half()

    def forward(self, images):
        return self.network(images.half())


def half():
    return Half()


def sigmoids():
    return nn.Sequential(make(3), nn.Sigmoid())


def three():
    return make(3)


class Traced(nn.Module):
    '''A network that keeps a number of images.'''

    def __init__(self, n):
        super().__init__()
        self.network, self.n = make(), n

    def forward(self, images):
        return self.network(images)[:1].expand(self.n, -1)


def two_at_once():
    return Traced(2)


def three_at_once():
    return Traced(3)


def one():
    return make(1)


def undefined():
    network = make()
    network[1].bias.data[0] = float("nan")
    return network


def several():
    return Several()


class Careful(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = make()

    def forward(self, images):
        if float(images.max()) > 1:
            raise ValueError("images must be in [0, 1]")
        return self.network(images)


def careful():
    return Careful()


class Several(nn.Module):
    def forward(self, images):
        return images, images


class Named(nn.Module):
    def forward(self, images):
        return {"logits": images, "maps": images}


def keyed():
    return Named()


class Elsewhere(nn.Module):
    def forward(self, images):
        raise AssertionError("Torch not compiled with CUDA enabled")


def elsewhere():
    return Elsewhere()
"""
THREE = ["clear", "opacity", "effusion"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "proof_of_a_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def card(here: Path, function: str = "make", **changes: Any) -> Path:
    facts = {"source": "python", "architecture": f"proof_of_a_test:{function}", "size_px": 16}
    return write_card(here, **(facts | changes))


def logits_of(path: Path, **how: Any) -> Any:
    """What the network answers about a file in colour, resized by Pillow itself."""
    scope: dict[str, Any] = {}
    exec(MODULE, scope)
    resized = Image.open(path).resize((16, 16), Image.Resampling.NEAREST)
    pixels = torch.from_numpy(np.asarray(resized).transpose(2, 0, 1).copy()) / 255
    return scope["make"](**how)(pixels[None])[0].detach()


@pytest.mark.parametrize("kind", ["scores", "probabilities"])
def test_references_that_agree_pass(here: Path, kind: str) -> None:
    path = write_image(here / "a.png", colour=True)
    logits = logits_of(path)
    numbers = logits if kind == "scores" else logits.softmax(dim=0)
    known = {"image": "a.png", kind: numbers.tolist(), "tolerance": 1e-4}
    bring(card(here, interpolation="nearest", reference=[known]), trust=True)


def test_references_that_differ_are_one_sentence_with_what_would_mend_it(here: Path) -> None:
    path = write_image(here / "a.png", colour=True)
    known = [{"image": "a.png", "scores": logits_of(path).tolist(), "tolerance": 1e-3}]
    with pytest.raises(DosimeterError, match=r"about a\.png it gives .* where the card says") as caught:
        bring(card(here, reference=known), trust=True)
    assert str(caught.value).endswith(
        "1 of 1 are off by more than 0.001. All would agree with interpolation = 'nearest'."
    )
    other = [{"image": "a.png", "scores": [5.0, -5.0]}]
    with pytest.raises(DosimeterError, match="Usual causes: resize and interpolation, scale, mean and std"):
        bring(card(here, reference=other), trust=True)
    swapped = [{"image": "a.png", "scores": logits_of(path).flip(0).tolist(), "tolerance": 1e-3}]
    with pytest.raises(DosimeterError, match="the order of the classes"):
        bring(card(here, interpolation="nearest", reference=swapped), trust=True)


@pytest.mark.parametrize("outputs", ["one logit", "findings"])
def test_references_are_in_the_card_s_own_outputs(here: Path, outputs: str) -> None:
    logits = logits_of(write_image(here / "a.png", colour=True), n=1 if outputs == "one logit" else 3)
    facts: dict[str, Any] = {"outputs": outputs, "interpolation": "nearest"}
    facts |= {"architecture": f"proof_of_a_test:{'one' if outputs == 'one logit' else 'three'}"}
    facts |= {"classes": None if outputs == "one logit" else THREE}
    facts = {key: value for key, value in facts.items() if value is not None}
    known = {"image": "a.png", "scores": logits.tolist(), "tolerance": 1e-4}
    made = bring(card(here, **facts, reference=[known]), trust=True)
    if outputs == "findings":
        known = {"image": "a.png", "probabilities": logits.sigmoid().tolist(), "tolerance": 1e-4}
        bring(card(here, **facts, reference=[known]), trust=True)
    assert made.card["head"]["outputs"] == outputs


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"image": "gone.png", "scores": [0, 1]}, "gone.png"),
        ({"image": "a.png", "scores": [0, 1, 2]}, "must have 2 numbers, one for each output, got 3"),
        ({"image": "a.png", "probabilities": [0.5]}, "must have 2 numbers, one for each class, got 1"),
        ({"image": "a.png"}, "a reference must have scores or probabilities, one of them"),
        ({"image": "a.png", "probabilities": [0, 2]}, "probabilities"),
        ({"image": "a.png", "scores": [0, 1], "tolerance": 0}, "tolerance"),
        ({"image": "a.png", "scors": [0, 1]}, "scors"),
    ],
)
def test_a_wrong_reference_is_one_sentence(here: Path, known: dict[str, Any], said: str) -> None:
    write_image(here / "a.png")
    with pytest.raises(DosimeterError, match=said) as caught:
        bring(card(here, reference=[known]), trust=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "changes", "said"),
    [
        (
            "make",
            {"classes": THREE},
            "says 3 outputs .* its network gives 2 an image. Name in the card the classes of its",
        ),
        ("make", {"size_px": 20}, r"fails on images of 20 x 20, 3 channels .* size_px and channels"),
        ("make", {"channels": 1}, r"fails on images of 16 x 16, 1 channel \("),
        (
            "make",
            {"outputs": "probabilities"},
            "says outputs 'probabilities', but its network gives .* Are they logits",
        ),
        ("one", {"outputs": "one probability"}, "says outputs 'one probability', but its network gives"),
        ("softmax", {"classes": THREE}, "says outputs 'logits', .* probabilities, behind a softmax"),
        ("half", {"classes": THREE}, "says outputs 'logits', .* also for pixels far outside an image: probabilities"),
        ("sigmoids", {"classes": THREE}, "says outputs 'logits', .* probabilities, behind a sigmoid"),
        ("sigmoids", {"classes": THREE, "outputs": "findings"}, "behind a sigmoid. Leave the sigmoid out"),
        ("sigmoids", {"classes": THREE, "outputs": "probabilities"}, "sum to 1, but its network's sum to"),
        ("two_at_once", {}, "must give an answer for each image, got 2 for 3. A network that was traced"),
        ("three_at_once", {}, "must give an answer for each image, got 3 for 2. A network that was traced"),
        ("undefined", {}, "must answer with finite numbers, got nan"),
        (
            "several",
            {},
            r"must answer with one tensor, got tuple. Put dosimeter.Output\(KEY\) behind it, KEY being 0 or 1",
        ),
        ("keyed", {}, r"got dict. Put dosimeter.Output\(KEY\) behind it, KEY being 'logits' or 'maps'"),
        (
            "elsewhere",
            {},
            r"fails on images of 16 x 16, 3 channels \(Torch not compiled .*\). It needs a GPU: audit it on",
        ),
        ("make", {"size_px": [16, 20]}, "fails on images of 16 x 20"),
        ("make", {"size_px": [16, 20, 3]}, r"size_px: it must be a number from 1 to 4096, or \[height, width\]"),
        ("make", {"size_px": 0}, "size_px: it must be a number from 1 to 4096"),
        ("make", {"resize": "stretch"}, "resize"),
        ("make", {"crop_pct": 1.2}, "crop_pct"),
        ("make", {"interpolation": "box", "antialias": False}, "antialias = false is for bilinear and bicubic"),
    ],
)
def test_a_card_that_its_network_contradicts_is_one_sentence(
    here: Path, function: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(DosimeterError, match=said) as caught:
        bring(card(here, function, **changes), trust=True)
    assert "\n" not in str(caught.value)


def test_what_a_card_says_rightly_of_its_outputs_passes(here: Path) -> None:
    bring(card(here, "softmax", classes=THREE, outputs="probabilities"), trust=True)
    bring(card(here, "half", classes=THREE, outputs="probabilities"), trust=True)  # nan for pixels far outside
    bring(card(here, "one", outputs="one logit"), trust=True)
    bring(card(here, "three", classes=THREE, outputs="findings"), trust=True)
    bring(card(here, "careful"), trust=True)  # which refuses pixels far outside the range


def test_a_network_of_timm_gets_its_images_as_timm_prepares_them(here: Path) -> None:
    timm = pytest.importorskip("timm")
    path = write_image(here / "a.png", height=300, width=420, colour=True)
    facts = {"source": "timm", "architecture": "test_vit", "random_weights": True, "mean": None, "std": None}
    made = bring(write_card(here, **facts))
    assert json.dumps(made.grid.shape) == "[160, 160]"
    config = timm.data.resolve_data_config({}, model=timm.create_model("test_vit"))
    wanted = timm.data.create_transform(**config)(Image.open(path))
    prepared = torch.from_numpy(made.grid.put(read_image(path)))[None]
    away = (made.preprocessing.apply(prepared)[0] - wanted).abs() * torch.tensor(config["std"]).view(3, 1, 1)
    assert away.max() <= 1.01 / 255  # Pillow rounds between its two passes, a grid does not
    assert isinstance(made.base, nn.Module)
