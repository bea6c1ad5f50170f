"""What a study will cost on this machine: its work counted, and timed units of it."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dosimeter.attacks.presets import Preset
from dosimeter.attacks.registry import steps_of
from dosimeter.defences.base import Defence, Entry, pipeline, require_images
from dosimeter.defences.cost import PASSES_PER_GRADIENT
from dosimeter.examinations.base import N_IMAGES
from dosimeter.examinations.convergence import N_EXAMINED, Escalating
from dosimeter.examinations.gradients import N_REPEATED
from dosimeter.examinations.observer import N_OBSERVED
from dosimeter.executors.base import pick_device
from dosimeter.models.backbones import get_backbone
from dosimeter.parallel import default_workers
from dosimeter.progress import Progress
from dosimeter.study.config import StudyConfig
from dosimeter.study.pace import Pace, measure
from dosimeter.study.presets import presets_of
from dosimeter.study.workload import Work, passes_of, work_of
from dosimeter.sweeps.plan import GPU_SHARD_SIZE, SHARD_SIZE

if TYPE_CHECKING:
    from dosimeter.cohorts.trials import Trial

AROUND = ("vote", "detector")
"""Kinds of defences that only torch answers with."""

REPORT_S = 4.0
"""Tables, figures and report of one classifier."""

REPEATED_PASSES, REPEATED_GRADIENTS = 14, 2
"""Of a pre-flight, for each of the first `N_REPEATED` images: whether answers and gradients are the same, and agree."""


class Cost(NamedTuple):
    """The expected cost of one model on one trial; `stages` has the seconds of each."""

    cohort: str
    protocol: str
    seed: int
    model: str
    engine: str
    n_train: int
    n_test: int
    n_forward: int
    stages: dict[str, float]

    @property
    def duration_s(self) -> float:
        """All stages together."""
        return sum(self.stages.values())


def estimate(config: StudyConfig, trials: "Sequence[Trial]", progress: Progress | None = None) -> Iterator[Cost]:
    """Yield the cost of every model on every trial, on this machine and with nothing cached.

    What defences learn is counted by their own `passes`, what a defended classifier answers by their `answer_passes`
    and `gradient_passes`.

    Args:
        config: the study's settings, resolved.
        trials: what it runs on.
        progress: told which model's passes are timed.

    Raises:
        DosimeterError: a defence cannot be built, or there is nothing to learn on.
    """
    systems = [pipeline(text) for text in config.defence]
    made = [part for system in systems for part in system]
    for name, _, defence in made:
        for trial in trials:
            require_images(defence, name, len(trial.split.train))
    presets = presets_of(config)
    asked = passes_of(presets, config)
    n_systems = 1 + len(config.defence)
    device = pick_device(config.device)
    for model in config.model:
        (progress or Progress()).begin(f"{model}: timing a few passes of each engine", 0)
        batch_size = min(config.batch_size, max(len(trial.split.train) for trial in trials))
        n_passes = round(len(trials[0].split.test) * asked)
        pace = measure(config, get_backbone(model), trials[0], n_passes=n_passes, batch_size=batch_size, device=device)
        paces = [pace, *(_defended(pace, system) for system in systems)]
        for place, trial in enumerate(trials):
            n_train, n_test = len(trial.split.train), len(trial.split.test)
            stages = {
                "features": (n_train + n_test) * pace.feature_s,
                "training": _training(config, n_train, n_test, pace),
                "defences": _defences([defence for _, _, defence in made], n_train, pace),
                "engine": n_systems * (pace.again_s if place else pace.choosing_s),
                "sweep": sum(_sweeps(presets, n_test, config, each, device) for each in paces),
                "examinations": sum(_examinations(config, presets, n_test, each) for each in paces),
                "report": n_systems * REPORT_S,
            }
            n_forward = round(n_train + n_test * (1 + n_systems * asked))
            where = (trial.cohort.name, trial.split.protocol, trial.split.seed)
            yield Cost(*where, model, pace.engine, n_train, n_test, n_forward, stages)


def counted(config: StudyConfig, trials: "Sequence[Trial]") -> Iterator[Cost]:
    """Yield what is asked of every network that is brought, of which nothing is timed: it is not loaded.

    Args:
        config: as `estimate`.
        trials: likewise.
    """
    each = passes_of(presets_of(config), config)
    for trial in trials:
        for model in config.names:
            n_test = len(trial.split.test)
            where = (trial.cohort.name, trial.split.protocol, trial.split.seed)
            yield Cost(*where, model, config.engine, 0, n_test, round((1 + len(config.defence)) * n_test * each), {})


def _training(config: StudyConfig, n_train: int, n_test: int, pace: Pace) -> float:
    n_steps = math.ceil(n_train / config.batch_size)
    return config.epochs * (n_steps * pace.step_s + (n_train + n_test) * pace.head_s)


def _defences(defences: Sequence[Defence], n_train: int, pace: Pace) -> float:
    """Return the seconds that all defences take to learn in float32; where bfloat16 is taken, about half of it."""
    return sum(defence.passes(n_train) for defence in defences) * pace.alone_gradient_s / PASSES_PER_GRADIENT


def _defended(pace: Pace, system: Sequence[tuple[str, Entry, Defence]]) -> Pace:
    """Return the pace of a defended classifier, from that of the classifier without defence."""
    passes = math.prod(defence.answer_passes for _, _, defence in system)
    gradients = math.prod(defence.gradient_passes for _, _, defence in system)
    answer_s, climb_s, engine = pace.answer_s, pace.climb_s, pace.engine
    if any(entry.kind in AROUND for _, entry, _ in system):
        answer_s, climb_s, engine = pace.confirm_s, pace.gradient_s, "torch"
    return pace._replace(
        engine=engine,
        answer_s=passes * answer_s,
        confirm_s=passes * pace.confirm_s,
        alone_s=passes * pace.alone_s,
        gradient_s=gradients * pace.gradient_s,
        climb_s=gradients * climb_s,
        alone_gradient_s=gradients * pace.alone_gradient_s,
    )


def _sweeps(presets: Sequence[Preset], n_test: int, config: StudyConfig, pace: Pace, device: str) -> float:
    """Return the seconds of all cells, of which so many go on at once as there are workers."""
    works = [work_of(preset, config) for preset in presets]
    busy_s = n_test * sum(_image(work, config, pace) for work in works)
    learning_s = sum(work.learned for work in works) * pace.alone_gradient_s
    return busy_s * _idle(config, len(presets), n_test, device) + learning_s


def _image(work: Work, config: StudyConfig, pace: Pace) -> float:
    """Return the seconds that one image takes under one preset."""
    image_s = work.gradients * pace.gradient_s + work.climbs * pace.climb_s + work.answers * pace.answer_s
    image_s += sum(n * pace.asked_s[storage] for storage, n in work.asked.items())
    image_s += work.rows * pace.seen_s + work.costly * pace.costly_s
    if pace.engine != "torch":
        image_s += work.confirmed * pace.confirm_s
    return image_s + _listeners(config) * work.rows * pace.answer_s


def _listeners(config: StudyConfig) -> float:
    """Return to how many others a classifier's images are shown, on average over a model and its defended forms."""
    n_systems = 1 + len(config.defence)
    return len(config.model) * n_systems - 1 if config.transfer else len(config.defence) / n_systems


def _idle(config: StudyConfig, n_presets: int, n_test: int, device: str) -> float:
    """Return how much longer a sweep takes than if all workers were busy to its end."""
    size = 1 if config.native else SHARD_SIZE if device == "cpu" else GPU_SHARD_SIZE
    n_cells = n_presets * math.ceil(n_test / size)
    workers = config.workers or _workers(device)
    return math.ceil(n_cells / workers) * workers / n_cells


def _workers(device: str) -> int:
    import torch

    return default_workers(torch.device(device))


def _examinations(config: StudyConfig, presets: Sequence[Preset], n_test: int, pace: Pace) -> float:
    """Return the seconds of the pre-flights, of PGD's convergence and of the model observer."""
    n = min(N_IMAGES[config.effort], n_test)
    few = min(N_REPEATED, n)
    names = {preset.name for preset in presets}
    n_losses = ("paper" in names) + bool(names - {"paper"})
    # The margin's gradient is taken once for both losses; each is then followed a step and to the end of the range.
    passes = n + REPEATED_PASSES * few + n_losses * n
    gradients = n + REPEATED_GRADIENTS * few + n_losses * n + ("paper" in names) * n
    for preset in presets:
        if isinstance(preset.attack, Escalating):
            left = min(N_EXAMINED, math.ceil(n_test / 2))
            gradients += left * sum(steps_of(harder) for harder in preset.attack.harder().values())
    if "sound" in names and config.costly_epsilons and not config.native:
        gradients += min(N_OBSERVED, n_test)
    gradients += 2  # the pictures
    return passes * pace.alone_s + gradients * pace.alone_gradient_s
