"""One-logit and multi-label heads become two logits, and are attacked like any other."""

import pytest
import torch
from tiny import linear_classifier
from torch import Tensor, nn

from dosimeter.attacks.base import Problem
from dosimeter.attacks.registry import build
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.outputs import Finding, OneLogit
from dosimeter.models.preprocessing import PREPROCESSINGS


class Scores(nn.Module):
    """Several logits w.x, one a finding."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weights.flatten(1).T


def test_one_logit_is_the_sigmoid() -> None:
    logit = torch.linspace(-5, 5, 11)
    for shaped in (logit, logit[:, None]):
        torch.testing.assert_close(OneLogit()(shaped).softmax(dim=1)[:, 1], logit.sigmoid())


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
def test_a_finding_is_there_from_its_threshold_on(threshold: float) -> None:
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    answers = Finding(2, threshold)(logits).argmax(dim=1)
    assert answers.tolist() == (logits[:, 2].sigmoid() > threshold).long().tolist()


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "fmn", "square"])
def test_one_finding_is_attacked_as_the_two_class_network_it_is(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(3, 3, 8, 8, generator=generator)
    head = nn.Sequential(Scores(weights), Finding(1))
    options = {"preprocessing": PREPROCESSINGS["unit"], "size_px": 8, "classes": ("absent", "present")}
    classifier = Classifier(nn.Identity(), head, **options)
    images = torch.rand(4, 3, 8, 8, generator=generator)
    labels = classifier(images).argmax(dim=1)
    alike = linear_classifier(weights[1])
    for network in (classifier, alike):
        torch.testing.assert_close(network(images), alike(images))
    attack = build(name, "quick")
    found = [_found(attack, Problem(network, images, labels)) for network in (classifier, alike)]
    torch.testing.assert_close(found[0], found[1])


def _found(attack: object, problem: Problem) -> Tensor:
    if hasattr(attack, "direction"):
        return attack.direction(problem).sign
    return attack.perturb(problem, torch.full((len(problem),), 0.05)).images


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(DosimeterError, match=r"must give \(batch,\) or \(batch, 1\), got \(2, 3\)"):
        OneLogit()(torch.zeros(2, 3))
    with pytest.raises(DosimeterError, match="place must be below the number of findings, got 3"):
        Finding(3)(torch.zeros(2, 3))
    with pytest.raises(DosimeterError, match="threshold must be a probability"):
        Finding(0, 1.0)
    with pytest.raises(DosimeterError, match="place must be 0 or more"):
        Finding(-1)
