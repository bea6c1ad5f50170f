"""Training on physical changes, as a defence: its contract, what it draws, and what it is for."""

import numpy as np
import pytest
import tiny
import torch

from dosimeter.cohorts.arrays import cohort_of
from dosimeter.defences.base import defend
from dosimeter.defences.known.augment import ENTRY, Augment, OnChanged
from dosimeter.errors import DosimeterError
from dosimeter.testing import check_defence


def test_it_keeps_the_contract():
    check_defence("augment:rotation/dose_fraction,epochs=1,part=all")


def test_so_many_images_are_changed_each_by_one_change():
    method = Augment(changes="flip", share=0.5).method(4)
    assert isinstance(method, OnChanged)
    image, noise = torch.rand(1, 3, 8, 8), torch.Generator().manual_seed(0)
    made = [method._changed(image, noise) for _ in range(400)]
    flipped = sum(torch.equal(each, image.flip(3)) for each in made)
    assert flipped + sum(torch.equal(each, image) for each in made) == 400
    assert 160 < flipped < 240


def test_noise_is_drawn_anew_each_time():
    method = Augment(changes="dose_fraction", share=1.0).method(4)
    image, noise = torch.full((1, 3, 16, 16), 0.5), torch.Generator().manual_seed(0)
    made = [method._changed(image, noise) for _ in range(8)]
    assert len({each.numpy().tobytes() for each in made}) == 8


def test_a_network_learns_what_it_was_shown():
    """A class is told by a bright half: mirrored images are all wrong, until training shows some of them."""
    rng = np.random.default_rng(0)
    images = 0.3 + 0.02 * rng.standard_normal((40, 1, tiny.SIZE_PX, tiny.SIZE_PX)).astype(np.float32)
    labels = [0, 1] * 20
    images[1::2, :, :16, :16] += 0.4  # of class 1 a corner is bright, which mirrored images lack
    cohort = cohort_of(images.clip(0, 1), labels, classes=("clear", "opacity"))
    bare = tiny.convolutional_classifier()
    shown = torch.from_numpy(images.clip(0, 1)).expand(-1, 3, -1, -1).flip(3).contiguous()
    right = {}
    for name in ("gamma", "flip"):
        defended = defend(bare, f"augment:{name},share=0.5,part=all,epochs=12,rate=0.003,precision=float32", cohort)
        right[name] = float((defended(shown).argmax(dim=1) == torch.tensor(labels)).float().mean())
    assert right["flip"] == 1.0
    assert right["flip"] > right["gamma"]


def test_a_change_that_is_not_known_is_named():
    with pytest.raises(
        DosimeterError, match=r"defence augment: change 'rotations' is not known. Did you mean 'rotation'"
    ):
        ENTRY.build("rotations")
    with pytest.raises(DosimeterError, match="share must be a number above 0"):
        ENTRY.build("rotation,share=0")
