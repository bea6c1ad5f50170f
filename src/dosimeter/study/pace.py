"""How fast this machine is: the units of a study's work, timed as the study does them, on a stand-in classifier."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dosimeter.attacks.base import Problem
from dosimeter.cache import temporary_cache
from dosimeter.cohorts.grids import Grid
from dosimeter.cohorts.trials import Trial
from dosimeter.engines.base import TorchEngine
from dosimeter.engines.choose import N_CHECKED, build_engine, plan_engine
from dosimeter.errors import DosimeterError
from dosimeter.models.backbones import Backbone, build_base, build_head
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import Classes, Findings
from dosimeter.models.fit import decided_by
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.parallel import default_workers, in_threads
from dosimeter.study.config import StudyConfig
from dosimeter.study.presets import presets_of
from dosimeter.study.workload import work_of
from dosimeter.sweeps.answers import Answers, Question, Target
from dosimeter.sweeps.paths import Ray
from dosimeter.visibility.measure import Reference

ROUNDS, LONG_S = 3, 0.6
"""Everything is done so often, the first time to warm up, or until it has taken so long in all."""

ALONE = 2.2
"""All cores on one image are not slower than this beside a core an image; where they seem so, others are at work."""

STEP = 0.01


class Pace(NamedTuple):
    """Seconds for an image on this machine, as a study does it: cells side by side, examinations one by one.

    Attributes:
        engine: the one that would be chosen.
        feature_s: reading an image and the base alone, for training.
        answer_s, confirm_s: a forward pass in the sweep, of the engine and of torch.
        gradient_s, climb_s: a gradient there, through torch and through the engine's network.
        alone_s, alone_gradient_s: a forward pass and a gradient of torch on all cores.
        asked_s: storing, digesting and measuring the dose of one image, by storage.
        seen_s, costly_s: measuring visibility, and the costly metrics on top.
        step_s: one training step of the head; head_s: one image through it.
        choosing_s: choosing the engine; again_s: once more for another classifier on the same base.
    """

    engine: str
    feature_s: float
    answer_s: float
    confirm_s: float
    gradient_s: float
    climb_s: float
    alone_s: float
    alone_gradient_s: float
    asked_s: dict[str, float]
    seen_s: float
    costly_s: float
    step_s: float
    head_s: float
    choosing_s: float
    again_s: float


def measure(
    config: StudyConfig, backbone: Backbone, trial: Trial, *, n_passes: int, batch_size: int, device: str
) -> Pace:
    """Return how fast this machine is with `backbone`, whose base has random weights here: what they are costs nothing.

    Args:
        config: the study's settings.
        trial: gives the images.
        n_passes: forward passes that the sweep will take, about.
        batch_size: of training.
        device: "cpu", "cuda" or "mps".
    """
    classifier = stand_in(backbone, config, decided_by(trial.cohort)).to(device)
    image, label = _image(classifier, trial)
    step_s, head_s = _training(classifier, backbone, batch_size)  # first: its memory is free again for the engines
    with temporary_cache():
        started = time.perf_counter()
        plan = plan_engine(config.engine, classifier, trial.split.test, n_passes=n_passes, refine=True)
        choosing_s = time.perf_counter() - started
        engine = plan.engine or build_engine(plan.name, classifier, threads=1)
    workers = config.workers or default_workers(classifier.device)
    batch = image.expand(plan.batch_size, -1, -1, -1).contiguous()
    torch_engine = TorchEngine(classifier)

    def climb(network: nn.Module) -> object:
        problem = Problem(network, image.to(classifier.device), label.to(classifier.device))
        return problem.gradient(problem.images, "margin", "tied")

    def read() -> None:
        with suppress(DosimeterError, OSError, ValueError):  # the study names it
            classifier.prepare(trial.split.test[0])

    answer_s = _seconds(lambda: engine.logits(batch), workers) / len(batch)
    same = engine.name == TorchEngine.name
    confirm_s = answer_s if same else _seconds(lambda: torch_engine.logits(image), workers)
    gradient_s = _seconds(lambda: climb(classifier), workers)
    lonely = workers == torch.get_num_threads() == 1
    alone_s = confirm_s if lonely else min(_alone(lambda: torch_engine.logits(image)), ALONE * confirm_s)
    presets = presets_of(config)
    searches = any(work_of(preset, config).climbs for preset in presets) and engine.network is not classifier
    seen_s, costly_s = _visibility(image[0], workers)
    return Pace(
        engine=plan.name,
        feature_s=_seconds(read, default_workers(classifier.device)) + confirm_s,  # the head is next to nothing
        answer_s=answer_s,
        confirm_s=confirm_s,
        gradient_s=gradient_s,
        climb_s=_seconds(lambda: climb(engine.network), workers) if searches else gradient_s,
        alone_s=alone_s,
        alone_gradient_s=gradient_s * alone_s / confirm_s,  # all cores gain as much
        asked_s={
            storage: _asking(image[0], storage, classifier.grid, workers)
            for storage in {storage for preset in presets for storage in preset.storages}
        },
        seen_s=seen_s,
        costly_s=costly_s,
        step_s=step_s,
        head_s=head_s,
        choosing_s=choosing_s,
        again_s=0.0 if same else N_CHECKED * (alone_s + answer_s * workers),
    )


def stand_in(backbone: Backbone, config: StudyConfig, decided: Classes | Findings) -> Classifier:
    """Return a classifier on `backbone` with random weights, which computes as one with the true weights does."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in backbone.build().state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            continue
        if len(shape) > 1:
            state[name] = torch.randn(shape, generator=generator) * (2 / shape[1:].numel()) ** 0.5
        else:
            state[name] = torch.full(shape, float(name.endswith(("running_var", "weight"))))
    spec = backbone.head if config.pool is None else replace(backbone.head, pool=config.pool)
    head = build_head(backbone, spec, n_classes=len(decided.names), generator=generator)
    how = {"preprocessing": PREPROCESSINGS["minus1to1"], "size_px": backbone.size_px}
    return Classifier(build_base(backbone, state), head, classes=decided, card={"model": backbone.name}, **how)  # type: ignore[arg-type]


def _image(classifier: Classifier, trial: Trial) -> tuple[Tensor, Tensor]:
    """Return a test image (1, 3, H, W) and its label (1,); noise where none can be read."""
    for index in range(len(trial.split.test)):
        with suppress(DosimeterError, OSError, ValueError):  # the study names it
            case = trial.split.test[index]
            return classifier.prepare(case)[None], torch.tensor([case.label])
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, *classifier.grid.shape, generator=generator), torch.zeros(1, dtype=torch.long)


def _seconds(function: Callable[[], object], workers: int) -> float:
    """Return the seconds that a call takes where `workers` go on at once, each with one thread."""

    def calls(n: int) -> Iterator[object]:
        return in_threads(lambda _: function(), range(n), workers=workers)

    return _alone(lambda: list(calls(workers))) / workers


def _alone(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes with all of torch's threads, the median of a few: others may be at work."""

    def timed() -> float:
        started = time.perf_counter()
        function()
        return time.perf_counter() - started

    taken = [timed()]
    while len(taken) < ROUNDS and sum(taken) < LONG_S:
        taken.append(timed())
    return sorted(taken)[(len(taken) - 1) // 2]  # of an even number the shorter: the first is never short


def _asking(image: Tensor, storage: str, grid: Grid, workers: int) -> float:
    """Return the seconds for one question beside its forward pass."""
    signs = torch.randint(0, 2, image.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    target = Target("", 0, image, Ray(signs))

    def ask() -> object:
        answers = Answers(_Nothing(), attack="fgsm", batch_size=1, grid=grid)
        return answers.ask([Question(target, storage, STEP), Question(target, storage, 2 * STEP)])

    return _seconds(ask, workers) / 3  # two, and the unperturbed image


class _Nothing:
    """An engine that answers at once."""

    name = "nothing"
    network = nn.Identity()

    def logits(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 2)


def _visibility(image: Tensor, workers: int) -> tuple[float, float]:
    reference, moved = Reference(image), (image + STEP).clamp(0, 1)
    cheap = _seconds(lambda: reference.seen(moved, costly=False), workers)
    return cheap, max(_seconds(lambda: reference.seen(moved, costly=True), workers) - cheap, 0.0)


def _training(classifier: Classifier, backbone: Backbone, batch_size: int) -> tuple[float, float]:
    """Return the seconds of one training step of the head and of one image through it."""
    head = classifier.head.requires_grad_(True)
    optimizer = torch.optim.Adam(head.parameters(), fused=True)
    maps = torch.zeros(batch_size, *backbone.map_shape, device=classifier.device)

    def step() -> None:
        optimizer.zero_grad()
        head(maps).sum().backward()
        optimizer.step()

    step_s = _alone(step)
    optimizer.zero_grad()
    head.requires_grad_(False)
    with torch.inference_mode():
        return step_s, _alone(lambda: head(maps)) / batch_size
