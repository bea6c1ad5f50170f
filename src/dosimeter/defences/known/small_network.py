"""Defence: a small network, trained from nothing, answers instead: what the frozen base of a large one costs.

Four convolutions of 16, 32, 64 and 64 maps with group normalisation, about 61,000 weights, on small images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from dosimeter import registry
from dosimeter.defences.base import Defence, Entry
from dosimeter.defences.learning import Method, Plan, teach
from dosimeter.defences.pools import Pool
from dosimeter.defences.resizing import Resized, smaller
from dosimeter.defences.settings import Dose, Within, described, parse
from dosimeter.defences.students import begin_anew, opened, with_learned
from dosimeter.defences.taught import STEP_PASSES, Taught
from dosimeter.defences.training import Training, nothing
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import get_preprocessing

NAME = "small_network"
PLAIN = "plain"
EPSILON = 0.009
MAPS = (16, 32, 64, 64)
GROUPS = 8
LARGE = 450
"""Passes of 56 x 56 pixels in the time of one of VGG16 of 224 x 224, as timed."""

PREPROCESSING = get_preprocessing("minus1to1")


@dataclass(frozen=True)
class SmallNetwork(Defence):
    """Trains a small network from nothing.

    Attributes:
        size: pixels of the shorter side that it looks at; those of the classifier where it looks at fewer.
        loss: "plain", or the name of a defence that trains, whose method it is trained by.
        epsilon: of that defence; by default 0.009.
        epochs, rate, batch: of its training (Adam).
    """

    size: Annotated[int, Within(8, 4096)] = 56
    loss: str = PLAIN
    epsilon: Dose | None = None
    epochs: Annotated[int, Within(1, 1000)] = 30
    rate: Annotated[float, Within(0, 1, above=True)] = 1e-3
    batch: Annotated[int, Within(1, 256)] = 8

    def learn(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None] = nothing
    ) -> dict[str, Tensor]:
        """Return the parameters of the network."""
        answering = self._answering(classifier)
        front = answering.front
        assert front is not None
        begin_anew(answering.base, seed=seed)
        inner = Classifier(
            answering.base,
            nn.Identity(),
            preprocessing=PREPROCESSING,
            size_px=self._sides(classifier),
            classes=answering.decisions,
            identity=NAME,
        )
        images = Pool.of(training, lambda given, _: front(given), batch=self.batch)
        student = opened(inner, "all", name=NAME)
        method = method_of(self)
        if method is not None:
            return method.taught(student, images, seed=seed, advance=advance)
        teach(student, images, Method(), Plan(self.epochs, self.rate, self.batch), seed=seed, advance=advance)
        return student.learned()

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the classifier that the network makes of the same images."""
        del seed
        return with_learned(self._answering(classifier), learned)

    def told(self, learned: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what the method that trains it has to say."""
        method = method_of(self)
        return {} if method is None else method.told(learned)

    def passes(self, n_images: int) -> float:
        """Return the passes, of which `LARGE` make one of a large network."""
        method = method_of(self)
        per_image = STEP_PASSES["all"] if method is None else method.per_image
        return n_images * self.epochs * per_image * self.answer_passes

    @property
    def answer_passes(self) -> float:
        """A pass of the small network beside one of a large."""
        return (self.size / 56) ** 2 / LARGE

    def _sides(self, classifier: Classifier) -> tuple[int, int]:
        return smaller(classifier.grid, min(self.size, *classifier.grid.shape))

    def _answering(self, classifier: Classifier) -> Classifier:
        """Return the classifier with an untrained small network in its network's place."""
        network = small_network(len(classifier.classes)).to(classifier.device)
        resized = classifier.behind(Resized(classifier.grid.shape, self._sides(classifier)))
        return resized.normalised(PREPROCESSING).with_base(network, nn.Identity())


def small_network(n_outputs: int) -> nn.Sequential:
    """Return the network: images (batch, 3, H, W) to logits (batch, n_outputs)."""
    layers: list[nn.Module] = []
    before = 3
    with torch.random.fork_rng():  # layers draw values from the global generator, and get others later
        for maps in MAPS:
            convolution = nn.Conv2d(before, maps, 3, padding=1)
            layers += [convolution, nn.GroupNorm(GROUPS, maps), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            before = maps
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, n_outputs))


def method_of(settings: SmallNetwork) -> Taught | None:
    """Return the defence that a small network is trained by, with its settings; None: plainly.

    Raises:
        DosimeterError: there is none of that name, or it is not a method for any network.
    """
    if settings.loss == PLAIN:
        _require_no_epsilon(settings)
        return None
    if settings.loss not in registry.names("defences") or (found := _trains(settings.loss)) is None:
        known = [PLAIN, *(name for name in registry.names("defences") if _trains(name) is not None)]
        raise DosimeterError(
            f"defence {NAME}: loss must be {PLAIN} or a defence that trains any network, got '{settings.loss}'. "
            f"{did_you_mean(settings.loss, known)}"
        )
    given: dict[str, Any] = {"part": "all", "epsilon": settings.epsilon or EPSILON, "rate": settings.rate}
    given |= {"epochs": settings.epochs, "batch": settings.batch}
    own = {field.name for field in fields(found)}
    if "epsilon" not in own:
        _require_no_epsilon(settings)
    return replace(found, **{key: value for key, value in given.items() if key in own})


def _require_no_epsilon(settings: SmallNetwork) -> None:
    if settings.epsilon is not None:
        raise DosimeterError(f"defence {NAME}: epsilon is of no use with loss={settings.loss}. Leave it out.")


def _trains(name: str) -> Taught | None:
    """Return the defence of that name if it is a method for any network."""
    entry: Entry = registry.get("defences", name)
    found = entry.build("") if entry.kind == "training" else None
    return found if isinstance(found, Taught) and found.is_method else None


def build(setting: str) -> SmallNetwork:
    """Return it with its settings.

    Raises:
        DosimeterError: one is unusable.
    """
    settings = parse(SmallNetwork, setting, name=NAME)
    method_of(settings)
    return settings


ENTRY = Entry(
    build=build,
    note=f"a network of 61,000 weights, trained from nothing, answers; {described(SmallNetwork)}",
    title="small network",
    kind="training",
    source="own",
)
