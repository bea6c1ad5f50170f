"""Filters and the denoiser: against their definitions, at their limits, and on images that were not learned from."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import convolutional_classifier
from torch import Tensor

import dosimeter as dm
from dosimeter.defences.base import defend
from dosimeter.defences.known.denoiser import Denoise, Denoiser
from dosimeter.defences.known.non_local_means import NonLocalMeans
from dosimeter.defences.training import Training
from dosimeter.errors import DosimeterError


def noise(n: int, size_px: int = 9) -> Tensor:
    return torch.rand(n, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))


def by_definition(image: NDArray[np.float64], strength: float, search: int, patch: int) -> NDArray[np.float64]:
    """Every pixel by loops over its window and its patch."""
    reach, around = search // 2, patch // 2
    wide = np.pad(image, ((0, 0), *[(reach + around,) * 2] * 2), mode="reflect")
    filtered = np.zeros_like(image)
    for row, column in np.ndindex(*image.shape[1:]):
        y, x = row + reach + around, column + reach + around
        own = wide[:, y - around : y + around + 1, x - around : x + around + 1]
        total, weights = 0.0, 0.0
        for down, across in np.ndindex(search, search):
            v, u = y + down - reach, x + across - reach
            other = wide[:, v - around : v + around + 1, u - around : u + around + 1]
            weight = np.exp(-np.mean((own - other) ** 2) / strength**2)
            total, weights = total + weight * wide[:, v, u], weights + weight
        filtered[:, row, column] = total / weights
    return filtered


@pytest.mark.parametrize(("search", "patch"), [(3, 1), (5, 3)])
def test_non_local_means_are_what_they_are_defined_to_be(search: int, patch: int) -> None:
    (image,) = noise(1)
    found = NonLocalMeans(strength=0.2, search=search, patch=patch)(image[None])[0]
    np.testing.assert_allclose(found.numpy(), by_definition(image.double().numpy(), 0.2, search, patch), atol=1e-5)


def test_non_local_means_between_nothing_and_the_plain_mean() -> None:
    images = noise(2)
    torch.testing.assert_close(NonLocalMeans(strength=1e-4, search=5, patch=3)(images), images)
    plain = NonLocalMeans(strength=1e4, search=3, patch=1)(images)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(plain, torch.nn.functional.avg_pool2d(images, 3, stride=1), rtol=1e-4, atol=1e-5)
    flat = torch.full((1, 3, 9, 9), 0.3)
    torch.testing.assert_close(NonLocalMeans(strength=0.03, search=7, patch=3)(flat), flat)


def test_the_gradient_of_non_local_means_is_their_derivative() -> None:
    image = noise(1, 5).double()
    assert torch.autograd.gradcheck(NonLocalMeans(strength=0.3, search=3, patch=3).double(), image.requires_grad_(True))


@pytest.mark.parametrize("setting", ["search=4", "patch=2", "strength=0"])
def test_windows_without_a_middle_are_one_sentence(setting: str) -> None:
    cohort = dm.cohort_of(noise(2, 32).numpy(), [0, 1], classes=("clear", "opacity"))
    with pytest.raises(DosimeterError, match="must be"):
        defend(convolutional_classifier(), f"non_local_means:{setting}", cohort)


def smooth(n: int, seed: int) -> Tensor:
    """Grey images of soft shapes."""
    coarse = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    shapes = torch.nn.functional.interpolate(coarse, size=32, mode="bicubic").clamp(0.1, 0.9)
    return shapes.expand(-1, 3, -1, -1).contiguous()


@pytest.mark.slow  # trains a denoiser
def test_a_denoiser_takes_noise_out_of_images_that_it_did_not_learn_from() -> None:
    bare = convolutional_classifier()
    cohort = dm.cohort_of(smooth(16, 0).numpy(), [0, 1] * 8, classes=("clear", "opacity"))
    defence = Denoise(epsilon=0.1, epochs=20)
    learned = defence.learn(bare, Training(bare, cohort), seed=0)
    network = Denoiser()
    network.load_state_dict(learned)
    clean = smooth(20, 1)
    noisy = (clean + 0.05 * torch.randn(20, 1, 32, 32, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    with torch.no_grad():
        cleaned, untouched = network(noisy), network(clean)
    assert float((cleaned - clean).square().mean()) < 0.5 * float((noisy - clean).square().mean())
    assert float((untouched - clean).abs().mean()) < 0.02
    assert torch.equal(cleaned[:, 0], cleaned[:, 1])  # a grey image stays grey


def test_a_denoiser_learns_the_same_again() -> None:
    bare = convolutional_classifier()
    training = Training(bare, dm.cohort_of(smooth(4, 0).numpy(), [0, 1] * 2, classes=("clear", "opacity")))
    first, again, other = (Denoise(epochs=2).learn(bare, training, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fine.weight"], other["fine.weight"])


def test_a_denoiser_that_learned_nothing_does_nothing() -> None:
    images = noise(2, 15)  # an odd size too
    with torch.no_grad():
        assert torch.equal(Denoiser()(images), images)
