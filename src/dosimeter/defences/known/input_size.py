"""Defence: the network looks at fewer pixels, to which images are resized inside; its head is fitted to them anew.

It is attacked through its resize, under the same threat model: the classifier's images keep their size.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from dosimeter.defences.base import Defence, Entry
from dosimeter.defences.learning import Method, Plan, teach
from dosimeter.defences.pools import Pool
from dosimeter.defences.resizing import Resized, smaller
from dosimeter.defences.settings import Within, described, parse
from dosimeter.defences.students import HEAD, Student, begin_anew, maps_of, opened, with_learned
from dosimeter.defences.training import Training, nothing
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier

QUARTER = 4
USUAL_PX = 224


@dataclass(frozen=True)
class InputSize(Defence):
    """Has a network look at fewer pixels.

    A network that takes images of one size alone is given them enlarged again: what was between the pixels is lost all
    the same.

    Attributes:
        size: pixels of the shorter side; by default a quarter of the classifier's own.
        epochs, rate, batch: of fitting the head (Adam).
    """

    size: Annotated[int, Within(8, 4096)] | None = None
    epochs: Annotated[int, Within(1, 1000)] = 25
    rate: Annotated[float, Within(0, 1, above=True)] = 1e-3
    batch: Annotated[int, Within(1, 256)] = 8

    def learn(
        self, classifier: Classifier, training: Training, *, seed: int, advance: Callable[[int], None] = nothing
    ) -> dict[str, Tensor]:
        """Return the parameters of the head, fitted to the smaller maps; of a whole network, its last layer's."""
        shrunk = self._shrunk(classifier)
        plan = Plan(self.epochs, self.rate, self.batch)
        if not any(True for _ in shrunk.head.parameters()):
            student = opened(shrunk, "head", name="input_size")
            teach(student, training, Method(), plan, seed=seed, advance=advance)
            return student.learned()
        begin_anew(shrunk.head, seed=seed)
        learning = {f"{HEAD}{name}": parameter for name, parameter in shrunk.head.named_parameters()}
        student = Student(shrunk.head, learning, head=shrunk.head)
        pool = Pool.of(training, lambda images, _: maps_of(shrunk, images), batch=self.batch, advance=advance)
        teach(student, pool, Method(), plan, seed=seed)
        return student.learned()

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        """Return the classifier of smaller images, with its fitted head."""
        del seed
        return with_learned(self._shrunk(classifier), learned)

    def passes(self, n_images: int) -> float:
        """Return the passes: the maps of each image are computed once, on so many fewer pixels than a usual 224."""
        return n_images * self.answer_passes

    @property
    def answer_passes(self) -> float:
        """The share of pixels that are left of a usual 224 by 224."""
        share = 1 / QUARTER if self.size is None else min(1.0, self.size / USUAL_PX)
        return share**2

    def _shrunk(self, classifier: Classifier) -> Classifier:
        """Return the classifier of smaller images, with a head of its own that takes their maps."""
        own = min(classifier.grid.shape)
        size = max(1, own // QUARTER) if self.size is None else self.size
        if size >= own:
            raise DosimeterError(
                f"defence input_size must be below the {own} pixels that the classifier looks at, got {size}. Write "
                f"input_size:{max(1, own // QUARTER)}."
            )
        wanted = smaller(classifier.grid, size)
        down = Resized(classifier.grid.shape, wanted)
        shrunk = classifier.behind(down)
        try:
            return shrunk.with_base(shrunk.base, head_for(shrunk))
        except (RuntimeError, ValueError, IndexError):  # of torch, where a layer does not take that size
            up = Resized(wanted, classifier.grid.shape)
            return classifier.behind(nn.Sequential(down, up)).with_base(classifier.base, copy.deepcopy(classifier.head))


def head_for(classifier: Classifier) -> nn.Module:
    """Return a copy of a classifier's head for the maps that its base makes now, with a first linear layer for them.

    Average pooling over more cells than there are becomes one over all.

    Raises:
        RuntimeError, ValueError, IndexError: base or head takes nothing of that size.
    """
    blank = torch.zeros(1, 3, *classifier.grid.shape, device=classifier.device)
    maps = maps_of(classifier, blank)
    head = copy.deepcopy(classifier.head)
    for layer in head.modules():
        if isinstance(layer, nn.AvgPool2d) and maps.ndim == 4:
            _fit_window(layer, maps.shape[2:])
    linear = next(((name, each) for name, each in head.named_modules() if isinstance(each, nn.Linear)), None)
    if linear is not None and linear[0]:
        name, layer = linear
        parent, _, last = name.rpartition(".")
        lazy = nn.LazyLinear(layer.out_features, bias=layer.bias is not None, device=maps.device, dtype=maps.dtype)
        setattr(head.get_submodule(parent), last, lazy)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        logits = head(maps)
    if tuple(logits.shape) != (1, len(classifier.classes)):
        raise ValueError(f"the head answers {tuple(logits.shape)}")
    return head


def _fit_window(layer: nn.AvgPool2d, sides: torch.Size) -> None:
    """Let a window be no larger than the maps."""

    def pair(value: int | tuple[int, int]) -> tuple[int, int]:
        return (value, value) if isinstance(value, int) else value

    window, stride = pair(layer.kernel_size), pair(layer.stride)
    if any(cells > side for cells, side in zip(window, sides, strict=True)):
        layer.kernel_size = min(window[0], sides[0]), min(window[1], sides[1])
        layer.stride = min(stride[0], sides[0]), min(stride[1], sides[1])


ENTRY = Entry(
    build=lambda setting: parse(InputSize, setting, name="input_size"),
    note=f"the network looks at fewer pixels inside, a quarter of them by default; {described(InputSize)}",
    title="input size",
    kind="training",
    source="own",
)
