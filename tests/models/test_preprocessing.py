"""Preprocessing: what each kind makes of pixels in [0, 1], and of gradients."""

import pytest
import torch

from dosimeter.models.backbones import get_backbone
from dosimeter.models.preprocessing import PREPROCESSINGS, get_preprocessing


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unit", (0.2, 0.4, 0.6)),
        ("minus1to1", (-0.6, -0.2, 0.2)),
        ("caffe", (153 - 103.939, 102 - 116.779, 51 - 123.68)),
        ("torchvision", ((0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.6 - 0.406) / 0.225)),
    ],
)
def test_preprocessing_in_closed_form(name, expected):
    image = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    out = get_preprocessing(name).apply(image)
    assert out.shape == image.shape
    torch.testing.assert_close(out[1, :, 3, 4], torch.tensor(expected, dtype=torch.float64))


def test_minus1to1_is_what_torchvisions_inception_makes_of_normalised_images():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.device("meta"):
        inception = get_backbone("inception_v3").official.build()
    inception.transform_input = True
    through_torchvision = inception._transform_input(PREPROCESSINGS["torchvision"].apply(images))
    torch.testing.assert_close(PREPROCESSINGS["minus1to1"].apply(images), through_torchvision)


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_preprocessing_passes_gradients_back_in_image_units(name):
    chosen = PREPROCESSINGS[name]
    images = torch.rand(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    chosen.apply(images).sum().backward()
    slope = torch.tensor([chosen.scale / std for std in chosen.std], dtype=torch.float64)
    torch.testing.assert_close(images.grad, slope.view(1, 3, 1, 1).expand_as(images))
