"""The contracts of attacks, classifiers and defences as checks that any package can run in its own tests.

```python
import pytest
from dosimeter.testing import check_attack
from my_package import MyAttack


def test_my_attack_keeps_the_contract():
    check_attack(MyAttack())
```
"""

import copy
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import Tensor, nn

from dosimeter.attacks.adapters import adapt
from dosimeter.attacks.base import Attack, BudgetAttack, DirectionAttack, Problem
from dosimeter.attacks.doses import BALL_TOLERANCE, perturb
from dosimeter.attacks.registry import Access, Entry, build
from dosimeter.attacks.registry import entry as attack_entry
from dosimeter.cohorts.arrays import cohort_of
from dosimeter.cohorts.base import Cohort
from dosimeter.defences.base import Defence, defend
from dosimeter.defences.training import readable
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.physical.base import changed
from dosimeter.physical.constants import Constants
from dosimeter.physical.registry import entry

SIZE_PX = 24
N_IMAGES = 4
N_TRAINING = 48
EPSILONS = (0.004, 0.03, 0.3)


class ContractBroken(AssertionError):
    """An attack, a classifier or a defence does not keep to what the sweep relies on."""


def check_attack(attack: Attack | str, *, n_classes: int = 3) -> None:
    """Raise `ContractBroken` unless an attack keeps the contract, on a small network of `n_classes`.

    It must leave the network as it was, leave images as they are at epsilon 0, stay within epsilon and the image's
    range, keep a grey image grey if it says `tied`, move nothing outside a mask, give the same for the same seed, give
    for a batch what it gives for its images one by one, and claim no success that is none.

    Args:
        attack: an attack object, also of Foolbox or ART, or the name of a registered one, at its least effort. One that
            learns on training images has to have learned.

    Raises:
        ContractBroken: naming the rule.
        DosimeterError: it is no attack.

    Example:
        >>> check_attack("fgsm")
    """
    chosen = build(attack, "quick") if isinstance(attack, str) else adapt(attack)
    if isinstance(attack, str):
        _check_entry(attack_entry(attack), chosen)
    network = _network(n_classes)
    before = _state(network)
    images = _images()
    labels = network(images).argmax(dim=1).detach()
    for epsilon in EPSILONS:
        made, found = _attacked(chosen, Problem(network, images, labels), epsilon)
        distance = float((made - images).abs().max())
        _require(distance <= epsilon + BALL_TOLERANCE, chosen, f"moved a pixel by {distance:g} at epsilon {epsilon:g}")
        low, high = float(made.min()), float(made.max())
        _require(low >= 0 <= high <= 1, chosen, f"left the image range [0, 1]: [{low:g}, {high:g}]")
        wrong = network(made).argmax(dim=1) != labels
        _require(bool((wrong | ~found).all()), chosen, "claims a success for an image that is classified as before")
        if chosen.channels == "tied":
            planes = made - images
            _require(
                bool(torch.allclose(planes, planes[:, :1].expand_as(planes), atol=1e-6)),
                chosen,
                "is tied, but moves the planes of a grey image apart",
            )
    _require(_same(before, _state(network)), chosen, "changed the network: its weights, mode, or gradients")
    _check_repeats(chosen, network, images, labels)
    _check_limits(chosen, network, images, labels)


def _check_entry(entry: Entry, attack: Attack) -> None:
    """Raise `ContractBroken` unless an attack is what its entry says."""
    kinds = ("budget",) if isinstance(attack, BudgetAttack) else ("direction", "minimum")
    _require(entry.searches in kinds, attack, f"must say that it searches {' or '.join(kinds)}, not {entry.searches}")
    known = get_args(Access)
    _require(entry.access in known, attack, f"must need one of {', '.join(known)}, not {entry.access}")


def check_classifier(classifier: Classifier, *, n_images: int = N_IMAGES) -> None:
    """Raise `ContractBroken` unless a classifier keeps the contract, on random images of its size.

    It must be in evaluation mode and answer finite logits, one for each class, that are no probabilities; the same
    image must get the same logits in every pass, alone and in a batch; the images must stay as they were; and its name
    must not change with the asking.

    Raises:
        ContractBroken: naming the rule.

    Example:
        >>> import dosimeter as dm
        >>> check_classifier(dm.load_classifier("FOLDER"))  # doctest: +SKIP
    """
    training = [name for name, module in classifier.named_modules() if module.training]
    _require(not training, classifier, f"is in training mode ({', '.join(training[:3]) or 'itself'})")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n_images, 3, *classifier.grid.shape, generator=generator)
    images = images.to(classifier.device)
    name, given = classifier.name, images.clone()
    with torch.no_grad():
        logits = classifier(images)
        again = classifier(images)
        alone = torch.cat([classifier(image[None]) for image in images])
    _require(torch.equal(images, given), classifier, "changes the images that it is asked about")
    shape = (n_images, len(classifier.classes) + classifier.rejects)
    _require(tuple(logits.shape) == shape, classifier, f"must answer {shape}, got {tuple(logits.shape)}")
    _require(bool(torch.isfinite(logits).all()), classifier, "answers logits that are not finite")
    size = float(logits.abs().max())
    for other, what in ((again, "in another pass"), (alone, "alone than in a batch")):
        apart = float((logits - other).abs().max())
        _require(apart <= 1e-4 * max(size, 1e-12), classifier, f"answers otherwise {what}: logits differ by {apart:g}")
    sums = logits.sum(dim=1)
    looks = bool((logits >= 0).all()) and bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-5))
    _require(not looks, classifier, "answers probabilities; hand over what goes into the softmax")
    _require(classifier.name == name, classifier, "has another name after it was asked")


def check_defence(defence: Defence | str, training: Cohort | None = None) -> None:
    """Raise `ContractBroken` unless a defence keeps the contract, on a small classifier.

    What it returns must be a classifier of the same classes and size that keeps `check_classifier`, under a name of its
    own that is the same when it is applied again; the classifier given must stay as it was; the defended one must be
    another, by its answers or its gradients; and a gradient must reach the images, so that an attack that knows the
    defence can be judged.

    Args:
        defence: an object, or a pipeline's text as "median:3+jpeg:75".
        training: images of two classes, 24 x 24 or resized to that; by default a few of noise.

    Raises:
        ContractBroken: naming the rule.
        DosimeterError: the text names no defence.

    Example:
        >>> check_defence("median:3+jpeg:75")
    """
    bare = Classifier(
        _network(2), nn.Identity(), preprocessing=PREPROCESSINGS["unit"], size_px=SIZE_PX, classes=("clear", "opacity")
    )
    images, labels = _images(), torch.tensor([0, 1] * (N_IMAGES // 2))
    if training is None:
        noise, classes = _images(N_TRAINING).numpy(), [0, 1] * (N_TRAINING // 2)
        training = cohort_of(noise, classes, classes=bare.classes, name="noise")
    before, name, answers = _state(bare), bare.name, bare(images).detach()

    def applied() -> Classifier:
        if isinstance(defence, str):
            return defend(bare, defence, training, seed=1)
        return defence.apply(bare, readable(bare, training), seed=1)

    defended = applied()
    _require(isinstance(defended, Classifier), defence, f"returns a {type(defended).__name__}, no Classifier")
    same = (defended.classes, defended.size_px) == (bare.classes, bare.size_px)
    _require(same, defence, "changes the classes or the size of the images")
    check_classifier(defended)
    _require(_same(before, _state(bare)) and bare.name == name, defence, "changed the classifier that it was given")
    _require(bool(torch.equal(bare(images).detach(), answers)), defence, "changed the answers of the classifier given")
    _require(defended.fingerprint != bare.fingerprint, defence, "gives a classifier with the undefended one's identity")
    _require(applied().fingerprint == defended.fingerprint, defence, "gives another classifier when applied again")
    problem = Problem(defended, images, labels)
    _, _, gradient = problem.gradient(images, "margin", "free")
    _require(bool((gradient != 0).any()), defence, "lets no gradient reach the images: see models.transforms.Transform")


def check_change(name: str) -> None:
    """Raise `ContractBroken` unless a physical change keeps the contract at each of its own severities.

    It must leave the images that it is given as they were, return images of the same size in [0, 1], keep grey images
    grey, give the same for the same seed, and for a batch what it gives for its images one by one; and, unless its
    severities are tries, a farther one must move images farther.

    Args:
        name: of a registered change, or of several as "dose_fraction+motion".

    Raises:
        ContractBroken: naming the rule.
        DosimeterError: there is none, it does not say what its severities mean, or it leaves [0, 1] or the size.

    Example:
        >>> check_change("rotation")
    """
    found = entry(name)
    change = found.build(Constants())
    images, moved = _images(), [0.0]
    given = images.clone()
    _require(change.name == name, change, f"must be called {name}, as it is registered")
    for severity in found.severities[1:]:

        def made(some: Tensor, severity: float = severity) -> Tensor:
            return changed(change, some, severity, identity=found.identity, seed=3)

        first = made(images)
        _require(torch.equal(images, given), change, "changes the images that it is given")
        _require(torch.equal(first, made(images)), change, "gives other images for the same seed")
        apart = float((torch.cat([made(image[None]) for image in images]) - first).abs().max())
        _require(
            apart <= 1e-5, change, f"gives for a batch other images than for its images one by one ({apart:g} apart)"
        )
        moved.append(float((first - images).square().mean().sqrt()))
    further = not found.ordered or moved == sorted(moved)
    _require(further, change, "moves images less at a farther severity")


def _attacked(attack: Attack, given: Problem, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the images that an attack makes of a problem, and where it claims success."""
    if isinstance(attack, BudgetAttack):
        made = attack.perturb(given, torch.full((len(given),), epsilon))
        return made.images, made.found
    _require(isinstance(attack, DirectionAttack), attack, "has neither `direction` nor `perturb`")
    assert isinstance(attack, DirectionAttack)
    to = attack.direction(given)
    _require(float(to.sign.abs().max()) <= 1 + BALL_TOLERANCE, attack, "gives a direction with values beyond [-1, 1]")
    reach = torch.full((len(given),), epsilon) if to.reach is None else to.reach.clamp(max=epsilon)
    moved = [perturb(image, sign, float(dose)) for image, sign, dose in zip(given.images, to.sign, reach, strict=True)]
    nothing = torch.zeros(len(given), dtype=torch.bool)
    found = nothing if to.found is None or to.reach is None else to.found & (to.reach <= epsilon)
    return torch.stack(moved), found


def _check_repeats(attack: Attack, network: nn.Module, images: Tensor, labels: Tensor) -> None:
    epsilon = EPSILONS[1]
    first, again = (_attacked(attack, Problem(network, images, labels, seed=3), epsilon)[0] for _ in range(2))
    _require(torch.equal(first, again), attack, "gives other images for the same seed")
    singles = [
        _attacked(attack, Problem(network, image[None], label[None], seed=3), epsilon)[0]
        for image, label in zip(images, labels, strict=True)
    ]
    apart = float((torch.cat(singles) - first).abs().max())
    _require(apart <= 1e-5, attack, f"gives for a batch other images than for its images one by one ({apart:g} apart)")
    still, _ = _attacked(attack, Problem(network, images, labels, seed=3), 0.0)
    _require(bool((still - images).abs().max() <= BALL_TOLERANCE), attack, "moves an image at epsilon 0")


def _check_limits(attack: Attack, network: nn.Module, images: Tensor, labels: Tensor) -> None:
    mask = torch.zeros(len(images), 1, SIZE_PX, SIZE_PX, dtype=torch.bool)
    mask[:, :, : SIZE_PX // 2] = True
    made, _ = _attacked(attack, Problem(network, images, labels, mask=mask), EPSILONS[1])
    outside = ~mask.expand_as(images)
    _require(bool(((made - images)[outside].abs() <= BALL_TOLERANCE).all()), attack, "moves pixels outside the mask")


def _network(n_classes: int) -> nn.Module:
    """A small network whose answers change with small perturbations."""
    generator = torch.Generator().manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 10 * 10, n_classes))
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3, generator=generator)
    return network.eval()


def _images(n: int = N_IMAGES) -> Tensor:
    """Grey images of 8-bit levels (n, 3, H, W)."""
    generator = torch.Generator().manual_seed(2)
    grey = torch.randint(0, 256, (n, 1, SIZE_PX, SIZE_PX), generator=generator) / 255
    return grey.expand(-1, 3, -1, -1).clone()


def _state(network: nn.Module) -> list[Any]:
    flags = [(module.training, *(each.requires_grad for each in module.parameters())) for module in network.modules()]
    return [flags, *(copy.deepcopy(tensor) for tensor in network.state_dict().values()), *_gradients(network)]


def _gradients(network: nn.Module) -> Iterator[Tensor | None]:
    for parameter in network.parameters():
        yield None if parameter.grad is None else parameter.grad.clone()


def _same(before: list[Any], after: list[Any]) -> bool:
    return len(before) == len(after) and all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b if a is None else a == b
        for a, b in zip(before, after, strict=True)
    )


def _require(kept: bool, who: Any, broken: str) -> None:
    if not kept:
        raise ContractBroken(f"{getattr(who, 'name', type(who).__name__)} {broken}.")
