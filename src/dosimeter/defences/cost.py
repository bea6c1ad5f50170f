"""What an answer of a classifier costs: measured, on images of noise."""

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dosimeter.attacks.base import Problem
from dosimeter.defences.base import pipeline
from dosimeter.models.base import Classifier

N_TIMED = 2
REPEATS = 3
PASSES_PER_GRADIENT = 2
"""A gradient is a forward and a backward pass, as `Defence.passes` counts them."""


class Cost(NamedTuple):
    """What one answer costs.

    Attributes:
        passes: of the base, for one image.
        answer_ms: the least of several times, on the classifier's device with the threads that torch has.
        megabytes: of all tensors.
    """

    passes: float
    answer_ms: float
    megabytes: float


def with_cost(classifier: Classifier) -> Classifier:
    """Return a classifier with what its answers cost, and its defences took to learn, on its card."""
    fit_s = sum(part.get("fit_s", 0.0) for part in classifier.card.get("defences", []))
    return classifier.with_card(cost={**cost_of(classifier)._asdict(), "fit_s": fit_s})


def learning_s(classifier: Classifier, text: str, n_images: int) -> float:
    """Return about how many seconds a pipeline needs to learn on so many images, from a timed gradient."""
    passes = sum(defence.passes(n_images) for _, _, defence in pipeline(text))
    if not passes:
        return 0.0
    images = torch.rand(N_TIMED, 3, *classifier.grid.shape, generator=torch.Generator().manual_seed(0))
    problem = Problem(classifier, images.to(classifier.device), torch.zeros(N_TIMED, dtype=torch.long))
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        problem.gradient(problem.images, "margin", "free")
        times.append(time.perf_counter() - started)
    return passes * min(times) / N_TIMED / PASSES_PER_GRADIENT


def cost_of(classifier: Classifier) -> Cost:
    """Return what one answer of a classifier costs, asked about a few images of noise together."""
    noise = torch.rand(N_TIMED, 3, *classifier.grid.shape, generator=torch.Generator().manual_seed(0))
    images = noise.to(classifier.device)
    seen: list[int] = []

    def note(module: nn.Module, given: Any) -> None:
        del module
        seen.append(len(given[0]) if given and isinstance(given[0], Tensor) else 1)

    hook = classifier.base.register_forward_pre_hook(note)
    times = []
    try:
        with torch.inference_mode():
            classifier(images)
            passes = sum(seen) / N_TIMED
            for _ in range(REPEATS):
                started = time.perf_counter()
                classifier(images)
                times.append(time.perf_counter() - started)
    finally:
        hook.remove()
    size = sum(tensor.numel() * tensor.element_size() for tensor in classifier.state_dict().values())
    return Cost(passes, 1000 * min(times) / N_TIMED, size / 1e6)
