"""`attack`: adversarial images as tensors, for any network, without rows, files or a report."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dosimeter.attacks.adapters import adapt
from dosimeter.attacks.base import Attack
from dosimeter.attacks.learner import Learner
from dosimeter.attacks.presets import Preset
from dosimeter.attacks.registry import build, check_effort
from dosimeter.attacks.threat import ThreatModel
from dosimeter.cohorts.arrays import cohort_of
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier, answer
from dosimeter.models.private import private_copy
from dosimeter.models.source import classifier
from dosimeter.surroundings import plain_torch
from dosimeter.sweeps.execute import aim_cell
from dosimeter.sweeps.plan import Setting, plan_cells
from dosimeter.units import parse_epsilons


class Adversarial(NamedTuple):
    """What an attack made of n images at k epsilons.

    Attributes:
        images: (k, n, C, H, W) in [0, 1], on the CPU.
        predicted: (k, n), the classes that the network gives them.
        success: (k, n), True where that is what the attack was to reach: another class than the label, or the target.
        epsilons: (k,) ascending, fractions of the image range; the first is 0, the images as they were.
        failed: places of images that could not be attacked, because a gradient was not finite: they are as they were.
    """

    images: Tensor
    predicted: Tensor
    success: Tensor
    epsilons: tuple[float, ...]
    failed: tuple[int, ...]

    def __repr__(self) -> str:
        """Return shapes and counts instead of every pixel."""
        counts = ", ".join(
            f"{dose:.3g}: {int(hits.sum())}" for dose, hits in zip(self.epsilons, self.success, strict=True)
        )
        return f"Adversarial(images {tuple(self.images.shape)}; successes by epsilon {{{counts}}})"


@plain_torch()
def attack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack | str = "apgd",
    epsilons: str | Sequence[float | str] = ("1/255", "2/255", "4/255", "8/255"),
    *,
    effort: str = "standard",
    threat: ThreatModel | None = None,
    seed: int = 0,
) -> Adversarial:
    """Return adversarial images within every epsilon (the L-infinity norm), and whether they succeed.

    Use it for tensors alone; `sweep` also measures, stores, refines flips and returns a table.

    Args:
        network: images (n, C, H, W) in [0, 1] to logits (n, n_classes), or a `Classifier`. It is copied, and answers
            in evaluation mode. Of a classifier of several findings give one of them: `classifier.deciding(FINDING)`.
        images: (n, C, H, W) in [0, 1], C 1 or 3; of a `Classifier`, of the height and width that it looks at.
        labels: (n,) true classes.
        attack: one of `dosimeter list attacks`, or an attack object, also of Foolbox or ART.
        epsilons: fractions of the image range, numbers or text such as "4/255"; 0 is always there.
        effort: how long an attack given by its name searches: "quick", "standard" or "thorough".
        threat: what the attacker may do, see `ThreatModel`; classes are named "0", "1" and so on.
        seed: of the attack's random choices.

    Returns:
        An `Adversarial`: images at every epsilon, what they are taken for, and whether that is a success.

    Raises:
        DosimeterError: an argument is unusable, or the network does not answer with logits.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
        >>> found = attack(net, torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]), "pgd", ["4/255"], effort="quick")
        >>> found.images.shape
        torch.Size([2, 4, 3, 8, 8])
    """
    _check_subject(network, images)
    check_effort(effort)
    subject = network if isinstance(network, Classifier) else _classifier(network, images)
    subject = subject.on(subject.grid.settled)  # these images are on it
    cohort = cohort_of(images.detach().cpu().float().numpy(), labels.cpu(), subject.classes, bits=16)
    chosen = build(attack, effort) if isinstance(attack, str) else adapt(attack)
    if isinstance(chosen, Learner):
        raise DosimeterError(f"attack '{chosen.name}' learns on training images. Use sweep(..., training=...).")
    doses = parse_epsilons(epsilons)
    declared = (threat or ThreatModel()).against(
        classes=subject.classes, size_px=subject.size_px, fill=False, exhaustive=effort == "thorough"
    )
    preset = Preset(chosen.name, chosen, ("float",), "", effort)
    setting = Setting("", preset, doses, seed, {}, split=None, refine=False, threat=declared)
    adversarial = images.detach().cpu().float().repeat(len(doses), 1, 1, 1, 1)
    reached = set()
    for cell in plan_cells(cohort, subject, setting):
        places = {record.case_id: int(record.case_id[:5]) for record in cell.shard.records}
        for target in aim_cell(cell, subject):
            place = places[target.case_id]
            reached.add(place)
            for k, epsilon in enumerate(doses):
                adversarial[k, place] = target.path.at(target.image, epsilon)[: images.shape[1]]
    answers = [answer(subject, each.expand(-1, 3, -1, -1)).argmax(dim=1) for each in adversarial]
    predicted = torch.stack(answers)
    truth = labels.cpu().expand_as(predicted)
    success = predicted != truth if declared.target is None else predicted == declared.target
    failed = tuple(sorted(set(range(len(images))) - reached))
    return Adversarial(adversarial, predicted, success, doses, failed)


def _check_subject(network: object, images: object) -> None:
    """Raise DosimeterError unless the images are some that the network may be given, and it decides one thing."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3):
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise DosimeterError(f"images must be a tensor (n, C, H, W), C 1 or 3, got {shape}.")
    if not isinstance(network, Classifier):
        return
    if network.findings is not None:
        raise DosimeterError(
            "network must decide one thing, got a classifier of several findings. Give one of them, "
            f"network.deciding('{network.classes[0]}'), with labels 0 where it is absent and 1 where it is present."
        )
    if tuple(images.shape[2:]) != network.grid.shape:
        wanted, got = (" x ".join(map(str, shape)) for shape in (network.grid.shape, images.shape[2:]))
        raise DosimeterError(
            f"images must have the height and width that the classifier looks at, {wanted}, got {got}. "
            "Make them with classifier.prepare(case)."
        )


def _classifier(network: nn.Module, images: Tensor) -> Classifier:
    """Return a network of images in [0, 1] as a classifier; it is asked once how many classes it has."""
    if not isinstance(network, nn.Module):
        raise DosimeterError(f"network must be a torch.nn.Module, got {type(network).__name__}.")
    parameter = next(network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    own, _ = private_copy(network, nn.Identity())
    with torch.inference_mode():
        logits = own(images[:1].to(device).float())
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise DosimeterError(
            f"network must return logits (n, n_classes), two classes or more, got {shape}. Put dosimeter.OneLogit() "
            "behind a head of one logit, dosimeter.Output('KEY') behind one of several outputs."
        )
    names = [str(index) for index in range(logits.shape[1])]
    height, width = images.shape[2:]
    return classifier(own, size_px=(height, width), classes=names, channels=images.shape[1]).to(device)
