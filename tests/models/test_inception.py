"""Inception-v3's layers belong to its weights: Keras averages without the padded zeros, torchvision with them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_backbone, tiny_weights
from torch import nn
from torchvision.models import inception

import dosimeter as dm
from dosimeter.models import saved
from dosimeter.models.backbones import HeadSpec, build_base, get_backbone
from dosimeter.models.features import FeatureStore
from dosimeter.models.fit import assemble, recipe
from dosimeter.models.inception import KERAS_BLOCKS, average
from dosimeter.models.training import FitOptions


def ones_share(block: type[nn.Module], *sizes: int) -> torch.Tensor:
    """Return what a block's pooled branch makes of a map of ones (5, 5), its convolution averaging channels."""
    made = block(*sizes).eval()
    for module in made.branch_pool.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / sizes[0])
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0  # the identity, with mean 0 and variance 1
    with torch.inference_mode():
        return made(torch.ones(1, sizes[0], 5, 5))[0, -1]


BORDER = torch.tensor([2.0, 3.0, 3.0, 3.0, 2.0]) / 3


@pytest.mark.parametrize(("place", "sizes"), [(1, (8, 4)), (3, (8, 4)), (5, (8,))], ids="ACE")
def test_keras_means_are_of_what_is_there_and_torchvision_s_of_nine(place: int, sizes: tuple[int, ...]) -> None:
    theirs = KERAS_BLOCKS[place].__mro__[1]
    torch.testing.assert_close(ones_share(KERAS_BLOCKS[place], *sizes), torch.ones(5, 5))
    torch.testing.assert_close(ones_share(theirs, *sizes), torch.outer(BORDER, BORDER))


@pytest.mark.parametrize(("place", "sizes"), [(1, (8, 4)), (3, (8, 4)), (5, (8,))], ids="ACE")
def test_nothing_else_in_a_block_differs(place: int, sizes: tuple[int, ...]) -> None:
    theirs = KERAS_BLOCKS[place].__mro__[1](*sizes).eval()
    ours = KERAS_BLOCKS[place](*sizes).eval()
    ours.load_state_dict(theirs.state_dict())
    maps = torch.rand(2, sizes[0], 6, 7, generator=torch.Generator().manual_seed(0))
    n_pooled = theirs.branch_pool.conv.out_channels
    with torch.inference_mode():
        got, wanted = ours(maps), theirs(maps)
        inner = theirs.branch_pool(average(maps))
    torch.testing.assert_close(got[:, :-n_pooled], wanted[:, :-n_pooled])
    torch.testing.assert_close(got[:, -n_pooled:], inner)
    torch.testing.assert_close(got[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1])  # no padding reaches the middle


def test_the_mean_is_a_sum_over_a_count() -> None:
    maps = torch.rand(1, 2, 4, 4, dtype=torch.float64)
    kernel = torch.ones(2, 1, 3, 3, dtype=torch.float64)
    both = [nn.functional.conv2d(each, kernel, padding=1, groups=2) for each in (maps, torch.ones_like(maps))]
    torch.testing.assert_close(average(maps), both[0] / both[1])


def test_the_base_follows_the_origin_of_its_weights() -> None:
    backbone = get_backbone("inception_v3")
    assert get_backbone("inception_v3").package.origin.layers == "keras"
    with torch.device("meta"):
        built = {"torchvision": backbone.build(), "keras": backbone.build_keras()}
    shapes = [{name: tensor.shape for name, tensor in base.state_dict().items()} for base in built.values()]
    assert shapes[0] == shapes[1]
    for layers, base in built.items():
        blocks = [module for module in base.modules() if isinstance(module, tuple(KERAS_BLOCKS[1:6:2]))]
        assert len(blocks) == (9 if layers == "keras" else 0)
        counting = (inception.InceptionA, inception.InceptionC, inception.InceptionE)
        assert sum(isinstance(module, counting) for module in base.modules()) == 9


@pytest.mark.usefixtures("tiny_networks")
def test_maps_and_heads_of_other_layers_are_never_reused(tmp_path: Path) -> None:
    halves = dm.split(dm.load_cohort("phantom-xray", limit=10), "paper", seed=0)
    theirs = tiny_weights("inception_v3")
    ours = replace(theirs, layers="keras")
    spec, options = HeadSpec("none", 8, 0.5), FitOptions()
    assert theirs.base_sha256 != ours.base_sha256
    assert len({recipe("inception_v3", halves, 0, weights, spec, options) for weights in (theirs, ours)}) == 2
    classifier = assemble(tiny_backbone("inception_v3"), theirs, spec, classes="ab", generator=torch.Generator())
    folders = {
        FeatureStore(classifier, base_sha256=weights.base_sha256, folder=tmp_path).compute(halves.test)[0].parent
        for weights in (theirs, ours)
    }
    assert len(folders) == 2


@pytest.mark.usefixtures("tiny_networks")
def test_a_head_trained_on_the_other_layers_is_not_loaded(tmp_path: Path) -> None:
    halves = dm.split(dm.load_cohort("phantom-xray", limit=10), "paper", seed=0)
    theirs = tiny_weights("inception_v3")
    classifier = dm.fit("inception_v3", halves, weights=theirs, features=tmp_path / "maps")
    dm.save_classifier(classifier, tmp_path / "saved")
    assert saved.load_classifier(tmp_path / "saved", weights=theirs).fingerprint == classifier.fingerprint
    with pytest.raises(dm.DosimeterError, match=r"torchvision's layers.*keras's.*Train it again"):
        saved.load_classifier(tmp_path / "saved", weights=replace(theirs, layers="keras"))


def test_weights_without_layers_of_their_own_have_torchvision_s() -> None:
    backbone = tiny_backbone("vgg16")
    state = tiny_weights("vgg16").state
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(build_base(backbone, state, "keras")(image), build_base(backbone, state)(image))
