"""Defences: their values against the libraries that define them, their gradients, pipelines, and a study with them."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import median_filter
from tiny import settings
from torch import Tensor, nn

import dosimeter as dm
from dosimeter import registry
from dosimeter.defences.base import ORDER, defend, pipeline
from dosimeter.defences.known.bit_depth import Rounded
from dosimeter.defences.known.jpeg import Compressed
from dosimeter.defences.known.median import Median
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.transforms import Transform
from dosimeter.record import table as responses
from dosimeter.replay.replay import Replay
from dosimeter.study.run import run_study
from dosimeter.testing import ContractBroken, check_defence

CLASSES = ("clear", "opacity")
SIZE_PX = 16


def images(n: int = 4, *, grey: bool = False) -> Tensor:
    levels = torch.randint(0, 256, (n, 1 if grey else 3, SIZE_PX, SIZE_PX), generator=torch.Generator().manual_seed(0))
    return (levels / 255).expand(-1, 3, -1, -1).clone()


def linear_classifier(weights: Tensor) -> Classifier:
    layer = nn.Linear(weights.numel(), 2, bias=False)
    layer.weight.data = torch.stack([torch.zeros_like(weights), weights]).flatten(1)
    network = nn.Sequential(nn.Flatten(), layer)
    return Classifier(
        network,
        nn.Identity(),
        preprocessing=PREPROCESSINGS["unit"],
        size_px=SIZE_PX,
        classes=CLASSES,
        identity="linear",
    )


FEWER = dict.fromkeys(("ima", "denoiser", "adversarial_training", "trades", "small_network"), "epochs=2")
"""Of those that learn long: the contract is the same after a few epochs."""


@pytest.mark.parametrize("text", [*registry.names("defences"), "bit_depth:3+median:5+jpeg:60"])
def test_every_defence_keeps_the_contract(text: str) -> None:
    check_defence(f"{text}:{FEWER[text]}" if text in FEWER else text)


def test_rounding_is_to_the_levels_of_so_many_bits() -> None:
    given = images()
    assert torch.equal(Rounded(8)(given), given)  # an 8-bit image is left as it is
    assert sorted(set(Rounded(1)(given).flatten().tolist())) == [0.0, 1.0]
    assert float((Rounded(3)(given) - given).abs().max()) <= 0.5 / 7 + 1e-6


@pytest.mark.parametrize("grey", [True, False])
def test_jpeg_is_what_pillow_writes_and_reads(grey: bool) -> None:
    (image,) = images(1, grey=grey)
    levels = (image * 255).round().numpy().astype(np.uint8)
    picture = Image.fromarray(levels[0] if grey else levels.transpose(1, 2, 0))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=60, subsampling="4:2:0")
    with Image.open(buffer) as read:
        wanted = np.asarray(read, dtype=np.float32) / 255
    found = Compressed(60)(image[None])[0].numpy()
    np.testing.assert_array_equal(
        found, np.broadcast_to(wanted, (3, SIZE_PX, SIZE_PX)) if grey else wanted.transpose(2, 0, 1)
    )


def test_jpeg_rounds_levels_and_does_not_cut_them() -> None:
    flat = torch.full((1, 3, SIZE_PX, SIZE_PX), 100 / 255)
    assert torch.equal(Compressed(100)(flat - 0.0001), Compressed(100)(flat))


@pytest.mark.parametrize("size", [3, 5])
def test_the_median_is_scipys(size: int) -> None:
    given = images(2)
    wanted = median_filter(given.numpy(), size=(1, 1, size, size), mode="mirror")
    np.testing.assert_array_equal(Median(size)(given).numpy(), wanted)


def test_the_gradient_passes_straight_through_a_chain_of_what_has_none() -> None:
    weights = torch.randn(3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(1))
    defended = defend(linear_classifier(weights), "bit_depth:2+jpeg:50", cohort())
    given = images().requires_grad_(True)
    (gradient,) = torch.autograd.grad(defended(given)[:, 1].sum(), given)
    torch.testing.assert_close(gradient, weights.expand_as(gradient))


def test_a_transform_says_how_its_gradient_comes_back() -> None:
    class Halved(Transform):
        def value(self, images: Tensor) -> Tensor:
            return (images * 255).floor() / 510

        def pull_back(self, images: Tensor, gradient: Tensor) -> Tensor:
            return gradient / 2

    given = images().requires_grad_(True)
    (gradient,) = torch.autograd.grad(Halved()(given).sum(), given)
    assert torch.equal(gradient, torch.full_like(gradient, 0.5))


def test_below_half_a_level_of_the_rounding_nothing_an_attacker_does_is_seen() -> None:
    weights = torch.ones(3, SIZE_PX, SIZE_PX)
    defended = defend(linear_classifier(weights), "bit_depth:4", cohort())
    grid = Rounded(4)(images())
    moved = (grid + 0.4 / 15 * torch.ones_like(grid)).clamp(0, 1)
    assert torch.equal(defended(moved), defended(grid))


def test_settings_and_order_are_part_of_what_a_defended_classifier_is() -> None:
    bare = linear_classifier(torch.ones(3, SIZE_PX, SIZE_PX))
    texts = ["jpeg:50", "jpeg:51", "median", "median+jpeg:50", "jpeg:50+median"]
    names = {text: defend(bare, text, cohort()).fingerprint for text in texts}
    assert len({*names.values(), bare.fingerprint}) == len(texts) + 1
    defended = defend(bare, "median:3+jpeg:50", cohort())
    assert (defended.card["model"], defended.card["defence"]) == ("classifier + median:3+jpeg:50", "median:3+jpeg:50")
    assert [(part["name"], part.get("size"), part.get("quality")) for part in defended.card["defences"]] == [
        ("median", 3, None),
        ("jpeg", None, 50),
    ]
    given = images()
    assert torch.equal(defended(given), bare(Compressed(50)(Median(3)(given))))
    assert bare.front is None


class Session:
    """What no reading finds the same twice, as a runtime's session."""

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return np.stack([batch.mean(axis=(1, 2, 3)), 1 - batch.mean(axis=(1, 2, 3))], axis=1)


def test_a_declared_identity_stays_behind_a_defence_and_the_defence_is_read() -> None:
    """Each process has sessions of its own; without this no run of a defended Keras file or endpoint could go on."""

    def defended(text: str) -> Classifier:
        asked = dm.classifier(Session(), size_px=SIZE_PX, classes=CLASSES, identity="a file's digest")
        return defend(asked, text, cohort())

    names = [defended("median").fingerprint for _ in range(2)]
    assert names[0] == names[1]
    assert defended("median:5").fingerprint != names[0]


def test_what_stands_before_the_base_counts_in_every_form_of_a_classifier() -> None:
    class Dimmed(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, images: Tensor) -> Tensor:
            return images * self.by

    bare = linear_classifier(torch.ones(3, SIZE_PX, SIZE_PX))
    for form in (lambda each: each, lambda each: each.with_base(each.base), lambda each: each.with_card(model="x")):
        assert form(bare.behind(Dimmed(0.5))).fingerprint != form(bare.behind(Dimmed(0.9))).fingerprint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jpg", "defence 'jpg' is not known. Did you mean 'jpeg'"),
        ("jpeg:0", "jpeg must have a whole number from 1 to 100 behind its colon, got '0'"),
        ("jpeg:high", "got 'high'"),
        ("median:4", "median must have an odd number of pixels, got 4. Write median:5"),
        ("bit_depth:²", "got '²'"),
        ("+", "defence '' is not known"),
    ],
)
def test_what_is_no_defence_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(DosimeterError) as caught:
        pipeline(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kinds_stand_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.get("defences", "median")
    for kind in ORDER:
        monkeypatch.setitem(registry.ADDED, ("defences", kind), type(entry)(**{**vars(entry), "kind": kind}))
    assert len(pipeline("training+input+median+vote+detector")) == 5
    with pytest.raises(
        DosimeterError, match="must stand in the order training, input, vote, detector, got vote, input"
    ):
        pipeline("vote+input")


class Broken:
    """A defence that breaks its contract in the way it is told."""

    def __init__(self, how: str) -> None:
        self.how = how

    def apply(self, classifier: Classifier, training: dm.Cohort, *, seed: int) -> Classifier:
        if self.how == "nothing":
            return classifier
        if self.how == "changes":
            classifier.base[-1].weight.data.add_(1.0)
        if self.how == "random":
            return classifier.behind(nn.Dropout(0.5)).train()
        if self.how == "opaque":
            return classifier.behind(Opaque())
        if self.how == "other":
            return classifier.behind(Rounded(int(torch.randint(2, 9, ()))))
        return classifier.behind(Rounded(4))


class Opaque(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.round() + 0 * images


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nothing", "undefended one's identity"),
        ("changes", "changed the classifier"),
        ("random", "training mode"),
        ("opaque", "lets no gradient reach the images"),
    ],
)
def test_a_defence_that_breaks_the_contract_is_told_so(how: str, said: str) -> None:
    with pytest.raises(ContractBroken, match=said):
        check_defence(Broken(how))


def cohort() -> dm.Cohort:
    return dm.cohort_of(images().numpy(), [0, 1, 0, 1], classes=CLASSES)


@pytest.mark.usefixtures("tiny_networks", "no_report")
def test_a_study_judges_each_defence_beside_none_and_its_images_can_be_had_again(
    image_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run_study(settings(image_folder, run, model="vgg16", epochs=1, preset="sound", defence="jpeg:50,median"))
    rows = responses.read(run / "responses.parquet").frame
    seen = rows.groupby(["defence", "model", "made_on"], dropna=False, observed=True).size()
    names = {(defence, model, "" if pd.isna(made_on) else made_on) for defence, model, made_on in seen.index}
    assert names == {
        ("none", "vgg16", ""),
        *((text, f"vgg16 + {text}", made_on) for text in ("jpeg:50", "median") for made_on in ("", "vgg16")),
    }
    clean = rows[(rows["epsilon"] == 0) & (rows["storage"] == "float")]
    told = clean.pivot_table(index="case_id", columns=["model", "made_on"], values="predicted", dropna=False)
    assert told["vgg16 + median"].nunique(axis=1, dropna=True).max() == 1  # one image, one answer, whoever made it
    facts = json.loads((run / "manifest.json").read_text())["preflights"]
    assert {fact.get("defence", "none") for fact in facts} == {"none", "jpeg:50", "median"}
    replay = Replay(run)
    curve = next(curve for key, curve in replay.curves.items() if key.model == "vgg16 + jpeg:50")
    target = replay.target(curve, curve.case_ids[0])
    mine = rows[(rows["case_id"] == target.case_id) & (rows["model"] == "vgg16 + jpeg:50") & rows["made_on"].isna()]
    largest = mine[mine["on_grid"]].sort_values("epsilon").iloc[-1]
    probabilities = curve.said(target.path.at(target.image, float(largest["epsilon"]))).probabilities
    np.testing.assert_allclose(probabilities, largest["probabilities"], atol=1e-5)
    again = run_study(settings(image_folder, run, model="vgg16", epochs=1, preset="sound", defence="jpeg:50,median"))
    assert again.reused


def test_settings_say_what_is_no_defence() -> None:
    with pytest.raises(DosimeterError, match="defence 'jpgg' is not known"):
        dm_settings(defence="jpgg")
    with pytest.raises(DosimeterError, match="defence must go with the executor local, got ray"):
        dm_settings(defence="jpeg", executor="ray")


def dm_settings(**given: str) -> object:
    from dosimeter.study.config import load_config

    return load_config(**given)
