"""How images are resized: every way against the library that trains so, its gradient, and what is named after it."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision.transforms.v2 as transforms
from PIL import Image
from torch import nn
from torch.nn import functional

import dosimeter as dm
from dosimeter.attacks.presets import PRESETS
from dosimeter.cohorts.base import Cohort, Decoded, Record, pseudonymise
from dosimeter.cohorts.grids import FILTERS, Grid, grid_of
from dosimeter.errors import DosimeterError
from dosimeter.executors.worker import portable_cell
from dosimeter.models.native import Shrinking
from dosimeter.sweeps.execute import execute_cell
from dosimeter.sweeps.plan import Setting, plan_cells

GRIDS = [
    Grid(16, 16),
    Grid(16, 24, interpolation="nearest"),
    Grid(16, 12, resize="crop", interpolation="bicubic", crop_pct=0.875),
    Grid(20, 20, resize="letterbox", interpolation="lanczos"),
    Grid(16, 16, interpolation="bilinear", antialias=False),
    Grid(48, 40, resize="crop", interpolation="bicubic", antialias=False),
    Grid(16, 16, resize="squash", interpolation="box", crop_pct=0.8),
]
LEVEL_16 = 1 / (2**16 - 1)


def odd(n: int) -> Cohort:
    """Grey images in [0.3, 0.7], each of another size, the first of 37 x 53."""
    sizes = [(37, 53), (64, 41), (20, 90)]

    def record(index: int) -> Record:
        levels = np.random.default_rng(index).integers(77, 179, (1, *sizes[index % 3]))
        image = Decoded((levels / 255).astype(np.float32), 8)
        return Record(pseudonymise(index, f"{index:064x}"), index % 2, f"{index:064x}", lambda: image)

    return Cohort("odd", ("clear", "opacity"), tuple(record(index) for index in range(n)))


def image_of(height: int, width: int) -> Any:
    return np.random.default_rng(height * width).random((1, height, width), dtype=np.float32)


def network_of(grid: Grid) -> dm.Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * grid.height_px * grid.width_px, 2))
    how = {name: getattr(grid, name) for name in ("resize", "interpolation", "antialias", "crop_pct")}
    return dm.classifier(network, size_px=grid.size_px, classes=("clear", "opacity"), **how)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", [(37, 53), (64, 41), (15, 90)])
def test_what_is_put_is_what_the_weights_say(grid: Grid, size: tuple[int, int]) -> None:
    image = 0.3 + 0.4 * image_of(*size)
    down, across = (weights.astype(float) for weights in grid.weights(*size))
    put = grid.put(Decoded(image, 16))
    assert put.shape == (1, *grid.shape)
    np.testing.assert_allclose(put[0], down @ image[0] @ across.T, atol=LEVEL_16)


@pytest.mark.parametrize(("height", "width"), [(37, 53), (64, 41), (150, 151)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_a_crop_is_that_of_torchvision(height: int, width: int, interpolation: Any) -> None:
    image = image_of(height, width)
    grid = Grid(28, 28, resize="crop", interpolation=interpolation, crop_pct=0.875)
    resize = transforms.Resize(32, getattr(transforms.InterpolationMode, interpolation.upper()))
    wanted = transforms.CenterCrop(28)(resize(Image.fromarray(image[0])))
    np.testing.assert_allclose(grid.put(Decoded(image, 16))[0], np.asarray(wanted).clip(0, 1), atol=LEVEL_16)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(37, 53), (9, 90)])
def test_without_antialiasing_it_is_that_of_torch(interpolation: Any, height: int, width: int) -> None:
    image = image_of(height, width)
    wanted = functional.interpolate(torch.from_numpy(image)[None], (16, 24), mode=interpolation, align_corners=False)
    put = Grid(16, 24, interpolation=interpolation, antialias=False).put(Decoded(image, 16))
    np.testing.assert_allclose(put, wanted[0].clip(0, 1), atol=LEVEL_16)


def test_a_letterbox_has_the_whole_image_in_its_middle() -> None:
    grid = Grid(10, 10, resize="letterbox", interpolation="nearest")
    put = grid.put(Decoded(np.ones((1, 4, 8), np.float32), 8))[0]
    assert grid.resized(4, 8) == (5, 10)
    assert put[2:7].all()
    assert not put[:2].any()
    assert not put[7:].any()


@pytest.mark.parametrize("interpolation", FILTERS)
def test_an_image_of_the_size_stays_as_it_is(interpolation: Any) -> None:
    image = image_of(16, 24)
    np.testing.assert_array_equal(Grid(16, 24, interpolation=interpolation).put(Decoded(image, 8)), image)
    cropping = Grid(16, 24, resize="crop", interpolation=interpolation, crop_pct=0.5)
    assert not cropping.leaves(16, 24)
    assert cropping.settled.leaves(16, 24)


def test_a_strip_does_not_fill_the_memory() -> None:
    strip = Decoded(np.zeros((1, 1, 60_000), np.float32), 8)
    with pytest.raises(DosimeterError, match=r"60000 x 1 pixels would become 13440000 x 224 before it is cropped"):
        Grid(224, 224, resize="crop").put(strip)
    assert Grid(224, 224, resize="letterbox").put(strip).shape == (1, 224, 224)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Grid(0, 4), "size_px must be a whole number, at least 1, got 0"),
        (lambda: Grid(4, 4, resize="crops"), "resize 'crops' is not known. Did you mean 'crop'"),  # type: ignore[arg-type]
        (lambda: Grid(4, 4, interpolation="cubic"), "Did you mean 'bicubic'"),  # type: ignore[arg-type]
        (lambda: Grid(4, 4, interpolation="box", antialias=False), "antialias = false is for bilinear and bicubic"),
        (lambda: Grid(4, 4, crop_pct=1.5), "crop_pct must be above 0 and at most 1, got 1.5"),
        (lambda: grid_of((4, 4, 4)), r"size_px must be a number or \[height, width\]"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_grid_is_one_sentence(made: Any, said: str) -> None:
    with pytest.raises(DosimeterError, match=said):
        made()


def test_a_classifier_is_named_after_its_grid() -> None:
    plain, other = network_of(GRIDS[0]), network_of(Grid(16, 16, interpolation="nearest"))
    assert plain.grid.is_plain
    assert plain.fingerprint != other.fingerprint
    assert plain.fingerprint == other.on(plain.grid).fingerprint
    assert plain.card["preprocessing"].startswith("16 x 16, white is 1")
    assert other.card["preprocessing"].startswith("16 x 16 (squashed to 16 x 16; nearest), white")
    assert network_of(GRIDS[1]).size_px == (16, 24)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_gradient_goes_through_the_resize(grid: Grid) -> None:
    """Of a linear network behind a linear map: the weights, carried back by the transposed map."""
    classifier = network_of(grid)
    images = torch.rand(2, 3, 37, 53, requires_grad=True)
    logits = Shrinking(classifier, grid=grid, bits=16)(images)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), images)
    weight = classifier.base[0][1].weight[1].reshape(3, *grid.shape)
    down, across = (torch.from_numpy(each.copy()) for each in grid.weights(37, 53))
    torch.testing.assert_close(gradient[0], down.T @ weight @ across)


def clean_logits(rows: pd.DataFrame) -> dict[str, Any]:
    clean = rows[(rows["epsilon"] == 0) & (rows["storage"] == "float")]
    return dict(zip(clean["case_id"], clean["logits"], strict=True))


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("grid", [*GRIDS[1:4], Grid(37, 53, resize="crop", crop_pct=0.5)])
def test_a_sweep_asks_about_images_as_they_are_prepared(grid: Grid, native: bool) -> None:
    """The last grid has by chance the first image's own size, and crops it nonetheless."""
    classifier, cohort = network_of(grid), odd(4)
    threat = dm.ThreatModel(native=native)
    rows = dm.sweep(classifier, cohort, "pgd", effort="quick", threat=threat, epsilons=["4/255"]).frame
    assert rows["error"].isna().all()
    found = clean_logits(rows)
    for case in cohort:
        logits = classifier(classifier.prepare(case)[None])[0].detach()
        np.testing.assert_allclose(found[case.case_id], logits, atol=1e-5)


def test_an_image_on_a_grid_is_not_cropped_again() -> None:
    classifier, cohort = network_of(Grid(32, 32, resize="crop", crop_pct=0.5)), odd(3)
    setting = Setting("", PRESETS["sound"], (0.0, 0.01), 0, {}, split=None)
    (cell,) = plan_cells(cohort, classifier, setting)
    travelled = pickle.loads(pickle.dumps(portable_cell(cell, grid=classifier.grid)))
    rows, wanted = (pd.DataFrame(execute_cell(each, classifier)) for each in (travelled, cell))
    np.testing.assert_array_equal(list(rows["logits"]), list(wanted["logits"]))
    images = torch.rand(4, 3, 32, 32)
    found = dm.attack(classifier, images, torch.zeros(4, dtype=torch.long), "pgd", ["0.1"], effort="quick")
    assert torch.equal(found.images[0], images)
    assert (found.images[1] - images).abs().max() <= 0.1 + 1e-6
    assert torch.equal(found.predicted[1], classifier(found.images[1]).argmax(dim=1))


def test_a_mask_has_the_grid_of_the_classifier() -> None:
    how: Any = {"classes": ("a", "b"), "size_px": (4, 6), "fill": False, "exhaustive": False}
    assert dm.ThreatModel(mask=np.ones((4, 6))).against(**how).mask.shape == (1, 4, 6)
    with pytest.raises(DosimeterError, match="4 x 6, got 4 x 4"):
        dm.ThreatModel(mask=np.ones((4, 4))).against(**how)
