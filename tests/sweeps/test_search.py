"""Searching attacks, paths, what a user may forbid, transfer: the sweep of more than FGSM."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import pandas as pd
import pytest
import torch
from greys import cohort
from tiny import convolutional_classifier, linear_classifier

import dosimeter as dm
from dosimeter.attacks.adapters import adapt
from dosimeter.attacks.base import AttackError, Candidate, Problem
from dosimeter.attacks.known.pgd import PGD
from dosimeter.attacks.known.universal import UniversalPerturbation
from dosimeter.attacks.presets import Preset
from dosimeter.attacks.registry import build, entries, names
from dosimeter.attacks.threat import ANYTHING, Threat, read_mask
from dosimeter.errors import DosimeterError
from dosimeter.examinations.convergence import examine_convergence
from dosimeter.models.base import Classifier
from dosimeter.record.table import Responses, compact, to_frame
from dosimeter.report.build import build_tables
from dosimeter.study.config import load_config
from dosimeter.study.settings import EFFORTS
from dosimeter.sweeps.execute import execute_cell
from dosimeter.sweeps.paths import Finds, Ray, Still
from dosimeter.sweeps.plan import Setting, plan_cells
from dosimeter.sweeps.search import search

EPSILONS = (0.0, 0.001, 0.003, 0.01, 0.03)


def grid(frame, **columns):  # type: ignore[no-untyped-def]
    rows = frame[frame["on_grid"]]
    for name, value in columns.items():
        rows = rows[rows[name] == value]
    return rows


@dataclass(frozen=True)
class FromAbove:
    """Succeeds from an epsilon on, and notes what it was asked."""

    threshold: float
    name: str = "from_above"
    loss: str = "none"
    channels: str = "tied"

    def perturb(self, problem: Problem, epsilon: torch.Tensor) -> Candidate:
        ASKED.extend(epsilon.tolist())
        moved = (problem.images + epsilon.view(-1, 1, 1, 1)).clamp(0, 1)
        return Candidate(moved, epsilon >= self.threshold - 1e-9)


ASKED: list[float] = []


def problem(n: int = 2) -> Problem:
    classifier = convolutional_classifier()
    images = torch.stack([classifier.prepare(case) for case in cohort(n)])
    return Problem(classifier, images, classifier(images).argmax(dim=1))


@pytest.mark.parametrize("threshold", [0.001, 0.01, 0.03, 0.5])
def test_bisection_finds_the_first_success_that_looking_everywhere_finds(threshold: float) -> None:
    attack = FromAbove(threshold)
    ASKED.clear()
    quick = search(attack, problem(), EPSILONS)
    n_quick = len(ASKED)
    ASKED.clear()
    whole = search(attack, problem(), EPSILONS, exhaustive=True)
    assert n_quick <= 2 * 3 < len(ASKED)
    for epsilon in EPSILONS:
        assert bool(quick[0].found(epsilon)) == bool(whole[0].found(epsilon)) == (epsilon >= threshold)


def test_an_image_that_is_wrong_from_the_start_is_not_attacked() -> None:
    given = problem()
    wrong = Problem(given.network, given.images, 1 - given.labels)
    ASKED.clear()
    finds = search(FromAbove(0.01), wrong, EPSILONS)
    assert not ASKED
    assert finds[0].found(0.0)
    assert torch.equal(finds[0].at(wrong.images[0], 0.03), wrong.images[0])


def test_an_attack_that_leaves_its_ball_is_named() -> None:
    @dataclass(frozen=True)
    class Cheat(FromAbove):
        def perturb(self, problem: Problem, epsilon: torch.Tensor) -> Candidate:
            return Candidate((problem.images + 0.2).clamp(0, 1), epsilon > 0)

    with pytest.raises(AttackError, match="cheat left its ball"):
        search(Cheat(0.1, name="cheat"), problem(), EPSILONS)


def test_finds_give_the_nearest_image_within_the_ball() -> None:
    image = torch.full((3, 2, 2), 0.5)
    finds = Finds()
    finds.put(0.01, image + 0.01, hit=False)
    finds.put(0.1, image + 0.08, hit=True)
    assert torch.equal(finds.at(image, 0.01), image + 0.01)
    torch.testing.assert_close(finds.at(image, 0.2), image + 0.08)
    torch.testing.assert_close(finds.at(image, 0.04), image + 0.04)  # half way to the success
    assert [finds.found(epsilon) for epsilon in (0.01, 0.04, 0.1, 0.2)] == [False, None, True, True]


def test_finds_of_filled_balls_have_an_image_each() -> None:
    image = torch.full((3, 2, 2), 0.5)
    finds = Finds(nested=False)
    finds.put(0.01, image + 0.01, hit=True)
    finds.put(0.1, image - 0.08, hit=False)
    assert torch.equal(finds.at(image, 0.1), image - 0.08)
    torch.testing.assert_close(finds.at(image, 0.04), image - 0.04)  # half way to the next ball's
    torch.testing.assert_close(finds.at(image, 0.2), image - 0.08)
    assert [finds.found(epsilon) for epsilon in (0.01, 0.04, 0.1)] == [True, None, False]


def test_a_search_fills_its_balls_where_images_are_stored() -> None:
    classifier, images = convolutional_classifier(), cohort(8)
    asked = {"epsilons": EPSILONS, "compute": dm.Compute(workers=1), "refine": False}
    stored = dm.sweep(classifier, images, "pgd", storages=("float", "png8"), **asked)
    first = dm.sweep(classifier, images, "pgd", storages=("float", "png8"), threat=dm.ThreatModel(fill=False), **asked)
    filled, least = (grid(run.frame, storage="float", epsilon=0.03).set_index("case_id") for run in (stored, first))
    flipped = grid(first.frame, storage="float", epsilon=0.0).set_index("case_id")["correct"] & ~least["correct"]
    moved = filled["linf"][flipped]
    assert len(moved) > 1
    assert (moved > 0.029).all()
    assert least["linf"][flipped].min() < 0.011
    files = [grid(run.frame, storage="png8", epsilon=0.03)["correct"].mean() for run in (stored, first)]
    assert files[0] <= files[1]
    accuracies = [grid(run.frame, storage="float").groupby("epsilon")["correct"].sum() for run in (stored, first)]
    assert (accuracies[0] <= accuracies[1]).all()


def test_a_ray_ends_at_its_reach_and_keeps_to_levels() -> None:
    image = torch.full((3, 2, 2), 100 / 255)
    ray = Ray(torch.ones_like(image), reach=0.01, hit=True)
    torch.testing.assert_close(ray.at(image, 0.5), image + 0.01)
    assert [ray.found(0.005), ray.found(0.01)] == [False, True]
    stepped = Ray(torch.ones_like(image), levels=255)
    for epsilon, level in ((0.0039, 100), (0.004, 101), (0.0078, 101), (0.00785, 102)):
        torch.testing.assert_close(stepped.at(image, epsilon) * 255, torch.full_like(image, level))
    assert Still().at(image, 1.0) is image


def test_pgd_is_never_weaker_than_fgsm_in_the_sweep() -> None:
    classifier, images = convolutional_classifier(), cohort(16)
    curves = {
        name: grid(dm.sweep(classifier, images, name, epsilons=EPSILONS, compute=dm.Compute(workers=1)).frame).groupby(
            "epsilon"
        )["correct"]
        for name in ("fgsm", "pgd")
    }
    assert (curves["pgd"].sum() <= curves["fgsm"].sum()).all()
    assert curves["pgd"].sum()[0.003] < curves["fgsm"].sum()[0.0]


@pytest.mark.parametrize("name", [name for name, entry in entries().items() if not entry.learns])
def test_rows_of_every_attack_keep_what_they_claim(name: str) -> None:
    classifier, images = convolutional_classifier(), cohort(8)
    frame = dm.sweep(classifier, images, name, effort="quick", epsilons=EPSILONS, compute=dm.Compute(workers=2)).frame
    assert (frame["status"] == "ok").all()
    assert (frame["linf"] <= frame["epsilon"] + 1e-6).all()
    claimed = frame[frame["found"] == True]  # noqa: E712 - nulls
    assert not claimed["correct"].any()
    again = dm.sweep(classifier, images, name, effort="quick", epsilons=EPSILONS, compute=dm.Compute(workers=1)).frame
    assert frame.drop(columns="duration_s").equals(again.drop(columns="duration_s"))
    assert set(frame["effort"]) == {"quick"}


def test_cost_is_counted_for_each_image() -> None:
    classifier, images = convolutional_classifier(), cohort(6)
    first = dm.sweep(classifier, images, "fgsm", compute=dm.Compute(workers=1)).frame.drop_duplicates("case_id")
    assert set(first["n_gradients"]) == {1}
    square = dm.sweep(
        classifier, images, "square", effort="quick", compute=dm.Compute(workers=1)
    ).frame.drop_duplicates("case_id")
    assert set(square["n_gradients"]) == {0}
    assert (square["n_queries"] > 0).all()


def test_a_mask_a_target_and_bits_are_kept() -> None:
    classifier, images = convolutional_classifier(), cohort(6)
    mask = np.zeros((32, 32))
    mask[8:24, 8:24] = 1
    for name in ("fgsm", "pgd", "fmn"):
        masked = dm.sweep(
            classifier,
            images,
            name,
            effort="quick",
            epsilons=EPSILONS,
            threat=dm.ThreatModel(mask=mask),
            compute=dm.Compute(workers=1),
        ).frame
        assert (masked["l2"] <= masked["epsilon"] * np.sqrt(3 * 16 * 16) + 1e-6).all()
        assert not masked.loc[masked["correct"] & (masked["epsilon"] > 0), "unchanged"].all()
        aimed = dm.sweep(
            classifier,
            images,
            name,
            epsilons=EPSILONS,
            threat=dm.ThreatModel(target="opacity"),
            effort="quick",
            compute=dm.Compute(workers=1),
        ).frame
        assert aimed.loc[aimed["label"] == 1, "unchanged"].all()  # they are what they should become
        assert set(aimed["target"]) == {1}
    stepped = dm.sweep(
        classifier,
        images,
        "pgd",
        epsilons=EPSILONS,
        threat=dm.ThreatModel(bits=8),
        effort="quick",
        compute=dm.Compute(workers=1),
    ).frame
    levels = stepped["linf"] * 255
    assert (np.abs(levels - levels.round()) < 1e-3).all()
    assert (grid(stepped, epsilon=0.003)["unchanged"]).all()  # less than a grey level cannot be written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"threat": dm.ThreatModel(mask=np.ones((8, 8)))},
            "mask must have the size of the classifier's images, 32 x 32, got 8 x 8",
        ),
        ({"threat": dm.ThreatModel(mask=np.zeros((32, 32)))}, "at least one pixel"),
        ({"threat": dm.ThreatModel(target="opacty")}, "Did you mean 'opacity'"),
        ({"threat": dm.ThreatModel(bits=1)}, "bits must be from 2 to 16"),
        ({"effort": "hard", "attack": "pgd"}, "effort 'hard' is not known"),
        ({"attack": "pdg"}, "Did you mean 'pgd'"),
        ({"attack": object()}, "must have a method `direction` or `perturb`"),
        ({"attack": "universal"}, "training must be given"),
        ({"effort": "hard"}, "effort 'hard' is not known"),
        ({"threat": dm.ThreatModel(target=1)}, "target must be the name of a class, got 1"),
        ({"threat": dm.ThreatModel(mask="lungs.png")}, "mask must be an array of numbers"),
        ({"threat": dm.ThreatModel(mask=[[1, 0], [1]])}, "mask must be an array of 32 x 32"),
        ({"threat": dm.ThreatModel(bits=8.5)}, "bits must be from 2 to 16"),
        ({"storages": []}, "storages must name at least one"),
        ({"storages": "png9"}, "Did you mean 'png8'"),
        ({"storages": None}, "storages must name at least one"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 1.5}, "seed must be a whole number from 0"),
        ({"workers": "two"}, "workers must be a whole number, 1 or more, got 'two'"),
        ({"epsilons": "0,01"}, "Write 0.01"),
        ({"visibility": "some"}, "got 'some'"),
        ({"epsilons": None}, "epsilon must be a number"),
        ({"epsilons": [2]}, "Did you mean 2/255"),
    ],
)
def test_mistakes_are_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        dm.sweep(convolutional_classifier(), cohort(2), **options)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    dm.sweep(
        convolutional_classifier(),
        cohort(1),
        seed=np.int64(3),
        compute=dm.Compute(batch_size=np.int64(2), workers=np.int64(1)),
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        *({"steps": -1}, {"restarts": 0}, {"loss": "margn"}, {"channels": "loose"}),
        *({"steps": 2.5}, {"steps": "many"}, {"step_size": np.inf}, {"step_size": np.nan}, {"start": "fgms"}),
    ],
)
def test_settings_of_attacks_are_checked(settings: dict[str, object]) -> None:
    with pytest.raises(DosimeterError):
        PGD(**settings)  # type: ignore[arg-type]


def test_former_arguments_work_with_a_warning() -> None:
    classifier, images = convolutional_classifier(), cohort(2)
    with (
        pytest.warns(DeprecationWarning, match=r"is now sweep\(threat=dosimeter.ThreatModel\(target=\.\.\.\)\)"),
        pytest.warns(
            DeprecationWarning, match=r"is now sweep\(compute=dosimeter.Compute\(engine=\.\.\., workers=\.\.\.\)\)"
        ),
    ):
        former = dm.sweep(classifier, images, epsilons=EPSILONS, target="opacity", engine="torch", workers=1).frame
    threat, compute = dm.ThreatModel(target="opacity"), dm.Compute(engine="torch", workers=1)
    now = dm.sweep(classifier, images, epsilons=EPSILONS, threat=threat, compute=compute).frame
    pd.testing.assert_frame_equal(former.drop(columns="duration_s"), now.drop(columns="duration_s"))
    with pytest.raises(TypeError, match="unexpected keyword argument 'storage'"):
        dm.sweep(classifier, images, storage="png8")


def test_a_mask_is_read_from_a_file(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", 32)
    assert mask is not None
    assert int(mask.sum()) == 32
    with pytest.raises(DosimeterError, match="cannot be read as an image"):
        read_mask(tmp_path / "none.png", 32)


def test_the_universal_perturbation_of_a_linear_classifier_is_its_weight_s_sign() -> None:
    weight = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    classifier = linear_classifier(weight, bias=10.0)  # all images are of class 1
    images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3

    def batch_of(places: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return images[places], torch.ones(len(places), dtype=torch.long)

    attack = UniversalPerturbation(batches=20, epsilon=0.01)
    learned = attack.knowing(attack.learn(classifier, batch_of, n_images=20, seed=0, threat=ANYTHING))
    expected = -weight.sum(dim=0, keepdim=True).sign().expand(3, -1, -1)
    torch.testing.assert_close(learned.plane, expected)


def test_the_universal_perturbation_aims_and_keeps_to_the_mask() -> None:
    weight = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    classifier = linear_classifier(weight, bias=10.0)  # class 1, which is the target
    images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4] = True
    attack = UniversalPerturbation(batches=20, epsilon=0.01)

    def learned(bias: float, target: int) -> torch.Tensor:
        classifier = linear_classifier(weight, bias=bias)

        def batch_of(places: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            return images[places], torch.full((len(places),), 1 - target)

        return attack.learn(classifier, batch_of, n_images=20, seed=0, threat=Threat(target, mask))

    towards = weight.sum(dim=0, keepdim=True).sign().expand(3, -1, -1) * mask
    assert classifier(images).argmax(dim=1).all()
    torch.testing.assert_close(learned(-10.0, 1), towards)
    torch.testing.assert_close(learned(10.0, 0), -towards)


def test_the_universal_perturbation_is_one_for_all() -> None:
    classifier, images = convolutional_classifier(), cohort(6)
    options = {"effort": "quick", "epsilons": (0.01,), "refine": False, "training": cohort(12)}
    frames = [dm.sweep(classifier, images, "universal", compute=dm.Compute(workers=n), **options).frame for n in (1, 2)]  # type: ignore[arg-type]
    assert frames[0]["logits"].map(list).equals(frames[1]["logits"].map(list))
    assert len(set(grid(frames[0], epsilon=0.01)["l2"].round(4))) == 1


def test_a_foreign_attack_is_swept_and_a_stranger_refused() -> None:
    classifier, images = convolutional_classifier(), cohort(6)
    theirs = dm.sweep(
        classifier, images, foolbox.attacks.LinfPGD(steps=10), epsilons=EPSILONS, compute=dm.Compute(workers=1)
    ).frame
    ours = dm.sweep(classifier, images, PGD(steps=10), epsilons=EPSILONS, compute=dm.Compute(workers=1)).frame
    counts = [grid(frame).groupby("epsilon")["correct"].sum() for frame in (theirs, ours)]
    assert (counts[1] <= counts[0]).all()
    assert (theirs["n_gradients"] > 0).any()
    nearest = dm.sweep(
        classifier, images, foolbox.attacks.LinfDeepFoolAttack(), epsilons=EPSILONS, compute=dm.Compute(workers=1)
    ).frame
    assert set(nearest["attack"]) == {"foolbox.LinfDeepFoolAttack"}
    with pytest.raises(DosimeterError, match="Wrap an attack"):
        adapt(print)
    with pytest.raises(DosimeterError, match=r"got the class FGSM. Try FGSM\(\)"):
        adapt(dm.FGSM)


@pytest.mark.parametrize("name", ["FastGradientMethod", "ProjectedGradientDescent", "SquareAttack"])
def test_an_attack_of_art_asks_the_swept_classifier_alone(name: str) -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    estimators = pytest.importorskip("art.estimators.classification")
    untouched = FailsWhenAsked()
    other = estimators.PyTorchClassifier(untouched, torch.nn.CrossEntropyLoss(), (1, 32, 32), 2, clip_values=(0, 1))
    attack = getattr(evasion, name)(other)
    if name != "FastGradientMethod":
        attack.set_params(max_iter=3, verbose=False)
    frame = dm.sweep(
        convolutional_classifier(), cohort(3), attack, epsilons=(0.05,), refine=False, compute=dm.Compute(workers=1)
    ).frame
    assert (frame["status"] == "ok").all()
    assert (frame["n_queries"] > 0).all()
    assert (grid(frame, epsilon=0.05)["linf"] > 0.04).any()


@pytest.mark.parametrize("name", ["FastGradientMethod", "ProjectedGradientDescent"])
def test_an_attack_of_art_goes_where_it_is_aimed(name: str) -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    estimators = pytest.importorskip("art.estimators.classification")
    given = problem(6)
    other = estimators.PyTorchClassifier(given.network, torch.nn.CrossEntropyLoss(), (1, 32, 32), 2, clip_values=(0, 1))
    for targeted in (True, False):  # whichever the user's object says, the problem decides
        attack = adapt(getattr(evasion, name)(other, targeted=targeted))
        for targets in (1 - given.labels, None):
            aimed = Problem(given.network, given.images, given.labels, targets=targets)
            found = attack.perturb(aimed, torch.full((6,), 0.05)).found  # type: ignore[attr-defined]
            assert found.all()


def test_an_attack_of_art_that_cannot_aim_says_so() -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    estimators = pytest.importorskip("art.estimators.classification")
    given = problem(1)
    other = estimators.PyTorchClassifier(given.network, torch.nn.CrossEntropyLoss(), (1, 32, 32), 2, clip_values=(0, 1))
    aimed = Problem(given.network, given.images, given.labels, targets=1 - given.labels)
    with pytest.raises(AttackError, match="cannot aim at a class"):
        adapt(evasion.SquareAttack(other)).perturb(aimed, torch.tensor([0.05]))  # type: ignore[attr-defined]


def test_epsilon_of_another_norm_is_refused() -> None:
    for attack in (foolbox.attacks.L2PGD(), foolbox.attacks.L1FastGradientAttack()):
        with pytest.raises(DosimeterError, match=r"L-infinity.*but bounds L[12]"):
            adapt(attack)
    evasion = pytest.importorskip("art.attacks.evasion")
    estimators = pytest.importorskip("art.estimators.classification")
    other = estimators.PyTorchClassifier(FailsWhenAsked(), torch.nn.CrossEntropyLoss(), (1, 32, 32), 2)
    with pytest.raises(DosimeterError, match="but bounds L2"):
        adapt(evasion.FastGradientMethod(other, norm=2))
    nearest = dm.sweep(
        convolutional_classifier(),
        cohort(2),
        foolbox.attacks.L2DeepFoolAttack(),
        epsilons=EPSILONS,
        compute=dm.Compute(workers=1),
    )
    assert set(nearest.frame["norm"]) == {"l2"}


@pytest.mark.parametrize("attack", [foolbox.attacks.LinfPGD(steps=2), foolbox.attacks.LinfDeepFoolAttack()])
def test_a_foreign_attack_without_a_gradient_names_those_that_need_none(attack: object) -> None:
    given = problem(1)

    class Sealed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                answer: torch.Tensor = given.network(images)
            return answer

    sealed = Problem(Sealed(), given.images, given.labels)
    wrapped: Any = adapt(attack)
    run = wrapped.direction if hasattr(wrapped, "direction") else partial(wrapped.perturb, epsilon=torch.tensor([0.05]))
    with pytest.raises(AttackError, match=r"needs a gradient.*square"):
        run(sealed)


@pytest.mark.parametrize("levels", [255, 4095])
def test_one_direction_stays_on_the_file_s_lattice_and_claims_nothing_there(levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 8, 8), generator=generator) / 255
    sign = 2 * torch.rand(3, 8, 8, generator=generator) - 1
    sign[:, :4] = 0  # a mask
    ray = Ray(sign, reach=0.02, hit=True, levels=levels)
    for epsilon in (0.0, 0.003, 0.01, 0.05):
        made = ray.at(image, epsilon)
        assert float((made - image).abs().max()) <= min(epsilon, 0.02) + 1e-6
        assert torch.equal(made[:, :4], image[:, :4])
        moved = made[made != image] * levels
        assert (moved - moved.round()).abs().max() < 1e-3 if len(moved) else epsilon < 1 / levels
        assert ray.found(epsilon) is None


def test_images_of_the_class_that_is_aimed_at_count_in_no_table_of_attacks() -> None:
    classifier, images = convolutional_classifier(), cohort(8)
    given = {"epsilons": EPSILONS, "compute": dm.Compute(workers=1), "threat": dm.ThreatModel(target=images.classes[1])}
    frames = [dm.sweep(classifier, images, name, effort="quick", **given).frame for name in ("pgd", "bim")]  # type: ignore[arg-type]
    frame = pd.concat(frames, ignore_index=True)
    n_others = len({record.case_id for record in images.records if record.label == 0})
    tables = build_tables(Responses(frame, {}))
    assert set(tables["robust_accuracy"]["n"]) == {n_others}
    assert set(tables["flip_epsilon"]["label"]) == {0}
    assert tables["fgsm_accuracy"].empty
    assert set(tables["clean_metrics"]["n"]) == {8}


def test_more_effort_is_tried_within_the_same_limits() -> None:
    classifier, images = convolutional_classifier(), cohort(8)
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, :2, :2] = True
    attack = PGD(steps=5)
    for limits in (Threat(mask=mask), Threat(target=1), Threat()):
        setting = Setting(
            "paper", Preset("pgd", attack, ("float",), ""), (0.0, 0.01), 0, {}, refine=False, threat=limits
        )
        cells = plan_cells(images, classifier, setting)
        frame = to_frame(row for cell in cells for row in execute_cell(cell, classifier))
        found = examine_convergence(attack, classifier, images, compact(frame), setting)
        if found is None:  # nothing was left
            assert not frame.loc[(frame["epsilon"] > 0) & (frame["label"] != limits.target), "correct"].any()
        else:
            assert found["n_doubled"] == found["n_restarts"] == 0
        assert (found is None) == (limits.mask is None)
    nothing = compact(frame.assign(status="error"))
    assert examine_convergence(attack, classifier, images, nothing, setting) is None


def test_the_classifier_is_tried_before_anything_is_swept() -> None:
    classifier, images = convolutional_classifier(), cohort(2)
    with pytest.raises(DosimeterError, match=r"classifier must be a dosimeter.Classifier, got Linear"):
        dm.sweep(torch.nn.Linear(1, 1), images)  # type: ignore[arg-type]
    with pytest.raises(DosimeterError, match=r"cohort must be a Cohort, got str. Load it"):
        dm.sweep(classifier, "phantom-xray")  # type: ignore[arg-type]
    left_on = convolutional_classifier()
    left_on.head = torch.nn.Sequential(left_on.head, torch.nn.Dropout())
    with pytest.raises(DosimeterError, match=r"evaluation mode.*Call classifier.eval\(\)"):
        dm.sweep(left_on, images)
    answers: tuple[Callable[[torch.Tensor], Any], ...] = (
        lambda logits: logits[:, :1],  # one logit
        lambda logits: torch.cat([logits, logits[:, :1]], dim=1),
        lambda logits: logits.mean(dim=0, keepdim=True),
        lambda logits: {"logits": logits},
    )
    for answer in answers:
        with pytest.raises(DosimeterError, match="must return logits of shape"):
            dm.sweep(answering(answer), images, "pgd")


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
@pytest.mark.parametrize("name", ["pgd", "fmn", "square"])
def test_logits_of_another_precision_are_as_good(name: str, kind: torch.dtype) -> None:
    options = {"effort": "quick", "epsilons": (0.01,), "compute": dm.Compute(engine="torch", workers=1)}
    frame = dm.sweep(answering(lambda logits: logits.to(kind)), cohort(3), name, **options).frame  # type: ignore[arg-type]
    assert (frame["status"] == "ok").all()


def answering(answer: Callable[[torch.Tensor], Any]) -> Classifier:
    """A classifier whose logits are what `answer` makes of them."""
    inside = convolutional_classifier()

    class Head(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> Any:
            return answer(inside.head(features))

    return Classifier(
        inside.base, Head(), preprocessing=inside.preprocessing, size_px=inside.size_px, classes=inside.classes
    )


class FailsWhenAsked(torch.nn.Module):
    """A network that must not be asked."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the attack asks the classifier that it was made on")


def test_a_foreign_attack_that_fails_is_named() -> None:
    attack = foolbox.attacks.DatasetAttack()  # it wants data first
    with pytest.raises(DosimeterError, match=r"attack foolbox.DatasetAttack cannot be used here: .*feed"):
        dm.sweep(convolutional_classifier(), cohort(2), attack, epsilons=(0.05,), compute=dm.Compute(workers=1))


def test_names_of_settings_and_registry_agree() -> None:
    assert load_config(attack="all").attack == names()
    assert load_config(attack="pgd, square", effort="quick").attack == ("pgd", "square")
    for name in entries():
        for effort in EFFORTS:
            assert build(name, effort).name == name
    for options, message in (
        ({"attack": "pdg"}, "Did you mean 'pgd'"),
        ({"effort": "hard"}, "effort 'hard'"),
        ({"declared_accuracy": {"vgg16": 93}}, "share from 0 to 1"),
        ({"declared_accuracy": {"vgg": 0.9}}, "no such model"),
    ):
        with pytest.raises(DosimeterError, match=message):
            load_config(**options)


def test_a_table_is_read_by_a_path_or_its_name(tmp_path: Path) -> None:
    with pytest.raises(DosimeterError, match="does not exist"):
        dm.read_responses(str(tmp_path / "responses.parquet"))
