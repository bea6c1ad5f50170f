"""MedMNIST-C's own corruptions as oracles of the kinds that both have: `pip install --no-deps medmnistc==0.1.0`."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_changes import made, thorax

compression = pytest.importorskip("medmnistc.corruptions.compression", reason="needs medmnistc 0.1.0 and opencv")
enhance = pytest.importorskip("medmnistc.corruptions.enhance", reason="needs medmnistc 0.1.0 and opencv")

GREY_LEVEL = 1 / 255


def pictures(n: int = 3) -> tuple[torch.Tensor, list[Image.Image]]:
    images = thorax(n, size=64)
    levels = (images[:, 0] * 255).round().byte().numpy()
    return images, [Image.fromarray(each) for each in levels]


@pytest.mark.parametrize("gamma", [1.1, 1.3, 1.6, 0.7, 0.4])
def test_gamma_is_theirs_within_the_rounding_of_a_file(gamma: float):
    images, originals = pictures()
    theirs = [enhance.GammaCorrection([gamma]).apply(each, severity=0) for each in originals]
    apart = np.abs(made("gamma", images, gamma)[:, 0].numpy() - np.stack(theirs) / 255.0)
    assert apart.max() <= 1.01 * GREY_LEVEL  # they cut to whole levels


@pytest.mark.parametrize("quality", [50, 30, 15, 10, 7])
def test_jpeg_is_theirs_to_the_last_level(quality: int):
    images, originals = pictures()
    theirs = [compression.JPEGCompression([quality]).apply(each, severity=0) for each in originals]
    mine = (made("jpeg", images, float(quality))[:, 0] * 255).round().byte().numpy()
    np.testing.assert_array_equal(mine, np.stack(theirs))
