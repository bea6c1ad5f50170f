"""Examination: what a model observer detects of the perturbations."""

from collections.abc import Iterator
from functools import partial

from dosimeter.attacks.base import DirectionAttack
from dosimeter.examinations.base import Examination, Examined, Question
from dosimeter.examinations.observer import observe


def ask(examined: Examined) -> Iterator[Question]:
    """Ask of the sound preset, at the epsilons of the setting `visibility`."""
    preset = next((preset for preset in examined.presets if preset.name == "sound"), None)
    epsilons, threat, classifier = examined.settings.epsilons, examined.threat, examined.classifier
    if preset is None or not epsilons or threat.native or classifier.findings is not None:
        return  # it looks at perturbations on the classifier's grid, and at one decision
    attack = preset.attack
    assert isinstance(attack, DirectionAttack)
    key = [str(epsilons), *([str(threat.identity)] if threat.limits else [])]
    found = partial(observe, attack, classifier, examined.trial.split.test, epsilons, threat=threat)
    yield Question("a model observer", key, found, {**examined.scope, "preset": preset.name})


ENTRY = Examination(note="how well a model observer detects the perturbations of the sound preset", ask=ask)
