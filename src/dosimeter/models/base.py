"""`Classifier`: images in [0, 1] in, logits out. It owns everything between, so epsilon always means image units."""

import copy
import functools
import logging
import secrets
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dosimeter.cohorts.base import Case, Decoded, of_finding
from dosimeter.cohorts.grids import Grid, grid_of
from dosimeter.errors import DosimeterError, did_you_mean, in_a_line
from dosimeter.models.decisions import Classes, Findings
from dosimeter.models.identity import identify, structure_of
from dosimeter.models.outputs import Finding
from dosimeter.models.preprocessing import Preprocessing
from dosimeter.models.private import check_parts, freeze, private_copy, set_mode
from dosimeter.models.queried import access_of
from dosimeter.models.rings import Ring, Seen

log = logging.getLogger(__name__)

LEARNING = (_DropoutNd, _BatchNorm)
"""Modules that answer otherwise in training mode."""

MAX_CLASSES = 32_767
"""The table's columns of labels hold two bytes."""


class ClassifierFailed(DosimeterError, RuntimeError):
    """The network inside a classifier, which a user may have made, raised something."""


class Classifier(nn.Module):
    """A frozen base and a trained head behind one call: `images in [0, 1] -> logits`.

    Base and head are copied: yours keep their mode, flags and layout, can be trained on, and what they learn afterwards
    does not change the classifier. Scripted modules and exported programs (with a dynamic batch) are networks too, in
    any floating-point type. It lives in evaluation mode; only `fit` trains, and only a head. Channel replication
    happens in `prepare`, so that an attack sees the three planes that the base is fed.

    Args:
        base: images after preprocessing -> feature map (batch, C, H, W), or whatever the head takes.
        head: feature map -> logits (batch, n_classes).
        preprocessing: what the base's weights expect, applied inside `forward`.
        size_px: side of the square image grid; or height and width; or a `Grid`, which says how images are resized.
        classes: names of the logits; or `models.decisions.Findings`, of which each is there or not.
        card: what is known of its making (see `fit`), saved beside the weights.
        identity: a name and version of all that determines the answers beside tensors, preprocessing, size and classes.
            By default the code and the settings of the network are read (see `fingerprint`); give it where they cannot
            be, as where the network asks a server, and another one whenever that changes.
        adopt: take base and head themselves instead of copies, without gradients and in evaluation mode from now on:
            for networks that nobody else uses, or that cannot be copied.
        channels_last: feed the base in that layout, because its weights are in it.

    Raises:
        DosimeterError: base or head is no network, has lazy layers that were never called, or cannot be copied.

    Example:
        >>> import dosimeter as dm
        >>> from dosimeter.models.preprocessing import PREPROCESSINGS
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.Flatten(), nn.Linear(196, 2))
        >>> dm.Classifier(
        ...     network, nn.Identity(), preprocessing=PREPROCESSINGS["unit"], size_px=32, classes=("clear", "opacity")
        ... )(torch.rand(5, 3, 32, 32)).shape
        torch.Size([5, 2])

    Source: the paper, section 2.3.
    """

    def __init__(
        self,
        base: nn.Module,
        head: nn.Module,
        *,
        preprocessing: Preprocessing,
        size_px: int | tuple[int, int] | Grid,
        classes: Sequence[str] | Classes | Findings,
        card: dict[str, Any] | None = None,
        identity: str | None = None,
        adopt: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        decided = classes if isinstance(classes, Classes | Findings) else Classes(tuple(classes))
        _check_making(preprocessing, decided.names)
        self.grid = grid_of(size_px)
        with torch.inference_mode(False):  # a caller's: what is made inside is of no use to gradients
            check_parts(base, head)
            self.base, self.head = (freeze(base), freeze(head)) if adopt else private_copy(base, head)
        self.preprocessing = preprocessing
        self.size_px = self.grid.size_px
        self.classes = decided.names
        self.findings = decided if isinstance(decided, Findings) else None
        self.card = dict(card or {})
        self.identity = identity
        self.channels_last = channels_last
        self.training = False
        self.token = secrets.token_hex(16)  # stands for what its identity cannot read; copies keep it
        self.declared_for = "" if identity is None else structure_of(self)

    def __call__(self, images: Tensor) -> Any:
        """Return what `forward` returns.

        Raises:
            ClassifierFailed: the network raised something.
        """
        try:
            return super().__call__(images)
        except (DosimeterError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # the user's network may raise anything
            raise ClassifierFailed(
                f"the classifier failed on images of shape {tuple(images.shape)} in [0, 1]: {in_a_line(error)}. "
                "Call it on such a tensor first."
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, n_classes) for images (batch, 3, *grid.shape) in [0, 1].

        One that `rejects` has an alarm behind them (batch, n_classes + 1), see `models.rings`.
        """
        return self.seen(images).outputs

    def seen(self, images: Tensor, depth: int | None = None) -> Seen:
        """Return what it says of images, with the innermost `depth` rings around it; all of them by default."""
        depth = len(self.rings) if depth is None else depth
        if depth:
            outputs: Tensor = self.rings[depth - 1](images, lambda given: self.seen(given, depth - 1))
            return Seen(outputs, lambda: self.features(images))
        maps = self.features(images)
        return Seen(_plain(self.head(_as_taken(maps, self.head))), lambda: maps)

    def certified(self, images: Tensor) -> Tensor | None:
        """Return the epsilon (batch,) within which the answers provably stay the same; None: nothing proves any."""
        for depth in range(len(self.rings), 0, -1):
            inside = functools.partial(self.seen, depth=depth - 1)
            with torch.inference_mode():
                found: Tensor | None = self.rings[depth - 1].certify(images, inside)
            if found is not None:
                return found
        return None

    def features(self, images: Tensor) -> Tensor:
        """Return the base's feature map (batch, C, H, W) for images (batch, 3, *grid.shape) in [0, 1]."""
        if self.front is not None:
            images = self.front(images)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        ready = self.preprocessing.apply(images).contiguous(memory_format=layout)
        maps: Tensor = self.base(_as_taken(ready, self.base, self.head))
        # The map goes on in plain layout: it is small, and heads then see one layout whatever our base prefers.
        return maps.contiguous(memory_format=torch.contiguous_format) if self.channels_last else maps

    def train(self, mode: bool = True) -> Self:
        """Set the mode, as of any module; exported programs have but one."""
        self.training = mode
        for part in self.children():
            set_mode(part, training=mode)
        return self

    def with_base(self, base: nn.Module, head: nn.Module | None = None) -> "Classifier":
        """Return this classifier with another base, and another head if one is given; all else is shared."""
        own = self.head if head is None else freeze(head)
        other = self._with(_modules={**self._modules, "base": freeze(base), "head": own})
        other.declared_for = "" if self.identity is None else structure_of(other)
        return other

    def behind(self, transform: nn.Module) -> "Classifier":
        """Return this classifier of images that go through `transform` before its base; all else is shared.

        Args:
            transform: images (batch, 3, size_px, size_px) in [0, 1] to images in [0, 1]; what a classifier already
                stands behind comes before it. Attacks differentiate it, see `models.transforms.Transform`.
        """
        stages = [transform] if self.front is None else [*self.front, transform]
        return self._with(_modules={**self._modules, "front": freeze(nn.Sequential(*stages))})

    def around(self, ring: Ring) -> "Classifier":
        """Return this classifier inside a ring; all else is shared.

        Args:
            ring: it asks what is inside, all that stood there before, and may refuse to answer (see `models.rings`).
        """
        rings = nn.ModuleList([*self.rings, ring])
        return self._with(_modules={**self._modules, "rings": freeze(rings)})

    def with_card(self, **facts: Any) -> "Classifier":
        """Return this classifier with more facts on its card; everything else is shared."""
        return self._with(card={**self.card, **facts})

    def on(self, grid: Grid) -> "Classifier":
        """Return this classifier with images resized otherwise to the same height and width."""
        assert grid.shape == self.grid.shape, (grid, self.grid)
        return self._with(grid=grid)

    def normalised(self, preprocessing: Preprocessing) -> "Classifier":
        """Return this classifier with other preprocessing."""
        return self._with(preprocessing=preprocessing)

    def _with(self, **attributes: Any) -> "Classifier":
        """Return this classifier with other attributes; all else is shared."""
        other = copy.copy(self)
        vars(other).update(attributes)
        return other

    def deciding(self, finding: str) -> "Classifier":
        """Return the classifier of two classes that one of its findings makes, with the same base and head.

        Raises:
            DosimeterError: it has no such finding.
        """
        if self.findings is None or finding not in self.findings.names:
            raise DosimeterError(f"there is no finding '{finding}'. {did_you_mean(finding, self.classes)}")
        place = self.findings.names.index(finding)
        other = copy.copy(self)
        head = nn.Sequential(self.head, Finding(place, self.findings.thresholds[place])).eval()
        other._modules = {**self._modules, "head": head}
        other.classes, other.findings = of_finding(finding), None
        other.declared_for = "" if self.identity is None else structure_of(other)
        return other

    def prepare(self, case: Case) -> Tensor:
        """Return a case's image on the classifier's grid, (3, *grid.shape) in [0, 1].

        Resized like a stored image: the result is rounded to the source's own 8 or 16 bits.
        """
        image = torch.from_numpy(self.grid.put(Decoded(case.image, case.bits)))
        return image.expand(3, -1, -1).contiguous()

    @property
    def front(self) -> nn.Sequential | None:
        """What images go through before the base; None: nothing (see `behind`)."""
        return self._modules.get("front")  # type: ignore[return-value]

    @property
    def rings(self) -> Sequence[Ring]:
        """What stands around the network, the innermost first (see `around`)."""
        return self._modules.get("rings", ())  # type: ignore[return-value]

    @property
    def rejects(self) -> bool:
        """Whether it may refuse to answer: an alarm then stands behind its logits."""
        return any(getattr(ring, "alarms", False) for ring in self.rings)

    @property
    def random(self) -> bool:
        """Whether it draws at random, and an attacker's gradient is averaged over other draws than its answers'."""
        return any(getattr(ring, "random", False) for ring in self.rings)

    @property
    def decisions(self) -> Classes | Findings:
        """What its outputs decide."""
        return Classes(self.classes) if self.findings is None else self.findings

    @property
    def access(self) -> Literal["gradients", "scores", "decisions"]:
        """What an attacker can have of it: gradients, unless it is only asked (see `models.queried`)."""
        return access_of(self)

    @property
    def name(self) -> str:
        """Backbone and the start of the fingerprint, e.g. "vgg16-1f9a03c2"."""
        return self.named_by(self.fingerprint)

    def named_by(self, fingerprint: str) -> str:
        """Return the name that goes with a fingerprint of this classifier."""
        return f"{self.card.get('model', 'classifier')}-{fingerprint[:8]}"

    @property
    def device(self) -> torch.device:
        """Where its tensors live."""
        values = self.state_dict().values()  # of quantized layers also what is no tensor
        return next((value.device for value in values if isinstance(value, Tensor)), torch.device("cpu"))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines its answers, the same in every process; see `models.identity`.

        It digests tensors, preprocessing, size, classes and, where no `identity` was given, code and settings of the
        network and what it answers about a few fixed images. It is found anew each time, in a few passes: what is
        changed in the network later counts. What can be read in no way is warned of: the fingerprint is then this
        object's alone.
        """
        found = identify(self)
        if found.unknown:
            log.warning(
                "The network cannot be told from others by its code: %s. Its name holds for this process only. "
                "Give Classifier(..., identity=NAME AND VERSION OF WHAT ANSWERS).",
                "; ".join(dict.fromkeys(found.unknown[:3])),
            )
        return found.sha256

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{key}</td><td>{self.card[key]}</td></tr>"
            for key in ("model", "cohort", "protocol", "seed", "test_accuracy")
            if key in self.card
        )
        return f"<table><caption>{self.name}</caption>{rows}</table>"


def _check_making(preprocessing: object, classes: Sequence[str]) -> None:
    """Raise DosimeterError unless a classifier can be made of them."""
    if not isinstance(preprocessing, Preprocessing):
        raise DosimeterError(
            f"preprocessing must be a Preprocessing, got {type(preprocessing).__name__}. Take one of "
            "dosimeter.models.preprocessing: get_preprocessing('unit')."
        )
    if len(classes) > MAX_CLASSES:
        raise DosimeterError(f"classes must be at most {MAX_CLASSES}, got {len(classes)}. Group them.")


def _as_taken(value: Tensor, *networks: nn.Module) -> Tensor:
    """Return a tensor in the floating-point type of the first of `networks` that has one."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value  # what a base hands to its head may be anything
    tensors = (tensor for network in networks for tensor in (*network.parameters(), *network.buffers()))
    return value.to(next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), value.dtype))


def _plain(outputs: Tensor) -> Tensor:
    """Return outputs of a user's own type of tensor, or a parameter, as a plain tensor.

    What such a type does to sums and comparisons is the network's own affair until here. Torch's other types stay: by
    them programs are traced.
    """
    of_torch = type(outputs).__module__.partition(".")[0] == "torch"
    if not isinstance(outputs, Tensor) or (of_torch and not isinstance(outputs, nn.Parameter)):
        return outputs
    with torch._C.DisableTorchFunctionSubclass():
        outputs = outputs.as_subclass(Tensor)
        return outputs if torch.is_grad_enabled() else outputs.detach()


def answer(classifier: Classifier, images: Tensor, *, alarm: bool = False) -> Tensor:
    """Return the logits (n, n_classes) of images (n, 3, *grid.shape), float32 on the CPU.

    Args:
        classifier: it is asked once.
        images: on its grid.
        alarm: of a classifier that rejects, with the alarm behind them.

    Raises:
        DosimeterError: the classifier, which a user may have made, fails or answers something else.
    """
    with torch.inference_mode():
        logits = classifier(images.to(classifier.device))
    wanted = (len(images), len(classifier.classes) + classifier.rejects)
    if not isinstance(logits, Tensor):
        raise DosimeterError(
            f"the classifier must return logits of shape {wanted}, one column for each class, got "
            f"{type(logits).__name__}. Take them out of it: nn.Sequential(network, dm.Output('KEY')), or Output(PLACE)."
        )
    if logits.shape != wanted:
        raise DosimeterError(
            f"the classifier must return logits of shape {wanted}, one column for each class, got "
            f"{tuple(logits.shape)}. Put `OneLogit()` of dosimeter.models.outputs behind a head of one logit, "
            "`Finding(place)` behind one of several findings."
        )
    if logits.is_complex() or logits.dtype == torch.bool:
        raise DosimeterError(f"the classifier must return logits, real numbers, got {logits.dtype}.")
    if logits.layout != torch.strided:
        raise DosimeterError(f"the classifier must return dense logits, got {logits.layout}. Call to_dense() on them.")
    return logits[:, : wanted[1] - (classifier.rejects and not alarm)].float().cpu()
