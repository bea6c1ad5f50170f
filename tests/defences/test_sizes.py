"""Networks of fewer pixels: the resize against the loader's, heads fitted anew, and the small network."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dosimeter as dm
from dosimeter.cohorts.base import Decoded
from dosimeter.cohorts.grids import Grid, to_grid
from dosimeter.defences.base import defend, pipeline
from dosimeter.defences.known.input_size import InputSize
from dosimeter.defences.known.small_network import SmallNetwork, method_of, small_network
from dosimeter.defences.known.trades import Trades
from dosimeter.defences.resizing import Resized, smaller
from dosimeter.defences.training import readable
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.testing import check_defence

CLASSES = ("clear", "opacity")
SIZE = 48


def grey(n: int = 8, size: int = SIZE) -> Tensor:
    """Images (n, 1, size, size) of 8-bit levels, every second one with a bright half."""
    levels = torch.randint(50, 150, (n, 1, size, size), generator=torch.Generator().manual_seed(0))
    levels[1::2, :, : size // 2] += 60
    return levels / 255


def cohort(n: int = 8, size: int = SIZE) -> dm.Cohort:
    return dm.cohort_of(grey(n, size).numpy(), [place % 2 for place in range(n)], classes=CLASSES)


def base() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.ReLU())


def classifier(network: nn.Module, head: nn.Module, size: int | tuple[int, int] = SIZE) -> Classifier:
    return Classifier(network, head, preprocessing=PREPROCESSINGS["unit"], size_px=size, classes=CLASSES)


def flat_head(cells: int = 144) -> nn.Module:
    layers = {"flat": nn.Flatten(), "first": nn.Linear(6 * cells, 5), "relu": nn.ReLU(), "last": nn.Linear(5, 2)}
    return nn.Sequential(OrderedDict(layers))


def pooled_head() -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(12), nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


# --- the resize -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12, 19, 47])
def test_the_resize_is_the_loaders_but_for_its_rounding(size: int) -> None:
    images = grey(2)
    resized = Resized((SIZE, SIZE), (size, size))(images)
    for image, found in zip(images, resized, strict=True):
        wanted = to_grid(Decoded(image.numpy(), 8), size_px=size)
        assert float(np.abs(found.numpy() - wanted).max()) <= 0.5 / 255 + 1e-6


def test_a_ball_stays_in_a_ball_of_the_same_epsilon() -> None:
    resize = Resized((SIZE, 30), (14, 9))
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, SIZE, 30, generator=generator)
    moved = image + 0.01 * torch.randn(image.shape, generator=generator).sign()
    assert float((resize(moved) - resize(image)).abs().max()) <= 0.01 + 1e-6
    all_up = resize(image + 0.01) - resize(image)
    torch.testing.assert_close(all_up, torch.full_like(all_up, 0.01), atol=1e-6, rtol=0)


def test_the_shorter_side_gets_the_size() -> None:
    assert smaller(Grid(224, 224), 56) == (56, 56)
    assert smaller(Grid(100, 50), 25) == (50, 25)


# --- input_size -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "shape"), [(flat_head(), (5, 6 * 9)), (pooled_head(), (5, 6)), (nn.Sequential(nn.Flatten(1)), None)]
)
def test_a_head_is_fitted_to_the_smaller_maps(head: nn.Module, shape: tuple[int, int] | None) -> None:
    network = base()
    if shape is None:  # a network in one piece, whose last layer takes any size
        network = nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    bare = classifier(network, head)
    defended = defend(bare, "input_size:12,rate=0.03,epochs=120", cohort(), seed=3)
    assert defended.size_px == SIZE
    if shape is not None:
        assert next(each for each in defended.head.modules() if isinstance(each, nn.Linear)).weight.shape == shape
    images = grey().expand(-1, 3, -1, -1)
    small = Resized((SIZE, SIZE), (12, 12))(images)
    torch.testing.assert_close(defended(images), defended.head(defended.base(small)))
    assert float((defended(images).argmax(1) == torch.arange(8) % 2).float().mean()) > 0.8
    assert defend(bare, "input_size:12,rate=0.03,epochs=120", cohort(), seed=3).fingerprint == defended.fingerprint


def test_a_network_of_one_size_is_given_its_images_enlarged_again() -> None:
    whole = nn.Sequential(base(), flat_head())
    defended = defend(classifier(whole, nn.Identity()), "input_size:12", cohort())
    assert defended.front is not None
    images = grey(2).expand(-1, 3, -1, -1)
    seen = defended.front(images)
    assert seen.shape == images.shape
    rank = torch.linalg.matrix_rank(seen[0, 0], tol=1e-4)
    assert int(rank) <= 12


def test_a_quarter_of_the_size_is_the_default_and_more_than_all_is_refused() -> None:
    defended = defend(classifier(base(), pooled_head()), "input_size", cohort())
    assert defended.front is not None
    assert defended.front(grey(1).expand(-1, 3, -1, -1)).shape[2:] == (12, 12)
    with pytest.raises(DosimeterError, match=r"must be below the 48 pixels .* got 48\. Write input_size:12"):
        defend(classifier(base(), pooled_head()), "input_size:48", cohort())


def test_other_defences_train_what_looks_at_fewer_pixels() -> None:
    text = "input_size:12+fast_adversarial_training:part=last,epochs=2+median"
    defended = defend(classifier(base(), flat_head()), text, cohort())
    assert [part["name"] for part in defended.card["defences"]] == ["input_size", "fast_adversarial_training", "median"]
    check_defence("input_size:12+noise_training:epochs=1+median")


# --- the small network ------------------------------------------------------------------------------------------------


def test_the_small_network_has_61_thousand_weights_and_draws_nothing_of_its_callers() -> None:
    state = torch.random.get_rng_state()
    network = small_network(2)
    assert torch.equal(state, torch.random.get_rng_state())
    assert sum(parameter.numel() for parameter in network.parameters()) == 60_994
    for size in (8, 56, 112):
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 2)


def test_a_small_network_answers_instead_of_base_and_head() -> None:
    bare = classifier(base(), flat_head())
    chosen = SmallNetwork(size=16, epochs=12)
    defended = defend(bare, "small_network:16,epochs=12", cohort(), seed=1)
    images = grey().expand(-1, 3, -1, -1)
    small = Resized((SIZE, SIZE), (16, 16))(images)
    torch.testing.assert_close(defended(images), defended.base(2 * small - 1))
    assert (defended(images).argmax(1) == torch.arange(8) % 2).all()
    assert defended.card["defences"][0]["size"] == chosen.size
    wide = classifier(nn.Flatten(), nn.Linear(3 * 40 * 20, 2), (40, 20))
    tall = dm.cohort_of(np.random.default_rng(0).random((4, 1, 40, 20)).astype(np.float32), [0, 1] * 2, classes=CLASSES)
    assert defend(wide, "small_network:10,epochs=1", tall).front(torch.zeros(1, 3, 40, 20)).shape[2:] == (20, 10)  # type: ignore[misc]


@pytest.mark.parametrize("loss", ["trades", "ima", "fast_adversarial_training", "noise_training"])
def test_a_small_network_is_trained_by_any_method(loss: str) -> None:
    check_defence(f"small_network:size=12,loss={loss},epsilon=0.02,epochs=2")


def test_a_method_has_the_settings_of_the_small_network() -> None:
    chosen = method_of(SmallNetwork(loss="trades", epsilon=0.02, epochs=7, rate=0.1, batch=3))
    assert chosen == Trades(part="all", epsilon=0.02, epochs=7, rate=0.1, batch=3)
    assert method_of(SmallNetwork()) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("small_network:loss=trade", "loss must be plain or a defence that trains any network, got 'trade'. Did you"),
        ("small_network:loss=median", "got 'median'"),
        ("small_network:loss=distillation", "got 'distillation'"),
        ("small_network:loss=small_network", "got 'small_network'"),
        ("small_network:size=4", "size must be a whole number from 8 to 4096, got '4'"),
        ("input_size:5.5", "size must be a whole number from 8 to 4096, got '5.5'"),
    ],
)
def test_settings_are_refused_before_anything_is_trained(text: str, said: str) -> None:
    with pytest.raises(DosimeterError) as caught:
        pipeline(text)
    assert said in str(caught.value)


def test_fitting_a_head_is_told_and_costs_half_a_pass_of_each_image() -> None:
    told: list[int] = []
    bare = classifier(base(), flat_head())
    InputSize(size=12, epochs=1).learn(bare, readable(bare, cohort()), seed=0, advance=told.append)
    assert sum(told) == 8
    assert InputSize().passes(8) == 4
