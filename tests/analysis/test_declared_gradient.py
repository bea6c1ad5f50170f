"""A gradient that a defence declares to be no derivative: attacks without it judge, and undeclared ones do not pass."""

from typing import Any

import pandas as pd
import pytest
import torch
from masked import HONEST, cohort_of, examined, opacities
from torch import Tensor

from dosimeter import registry
from dosimeter.analysis.evaluation import evaluate, overall
from dosimeter.defences.base import defend
from dosimeter.defences.known.jpeg import Compressed
from dosimeter.examinations.gradients import declared
from dosimeter.models.base import Classifier
from dosimeter.models.transforms import Transform

SOUND = ("pgd", "random_sign")


class Undeclared(Compressed):
    """JPEG that says that its gradient is the derivative."""

    exact = True


class Backwards(Transform):
    """Leaves an image as it is, and leads who follows its gradient away; it says that it is approximate."""

    exact = False

    def value(self, images: Tensor) -> Tensor:
        return images.clone()

    def pull_back(self, images: Tensor, gradient: Tensor) -> Tensor:
        return -gradient


def judged(classifier: Classifier, attacks: tuple[str, ...]) -> pd.DataFrame:
    evidence = examined(classifier, cohort_of("any", 12), epsilons=(0.02, 0.06), attacks=attacks, presets=("sound",))
    told = {name: classifier.card[name] for name in ("model", "defence") if name in classifier.card}  # as a study does
    return evaluate(evidence.frame, [{**fact, **told} for fact in evidence.preflights])


def verdict_of(checks: pd.DataFrame, name: str) -> Any:
    (row,) = checks[checks["id"] == name].itertuples()
    return row


def bare() -> Classifier:
    return HONEST["convolutional"].build()


def test_a_declared_gradient_is_left_to_attacks_without_it() -> None:
    defended = bare().behind(Compressed(60))
    alone = verdict_of(judged(defended, SOUND), "finite_differences")
    assert alone.verdict == "CAUTION"
    assert alone.measured == "The gradient is declared to be approximate (Compressed); nothing was tried without it."
    checks = judged(defended, (*SOUND, "square"))
    beside = verdict_of(checks, "finite_differences")
    assert (beside.verdict, beside.measured) == (
        "PASS",
        "The gradient is declared to be approximate (Compressed); whether it misleads, the black box must show.",
    )
    assert "UNRELIABLE" not in set(checks["verdict"])


def test_one_that_is_not_declared_is_unreliable_whatever_attacks_show() -> None:
    checks = judged(bare().behind(Undeclared(60)), (*SOUND, "square"))
    assert verdict_of(checks, "finite_differences").verdict == "UNRELIABLE"
    assert set(overall(checks)["verdict"]) == {"UNRELIABLE"}


def test_a_declared_one_that_leads_away_is_found_by_the_black_box() -> None:
    checks = judged(bare().behind(Backwards()), (*SOUND, "square"))
    assert verdict_of(checks, "finite_differences").verdict == "PASS"
    assert verdict_of(checks, "black_box").verdict == "UNRELIABLE"


@pytest.mark.parametrize(
    "name", [name for name in registry.names("defences") if registry.get("defences", name).kind != "training"]
)
def test_a_defences_card_says_of_its_gradient_what_its_modules_do(name: str) -> None:
    defended = defend(bare(), name + (":epochs=1" if name in ("denoiser", "ensemble") else ""), opacities(0, 60))
    (part,) = defended.card["defences"]
    found = declared(defended)
    kinds = {kind for kind in ("approximate", "averaged") if found[kind]}
    assert kinds == ({part["gradient"]} if "gradient" in part else set())


def test_the_pre_flight_of_a_detector_compares_what_attacks_meet() -> None:
    torch.manual_seed(0)
    defended = defend(bare(), "mahalanobis:0.3", opacities(0, 60))
    checks = judged(defended, SOUND)
    for name in ("epsilon_zero", "finite_differences"):
        assert verdict_of(checks, name).verdict == "PASS"
