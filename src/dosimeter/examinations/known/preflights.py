"""Examination: mode, randomness, outputs and gradients of a classifier, before it is attacked."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from dosimeter.attacks.presets import PRESETS
from dosimeter.examinations.base import N_IMAGES, Examination, Examined, Facts, OneDecision, Question
from dosimeter.examinations.preflight import VERSION, Common, examine


def ask(examined: Examined) -> Iterator[Question]:
    """Ask with the paper's loss and with the sound one, each if attacks of this study climb it."""
    names = {preset.name for preset in examined.presets}
    losses = [PRESETS["paper"]] * ("paper" in names) + [PRESETS["sound"]] * bool(names - {"paper"})
    limits = replace(examined.threat, native=False)  # it looks at images on the classifier's grid
    declared, cohort = examined.settings.declared_accuracy, examined.trial.cohort.name
    for one in examined.each_decision:
        common: list[Common] = []  # to both losses
        for preset in losses:
            options: dict[str, Any] = {
                "loss": preset.attack.loss,
                "channels": preset.attack.channels,
                "declared_accuracy": declared.get(f"{examined.model}@{cohort}", declared.get(examined.model)),
                "n_images": N_IMAGES[examined.settings.effort],
                "seed": examined.trial.split.seed,
            }
            key = [str(options), one.name, *([str(limits.identity)] if limits.limits else [])]
            told = {"evaluation": preset.name, "sampled": examined.settings.sampled}
            found = partial(_found, one, common, threat=limits, **options)
            yield Question("examining its gradients", key, found, {**examined.scope, **told, **one.told})


def _found(one: OneDecision, common: list[Common], *, n_images: int, seed: int, **options: Any) -> list[Facts]:
    cohort = one.trial.split.test
    common[:] = common or [Common(one.classifier, cohort, n_images, seed)]
    return [examine(one.classifier, cohort, common=common[0], n_images=n_images, seed=seed, **options)]


ENTRY = Examination(
    note="mode, randomness, outputs and gradients of a classifier, before it is attacked",
    ask=ask,
    before=True,
    version=VERSION,
)
