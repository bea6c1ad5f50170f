"""Which engine computes a sweep: those that agree with torch on the user's own images, and of them the fastest."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib import metadata
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from dosimeter.attacks.base import AttackError, Problem, perturb
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.cohorts.base import Cohort
from dosimeter.engines.base import Engine, EngineUnavailable, TorchEngine
from dosimeter.engines.compiled import CompiledEngine
from dosimeter.engines.ncnn import NcnnEngine
from dosimeter.engines.winograd import WinogradEngine
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.models.base import Classifier
from dosimeter.parallel import torch_threads

log = logging.getLogger(__name__)

LOGIT_TOLERANCE = 1e-4
"""Largest difference from torch's logits that an engine may show, as a share of the largest logit."""

N_CHECKED = 4
CHECKED_EPSILONS = (0.0, 1 / 255, 0.03)

GAIN = 0.9
"""`auto` leaves torch only for an engine that takes less than this share of its time."""

PASSES_PER_GRADIENT = 12
"""Forward passes that a sweep asks for each gradient, to weigh the two when engines are compared."""

WORTH_CHOOSING_S = 30.0
"""`auto` compares engines only for sweeps that torch would need longer for: comparing takes seconds."""

LAYER_BYTES = {"cpu": 64 << 20, "cuda": 2 << 30, "mps": 512 << 20}
"""Input and output of the largest layer that one batch may take: on a CPU larger ones fall out of the caches."""

MAX_BATCH = 64

ENGINES: dict[str, tuple[Callable[[Classifier, int], Engine], str]] = {
    "torch": (lambda classifier, threads: TorchEngine(classifier), "the reference: the network as it is"),
    "winograd": (
        lambda classifier, threads: WinogradEngine(classifier),
        "folded batch normalisation, fast 3 x 3 convolutions, gradients too; CPU, needs numba",
    ),
    "ncnn": (
        lambda classifier, threads: NcnnEngine(classifier, threads=threads),
        "the base converted to ncnn, gradients as winograd's; CPU, needs ncnn and pnnx",
    ),
    "compile": (
        lambda classifier, threads: CompiledEngine(classifier),
        "torch.compile; needs a C++ compiler, and a minute to compile; never chosen by auto",
    ),
}
AUTOMATIC = ("winograd", "ncnn")
PACKAGES = {"winograd": ("numba",), "ncnn": ("ncnn", "pnnx", "numba")}
UNCHECKED = "No image gave finite answers and gradients to check an engine on: torch computes the sweep."


@dataclass(frozen=True)
class EnginePlan:
    """How a classifier's sweep is computed.

    Attributes:
        name: a key of `ENGINES`.
        batch_size: images per forward pass.
        tolerance: a decision whose two best logits are closer than this is made by torch. 0 for torch itself.
        error: the largest difference from torch's logits that was seen, in logits.
        image_s: seconds for one gradient and PASSES_PER_GRADIENT forward passes, by engine that agreed with torch. The
            gradient is torch's if the sweep refines flips.
        refused: what spoke against the others, by engine.
        versions: of the packages that the engine needs beside torch.
        engine: the engine itself, if it was built to be checked.
    """

    name: str
    batch_size: int
    tolerance: float = 0.0
    error: float = 0.0
    image_s: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    engine: Engine | None = field(default=None, repr=False, compare=False)

    @property
    def identity(self) -> str:
        """The engine and the versions that its answers depend on, beside torch's."""
        return " ".join([self.name, *(f"{package}-{version}" for package, version in sorted(self.versions.items()))])

    def to_dict(self) -> dict[str, Any]:
        """Return the plan for a JSON file: without the engine, and without sentences that may name a folder."""
        return {key.name: getattr(self, key.name) for key in fields(self) if key.name not in ("engine", "refused")}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "EnginePlan":
        """Return the plan that `to_dict` wrote, whatever else stands beside it."""
        names = {key.name for key in fields(cls)} - {"engine", "refused"}
        return cls(**{name: value for name, value in facts.items() if name in names})


class _Sample(NamedTuple):
    """What torch says of a few real images and their perturbations."""

    images: Tensor  # (n, 3, H, W)
    labels: Tensor
    signs: Tensor  # (n, 3, H, W), of the gradients
    gradient_s: float  # of one image
    logits: Tensor  # (n * len(CHECKED_EPSILONS), n_classes)
    pass_s: float  # of one image

    @property
    def image_s(self) -> float:
        return self.gradient_s + PASSES_PER_GRADIENT * self.pass_s


class _Passed(NamedTuple):
    """An engine that agrees with torch."""

    engine: Engine
    error: float
    image_s: float


def check_name(name: str) -> None:
    """Raise DosimeterError, listing the names, unless `name` is an engine or "auto"."""
    if name not in (known := ("auto", *ENGINES)):
        raise DosimeterError(f"engine '{name}' is not known. {did_you_mean(name, known)}")


def build_engine(name: str, classifier: Classifier, *, threads: int) -> Engine:
    """Return the engine called `name` for `classifier`, each call using `threads` threads.

    It has compared itself with torch on one random image, wherever and for whatever run it is built.

    Raises:
        EngineUnavailable: it cannot serve this classifier on this machine, or does not agree with torch.
    """
    with _refusing(name):
        engine = ENGINES[name][0](classifier, threads)
        if name != TorchEngine.name:
            image = torch.rand(1, 3, *classifier.grid.shape, generator=torch.Generator().manual_seed(0))
            _agree(name, engine.logits(image), TorchEngine(classifier).logits(image))
    return engine


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Raise EngineUnavailable for whatever the block raises.

    A tracer, a compiler or a package without a folder to write to may raise anything, also at an engine's first call.
    """
    try:
        yield
    except EngineUnavailable:
        raise
    except Exception as error:
        log.info("the %s engine: %s", name, error)
        reason = type(error).__name__
        raise EngineUnavailable(
            f"The {name} engine cannot serve this classifier ({reason}). Use --engine torch."
        ) from error


def engine_versions(name: str) -> dict[str, str]:
    """Return the versions of the packages that the engine needs beside torch; "none" for one that is missing."""
    found = {}
    for package in PACKAGES.get(name, ()):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def plan_engine(
    name: str, classifier: Classifier, cohort: Cohort, *, n_passes: int, refine: bool, n_images: int = N_CHECKED
) -> EnginePlan:
    """Return the plan for sweeping `cohort`: `name`, or for "auto" the fastest engine that agrees with torch.

    Engines are compared as workers use them, a thread each.

    Args:
        name: a key of `ENGINES`, or "auto".
        cohort: the test images; the first few that can be read are what engines are checked on.
        n_passes: forward passes that the sweep will take, about.
        refine: whether the sweep refines flips: then every engine's gradients are torch's, and only answers differ.
        n_images: of the cohort that engines are checked and timed on.

    Raises:
        EngineUnavailable: the engine asked for by name is not available here, or does not agree with torch.
    """
    batch_size = find_batch_size(classifier)
    alone = classifier.device.type != "cpu" or classifier.access != "gradients" or len(classifier.rings) > 0
    if name == "torch" or (name == "auto" and alone):
        return EnginePlan("torch", batch_size)
    with torch_threads(1):
        sample = _take_sample(classifier, cohort, n_images)
        if sample is None:
            return EnginePlan("torch", batch_size, refused={name: UNCHECKED})
        short = sample.image_s / PASSES_PER_GRADIENT * n_passes < WORTH_CHOOSING_S
        automatic = () if short else AUTOMATIC
        passed: dict[str, _Passed] = {}
        refused: dict[str, str] = {}
        for candidate in automatic if name == "auto" else (name,):
            try:
                passed[candidate] = _try(candidate, classifier, sample, refine=refine)
            except EngineUnavailable as refusal:
                if name != "auto":
                    raise
                refused[candidate] = str(refusal)
    image_s = {"torch": sample.image_s, **{candidate: each.image_s for candidate, each in passed.items()}}
    best = min(passed, key=lambda candidate: image_s[candidate], default="torch")
    if best == "torch" or (name == "auto" and image_s[best] > GAIN * image_s["torch"]):
        return EnginePlan("torch", batch_size, image_s=image_s, refused=refused)
    return EnginePlan(
        best,
        batch_size,
        tolerance=float(f"{2 * _allowed(sample.logits):.2g}"),  # both logits may be off; rounded, it names cells
        error=passed[best].error,
        image_s=image_s,
        refused=refused,
        versions=engine_versions(best),
        engine=passed[best].engine,
    )


def find_batch_size(classifier: Classifier) -> int:
    """Return how many images to ask at once: as many as keep the largest layer's maps within `LAYER_BYTES`.

    Layers of a scripted or traced graph cannot be watched: the largest is then taken for VGG16's, 64 maps in and out.
    """
    graphs = any(isinstance(layer, torch.jit.ScriptModule | fx.GraphModule) for layer in classifier.modules())
    largest = 2 * 64 * 4 * math.prod(classifier.grid.shape) if graphs else 1

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        tensors = [tensor for tensor in (*inputs, output) if isinstance(tensor, Tensor)]
        largest = max(largest, sum(tensor.nbytes for tensor in tensors))

    leaves = [layer for layer in classifier.modules() if not any(layer.children())]
    leaves = [layer for layer in leaves if not isinstance(layer, torch.jit.ScriptModule)]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    try:
        with torch.inference_mode():
            classifier(torch.zeros(1, 3, *classifier.grid.shape, device=classifier.device))
    finally:
        for hook in hooks:
            hook.remove()
    return max(1, min(MAX_BATCH, LAYER_BYTES[classifier.device.type] // largest))


def _take_sample(classifier: Classifier, cohort: Cohort, n_images: int) -> _Sample | None:
    images, labels = [], []
    for index in range(len(cohort)):
        try:
            case = cohort[index]
            images.append(classifier.prepare(case))
        except (DosimeterError, OSError, ValueError):
            continue  # the sweep itself reports it
        labels.append(case.label)
        if len(images) == n_images:
            break
    if not images:
        return None
    reference = TorchEngine(classifier)
    stacked, true = torch.stack(images), torch.tensor(labels)
    try:
        signs, gradient_s = _aim(classifier, stacked, true, classifier.device)
    except (FloatingPointError, AttackError):  # the sweep itself reports it, if its attack needs a gradient
        return None
    return _Sample(stacked, true, signs, gradient_s, *_answer(reference, stacked, signs))


def _try(name: str, classifier: Classifier, sample: _Sample, *, refine: bool) -> _Passed:
    """Return the engine `name` with its time, or raise EngineUnavailable if it does not agree with torch."""
    engine = build_engine(name, classifier, threads=1)
    with _refusing(name):
        signs, gradient_s = sample.signs, sample.gradient_s
        if not refine:
            signs, gradient_s = _aim(engine.network, sample.images, sample.labels, classifier.device)
        logits, pass_s = _answer(engine, sample.images, signs)
    return _Passed(engine, _agree(name, logits, sample.logits), gradient_s + PASSES_PER_GRADIENT * pass_s)


def _aim(network: nn.Module, images: Tensor, labels: Tensor, device: torch.device) -> tuple[Tensor, float]:
    """Return the signs of the images' gradients through `network`, and the seconds that one takes."""
    attack = FGSM()

    def aim(index: int) -> Tensor:
        one = slice(index, index + 1)
        problem = Problem(network, images[one].to(device), labels[one].to(device))
        return attack.direction(problem).sign.cpu()

    aim(0)  # warms up what the timing is not about
    started = time.perf_counter()
    signs = torch.cat([aim(index) for index in range(len(images))])
    return signs, (time.perf_counter() - started) / len(images)


def _answer(engine: Engine, images: Tensor, signs: Tensor) -> tuple[Tensor, float]:
    """Return the logits of `images` pushed along `signs`, and the seconds that a forward pass takes an image."""
    engine.logits(images)  # warms up
    started = time.perf_counter()
    answers = torch.cat([engine.logits(perturb(images, signs, epsilon)) for epsilon in CHECKED_EPSILONS])
    return answers, (time.perf_counter() - started) / len(answers)


def _allowed(reference: Tensor) -> float:
    """Return how far an engine's logits may be from torch's."""
    return LOGIT_TOLERANCE * float(reference.abs().max())


def _agree(name: str, logits: Tensor, reference: Tensor) -> float:
    """Return the largest difference between logits, or raise EngineUnavailable if it is larger than allowed."""
    error, allowed = float((logits - reference).abs().max()), _allowed(reference)
    if not error <= allowed:  # written so that NaN is refused
        raise EngineUnavailable(
            f"The {name} engine differs from torch by {error:.2g} in a logit, {allowed:.2g} is allowed. "
            "Use --engine torch."
        )
    return error
