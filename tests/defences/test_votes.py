"""Votes: certificates against closed forms, majorities against scipy, and whose draws an attacker meets."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm
from tiny import convolutional_classifier, linear_classifier
from torch import Tensor, nn

import dosimeter as dm
from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.pgd import PGD
from dosimeter.defences.base import defend, pipeline
from dosimeter.defences.cost import cost_of
from dosimeter.defences.known.ensemble import Ensemble
from dosimeter.defences.known.random_resize import RandomResize, Resized
from dosimeter.defences.known.smoothing import ALPHA, LEAST_DRAWS, Smoothed, Smoothing, majority
from dosimeter.defences.training import Training
from dosimeter.defences.votes import log_mean
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import Findings
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.rings import Seen, excess_of

CLASSES = ("clear", "opacity")


def noise(n: int, size_px: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, size_px, size_px, generator=torch.Generator().manual_seed(seed))


def put(classifier: Classifier, defence: Any) -> Classifier:
    return defence.put(classifier, {}, seed=5)  # type: ignore[no-any-return]


def ring(**settings: Any) -> Smoothed:
    usual = {"sigma": 0.1, "n_draws": 40, "attack_draws": 8, "planes": "free", "n_classes": 2, "seed": 5}
    return Smoothed(**{**usual, **settings})


# --- majorities ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_votes", [1, 5, 10, 11, 12, 40, 99, 100, 1000])
def test_a_majority_is_what_the_binomial_test_calls_one(n_votes: int) -> None:
    needed = majority(n_votes)
    assert needed > n_votes or binomtest(needed, n_votes, 0.5).pvalue <= ALPHA
    fewer = min(needed - 1, n_votes)
    assert binomtest(fewer, n_votes, 0.5).pvalue > ALPHA or 2 * fewer < n_votes


def scripted(answers: list[int], n_outputs: int) -> Callable[[Tensor], Seen]:
    """Return what answers about noisy copies with these classes, one after the other."""
    left = list(answers)

    def inside(images: Tensor) -> Seen:
        mine = [left.pop(0) for _ in images]
        return Seen(10.0 * nn.functional.one_hot(torch.tensor(mine), n_outputs).float(), lambda: images)

    return inside


@pytest.mark.parametrize(
    "votes", [(40, 0, 0), (31, 9, 0), (30, 10, 0), (20, 20, 0), (18, 2, 20), (15, 1, 24), (1, 0, 39)]
)
def test_it_abstains_where_the_majority_may_be_chance(votes: tuple[int, int, int]) -> None:
    answers = [place for place, n in enumerate(votes) for _ in range(n)]
    with torch.no_grad():
        (outputs,) = ring(n_classes=3)(torch.zeros(1, 3, 4, 4), scripted(answers, 3))
    first, second, _ = sorted(votes, reverse=True)
    assert bool(excess_of(outputs[None]) > 0) == (binomtest(first, first + second, 0.5).pvalue > ALPHA)
    assert int(outputs[:3].argmax()) == votes.index(first)
    assert float(outputs[:3].exp().sum()) == pytest.approx(1)


def test_a_copy_that_is_rejected_inside_votes_for_nothing() -> None:
    inside = scripted([0] * 20 + [2] * 20, 3)  # of two classes and an alarm
    with torch.no_grad():
        (outputs,) = ring()(torch.zeros(1, 3, 4, 4), inside)
    assert outputs[:2].exp().tolist() == pytest.approx([20.5 / 41, 0.5 / 41])
    assert not excess_of(outputs[None]) > 0  # 20 of 20 are a majority


# --- certificates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planes", ["free", "tied"])
def test_no_certificate_exceeds_the_true_radius_of_a_linear_classifier(planes: str) -> None:
    """Whatever the planes do where each has noise of its own; what a grey file can do where noise is tied."""
    weight = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    bare = linear_classifier(weight, bias=-float(0.5 * weight.sum()))
    grey = noise(150, 6)[:, :1].expand(-1, 3, -1, -1).contiguous()
    margins = (bare(grey)[:, 1] - bare(grey)[:, 0]).abs()
    effective = weight if planes == "free" else weight.sum(dim=0)
    true = margins / effective.abs().sum()
    found = put(bare, Smoothing(sigma=0.1, draws=60, planes=planes)).certified(grey)
    assert found is not None
    assert int((found > true).sum()) <= binom.ppf(0.999, len(true), ALPHA)
    assert float((found > 0).float().mean()) > 0.3  # and it says something


@pytest.mark.parametrize(("planes", "n_values"), [("free", 3 * 16), ("tied", 16)])
def test_where_all_copies_agree_the_certificate_is_known(planes: str, n_values: int) -> None:
    bare = linear_classifier(torch.ones(3, 4, 4), bias=1000.0)
    found = put(bare, Smoothing(sigma=0.2, draws=50, planes=planes)).certified(noise(2, 4))
    least = binomtest(50, 50, alternative="greater").proportion_ci(1 - ALPHA, "exact").low  # Clopper and Pearson's
    wanted = 0.2 * norm.ppf(least) / math.sqrt(n_values)
    assert found.tolist() == pytest.approx([wanted, wanted], rel=1e-5)
    assert least == pytest.approx(ALPHA ** (1 / 50))


def test_a_certificates_class_is_chosen_by_other_draws_than_its_share() -> None:
    seen: list[Tensor] = []

    def inside(images: Tensor) -> Seen:
        seen.append(images.clone())
        return Seen(torch.tensor([[1.0, 0.0]]).expand(len(images), 2), lambda: images)

    with torch.no_grad():
        ring().certify(noise(1, 4), inside)
    copies = torch.cat(seen)
    assert len(copies) == 80
    assert len({copy.numpy().tobytes() for copy in copies}) == 80


def test_what_is_rejected_has_no_certificate() -> None:
    flat = linear_classifier(torch.ones(3, 4, 4), bias=-24.0)  # each copy of a grey image is a coin's throw
    images = torch.full((3, 3, 4, 4), 0.5)
    defended = put(flat, Smoothing(draws=40))
    with torch.no_grad():
        assert (excess_of(defended(images)) > 0).all()
    assert defended.certified(images).tolist() == [0, 0, 0]


def test_certificates_stand_in_the_table_beside_the_clean_images() -> None:
    bare = linear_classifier(torch.ones(3, 4, 4), bias=-24.0, defence="smoothing")
    images = torch.tensor([0.1, 0.9, 0.9]).view(3, 1, 1, 1).expand(-1, 3, 4, 4).numpy()
    cohort = dm.cohort_of(images, [0, 1, 1], classes=CLASSES)
    rows = dm.sweep(put(bare, Smoothing(draws=20)), cohort, "fgsm", effort="quick", epsilons=[0.01]).frame
    clean = rows[rows["epsilon"] == 0]
    assert (clean["certified"] > 0).all()
    assert not clean["abstained"].any()
    assert rows[rows["epsilon"] > 0]["certified"].isna().all()


# --- whose draws --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "defence", [Smoothing(draws=16, attack_draws=4), RandomResize(least=0.3, draws=6, attack_draws=3)]
)
def test_an_attackers_draws_are_others_and_as_many_as_are_asked_for(defence: Any) -> None:
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.detach().clone())
            return images

    bare = linear_classifier(torch.ones(3, 60, 60))
    defended = put(bare.behind(Watched()), defence)
    image = noise(1, 60)
    with torch.no_grad():
        first = defended(image)
        system = torch.cat(seen)
        seen.clear()
        assert torch.equal(defended(image), first)
        again = torch.cat(seen)
    seen.clear()
    with torch.enable_grad():
        given = image.clone().requires_grad_(True)
        outputs = defended(given)
        attacker = torch.cat(seen)
        torch.autograd.grad(outputs[:, 1].sum(), given)
    assert torch.equal(system, again)
    assert (len(system), len(attacker)) == (defence.draws, defence.attack_draws)
    theirs = {copy.numpy().tobytes() for copy in attacker}
    assert len(theirs) == len(attacker)
    assert not theirs & {copy.numpy().tobytes() for copy in system}


def test_an_attackers_gradient_is_that_of_the_mean_probability() -> None:
    bare = convolutional_classifier(scale=5.0)
    smoothed = ring(attack_draws=11)
    image = noise(1, 32)[0]
    with torch.enable_grad():
        given = image.clone().requires_grad_(True)
        outputs = smoothed(given[None], bare.seen)
        (found,) = torch.autograd.grad(outputs[0, 1] - outputs[0, 0], given)
        copies: list[Tensor] = []
        smoothed(image[None], lambda images: copies.append(images) or bare.seen(images))  # type: ignore[func-returns-value]
        moved = image.clone().requires_grad_(True)
        mean = torch.softmax(bare(torch.cat(copies) - image + moved), dim=1).mean(dim=0).log()
        (wanted,) = torch.autograd.grad(mean[1] - mean[0], moved)
    torch.testing.assert_close(outputs[0, :2], mean.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_saturated_answers_still_have_a_gradient() -> None:
    logits = torch.tensor([[800.0, -800.0], [600.0, -700.0]], requires_grad=True)
    mean = log_mean(logits, 2, findings=False)
    (gradient,) = torch.autograd.grad(mean[1] - mean[0], logits)
    assert mean.tolist() == pytest.approx([0.0, -1300.0 - math.log(2)])
    assert gradient.abs().max() == pytest.approx(1.0)


def test_findings_are_averaged_each_by_itself() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.0], [3.0, 1.0, 0.0]])
    wanted = torch.special.logit(torch.sigmoid(logits).mean(dim=0))
    torch.testing.assert_close(log_mean(logits, 3, findings=True), wanted)


@pytest.mark.parametrize("text", ["smoothing:draws=20", "random_resize", "ensemble+smoothing:draws=12"])
def test_the_same_image_gets_the_same_answer_in_every_batch(text: str) -> None:
    training = dm.cohort_of(noise(8, 32).numpy(), [0, 1] * 4, classes=CLASSES)
    defended = defend(convolutional_classifier(), text, training)
    images = noise(5, 32, seed=2)
    with torch.no_grad():
        together = defended(images)
        alone = torch.cat([defended(image[None]) for image in images])
        other_way = defended(images.flip(0)).flip(0)
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together, other_way)


# --- random sizes and places --------------------------------------------------------------------------------


def test_an_image_at_its_own_size_is_answered_as_it_is() -> None:
    bare = convolutional_classifier()
    images = noise(3, 32)
    with torch.no_grad():
        found = put(bare, RandomResize(least=1.0, draws=3))(images)
        torch.testing.assert_close(found, torch.log_softmax(bare(images), dim=1))


def test_variants_are_smaller_images_on_black_ground_at_places_of_their_own() -> None:
    made = Resized(least=0.5, n_draws=1, attack_draws=1, n_classes=2, findings=False, seed=0)
    variants = made.variants(torch.ones(3, 20, 20), 200, torch.Generator().manual_seed(0))
    filled = variants[:, 0] > 0.99
    sides = filled.any(dim=2).sum(dim=1)
    assert torch.equal(sides, filled.any(dim=1).sum(dim=1))
    assert (int(sides.min()), int(sides.max())) == (10, 20)
    assert torch.equal(filled.sum(dim=(1, 2)), sides.square())  # squares
    small = filled[sides == 10]
    assert len({int(each.any(dim=1).int().argmax()) for each in small}) > 1
    assert ((variants == 0) | filled[:, None]).all()


class TopRow(nn.Module):
    """Opacity where the first row is not black: of a smaller image on black ground, a coin's throw."""

    def forward(self, images: Tensor) -> Tensor:
        score = images[:, :, 0].mean(dim=(1, 2)) - 0.05 + 0.01 * images.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_a_coins_accuracy_does_not_fall_with_an_attacks_steps() -> None:
    """Who judges an attack on the draws that it followed finds that more steps break more: they only throw oftener."""
    bare = Classifier(
        nn.Identity(), TopRow(), preprocessing=PREPROCESSINGS["unit"], size_px=10, classes=CLASSES, identity="coin"
    )
    coin = put(bare, RandomResize(least=0.5, draws=1, attack_draws=1))
    images = 0.4 + 0.2 * noise(120, 10, seed=3)
    labels = torch.ones(120, dtype=torch.long)

    def right(given: Tensor) -> int:
        with torch.no_grad():
            return int((coin(given).argmax(dim=1) == labels).sum())

    n_clean = right(images)
    found = []
    for steps in (1, 8):
        made = PGD(steps=steps).perturb(Problem(coin, images, labels), torch.full((120,), 0.002))
        found.append(right(made.images))
    spread = 3.5 * math.sqrt(2 * 120 * 0.25)
    assert 20 < n_clean < 100
    assert abs(found[0] - found[1]) < spread
    assert n_clean - found[1] < spread


def test_the_clean_row_of_a_sweep_has_the_systems_answer_and_not_the_attackers() -> None:
    """FGSM knows logits of the unperturbed image from its gradient's pass; they are of other draws."""
    defended = put(convolutional_classifier(scale=20.0), RandomResize(least=0.5, draws=2, attack_draws=2))
    images = noise(3, 32, seed=4)
    cohort = dm.cohort_of(images.numpy(), [0, 1, 0], classes=CLASSES)
    rows = dm.sweep(defended, cohort, "fgsm", effort="quick", epsilons=[0.01]).frame
    clean = rows[rows["epsilon"] == 0].sort_values("case_id")
    with torch.no_grad():
        wanted = defended(torch.stack([defended.prepare(case) for case in cohort]))
    with torch.enable_grad():
        theirs = defended(images)
    found = torch.tensor(np.stack(clean["logits"].to_numpy()))
    torch.testing.assert_close(found.sort(dim=0).values, wanted.sort(dim=0).values)
    assert not torch.allclose(theirs, wanted, atol=1e-3)


def test_an_attack_on_what_draws_fills_its_ball() -> None:
    """What barely succeeds with an attacker's draws may fail with the system's."""
    bare = convolutional_classifier()
    images, labels = noise(1, 32), torch.zeros(1, dtype=torch.long)
    assert Problem(put(bare, RandomResize()), images, labels).fill
    assert not Problem(bare, images, labels).fill


# --- ensembles ----------------------------------------------------------------------------------------------


def test_an_ensemble_is_the_mean_of_its_heads_probabilities() -> None:
    bare = convolutional_classifier()
    cohort = dm.cohort_of(noise(12, 32).numpy(), [0, 1] * 6, classes=CLASSES)
    defence = Ensemble(members=3, epochs=2)
    learned = defence.learn(bare, Training(bare, cohort), seed=0)
    defended = defence.put(bare, learned, seed=0)
    heads = defended.head.heads
    images = noise(4, 32, seed=7)
    with torch.no_grad():
        each = torch.stack([torch.softmax(head(bare.features(images)), dim=1) for head in heads])
        torch.testing.assert_close(torch.softmax(defended(images), dim=1), each.mean(dim=0))
        torch.testing.assert_close(each[0], torch.softmax(bare(images), dim=1))
    assert len({np.round(part.numpy(), 6).tobytes() for part in each}) == 3
    again = defence.learn(bare, Training(bare, cohort), seed=0)
    assert all(torch.equal(learned[name], again[name]) for name in learned)


def test_heads_of_an_ensemble_learn() -> None:
    bare = convolutional_classifier()
    images = noise(24, 32)
    images[1::2] = 0.5 * images[1::2]
    cohort = dm.cohort_of(images.numpy(), [0, 1] * 12, classes=CLASSES)
    training = Training(bare, cohort)
    learned = Ensemble(members=2, epochs=30).learn(bare, training, seed=0)
    defended = Ensemble(members=2, epochs=30).put(bare, learned, seed=0)
    with torch.no_grad():
        predicted = defended.head.heads[1](bare.features(images)).argmax(dim=1)
    assert torch.equal(predicted, torch.tensor([0, 1] * 12))


# --- bad input ----------------------------------------------------------------------------------------------


def test_what_votes_cannot_do_is_one_sentence() -> None:
    assert LEAST_DRAWS == 11  # 2 * 0.5^11 is below 0.001, 2 * 0.5^10 is not
    bare = convolutional_classifier()
    cohort = dm.cohort_of(noise(4, 32).numpy(), [0, 1] * 2, classes=CLASSES)
    findings = Classifier(
        nn.Identity(), nn.Flatten(), preprocessing=PREPROCESSINGS["unit"], size_px=32, classes=Findings(("a", "b"))
    )
    fixed = Classifier(
        nn.Identity(), Fixed(), preprocessing=PREPROCESSINGS["unit"], size_px=32, classes=CLASSES
    )  # fmt: skip
    for classifier, text, said in (
        (bare, "smoothing:draws=10", "draws must be 11 or more, got 10: with fewer no majority is beyond chance"),
        (bare, "smoothing:0", "sigma must be a number above 0"),
        (bare, "smoothing:planes=each", "planes must be one of free, tied"),
        (findings, "smoothing", "smoothing must have a classifier of classes, got one of findings"),
        (fixed, "ensemble", "must have a head of layers with `reset_parameters`, got Fixed"),
        (bare, "ensemble:1", "members must be a whole number from 2 to 50"),
        (bare, "mahalanobis+smoothing", "must stand in the order training, input, vote, detector"),
    ):
        with pytest.raises(DosimeterError, match=said) as caught:
            defend(classifier, text, cohort)
        assert "\n" not in str(caught.value)


class Fixed(nn.Module):
    """A head with weights and one start."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(1, 2, 3))[:, None] * self.weight


@pytest.mark.parametrize("text", ["smoothing:draws=40", "random_resize:draws=5", "feature_squeezing", "jpeg:75"])
def test_an_answer_takes_the_passes_that_are_declared(text: str) -> None:
    ((_, _, defence),) = pipeline(text)
    classifier = convolutional_classifier()
    learned = {"threshold": torch.tensor(1.0), "kappa": torch.tensor(1.0)} if text == "feature_squeezing" else {}
    assert cost_of(defence.put(classifier, learned, seed=0)).passes == defence.answer_passes
