"""How much a sweep asks of a classifier: gradients, answers and measurements, counted beforehand."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dosimeter.attacks.base import Attack
from dosimeter.attacks.learner import Learner
from dosimeter.attacks.presets import Preset
from dosimeter.attacks.registry import GRADIENT_IN_PASSES, SEARCHES_THAT_FAIL, entry_of, steps_of
from dosimeter.storage.base import get_storage
from dosimeter.study.config import StudyConfig
from dosimeter.study.rules import fills
from dosimeter.sweeps.flips import FLIP_TOLERANCE, LEVEL_TOLERANCE

IMAGES_OF_A_SEARCH = 6
"""Distinct images that a search shows which stops at its first success: the clean one, and its finds."""

SEARCHES_THAT_STOP = 0.7
"""Share of its steps that an attack takes in a ball where it may stop, if it searches every ball."""


class Work(NamedTuple):
    """What one test image asks for under one preset.

    Attributes:
        gradients: through torch.
        climbs: gradients through the engine's network, of attacks that search.
        answers: forward passes of distinct images.
        confirmed: forward passes of torch beside another engine's.
        asked: questions by storage: each is stored, digested and measured, whether its image is distinct or not.
        rows: questions on the grid, whose visibility is measured.
        costly: of these, with the costly metrics too.
        learned: gradients on training images, once for the classifier.
    """

    gradients: float
    climbs: float
    answers: float
    confirmed: float
    asked: Mapping[str, float]
    rows: int
    costly: int
    learned: int

    @property
    def passes(self) -> float:
        """All of it in forward passes, about."""
        return self.answers + GRADIENT_IN_PASSES * (self.gradients + self.climbs)


def work_of(preset: Preset, config: StudyConfig) -> Work:
    """Return what one test image asks for under `preset`, its other models in a study with `transfer` not counted."""
    if preset.is_physical:
        return _changed(preset)
    doses = [epsilon for epsilon in config.epsilons if epsilon > 0]
    n_asked = len(doses) + 1
    full = fills(config.storages, shown=config.shares_images) if config.fill is None else config.fill
    gradients, climbs, queries = _attack(preset.attack, len(doses), full=full, exhaustive=config.effort == "thorough")
    known = entry_of(preset.attack)
    stops = known is not None and known.searches == "budget" and not full
    shown = queries
    asked: dict[str, float] = {}
    for storage in preset.storages:
        levels = get_storage(storage).levels
        distinct = len({round(epsilon * levels) for epsilon in doses} - {0}) if levels else len(doses)
        flips = 0 if config.native else _bisections(config.epsilons, levels)
        shown += (min(distinct, IMAGES_OF_A_SEARCH) if stops else distinct) + flips
        asked[storage] = n_asked + flips
    learned = preset.attack.n_learning if isinstance(preset.attack, Learner) else 0
    n_costly = len(set(config.costly_epsilons) & set(config.epsilons))
    n_storages = len(preset.storages)
    return Work(
        *(gradients, climbs, shown, 2.0 * n_storages, asked),
        rows=n_asked * n_storages,
        costly=n_costly * n_storages,
        learned=learned,
    )


def _changed(preset: Preset) -> Work:
    """Return what one image asks for under a physical change: an answer a severity; making it is not counted."""
    n, n_storages = len(preset.severities), len(preset.storages)
    asked = {storage: float(n) for storage in preset.storages}
    return Work(0.0, 0.0, float(n * n_storages), 0.0, asked, n * n_storages, (n - 1) * n_storages, 0)


def passes_of(presets: Sequence[Preset], config: StudyConfig) -> float:
    """Return what one test image asks for under all presets, in forward passes, about."""
    return sum(work_of(preset, config).passes for preset in presets)


def _attack(attack: Attack, n_doses: int, *, full: bool, exhaustive: bool) -> tuple[float, float, float]:
    """Return what an attack takes for an image: torch's gradients, the engine's gradients, answers."""
    known = entry_of(attack)
    if own := getattr(attack, "passes", None):
        return 0.0, 0.0, float(own)
    if known is None or known.searches == "direction":
        return (1.0, 0.0, 0.0) if known is None or (known.needs_gradient and not known.learns) else (0.0, 0.0, 1.0)
    steps = steps_of(attack)
    balls = 1.0
    if known.searches == "budget":
        balls = n_doses if full else SEARCHES_THAT_STOP * n_doses if exhaustive else min(SEARCHES_THAT_FAIL, n_doses)
    if not known.needs_gradient:
        return 0.0, 0.0, balls * steps
    return (0.0, balls * steps, 0.0) if known.searches == "budget" else (balls * steps, 0.0, 0.0)


def _bisections(epsilons: Sequence[float], levels: int) -> int:
    """Return the steps that refine a flip which lies in the median step of the grid."""
    tolerance = max(FLIP_TOLERANCE, LEVEL_TOLERANCE / levels) if levels else FLIP_TOLERANCE
    widths = sorted(high - low for low, high in itertools.pairwise(epsilons))
    median = widths[len(widths) // 2] if widths else 0.0
    return max(math.ceil(math.log2(median / tolerance)), 0) if median else 0
