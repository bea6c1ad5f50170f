"""A zoo of classifiers, honest ones and masked ones, and how each is examined, attacked and judged."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd
import torch
from honest import HONEST
from masks import MASKED
from torch import Tensor
from zoo import CLASSES, N_TRAIN, Layer, opacities

from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.pgd import PGD
from dosimeter.attacks.known.square import Square
from dosimeter.attacks.presets import Preset, choose
from dosimeter.attacks.threat import Threat
from dosimeter.cohorts.base import Cohort
from dosimeter.examinations.convergence import Escalating, examine_convergence
from dosimeter.examinations.preflight import examine
from dosimeter.models.base import Classifier
from dosimeter.record.table import compact, to_frame
from dosimeter.sweeps.execute import execute_cell
from dosimeter.sweeps.plan import Setting, plan_cells

__all__ = ["CLASSES", "HONEST", "MASKED", "Layer", "cohort_of", "examined", "opacities", "stated", "truth"]


class Evidence(NamedTuple):
    """What `evaluate` takes."""

    frame: pd.DataFrame
    preflights: list[dict[str, Any]]
    convergence: list[dict[str, Any]]


def cohort_of(name: str, n: int) -> Cohort:
    """Return the n images on which a classifier of the zoo is examined; none was trained on them."""
    own = HONEST.get(name)
    return own.cohort(N_TRAIN, min(n, own.n or n)) if own else opacities(N_TRAIN, n)


@torch.random.fork_rng(devices=[])
def examined(
    classifier: Classifier,
    cohort: Cohort,
    *,
    epsilons: tuple[float, ...],
    attacks: tuple[str, ...],
    presets: tuple[str, ...] = ("paper", "sound"),
    declared: float | None = None,
) -> Evidence:
    """Return a whole evaluation of a classifier, as a study would make it, every ball searched.

    Without a gradient it has the attacks that need none. What is random in a classifier is the same again.

    Args:
        declared: the accuracy that its maker says it has.
    """
    torch.manual_seed(0)
    preflights = [
        examine(classifier, cohort, loss=loss, channels=channels, declared_accuracy=declared)
        for preset, loss, channels in (("sound", "margin", "tied"), ("paper", "keras_bce", "free"))
        if preset in presets
    ]
    chosen = choose(presets, attacks, "quick")
    if preflights[0]["graph"]["error"]:
        chosen = [preset for preset in chosen if preset.name in ("square", "random_sign", "uniform_noise")]
    settings = [_setting(preset, epsilons) for preset in chosen]
    frames = [_swept(classifier, cohort, setting) for setting in settings]
    convergence = []
    for setting, frame in zip(settings, frames, strict=True):
        if isinstance(setting.preset.attack, Escalating):
            found = examine_convergence(setting.preset.attack, classifier, cohort, compact(frame), setting)
            names = {name: frame[name].iloc[0] for name in ("cohort", "protocol", "model")}
            convergence += [{**names, **found}] if found else []
    return Evidence(pd.concat(frames, ignore_index=True), preflights, convergence)


def _setting(preset: Preset, epsilons: tuple[float, ...]) -> Setting:
    return Setting(
        protocol="paper",
        preset=preset if preset.effort is None else replace(preset, effort="thorough"),
        epsilons=(0.0, *epsilons),
        seed=0,
        patients={},
        refine=False,
        threat=Threat(exhaustive=True),
    )


def _swept(classifier: Classifier, cohort: Cohort, setting: Setting) -> pd.DataFrame:
    return to_frame(row for cell in plan_cells(cohort, classifier, setting) for row in execute_cell(cell, classifier))


# --- what attacks leave, and what an attacker leaves who knows the mask -------------------------------------


def stated(frame: pd.DataFrame, epsilons: Sequence[float]) -> list[float]:
    """Return the accuracy at each of `epsilons` under all attacks but the published one: the worst case."""
    rows = frame[(frame["preset"] != "paper") & (frame["status"] == "ok") & (frame["storage"] == "float")]
    wrong = [rows[~rows["correct"] & (rows["epsilon"] <= epsilon)]["case_id"].nunique() for epsilon in epsilons]
    return [1 - n_wrong / rows["case_id"].nunique() for n_wrong in wrong]


DRAWS = 8  # answers asked about each image: some classifiers are random


@torch.random.fork_rng(devices=[])
def truth(classifier: Classifier, behind: Classifier, cohort: Cohort, epsilons: Sequence[float]) -> list[float]:
    """Return the accuracy of `classifier` at each of `epsilons` under whoever knows what is `behind` its mask.

    PGD on what is behind the mask, in all of its ball, and Square with 300 queries on the classifier itself; each image
    by what breaks it best within epsilon; what is random counts by its expectation. It is a bound from above: a
    stronger attack may leave fewer.
    """
    torch.manual_seed(0)
    images = torch.stack([classifier.prepare(case) for case in cohort])
    labels = torch.tensor([case.label for case in cohort])
    left = _share_right(classifier, images, labels)
    found = []
    for epsilon in epsilons:
        ball = torch.full((len(images),), epsilon)
        known = Problem(behind, images, labels, fill=True)
        candidates = [PGD(steps=40, start=start, step_size=0.1).perturb(known, ball) for start in ("fgsm", "random")]
        candidates += [Square(queries=300).perturb(Problem(classifier, images, labels), ball)]
        for candidate in candidates:
            left = torch.minimum(left, _share_right(classifier, candidate.images, labels))
        found.append(float(left.mean()))
    return found


def _share_right(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Return the share of `DRAWS` answers about each image that are right, (n,)."""
    with torch.no_grad():
        answers = [torch.cat([classifier(part) for part in images.split(4)]).argmax(dim=1) for _ in range(DRAWS)]
    return torch.stack([answer == labels for answer in answers]).float().mean(dim=0)
