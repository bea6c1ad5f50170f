"""What a study will cost, from a few timed passes on this machine."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from dosimeter.attacks.presets import choose
from dosimeter.attacks.registry import passes
from dosimeter.config import StudyConfig
from dosimeter.models.backbones import Backbone, build_head, get_backbone
from dosimeter.storage.base import STORAGES

if TYPE_CHECKING:
    from dosimeter.trials import Trial

FLIP_IN_FORWARDS = 5
"""Bisection steps of an average flip epsilon."""


class Cost(NamedTuple):
    """The expected cost of one model on one trial."""

    cohort: str
    protocol: str
    seed: int
    model: str
    n_train: int
    n_test: int
    n_forward: int
    duration_s: float


def forwards_per_case(config: StudyConfig) -> float:
    """Return how many forward passes the sweep of one case takes, distinct images counted once."""
    doses = [epsilon for epsilon in config.epsilons if epsilon > 0]
    distinct = {name: _distinct(doses, storage.levels) for name, storage in STORAGES.items()}
    presets = choose(config.preset, config.attack, config.effort, config.storages)
    return sum(passes(preset.attack) + sum(distinct[storage] for storage in preset.storages) for preset in presets)


def _distinct(doses: Sequence[float], levels: int) -> int:
    """Return how many images differ once they are stored with so many `levels`, 0 being floats."""
    if not levels:
        return len(doses) + FLIP_IN_FORWARDS
    return len({round(epsilon * levels) for epsilon in doses} - {0})


def estimate(config: StudyConfig, trials: "Sequence[Trial]") -> Iterator[Cost]:
    """Yield the cost of every model on every trial, on this machine's CPU and with nothing cached."""
    for model in config.model:
        backbone = get_backbone(model)
        n_largest = max((len(trial.split.train) for trial in trials), default=1)
        step_s = _step_seconds(backbone, config, min(config.batch_size, n_largest))
        forward_s = _forward_seconds(backbone)
        for trial in trials:
            n_train, n_test = len(trial.split.train), len(trial.split.test)
            n_forward = round(n_train + n_test + n_test * forwards_per_case(config))
            n_steps = config.epochs * math.ceil(n_train / config.batch_size)
            duration_s = n_forward * forward_s + n_steps * step_s
            yield Cost(
                trial.cohort.name, trial.split.protocol, trial.split.seed, model, n_train, n_test, n_forward, duration_s
            )


def _forward_seconds(backbone: Backbone) -> float:
    with torch.device("meta"):
        base = backbone.build()
    base = base.to_empty(device="cpu").eval().to(memory_format=torch.channels_last)
    for tensor in base.state_dict().values():
        tensor.zero_()
    image = torch.zeros(1, 3, backbone.size_px, backbone.size_px).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        base(image)
        started = time.perf_counter()
        base(image)
    return time.perf_counter() - started


def _step_seconds(backbone: Backbone, config: StudyConfig, batch_size: int) -> float:
    """Return the seconds of one training step of the head on a batch, the second, when the optimiser's state exists."""
    spec = backbone.head if config.pool is None else replace(backbone.head, pool=config.pool)
    head = build_head(backbone, spec, n_classes=2, generator=torch.Generator())
    optimizer = torch.optim.Adam(head.parameters(), fused=True)
    maps = torch.zeros(batch_size, *backbone.map_shape)
    started = 0.0
    for _ in range(2):
        started = time.perf_counter()
        optimizer.zero_grad()
        head(maps).sum().backward()
        optimizer.step()
    return time.perf_counter() - started
