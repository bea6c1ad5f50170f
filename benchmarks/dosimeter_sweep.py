"""Dosimeter's own sweep, with the choice of its engine taken apart from it.

An engine is chosen once for each classifier, however many images follow, so its seconds are a fixed cost.
"""

from collections.abc import Sequence
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from answers import Answers
from timing import timed

import dosimeter as dm
from dosimeter.attacks.base import Attack
from dosimeter.engines.base import EngineUnavailable
from dosimeter.engines.choose import EnginePlan, plan_engine
from dosimeter.record.table import Responses
from dosimeter.units import DEFAULT_EPSILONS

STUDY_PASSES = 54 * len(DEFAULT_EPSILONS) * 3
"""Passes of a study of the paper's 54 X-ray test images, under both presets: what an engine is chosen for."""


class Choice(NamedTuple):
    """An engine's plan and what it cost to make.

    Attributes:
        seconds: of making it in this process for the first time: conversions, compilation, the check against torch.
        again_s: of making it again, all that can be kept being kept.
    """

    plan: EnginePlan
    seconds: float
    again_s: float


def choose(engine: str, classifier: dm.Classifier, cohort: dm.Cohort, *, refine: bool = False) -> Choice | str:
    """Return the plan of `engine` for `classifier`, or a sentence that says why there is none."""

    def plan() -> EnginePlan:
        return plan_engine(engine, classifier, cohort, n_passes=STUDY_PASSES, refine=refine)

    try:
        first, again = timed(plan), timed(plan)
    except EngineUnavailable as refusal:
        return str(refusal)
    return Choice(again.result, first.seconds, again.seconds)


def sweep(
    plan: EnginePlan,
    classifier: dm.Classifier,
    cohort: dm.Cohort,
    attack: Attack,
    *,
    epsilons: Sequence[float] = DEFAULT_EPSILONS,
    storages: Sequence[str] = ("float",),
    refine: bool = False,
) -> Responses:
    """Return what `dosimeter.sweep` returns, computed by a plan made before."""
    with mock.patch("dosimeter.study.sweep.plan_engine", return_value=plan):
        responses: Responses = dm.sweep(
            classifier,
            cohort,
            attack,
            epsilons=epsilons,
            storages=storages,
            refine=refine,
            compute=dm.Compute(engine=plan.name),
        )
    return responses


def answers(responses: Responses, cohort: dm.Cohort, epsilons: Sequence[float]) -> Answers:
    """Return the answers to the cases of `cohort` at `epsilons`, in their order."""
    rows = responses.frame.set_index(["case_id", "epsilon"])["logits"].to_dict()
    logits = [[rows[record.case_id, epsilon] for epsilon in epsilons] for record in cohort.records]
    return Answers.of(torch.from_numpy(np.array(logits)))
