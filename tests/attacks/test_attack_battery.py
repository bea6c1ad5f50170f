"""What every attack keeps, whichever it is: an attack's file is found and tested by being there."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from tiny import SIZE_PX, Linear, convolutional_classifier
from torch import Tensor, nn

from dosimeter.attacks import registry
from dosimeter.attacks.base import AttackError, BudgetAttack, DirectionAttack, Problem
from dosimeter.attacks.doses import check, perturb
from dosimeter.errors import DosimeterError
from dosimeter.executors.base import pick_device
from dosimeter.models.base import Classifier

DEVICE = torch.device(pick_device("auto"))
ENTRIES = {name: entry for name, entry in registry.entries().items() if not entry.learns}
EPSILON = 0.01  # the images of these tests flip at some 0.004
N_CLASSES = (2, 3)
every_attack = pytest.mark.parametrize("name", ENTRIES)
two_classes_and_three = pytest.mark.parametrize("n_classes", N_CLASSES)


def build(name: str) -> Any:
    """The attack at its least effort; without its optional package the test is skipped."""
    try:
        return registry.build(name, "quick")
    except DosimeterError as error:
        if ENTRIES[name].extra is None:
            raise
        pytest.skip(str(error))


@cache
def network(n_classes: int) -> Classifier:
    two = convolutional_classifier().to(DEVICE)
    if n_classes == 2:
        return two
    generator = torch.Generator().manual_seed(1)
    last = nn.Linear(8 * 6 * 6, n_classes)
    for parameter in last.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3, generator=generator)
    classes = tuple("abc"[:n_classes])
    head = nn.Sequential(nn.Flatten(), last)
    return Classifier(two.base, head, preprocessing=two.preprocessing, size_px=SIZE_PX, classes=classes).to(DEVICE)


def images(n: int = 5) -> Tensor:
    """Images of 8-bit grey levels whose planes differ, black and white among them."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (n, 3, SIZE_PX, SIZE_PX), generator=generator).to(DEVICE) / 255


def problem(n_classes: int = 2, x: Tensor | None = None, **more: Any) -> Problem:
    """Images of which all but the first are classified as their labels say."""
    x = images() if x is None else x
    labels = network(n_classes)(x).argmax(dim=1)
    labels[0] = (labels[0] + 1) % n_classes
    return Problem(network(n_classes), x, labels, **more)


class Outcome(NamedTuple):
    """What an attack of either kind made of a problem: images, and where it claims success."""

    images: Tensor
    found: Tensor


def attacked(attack: Any, given: Problem, epsilon: float | Tensor = EPSILON) -> Outcome:
    epsilons = torch.as_tensor(epsilon, dtype=torch.float32, device=DEVICE).expand(len(given))
    if isinstance(attack, BudgetAttack):
        return Outcome(*attack.perturb(given, epsilons))
    assert isinstance(attack, DirectionAttack)
    to = attack.direction(given)
    reach = epsilons if to.reach is None else to.reach.to(DEVICE)
    going = torch.minimum(epsilons, reach)
    moved = [perturb(image, sign, float(dose)) for image, sign, dose in zip(given.images, to.sign, going, strict=True)]
    found = (
        torch.zeros(len(given), dtype=torch.bool, device=DEVICE)
        if to.found is None
        else to.found.to(DEVICE) & (reach <= epsilons)
    )
    return Outcome(torch.stack(moved), found)


@cache
def usual(name: str, n_classes: int) -> Outcome:
    return attacked(build(name), problem(n_classes))


def test_the_battery_covers_the_attacks_of_this_package() -> None:
    assert {"fgsm", "pgd", "bim", "mi_fgsm", "apgd", "square", "fmn", "ddn", "deepfool", "carlini_wagner"} <= set(
        ENTRIES
    )


@every_attack
def test_entry_and_attack_agree(name: str) -> None:
    attack, entry = build(name), ENTRIES[name]
    assert attack.name == name
    assert isinstance(attack, BudgetAttack) == (entry.searches == "budget")
    assert isinstance(attack, DirectionAttack) == (entry.searches in ("direction", "minimum"))
    assert entry.note
    assert entry.source
    for value in registry.parameters(attack).values():
        assert isinstance(value, (str, int, float, bool, type(None), list, tuple, dict))


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.searches == "budget"])
@two_classes_and_three
def test_a_filled_ball_loses_no_success_and_has_a_worse_image(name: str, n_classes: int) -> None:
    first, given = usual(name, n_classes), problem(n_classes, fill=True)
    whole = attacked(build(name), given)
    assert torch.equal(whole.found | first.found, whole.found)
    for image, adversarial in zip(given.images, whole.images, strict=True):
        check(image, adversarial, epsilon=EPSILON, attack=name)
    losses = [given.losses(network(n_classes)(made.images), "margin")[first.found] for made in (first, whole)]
    assert (losses[1] >= losses[0] - 1e-6).all()
    if int((given.cost.gradients + given.cost.queries).max()) > 2:  # one step has nothing to go on with
        assert losses[1].mean() > losses[0].mean() + 1e-3


@every_attack
@two_classes_and_three
class TestContract:
    """One table for all attacks, and for two classes and three."""

    def test_epsilon_zero_is_the_identity(self, name: str, n_classes: int) -> None:
        assert torch.equal(attacked(build(name), problem(n_classes), 0.0).images, images())

    @pytest.mark.parametrize("epsilon", [1e-4, EPSILON, 1.0])
    def test_ball_and_bounds(self, name: str, n_classes: int, epsilon: float) -> None:
        made = usual(name, n_classes) if epsilon == EPSILON else attacked(build(name), problem(n_classes), epsilon)
        for image, adversarial in zip(images(), made.images, strict=True):
            check(image, adversarial, epsilon=epsilon, attack=name)

    def test_a_claim_holds_when_asked_again_one_by_one(self, name: str, n_classes: int) -> None:
        made, given = usual(name, n_classes), problem(n_classes)
        for image, found, label in zip(made.images, made.found, given.labels, strict=True):
            assert not found or network(n_classes)(image[None]).argmax() != label

    def test_same_seed_same_result_and_no_global_randomness(self, name: str, n_classes: int) -> None:
        before = torch.get_rng_state()
        again = attacked(build(name), problem(n_classes))
        assert torch.equal(again.images, usual(name, n_classes).images)
        assert torch.equal(again.found, usual(name, n_classes).found)
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_batch_equals_its_singles(self, name: str, n_classes: int) -> None:
        batch, given = usual(name, n_classes), problem(n_classes)
        for i in range(len(given)):
            single = attacked(build(name), given.take(torch.tensor([i])))
            assert single.found[0] == batch.found[i]
            # A sign at zero may turn on the last bit, and what follows with it.
            assert ((single.images[0] - batch.images[i]).abs() > 1e-5).float().mean() < 0.01

    def test_network_and_images_are_untouched(self, name: str, n_classes: int) -> None:
        classifier, given = network(n_classes), problem(n_classes)
        before = {key: tensor.clone() for key, tensor in classifier.state_dict().items()}
        attacked(build(name), given)
        assert not any(module.training for module in classifier.modules())
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in classifier.parameters())
        assert all(torch.equal(before[key], tensor) for key, tensor in classifier.state_dict().items())
        assert torch.equal(given.images, images())
        assert not given.images.requires_grad

    def test_tied_channels_keep_a_grey_image_grey(self, name: str, n_classes: int) -> None:
        attack = build(name)
        if attack.channels != "tied":
            pytest.skip("it moves the planes apart")
        grey = images()[:, :1].expand(-1, 3, -1, -1).contiguous()
        made = attacked(attack, problem(n_classes, grey)).images
        assert not ENTRIES[name].needs_gradient or not torch.equal(made, grey)  # a black box may find nothing
        for plane in (1, 2):
            assert torch.equal(made[:, 0], made[:, plane])

    def test_nothing_moves_outside_the_mask(self, name: str, n_classes: int) -> None:
        mask = torch.zeros(5, 1, SIZE_PX, SIZE_PX, dtype=torch.bool, device=DEVICE)
        mask[:, :, 4:20, 6:28] = True
        made = attacked(build(name), problem(n_classes, mask=mask), 0.1).images
        outside = ~mask.expand_as(made)
        assert torch.equal(made[outside], images()[outside])
        assert not ENTRIES[name].needs_gradient or not torch.equal(made, images())

    def test_costs_are_counted(self, name: str, n_classes: int) -> None:
        given = problem(n_classes)
        attacked(build(name), given)
        entry = ENTRIES[name]
        if entry.needs_gradient:
            assert (given.cost.gradients > 0).all()
        else:
            assert not given.cost.gradients.any()
            assert entry.control or (given.cost.queries > 0).any()

    def test_a_network_without_gradient(self, name: str, n_classes: int) -> None:
        given = problem(n_classes)
        for leave in (Tensor.detach, lambda x: torch.from_numpy(x.cpu().numpy()).to(DEVICE)):
            sealed = Problem(Detached(network(n_classes), leave), given.images, given.labels)
            if not ENTRIES[name].needs_gradient:
                assert torch.equal(attacked(build(name), sealed).images, usual(name, n_classes).images)
                return
            with pytest.raises(AttackError, match=r"needs a gradient.*square"):
                attacked(build(name), sealed)


class Detached(nn.Module):
    """A classifier that answers without a gradient."""

    def __init__(self, inside: nn.Module, leave: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inside, self.leave = inside, leave

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inside(self.leave(x))
        return answer


@every_attack
def test_a_target_that_is_found_is_predicted(name: str) -> None:
    given = problem(3)
    targets = (network(3)(images()).argmax(dim=1) + 1) % 3
    made = attacked(build(name), problem(3, targets=targets), 0.03)
    predicted = network(3)(made.images).argmax(dim=1)
    assert (predicted[made.found] == targets[made.found]).all()
    if ENTRIES[name].needs_gradient and ENTRIES[name].searches != "direction":
        assert made.found[given.labels != targets].any()


@every_attack
def test_each_image_has_its_own_epsilon(name: str) -> None:
    epsilons = torch.tensor([0.02, 0.0, 1e-4, 0.003, 0.1])
    made = attacked(build(name), problem(), epsilons).images
    for image, adversarial, epsilon in zip(images(), made, epsilons, strict=True):
        check(image, adversarial, epsilon=float(epsilon), attack=name)


@every_attack
@pytest.mark.parametrize("levels", [255, 4095])
def test_a_search_of_balls_stays_on_the_file_s_lattice(name: str, levels: int) -> None:
    if ENTRIES[name].searches != "budget":
        pytest.skip("a direction is stored, and rounded, by the framework")
    made = attacked(build(name), problem(levels=levels), EPSILON)
    on_lattice = made.images * levels
    moved = made.images != images()
    assert moved.any()
    assert (on_lattice - on_lattice.round())[moved].abs().max() < 1e-3
    for image, adversarial in zip(images(), made.images, strict=True):
        check(image, adversarial, epsilon=EPSILON, attack=name)


@every_attack
def test_a_flat_classifier_is_reported_as_such(name: str) -> None:
    if not ENTRIES[name].needs_gradient:
        pytest.skip("it does not look at gradients")
    unmoved = Linear(torch.zeros(3, SIZE_PX, SIZE_PX), 1.0).to(DEVICE)
    flat = Problem(unmoved, images(), torch.ones(5, dtype=torch.long, device=DEVICE))
    attack = build(name)
    assert not attacked(attack, flat).found.any()
    if isinstance(attack, DirectionAttack):
        to = attack.direction(flat)
        assert to.grad_zero.all()
        assert not to.sign.any()


@every_attack
def test_a_minimum_attack_says_how_far_and_gives_the_clean_logits(name: str) -> None:
    if ENTRIES[name].searches != "minimum":
        pytest.skip("it searches no minimum")
    given = problem()
    to = build(name).direction(given)
    assert to.reach is not None
    assert to.found is not None
    assert to.found.all()
    assert to.reach[0] == 0  # it was misclassified as it is
    assert (to.reach[1:] > 0).all()
    assert (to.sign[to.reach > 0].abs().amax(dim=(1, 2, 3)) == 1).all()
    if to.logits is not None:
        torch.testing.assert_close(to.logits, network(2)(images()))
