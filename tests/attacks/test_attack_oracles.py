"""Attacks against closed forms, against Foolbox, and against what cannot be."""

import math
from dataclasses import dataclass, replace
from typing import Any

import foolbox
import pytest
import torch
from tiny import SIZE_PX, convolutional_classifier, linear_classifier
from torch import Tensor, nn

from dosimeter.attacks import registry
from dosimeter.attacks.adapters import Planes
from dosimeter.attacks.base import SUCCESS_MARGIN, Problem
from dosimeter.attacks.known import hopskipjump
from dosimeter.attacks.known.apgd import APGD, checkpoints
from dosimeter.attacks.known.bim import bim
from dosimeter.attacks.known.carlini_wagner import CarliniWagner
from dosimeter.attacks.known.ddn import DDN
from dosimeter.attacks.known.deepfool import DeepFool
from dosimeter.attacks.known.fmn import FMN
from dosimeter.attacks.known.hopskipjump import HopSkipJump
from dosimeter.attacks.known.mi_fgsm import MIFGSM
from dosimeter.attacks.known.pgd import PGD
from dosimeter.attacks.known.square import Square
from dosimeter.attacks.losses import margin
from dosimeter.errors import DosimeterError

CHANNELS = ("tied", "free")
both_ways = pytest.mark.parametrize("channels", CHANNELS)


@dataclass(frozen=True)
class Plane:
    """A linear classifier and images in mid-grey, whose distances to its boundary are known exactly."""

    problem: Problem
    margins: Tensor  # (batch,), above 0
    weight: Tensor

    def flip(self, channels: str, norm: str = "linf") -> Tensor:
        """Distance (batch,) to the boundary: margin over the dual norm of what the weight is to an allowed move."""
        planes = self.weight.mean(dim=0, keepdim=True).expand(3, -1, -1) if channels == "tied" else self.weight
        return self.margins / planes.abs().sum() if norm == "linf" else self.margins / planes.norm()


def plane(weight: Tensor) -> Plane:
    generator = torch.Generator().manual_seed(7)
    x = 0.3 + 0.4 * torch.rand(24, *weight.shape, generator=generator)
    scores = (x * weight).flatten(1).sum(dim=1)
    classifier = linear_classifier(weight, bias=-float(scores.median()))
    labels = classifier(x).argmax(dim=1)
    margins = -margin(classifier(x), labels)
    clear = (margins > 0.5).nonzero()[:6, 0]
    return Plane(Problem(classifier, x[clear], labels[clear]), margins[clear], weight)


ROUGH = plane(torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(3)))


def length(problem: Problem, attack: Any) -> Tensor:
    """How far (batch,) a minimum attack's images are, by its own norm; it must have found them."""
    to = attack.direction(problem)
    assert to.found.all()
    move = (to.sign * to.reach.view(-1, 1, 1, 1)).flatten(1)
    assert (
        problem.network((problem.images + move.view_as(problem.images)).clamp(0, 1))
        .argmax(dim=1)
        .ne(problem.labels)
        .all()
    )
    distance: Tensor = move.abs().amax(dim=1) if attack.norm == "linf" else move.norm(dim=1)
    return distance


# --- closed forms -----------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    ("attack", "slack"),
    [
        (FMN(steps=50), 0.01),
        (DeepFool(), 0.021),  # it overshoots by 2 %
        (DeepFool(norm="l2"), 0.021),
        (DDN(steps=50), 0.01),
        (CarliniWagner(), 0.05),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_minimum_attacks_find_the_nearest_image_of_a_linear_classifier(
    attack: Any, slack: float, channels: str
) -> None:
    found, true = length(ROUGH.problem, replace(attack, channels=channels)), ROUGH.flip(channels, attack.norm)
    assert (found >= true).all()  # nothing nearer exists
    assert (found <= (1 + slack) * true).all()


@both_ways
@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
@pytest.mark.parametrize("attack", [PGD(), APGD(), bim(), MIFGSM()], ids=lambda attack: str(attack.name))
def test_searches_flip_a_linear_classifier_just_beyond_its_epsilon_and_never_below(
    attack: Any, loss: str, channels: str
) -> None:
    attack, flip = replace(attack, loss=loss, channels=channels), ROUGH.flip(channels)
    assert not attack.perturb(ROUGH.problem, 0.98 * flip).found.any()
    assert attack.perturb(ROUGH.problem, 1.05 * flip).found.all()


@both_ways
def test_square_flips_a_smooth_linear_classifier_at_three_times_its_epsilon(channels: str) -> None:
    coarse = torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(4)).expand(3, -1, -1)
    smooth = plane(coarse.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2) / 4)
    attack = Square(queries=300, channels=channels)
    assert not attack.perturb(smooth.problem, 0.98 * smooth.flip(channels)).found.any()
    assert attack.perturb(smooth.problem, 3 * smooth.flip(channels)).found.all()


def clipping(scale: float = 1.0, offset: float = 0.0) -> tuple[Problem, Tensor]:
    """A linear softmax over images of which many pixels are black or white, and how far each is from its boundary.

    A pixel that clips moves the margin no further, so the distance is the root of a sum of clipped moves.
    """
    generator = torch.Generator().manual_seed(11)
    x = (1.6 * torch.rand(24, 3, 8, 8, generator=generator) - 0.3).clamp(0, 1)  # a third of the pixels clips
    weight = torch.randn(192, generator=generator).double()
    scores = x.flatten(1).double() @ weight
    bias = -scores.median()
    labels = (scores + bias > 0).long()
    against = torch.where(labels[:, None] == 1, -weight, weight)  # (24, 192) what lowers the true logit's lead
    room = torch.where(against > 0, 1 - x.flatten(1), x.flatten(1)).double()
    low, high = torch.zeros(24).double(), torch.ones(24).double()
    for _ in range(60):
        middle = (low + high) / 2
        fallen = (against.abs() * room.minimum(middle[:, None])).sum(dim=1) > (scores + bias).abs()
        low, high = torch.where(fallen, low, middle), torch.where(fallen, middle, high)
    both = scale * torch.stack([-weight, weight]).float() / 2
    network = Linear(both, scale * torch.tensor([-bias, bias]).float() / 2 + offset)
    clear = ((scores + bias).abs() > 0.3).nonzero()[:, 0]
    return Problem(network, x[clear], labels[clear]), high[clear].float()


SCALES = pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-5, 0.0), (1e5, 0.0), (1.0, 30.0)])


@SCALES
@pytest.mark.parametrize(
    "attack", [DeepFool(), DeepFool(steps=10), FMN(), FMN(steps=40)], ids=lambda a: f"{a.name}{a.steps}"
)
def test_minimum_attacks_find_every_image_where_pixels_clip_whatever_the_logits_scale(
    attack: Any, scale: float, offset: float
) -> None:
    problem, true = clipping(scale, offset)
    found = replace(attack, channels="free").direction(problem)
    assert found.found.all()
    assert (found.reach >= 0.999 * true).all()
    assert (found.reach <= 1.05 * true).all()


@SCALES
@pytest.mark.parametrize("attack", [DeepFool(norm="l2"), DDN(), CarliniWagner()], ids=lambda attack: attack.name)
def test_l2_attacks_find_every_image_where_pixels_clip(attack: Any, scale: float, offset: float) -> None:
    problem, _ = clipping(scale, offset)
    attack = replace(attack, channels="free")
    found, plain = attack.direction(problem), attack.direction(clipping()[0])
    assert found.found.all()
    torch.testing.assert_close(found.reach, plain.reach, rtol=0.05, atol=0)


@SCALES
def test_a_search_claims_what_it_breaks_whatever_the_logits_scale(scale: float, offset: float) -> None:
    problem, true = clipping(scale, offset)
    attack = PGD(channels="free")
    assert attack.perturb(problem, 1.02 * true).found.all()
    assert not attack.perturb(problem, 0.98 * true).found.any()


def test_success_asks_for_more_than_rounding() -> None:
    problem, _ = clipping()
    spread = problem.ask(problem.images).diff(dim=1).abs().flatten()
    for share, enough in ((0.5 * SUCCESS_MARGIN, False), (2 * SUCCESS_MARGIN, True)):
        lead = share * spread
        logits = torch.stack([lead, torch.zeros_like(lead)], dim=1).where(problem.labels[:, None] == 1, 0)
        logits += torch.stack([torch.zeros_like(lead), lead], dim=1).where(problem.labels[:, None] == 0, 0)
        assert (problem.fooled(logits) == enough).all()
    assert not problem.fooled(torch.full((len(problem), 2), 1e4)).any()


class Linear(nn.Module):
    """Any number of classes, each a plane over the image."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def four_classes() -> tuple[Problem, Tensor, Tensor]:
    """A problem of four linear classes; for each image and class how much the true logit leads, and the weights."""
    generator = torch.Generator().manual_seed(5)
    x = 0.3 + 0.4 * torch.rand(40, 3, 8, 8, generator=generator)
    weight = torch.randn(4, 192, generator=generator) * torch.tensor([1.0, 2.0, 0.5, 1.0])[:, None]
    classifier = Linear(weight, -weight.sum(dim=1) / 2)
    logits = classifier(x)
    labels = logits.argmax(dim=1)
    leads = logits.gather(1, labels[:, None]) - logits
    clear = leads.kthvalue(2, dim=1).values > 1  # beside which the room for rounding is nothing
    return Problem(classifier, x[clear], labels[clear]), leads[clear], weight


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_goes_to_the_nearest_of_many_classes(norm: str) -> None:
    problem, leads, weight = four_classes()
    differences = weight[None] - weight[problem.labels][:, None]  # (batch, class, values)
    sizes = differences.abs().sum(dim=2) if norm == "linf" else differences.norm(dim=2)
    distances = (leads / sizes).scatter(1, problem.labels[:, None], math.inf)
    found = length(problem, DeepFool(norm=norm, channels="free"))  # type: ignore[arg-type]
    assert not torch.equal(distances.argmin(dim=1), leads.scatter(1, problem.labels[:, None], math.inf).argmin(dim=1))
    assert (found >= distances.amin(dim=1)).all()
    assert (found <= 1.021 * distances.amin(dim=1)).all()


@pytest.mark.parametrize(
    "attack", [FMN(), DDN(), DeepFool(steps=50), CarliniWagner(), APGD(), MIFGSM()], ids=lambda attack: str(attack.name)
)
def test_a_target_among_many_classes_is_reached(attack: Any) -> None:
    problem, _, _ = four_classes()
    aimed = replace(problem, targets=(problem.labels + 1) % 4)
    if hasattr(attack, "direction"):
        to = attack.direction(aimed)
        images, found = problem.images + to.sign * to.reach.view(-1, 1, 1, 1), to.found
    else:
        images, found = attack.perturb(aimed, torch.full((len(problem),), 0.3))
    assert found.all()
    assert torch.equal(problem.network(images.clamp(0, 1)).argmax(dim=1), aimed.targets)


# --- Foolbox ----------------------------------------------------------------------------------------------------


def convolutional(n: int = 20, scale: float = 1.0) -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 3, SIZE_PX, SIZE_PX), generator=generator) / 255
    classifier = convolutional_classifier(scale=scale)
    return Problem(classifier, x, classifier(x).argmax(dim=1))


def by_foolbox(attack: Any, problem: Problem, epsilon: float | None = None) -> tuple[Tensor, Tensor]:
    """Images and success of a Foolbox attack."""
    model = foolbox.PyTorchModel(problem.network, bounds=(0, 1))
    epsilons = None if epsilon is None else [epsilon]
    _, images, success = attack(model, problem.images, problem.labels, epsilons=epsilons)
    return (images, success) if epsilons is None else (images[0], success[0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (PGD(4, start="image", loss="cross_entropy", channels="free"), foolbox.attacks.LinfPGD),
        (
            MIFGSM(4, momentum=0.0, step_size=0.25, loss="cross_entropy", channels="free"),
            foolbox.attacks.LinfBasicIterativeAttack,
        ),
    ],
    ids=["pgd", "bim"],
)
def test_iterates_equal_foolbox_s(ours: Any, theirs: Any) -> None:
    problem, epsilon = convolutional(), 0.0035  # about half flip
    expected, success = by_foolbox(theirs(random_start=False, steps=4, rel_stepsize=0.25), problem, epsilon)
    made = ours.perturb(problem, torch.full((len(problem),), epsilon))
    assert 5 < success.sum() < 15
    assert torch.equal(made.found, success)
    survived = ~success  # ours stops at the first success, and keeps the largest loss, which here is the last
    assert (made.images - expected)[survived].abs().max() < 1e-5


@pytest.mark.parametrize(
    ("ours", "theirs", "least", "most"),  # bounds on the ratio of median distances
    [
        (FMN(steps=100), foolbox.attacks.LInfFMNAttack(steps=100), 0.99, 1.002),
        (DeepFool(), foolbox.attacks.LinfDeepFoolAttack(steps=50), 0.9, 1.0),
        (DeepFool(norm="l2"), foolbox.attacks.L2DeepFoolAttack(steps=50), 0.9, 1.0),
        (DDN(steps=100), foolbox.attacks.DDNAttack(steps=100), 0.9, 1.002),
        # Foolbox's takes its searches to find the scale of the constant, and then has none left.
        (CarliniWagner(5, 100), foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=5, steps=100), 0.4, 1.0),
    ],
    ids=["fmn", "deepfool", "deepfool-l2", "ddn", "carlini_wagner"],
)
def test_minimum_distances_agree_with_foolbox_s_or_are_less(ours: Any, theirs: Any, least: float, most: float) -> None:
    problem = convolutional()
    images, _ = by_foolbox(theirs, problem)
    move = (images - problem.images).flatten(1)
    expected = move.abs().amax(dim=1) if ours.norm == "linf" else move.norm(dim=1)
    ratio = length(problem, replace(ours, channels="free")).median() / expected.median()
    assert least <= ratio <= most


def test_the_l2_attacks_agree() -> None:
    problem = convolutional()
    by_ddn, by_optimiser = (length(problem, attack) for attack in (DDN(steps=100), CarliniWagner(5, 100)))
    assert by_optimiser.median() == pytest.approx(float(by_ddn.median()), rel=0.05)


def test_hopskipjump_goes_on_where_foolbox_s_does_not() -> None:
    """Of 64 pixels a side float32 blurs Foolbox's probes, and after its first step it comes no nearer."""
    weight = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(3)) + 0.1
    problem = plane(weight).problem.take(torch.tensor([0]))

    def anew() -> Problem:
        return replace(problem, generators=())

    def by_ours(steps: int) -> float:
        return float(length(anew(), HopSkipJump(steps, 100, channels="free")))

    def by_theirs(steps: int) -> float:
        attack = foolbox.attacks.HopSkipJumpAttack(
            steps=steps, max_gradient_eval_steps=100, initial_gradient_eval_steps=100, constraint="linf"
        )
        start = hopskipjump.begin(anew(), Planes(problem, "free"))
        model = foolbox.PyTorchModel(problem.network, bounds=(0, 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            images, _, _ = attack(model, problem.images, problem.labels, epsilons=None, starting_points=start)
        return float((images - problem.images).abs().max())

    assert by_theirs(16) >= by_theirs(1)
    assert by_ours(16) < 0.8 * by_ours(1)


def test_hopskipjump_begins_where_no_noise_helps() -> None:
    """The left half is brighter, by so much that noise over the whole image keeps the answer."""
    weight = torch.ones(3, 16, 16) / (3 * 16 * 16)
    weight[:, :, 8:] *= -1
    classifier = linear_classifier(weight, bias=0.05)
    images = torch.where(weight > 0, 0.7, 0.3)[None]
    problem = Problem(classifier, images, torch.ones(1, dtype=torch.long))
    noise = torch.rand(500, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert (classifier(noise).argmax(dim=1) == 1).all()
    to = HopSkipJump(4, 50).direction(problem)
    assert to.found.all()
    assert 0.25 < float(to.reach) < 0.5  # each half must give 0.25; the search is rough


@pytest.mark.parametrize("margin", [0.5, 0.01, 0.001])
def test_hopskipjump_finds_the_images_that_hardly_hold(margin: float) -> None:
    """Its end is on the boundary: where the margin is small, going on from there must be by more than a few percent."""
    weight = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(3))
    image = torch.full((1, 3, 16, 16), 0.5)
    score = float((image * weight).sum())
    problem = Problem(Shifted(weight, bias=margin - score), image, torch.ones(1, dtype=torch.long))
    to = HopSkipJump(10, 200).direction(problem)
    assert to.found.all()
    reach, nearest = float(to.reach), float(DeepFool().direction(problem).reach)
    assert nearest <= reach < 8 * nearest


class Shifted(nn.Module):
    """A linear classifier with logits about 10."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.inside = linear_classifier(weight, bias)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inside(images) + 10
        return logits


def test_hopskipjump_ends_where_answers_waver() -> None:
    class Wavering(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = convolutional_classifier()(images)
            return logits + torch.randn(logits.shape, generator=generator)

    generator = torch.Generator().manual_seed(0)
    problem = replace(convolutional(4), network=Wavering())
    to = HopSkipJump(4, 30).direction(problem)
    assert torch.isfinite(to.sign).all()
    assert torch.isfinite(to.reach).all()


# --- Auto-PGD ---------------------------------------------------------------------------------------------------


def test_checkpoints_are_the_paper_s() -> None:
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [0, 1]


@pytest.mark.parametrize("loss", ["margin", "cross_entropy"])
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_apgd_leaves_no_image_that_many_restarts_of_pgd_break(loss: str, scale: float) -> None:
    problem = convolutional(scale=scale)
    for epsilon in (0.003, 0.0035, 0.004):
        doses = torch.full((len(problem),), epsilon)
        exhaustive = PGD(steps=50, restarts=4, loss=loss, channels="free").perturb(problem, doses).found
        ours = APGD(steps=50, loss=loss, channels="free").perturb(problem, doses).found
        assert (~ours & exhaustive).sum() <= 1


def test_apgd_starts_with_fgsm_and_its_loss_is_that_of_its_image() -> None:
    problem, doses = convolutional(), torch.full((20,), 0.002)
    one = APGD(steps=1, channels="free").perturb(problem, doses).images
    _, _, gradient = problem.gradient(problem.images, "margin", "free")
    assert torch.equal(one, problem.project(problem.images + 0.002 * gradient.sign(), doses))
    for start in ("image", "random"):
        attack = APGD(steps=20, restarts=2, start=start, channels="free")  # type: ignore[arg-type]
        many = attack.perturb(problem, doses)
        before, after = (margin(problem.network(x), problem.labels) for x in (one, many.images))
        assert (many.found | (after >= before)).all()  # the first image that is found is kept
        assert many.found[before > 0].all()


# --- more effort, and what cannot be ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fmn", "ddn", "carlini_wagner"])
def test_more_effort_finds_nearer_images(name: str) -> None:
    problem = convolutional(6)
    quick, standard = (length(problem, registry.build(name, effort)).mean() for effort in ("quick", "standard"))
    assert standard <= 1.0005 * quick


def test_square_spends_its_queries_on_what_survives_only() -> None:
    problem = convolutional(6)
    made = Square(queries=40).perturb(problem, torch.tensor([0.0, 0.001, 0.01, 0.05, 0.1, 0.5]))
    assert (problem.cost.queries[~made.found] == 40).all()
    assert (problem.cost.queries[made.found] <= 40).all()
    assert made.found[-1]
    assert problem.cost.queries[-1] < 40


def test_vanishing_gradients_are_no_obstacle() -> None:
    """1e-25 of a gradient has a direction, though its squares are 0."""
    weight = ROUGH.weight
    faint = Problem(linear_classifier(1e-25 * weight, bias=0.0), ROUGH.problem.images, ROUGH.problem.labels)
    for attack in (FMN(20), DDN(20), DeepFool(), DeepFool(norm="l2"), CarliniWagner(1, 5)):
        to = attack.direction(faint)
        assert not to.grad_zero.any()
        assert torch.isfinite(to.sign).all()
        assert torch.isfinite(to.reach).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: bim(-1), "steps must be positive"),
        (lambda: bim(0), "steps must be positive"),
        (lambda: MIFGSM(steps=-1), "steps must be positive"),
        (lambda: MIFGSM(momentum=2.0), r"momentum must be in \[0, 1\]"),
        (lambda: MIFGSM(loss="cros_entropy"), "cross_entropy"),
        (lambda: APGD(steps=-1), "steps must be positive"),
        (lambda: APGD(restarts=0), "restarts must be positive"),
        (lambda: APGD(share=1.5), "share must be at most 1"),
        (lambda: APGD(loss="dlrr"), "loss 'dlrr' is not known"),
        (lambda: APGD(start="fgsm"), "start must be 'image' or 'random'"),  # type: ignore[arg-type]
        (lambda: Square(queries=0), "queries must be positive"),
        (lambda: Square(area=2.0), "area must be at most 1"),
        (lambda: Square(channels="loose"), "channels must be"),  # type: ignore[arg-type]
        (lambda: FMN(steps=-1), "steps must be positive"),
        (lambda: FMN(gamma=1.0), "gamma must be below 1"),
        (lambda: DDN(radius=0.0), "radius must be positive"),
        (lambda: DDN(gamma=2.0), "gamma must be below 1"),
        (lambda: DeepFool(norm="l1"), "norm must be 'linf' or 'l2', got 'l1'"),  # type: ignore[arg-type]
        (lambda: DeepFool(overshoot=-0.1), "overshoot must be positive"),
        (lambda: CarliniWagner(searches=0), "searches must be positive"),
        (lambda: HopSkipJump(steps=0), "steps must be positive"),
        (lambda: HopSkipJump(channels="loose"), "channels must be"),  # type: ignore[arg-type]
        (lambda: CarliniWagner(learning_rate=-1.0), "learning_rate must be positive"),
    ],
)
def test_what_cannot_be_is_named(build: Any, message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        build()
