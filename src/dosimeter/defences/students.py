"""What is trained of a classifier: its head, its last block too, or all of it, in a copy."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.private import private_copy

Part = Literal["head", "last", "all"]
"""What is trained: the head; the last block of the base too; everything."""

BASE, HEAD = "base.", "head."


class Student:
    """A network that is trained, and which of its parameters are.

    Everything stays in evaluation mode, so that batch normalisations keep their statistics; only dropouts of the head
    drop while weights are learned.

    Args:
        network: inputs (batch, ...), images or feature maps, to logits.
        learning: its parameters that are trained, by name.
        head: what of it takes feature maps, and has the dropouts.

    Attributes:
        bfloat16: whether passes are computed in it; weights are float32 in any case.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        learning: Mapping[str, nn.Parameter],
        *,
        head: nn.Module,
    ) -> None:
        self._network = network
        self._head = head
        self.learning = dict(learning)
        self._dropouts = [each for each in head.modules() if isinstance(each, _DropoutNd)]
        self.bfloat16 = False
        for parameter in self.learning.values():
            parameter.requires_grad_(True)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return logits (batch, n_classes), float32."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            return self._network(inputs).float()

    @contextmanager
    def practising(self) -> Iterator[None]:
        """Let dropouts drop."""
        for each in self._dropouts:
            each.train()
        try:
            yield
        finally:
            for each in self._dropouts:
                each.eval()

    def on_maps(self) -> "Student":
        """Return the student that is its head alone, with the same parameters."""
        return Student(self._head, self.learning, head=self._head)

    @property
    def is_head(self) -> bool:
        """Whether only the head learns, so that feature maps need to be computed once."""
        return all(name.startswith(HEAD) for name in self.learning)

    def learned(self) -> dict[str, Tensor]:
        """Return copies of what it has learned so far, by name."""
        return {name: parameter.detach().clone() for name, parameter in self.learning.items()}

    def recall(self, learned: Mapping[str, Tensor]) -> None:
        """Go back to what `learned` returned."""
        with torch.no_grad():
            for name, parameter in self.learning.items():
                parameter.copy_(learned[name])


def opened(classifier: Classifier, part: Part, *, name: str, anew: int | None = None) -> Student:
    """Return a student that is a copy of a classifier, without what stands around it.

    Args:
        part: of the base, the last block is what computes maps of the size of its last ones; a transformer, whose
            tokens keep their number, is one block. Where the head has no weights the base ends in the layer that
            decides, which then counts as the head.
        name: of the defence.
        anew: seed of new initial values of the head; None: it goes on from its own.

    Raises:
        DosimeterError: the classifier has an alarm, no gradient, or no such part that can be told apart.
    """
    if classifier.rejects:
        raise DosimeterError(
            f"defence {name} trains, so it must come before a detector. Begin with the undefended model."
        )
    if classifier.access != "gradients":
        raise DosimeterError(f"defence {name} trains weights, and the classifier is only asked. Take its network.")
    base, head = private_copy(classifier.base, classifier.head)
    copied = classifier.with_base(base, head)
    chosen = _chosen(copied, part, name)
    if anew is not None:
        deciding = [head] if _named(head, HEAD) else _layers_of_last_block(copied)[-1:]
        for each in deciding:
            begin_anew(each, seed=anew)
    return Student(lambda images: copied.head(copied.features(images)), chosen, head=head)


def with_learned(classifier: Classifier, learned: Mapping[str, Tensor]) -> Classifier:
    """Return a classifier whose parameters of the names in `learned` have those values; the one given stays.

    Names that begin with neither `BASE` nor `HEAD` tell of the training, and are no parameters.

    Raises:
        DosimeterError: there is no parameter of a name, or it has another shape.
    """
    base, head = private_copy(classifier.base, classifier.head)
    parts = {**_named(base, BASE), **_named(head, HEAD)}
    with torch.no_grad():
        for name, values in learned.items():
            if not name.startswith((BASE, HEAD)):
                continue
            if name not in parts or parts[name].shape != values.shape:
                raise DosimeterError(
                    f"what was learned does not fit the network: {name}. Train the defence on it again."
                )
            parts[name].copy_(values)
    return classifier.with_base(base, head)


def maps_of(classifier: Classifier, images: Tensor) -> Tensor:
    """Return the feature maps of images, without gradient."""
    with torch.no_grad():
        return classifier.features(images)


def begin_anew(network: nn.Module, *, seed: int) -> None:
    """Give a network's layers initial values as torch has them; linear ones Glorot's, and no bias, as heads begin."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif callable(reset := getattr(layer, "reset_parameters", None)):
                reset()


def _chosen(classifier: Classifier, part: Part, name: str) -> dict[str, nn.Parameter]:
    """Return the parameters of a part, by their names in the classifier."""
    head, base = _named(classifier.head, HEAD), _named(classifier.base, BASE)
    if part == "all":
        chosen = {**base, **head}
    else:
        layers = [] if part == "head" and head else _layers_of_last_block(classifier)
        if base and not layers and not (part == "head" and head):
            raise DosimeterError(
                f"defence {name} cannot tell apart the layers of a compiled network. Write {name}:part=all."
            )
        last = layers if part == "last" else layers[-1:]
        ids = {id(parameter) for layer in last for parameter in layer.parameters(recurse=False)}
        chosen = {key: parameter for key, parameter in base.items() if id(parameter) in ids} | head
    chosen = {key: parameter for key, parameter in chosen.items() if parameter.is_floating_point()}
    if not chosen:
        raise DosimeterError(
            f"defence {name} finds no weights to train in the {part} part of the network. Write {name}:part=all."
        )
    return chosen


def _named(network: nn.Module, prefix: str) -> dict[str, nn.Parameter]:
    return {f"{prefix}{name}": parameter for name, parameter in network.named_parameters()}


def _layers_of_last_block(classifier: Classifier) -> list[nn.Module]:
    """Return the base's layers with weights that run after its maps have reached their last height and width."""
    seen: list[tuple[nn.Module, torch.Size]] = []

    def note(layer: nn.Module, given: object, output: object) -> None:
        if isinstance(output, Tensor):
            seen.append((layer, output.shape))

    layers = [each for each in classifier.base.modules() if any(True for _ in each.parameters(recurse=False))]
    hooks = [each.register_forward_hook(note) for each in layers if not isinstance(each, torch.jit.ScriptModule)]
    try:
        with torch.no_grad():
            classifier.features(torch.zeros(1, 3, *classifier.grid.shape, device=classifier.device))
    finally:
        for hook in hooks:
            hook.remove()
    sides = [shape[2:] for _, shape in seen if len(shape) == 4]
    before = [place for place, (_, shape) in enumerate(seen) if len(shape) == 4 and shape[2:] != sides[-1]]
    return [layer for layer, _ in seen[max(before, default=-1) + 1 :]]
