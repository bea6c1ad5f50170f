"""What a sweep says of a classifier before it is swept, what `examine` says, and images that are made by hand."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from greys import cohort
from networks import Undifferentiable, Viewing, Wrapped, classifier, sweep
from tiny import convolutional_classifier
from torch import Tensor, nn

import dosimeter as dm
from dosimeter.cohorts.base import Case, Cohort, Decoded, Record
from dosimeter.examinations.doubts import doubts
from dosimeter.storage.base import storages


class OneOutput(nn.Module):
    """One output of a network of two, and what becomes of it."""

    def __init__(self, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.then = Viewing(), then

    def forward(self, images: Tensor) -> Tensor:
        return self.then(self.network(images))


def noisy(logits: Tensor) -> Tensor:
    return logits * (1 + torch.rand(len(logits), 1))


def detached(logits: Tensor) -> Tensor:
    return logits.detach()


DOUBTFUL: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "softmax": (lambda logits: logits.softmax(dim=1), "probabilities of a softmax"),
    "two sigmoids": (torch.sigmoid, "probabilities of a sigmoid"),
    "a sigmoid beside zeros": (
        lambda logits: logits.sigmoid() * torch.tensor([0.0, 1.0]),
        "probabilities of a sigmoid",
    ),
    "noise": (noisy, "change between 3 passes"),
    "no gradient": (detached, "No gradient of the classifier reaches the image"),
    "zero gradient": (lambda logits: (1e3 * logits).round(), "exactly zero for 4 of 4 images"),
    "a gradient that is not finite": (
        lambda logits: (logits - logits.detach()).abs().sqrt() + logits,
        "not finite for",
    ),
    "a gradient that fails": (Undifferentiable.apply, "no derivative here"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_speaks_against_a_classifier_is_said_in_a_sentence(name: str, caplog: pytest.LogCaptureFixture) -> None:
    after, sentence = DOUBTFUL[name]
    made = classifier(Wrapped(after))
    said = doubts(made, cohort(6))
    assert sum(sentence in each for each in said) == 1, said
    assert not any("\n" in each for each in said)
    quick: dict[str, Any] = {
        "epsilons": [0.01],
        "visibility": "none",
        "refine": False,
        "compute": dm.Compute(workers=1),
    }
    with caplog.at_level(logging.WARNING):
        meta = dm.sweep(made, cohort(6), "uniform_noise", **quick).meta
    assert sentence in caplog.text
    assert sum(sentence in each for each in meta["doubts"]) == 1


@pytest.mark.parametrize("scale", [1e-6, 0.01, 1.0, 1e4])
@pytest.mark.parametrize("make", [convolutional_classifier, lambda scale: classifier(Wrapped(lambda out: out * scale))])
def test_nothing_is_said_of_an_honest_classifier(make: Callable[..., dm.Classifier], scale: float) -> None:
    assert doubts(make(scale=scale), cohort(6)) == []


PROBABILITIES: list[Callable[[Tensor], Tensor]] = [
    lambda logits: logits[:, 1:].sigmoid(),
    lambda logits: 0.3 * logits[:, 1:].sigmoid(),
    lambda logits: logits.softmax(dim=1)[:, 1],
]


@pytest.mark.parametrize("then", PROBABILITIES)
def test_one_logit_and_finding_refuse_probabilities(then: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(dm.DosimeterError, match=r"OneLogit must be given logits.*Leave the network's sigmoid"):
        sweep(classifier(OneOutput(then), dm.OneLogit()))
    several = classifier(OneOutput(lambda logits: then(logits).reshape(-1, 1).expand(-1, 4)), dm.Finding(2))
    for use in (sweep, lambda made: dm.examine(made, cohort(4))):
        with pytest.raises(dm.DosimeterError, match="Finding must be given logits"):
            use(several)
        with pytest.raises(dm.DosimeterError, match=r"OneLogit must be given logits"):
            use(classifier(OneOutput(then), dm.OneLogit()))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_one_logit_and_finding_take_logits_however_small(scale: float) -> None:
    one = OneOutput(lambda logits: scale * logits[:, 1:])
    assert (sweep(classifier(one, dm.OneLogit()))["status"] == "ok").all()
    assert (sweep(classifier(OneOutput(lambda logits: scale * logits), dm.Finding(1)))["status"] == "ok").all()
    assert dm.examine(classifier(one, dm.OneLogit()), cohort(4)).facts["outputs"]["look"] == "logits"


def test_the_caller_s_module_keeps_no_hook() -> None:
    head = dm.OneLogit()
    made = classifier(OneOutput(lambda logits: logits[:, 1:]), head)
    doubts(made, cohort(4))
    assert not made.head._forward_pre_hooks
    assert not head._forward_pre_hooks


# --- one call -----------------------------------------------------------------------------------------------------


def test_examine_is_one_call_with_a_verdict_and_its_reasons() -> None:
    found = dm.examine(classifier(Wrapped(detached)), cohort(6))
    assert found.verdict == "UNRELIABLE"
    assert str(found).startswith("UNRELIABLE: classifier-")
    assert "6 images" in str(found)
    guilty = found.checks[found.checks["verdict"] == "UNRELIABLE"]
    assert all(title in str(found) for title in guilty["title"])
    assert {"title", "verdict", "measured", "rule", "source", "remedy"} <= set(found.checks)
    assert found.facts["graph"]["error"] == "no gradient reaches the image"
    assert "<table>" in found._repr_html_()


def test_examine_of_another_loss_judges_the_published_family() -> None:
    found = dm.examine(convolutional_classifier(), cohort(6), loss="keras_bce", channels="free")
    assert found.facts["loss"] == "keras_bce"
    assert len(found.checks)
    with pytest.raises(dm.DosimeterError, match=r"classifier must be a dosimeter.Classifier, got Linear"):
        dm.examine(nn.Linear(1, 1), cohort(2))  # type: ignore[arg-type]


# --- images made by hand ------------------------------------------------------------------------------------------


def handmade(image: Any, label: Any = 0, bits: Any = 8) -> Cohort:
    records = [Record(f"{place}", label, f"{place:064x}", lambda: Decoded(image, bits)) for place in range(2)]
    return Cohort("handmade", ("clear", "opacity"), tuple(records))


GREY = (np.random.default_rng(0).integers(0, 256, (1, 40, 32)) / 255).astype(np.float32)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ((GREY * 255).astype(np.uint8), r"must be float32 from 0, black, to 1, white, got uint8.*such as 255"),
        ((GREY * 65535).astype(np.uint16), r"got uint16.*such as 65535"),
        (GREY > 0.5, "got bool"),
        (GREY * 255, "must have values from 0, black, to 1, white, got 0 to 255"),
        (GREY - 0.5, "got -0.5 to 0.5"),
        (np.where(GREY > 0.5, np.nan, GREY), "got nan to nan"),
        (np.where(GREY > 0.5, np.inf, GREY), "got 0 to inf"),
        (GREY[0], r"must have the shape \(C, H, W\).*image\[None\]"),
        (np.repeat(GREY[0, :, :, None], 3, axis=2), r"got \(40, 32, 3\).*transpose\(2, 0, 1\)"),
        (np.repeat(GREY, 4, axis=0), r"got \(4, 40, 32\)"),
        (GREY[:, :0], r"got \(1, 0, 32\)"),
        (torch.from_numpy(GREY), "must be a NumPy array, got Tensor"),
        (GREY.tolist(), "must be a NumPy array, got list"),
    ],
)
def test_an_image_of_another_kind_is_one_sentence(image: Any, message: str) -> None:
    with pytest.raises(dm.DosimeterError, match=message):
        handmade(image)[0]
    with pytest.raises(dm.DosimeterError, match=f"none of the 2 images of handmade can be read.*{message}"):
        sweep_of(handmade(image))
    with pytest.raises(dm.DosimeterError, match=message):
        Case(image, 0, "a", None, 8, handmade(image).records[0])


def sweep_of(cases: Cohort, **options: Any) -> Any:
    quick: dict[str, Any] = {
        "epsilons": [0.01],
        "visibility": "none",
        "refine": False,
        "compute": dm.Compute(workers=1),
    }
    return dm.sweep(classifier(Viewing()), cases, **quick | options).frame


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_floats_of_any_width_are_the_same_image(dtype: Any) -> None:
    exact = (np.rint(GREY.astype(np.float64) * 255) / 255).astype(dtype)
    assert handmade(exact)[0].image.dtype == np.float32
    rows = sweep_of(handmade(exact))
    assert np.array_equal(np.stack(rows["logits"]), np.stack(sweep_of(handmade(GREY))["logits"]))


def test_labels_depths_and_readers_are_checked() -> None:
    for label in (2, -1):
        with pytest.raises(dm.DosimeterError, match=f"label must be an index into the classes .*got {label}"):
            sweep_of(handmade(GREY, label=label))
    for bits in (0, 17, 8.0, None):
        with pytest.raises(dm.DosimeterError, match="bits must be the depth"):
            handmade(GREY, bits=bits)[0]
    bare = replace(handmade(GREY).records[0], read=lambda: GREY)  # type: ignore[arg-type,return-value]
    with pytest.raises(dm.DosimeterError, match=r"read must return Decoded\(image, bits\), got ndarray"):
        Cohort("bare", ("clear", "opacity"), (bare,))[0]


FILES = [name for name, storage in storages().items() if storage.encode is not None]


@pytest.mark.parametrize("visibility", ["all", "none"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (1, 32), (5, 5), (6, 9), (10, 12)])
def test_sides_of_one_pixel_are_swept_at_their_own_size(shape: tuple[int, int], visibility: str) -> None:
    image = (np.random.default_rng(1).integers(0, 256, (1, *shape)) / 255).astype(np.float32)
    rows = sweep_of(
        handmade(image), threat=dm.ThreatModel(native=True), visibility=visibility, storages=["float", *FILES]
    )
    assert (rows["status"] == "ok").all()
    assert rows["ssim"].notna().any() == (visibility == "all" and min(shape) >= 6)
    moved = rows[(rows["epsilon"] == 0.01) & (rows["storage"] == "float")]
    assert (moved["linf"] <= 0.01 + 1e-6).all()
    assert (moved["linf"] > 0).all()
