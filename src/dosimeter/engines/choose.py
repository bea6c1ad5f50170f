"""Which engine computes a sweep: those that agree with torch on the user's own images, and of them the fastest."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib import metadata
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dosimeter.attacks.base import AttackError, Problem
from dosimeter.attacks.doses import perturb
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.cohorts.base import Cohort
from dosimeter.engines.base import Engine, EngineUnavailable, TorchEngine
from dosimeter.engines.batches import find_batch_size
from dosimeter.engines.compiled import CompiledEngine
from dosimeter.engines.ncnn import NcnnEngine
from dosimeter.engines.remembered import Choice, keep, recall
from dosimeter.engines.winograd import WinogradEngine
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.models.base import Classifier
from dosimeter.parallel import torch_threads

log = logging.getLogger(__name__)

LOGIT_TOLERANCE = 1e-4
"""Largest difference from torch's logits that an engine may show, as a share of the largest logit."""

N_CHECKED = 4
CHECKED_EPSILONS = (0.0, 1 / 255, 0.03)
"""Engines are asked so many images of the cohort, each at the next of these doses."""

GAIN = 0.9
"""`auto` leaves torch only for an engine that takes less than this share of its time."""

PASSES_PER_GRADIENT = 12
"""Forward passes that a sweep asks for each gradient, to weigh the two when engines are compared."""

WORTH_CHOOSING_S = 30.0
"""`auto` compares engines only for sweeps that torch would need longer for: comparing takes seconds."""

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
    """A few real images, and what of them engines are asked."""

    images: Tensor  # (n, 3, H, W), unperturbed
    labels: Tensor  # (n,)
    asked: Tensor  # (m, 3, H, W), perturbed


class _Reference(NamedTuple):
    """What torch says of a sample, and the seconds that it takes an image."""

    logits: Tensor  # (m, n_classes)
    pass_s: float
    gradient_s: float

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
    engine = _made(name, classifier, threads)
    with _refusing(name):
        if name != TorchEngine.name:
            image = torch.rand(1, 3, *classifier.grid.shape, generator=torch.Generator().manual_seed(0))
            _agree(name, engine.logits(image), TorchEngine(classifier).logits(image))
    return engine


def _made(name: str, classifier: Classifier, threads: int) -> Engine:
    """Return the engine `name` before it is compared with torch, or raise EngineUnavailable."""
    with _refusing(name):
        return ENGINES[name][0](classifier, threads)


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


def plan_engine(name: str, classifier: Classifier, cohort: Cohort, *, n_passes: int, refine: bool) -> EnginePlan:
    """Return the plan for sweeping `cohort`: `name`, or for "auto" the fastest engine that agrees with torch.

    Engines are compared as workers use them, a thread each.

    Args:
        name: a key of `ENGINES`, or "auto".
        cohort: the test images; the first few that can be read are what engines are checked on.
        n_passes: forward passes that the sweep will take, about.
        refine: whether the sweep refines flips: then every engine's gradients are torch's, and only answers differ.

    Raises:
        EngineUnavailable: the engine asked for by name is not available here, or does not agree with torch.
    """
    batch_size = find_batch_size(classifier)
    alone = classifier.device.type != "cpu" or classifier.access != "gradients" or len(classifier.rings) > 0
    if name == "torch" or (name == "auto" and alone):
        return EnginePlan("torch", batch_size)
    sample = _take_sample(classifier, cohort)
    if sample is None:
        return EnginePlan("torch", batch_size, refused={name: UNCHECKED})
    versions = {package: version for each in AUTOMATIC for package, version in engine_versions(each).items()}
    known = recall(classifier, refine=refine, versions=versions) if name == "auto" else None
    if known is not None and (plan := _as_before(known, classifier, sample, batch_size, n_passes)) is not None:
        return plan
    with torch_threads(1):
        reference = _refer(classifier, sample)
        if reference is None:
            return EnginePlan("torch", batch_size, refused={name: UNCHECKED})
        if name == "auto" and _is_short(reference.image_s, n_passes):
            return EnginePlan("torch", batch_size, image_s={"torch": reference.image_s})
        passed: dict[str, _Passed] = {}
        refused: dict[str, str] = {}
        for candidate in AUTOMATIC if name == "auto" else (name,):
            try:
                passed[candidate] = _try(candidate, classifier, sample, reference, refine=refine)
            except EngineUnavailable as refusal:
                if name != "auto":
                    raise
                refused[candidate] = str(refusal)
    image_s = {"torch": reference.image_s, **{candidate: each.image_s for candidate, each in passed.items()}}
    best = min(passed, key=lambda candidate: image_s[candidate], default="torch")
    if name == "auto" and image_s[best] > GAIN * image_s["torch"]:
        best = "torch"
    choice = Choice(name=best, image_s=image_s, refused=refused)
    if name == "auto":
        keep(choice, classifier, refine=refine, versions=versions)
    if best == "torch":
        return EnginePlan("torch", batch_size, image_s=image_s, refused=refused)
    return _planned(choice, passed[best].engine, passed[best].error, reference.logits, batch_size)


def _is_short(image_s: float, n_passes: int) -> bool:
    """Whether torch needs too little time for a sweep to compare engines; image_s is as in `EnginePlan`."""
    return image_s / PASSES_PER_GRADIENT * n_passes < WORTH_CHOOSING_S


def _planned(choice: Choice, engine: Engine, error: float, reference: Tensor, batch_size: int) -> EnginePlan:
    return EnginePlan(
        choice.name,
        batch_size,
        tolerance=float(f"{2 * _allowed(reference):.2g}"),  # both logits may be off; rounded, it names cells
        error=error,
        image_s=choice.image_s,
        refused=choice.refused,
        versions=engine_versions(choice.name),
        engine=engine,
    )


def _as_before(
    choice: Choice, classifier: Classifier, sample: _Sample, batch_size: int, n_passes: int
) -> EnginePlan | None:
    """Return the plan with the engine that was chosen before, if it agrees with torch on the sample; else None."""
    if choice.name == TorchEngine.name or _is_short(choice.image_s[TorchEngine.name], n_passes):
        return EnginePlan(TorchEngine.name, batch_size, image_s=choice.image_s, refused=choice.refused)
    reference = TorchEngine(classifier).logits(sample.asked)
    try:
        engine = _made(choice.name, classifier, threads=1)
        with _refusing(choice.name):
            error = _agree(choice.name, engine.logits(sample.asked), reference)
    except EngineUnavailable as refusal:
        log.info("the engine that was chosen before: %s", refusal)
        return None
    return _planned(choice, engine, error, reference, batch_size)


def _take_sample(classifier: Classifier, cohort: Cohort) -> _Sample | None:
    """Return the first images that can be read, each moved by random signs, or None if there are none."""
    images, labels = [], []
    for index in range(len(cohort)):
        try:
            case = cohort[index]
            images.append(classifier.prepare(case))
        except (DosimeterError, OSError, ValueError):
            continue  # the sweep itself reports it
        labels.append(case.label)
        if len(labels) == N_CHECKED:
            break
    if not images:
        return None
    stacked = torch.stack(images)
    signs = torch.randint(0, 2, stacked[0].shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    doses = [CHECKED_EPSILONS[index % len(CHECKED_EPSILONS)] for index in range(N_CHECKED)]
    asked = [perturb(stacked[index % len(stacked)], signs, dose) for index, dose in enumerate(doses)]
    return _Sample(stacked, torch.tensor(labels), torch.stack(asked))


def _refer(classifier: Classifier, sample: _Sample) -> _Reference | None:
    """Return what torch says of the sample, or None where it has no finite gradients: the sweep itself reports it."""
    try:  # answers first: they warm up for the gradient
        return _Reference(
            *_answer(TorchEngine(classifier), sample.asked), _climb(classifier, sample, classifier.device)
        )
    except (FloatingPointError, AttackError):
        return None


def _try(name: str, classifier: Classifier, sample: _Sample, reference: _Reference, *, refine: bool) -> _Passed:
    """Return the engine `name` with its time, or raise EngineUnavailable if it does not agree with torch."""
    engine = _made(name, classifier, threads=1)
    with _refusing(name):
        engine.logits(sample.asked[:1])  # compiles what it needs
        gradient_s = reference.gradient_s if refine else _climb(engine.network, sample, classifier.device)
        logits, pass_s = _answer(engine, sample.asked)
    return _Passed(engine, _agree(name, logits, reference.logits), gradient_s + PASSES_PER_GRADIENT * pass_s)


def _climb(network: nn.Module, sample: _Sample, device: torch.device) -> float:
    """Return the seconds that the gradient of an image takes."""
    started = time.perf_counter()
    images, labels = sample.images[:1].to(device), sample.labels[:1].to(device)
    FGSM().direction(Problem(network, images, labels))
    return time.perf_counter() - started


def _answer(engine: Engine, asked: Tensor) -> tuple[Tensor, float]:
    """Return the engine's logits of `asked` and the seconds that a forward pass takes an image."""
    started = time.perf_counter()
    answers = engine.logits(asked)
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
