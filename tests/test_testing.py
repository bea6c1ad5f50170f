"""The public battery: whoever keeps the contract passes, and each breach is named."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tiny import convolutional_classifier
from torch import Tensor, nn

from dosimeter import registry
from dosimeter.attacks.base import Candidate, Direction, Problem
from dosimeter.attacks.registry import Entry, entries
from dosimeter.testing import ContractBroken, check_attack, check_classifier


@pytest.mark.parametrize("name", [name for name, entry in entries().items() if not entry.learns and not entry.extra])
def test_attacks_of_this_package_keep_the_contract(name: str) -> None:
    check_attack(name)


def sign(given: Problem) -> Tensor:
    return torch.ones_like(given.images)


@dataclass(frozen=True)
class Broken:
    """An attack whose direction breaks a rule."""

    how: Callable[[Problem], Tensor]
    channels: str = "tied"
    loss: str = "none"
    name: str = "broken"

    def direction(self, problem: Problem) -> Direction:
        return Direction(self.how(problem), torch.zeros(len(problem), dtype=torch.bool))


@dataclass(frozen=True)
class Searching:
    how: Callable[[Problem, Tensor], Candidate]
    channels: str = "tied"
    loss: str = "none"
    name: str = "searching"

    def perturb(self, problem: Problem, epsilon: Tensor) -> Candidate:
        return self.how(problem, epsilon)


def trained(problem: Problem) -> Tensor:
    problem.network.train()
    return sign(problem)


def apart(problem: Problem) -> Tensor:
    moved = sign(problem)
    moved[:, 1] = -1
    return moved


def boast(problem: Problem, epsilon: Tensor) -> Candidate:
    return Candidate(problem.images, torch.ones(len(problem), dtype=torch.bool))


def leave(problem: Problem, epsilon: Tensor) -> Candidate:
    return Candidate((problem.images + 0.4).clamp(0, 1), torch.zeros(len(problem), dtype=torch.bool))


def beyond(problem: Problem, epsilon: Tensor) -> Candidate:
    return Candidate(problem.images + epsilon.view(-1, 1, 1, 1), torch.zeros(len(problem), dtype=torch.bool))


def batched(problem: Problem) -> Tensor:
    return sign(problem) if len(problem) > 1 else -sign(problem)


@pytest.mark.parametrize(
    ("attack", "rule"),
    [
        (Broken(lambda problem: 3 * sign(problem)), "beyond"),
        (Broken(trained), "changed the network"),
        (Broken(apart), "planes of a grey image apart"),
        (Broken(lambda problem: torch.rand_like(problem.images[:, :1]).expand_as(problem.images)), "same seed"),
        (Broken(batched), "one by one"),
        (Broken(sign), "outside the mask"),
        (Searching(boast), "claims a success"),
        (Searching(leave), "moved a pixel"),
        (Searching(beyond), "image range"),
    ],
)
def test_a_breach_is_named(attack: Any, rule: str) -> None:
    with pytest.raises(ContractBroken, match=rule):
        check_attack(attack)


class Wrapped(nn.Module):
    def __init__(self, network: nn.Module, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.how = network, how

    def forward(self, images: Tensor) -> Tensor:
        return self.how(self.network(images))


def noisy(logits: Tensor) -> Tensor:
    return logits + torch.rand_like(logits)


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        (lambda logits: logits.softmax(dim=1), "probabilities"),
        (noisy, "in another pass"),
        (lambda logits: logits - logits.mean(dim=0), "alone than in a batch"),
        (lambda logits: logits / 0, "not finite"),
        (lambda logits: logits[:, :1], "must answer"),
    ],
)
def test_a_classifier_that_breaks_a_rule_is_named(how: Callable[[Tensor], Tensor], rule: str) -> None:
    classifier = convolutional_classifier()
    check_classifier(classifier)
    classifier.head = Wrapped(classifier.head, how).eval()
    with pytest.raises(ContractBroken, match=rule):
        check_classifier(classifier)


def test_a_classifier_in_training_mode_is_named() -> None:
    classifier = convolutional_classifier()
    classifier.head.train()
    with pytest.raises(ContractBroken, match=r"training mode \(head"):
        check_classifier(classifier)


@pytest.mark.parametrize(
    ("said", "rule"), [({"searches": "direction"}, "searches budget"), ({"access": "white box"}, "must need one of")]
)
def test_an_entry_that_says_otherwise_is_named(
    said: dict[str, Any], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual: dict[str, Any] = {"searches": "budget", "access": "scores"}
    made = Entry(lambda effort: Searching(boast), "a note", "none", "Boast", "black box", **usual | said)
    monkeypatch.setitem(registry.ADDED, ("attacks", "boast"), made)
    with pytest.raises(ContractBroken, match=rule):
        check_attack("boast")
