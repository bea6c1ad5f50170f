"""The attack that looks for a file: against a closed form, and that what it finds is what the file holds."""

import numpy as np
import pytest
import torch
from test_attack_battery import images, network, problem
from tiny import SIZE_PX, Linear

import dosimeter as dm
from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.pgd import PGD
from dosimeter.attacks.known.stored_pgd import StoredPGD
from dosimeter.attacks.presets import choose
from dosimeter.storage.base import get_storage


def linear(n: int = 4) -> tuple[Problem, torch.Tensor]:
    """Images on 8-bit levels before a linear classifier, and its weights (3, H, W)."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(3, SIZE_PX, SIZE_PX, generator=generator)
    x = torch.randint(20, 236, (n, 3, SIZE_PX, SIZE_PX), generator=generator) / 255
    scores = (x * weight).flatten(1).sum(dim=1)
    return Problem(Linear(weight, -float(scores.min()) + 1000.0), x, torch.ones(n, dtype=torch.long)), weight


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_it_reaches_the_worst_case_on_the_lattice_of_a_linear_classifier(levels: int) -> None:
    given, weight = linear()
    epsilon = torch.full((len(given),), (levels + 0.4) / 255)  # rounding to nearest would stay inside as well
    found, _ = StoredPGD(channels="free", steps=3).perturb(given, epsilon)
    worst = given.images - levels / 255 * weight.sign()
    np.testing.assert_allclose(found, worst, atol=1e-6)


def test_less_than_a_level_moves_nothing_and_costs_one_gradient() -> None:
    given, _ = linear()
    found, hit = StoredPGD(repairs=0).perturb(given, torch.full((len(given),), 0.9 / 255))
    assert torch.equal(found, given.images)
    assert not hit.any()
    assert given.cost.gradients.tolist() == [1] * len(given)


@pytest.mark.parametrize(("bits", "storage"), [(8, "png8"), (12, "dicom12"), (16, "png16")])
def test_its_image_is_its_file(bits: int, storage: str) -> None:
    grey = images()[:, :1].expand(-1, 3, -1, -1).contiguous()
    if bits == 12:
        grey = (grey * 4095).round() / 4095
    found, _ = StoredPGD(bits=bits, steps=4).perturb(problem(x=grey), torch.full((len(grey),), 0.012))
    assert not torch.equal(found, grey)
    for image in found:
        np.testing.assert_array_equal(get_storage(storage).store(image.numpy()), image.numpy())


def test_the_repair_only_improves() -> None:
    given = problem()
    epsilon = torch.full((len(given),), 1 / 255 + 1e-6)
    rough, _ = StoredPGD(steps=1, repairs=0).perturb(given, epsilon)
    mended, _ = StoredPGD(steps=1, repairs=4).perturb(given, epsilon)
    losses = [given.losses(network(2)(each), "margin") for each in (rough, mended)]
    assert (losses[1] >= losses[0]).all()
    assert (losses[1] > losses[0]).any()


def test_a_sweep_asks_its_files_about_nothing_new_and_beats_rounding() -> None:
    cohort = dm.load_cohort("phantom-ct", limit=6)
    epsilons = ["1/255", "2/255", "3/255", "5/255"]
    both = {
        attack.name: dm.sweep(network(2), cohort, attack, epsilons=epsilons, storages=["float", "png8"]).frame
        for attack in (StoredPGD(steps=10), PGD(steps=10))
    }
    own = both["stored_pgd"].query("on_grid")
    own = own.pivot_table(index=["case_id", "epsilon"], columns="storage", values=["predicted", "linf"])
    assert (own["predicted", "float"] == own["predicted", "png8"]).all()
    assert (own["linf", "float"] == own["linf", "png8"]).all()
    grid = {name: frame[(frame.storage == "png8") & frame.on_grid] for name, frame in both.items()}
    assert (grid["stored_pgd"].linf <= grid["stored_pgd"].epsilon + 1e-6).all()
    assert grid["stored_pgd"].correct.sum() <= grid["pgd"].correct.sum()


def test_storages_of_presets_and_attacks() -> None:
    usual = {preset.name: preset.storages for preset in choose(["paper", "sound"], ["pgd", "stored_pgd"], "quick")}
    assert usual == {
        "paper": ("float",),
        "sound": ("float", "png8"),
        "pgd": ("float",),
        "stored_pgd": ("float", "png8"),
    }
    asked = choose(["paper"], ["stored_pgd"], "quick", ("float", "dicom12"))
    assert [preset.storages for preset in asked] == [("float", "dicom12")] * 2
