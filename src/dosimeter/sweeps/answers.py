"""Asking a classifier about many perturbed images, each distinct image once.

The sweep is nearly all forward passes. Images that come out identical (a zero gradient, a dose rounded away, two
epsilons that give the same 8-bit file) are recognised by digest and answered from memory. An engine other than torch
answers only what is clear: where the two best logits are closer than its tolerance, torch decides.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import NamedTuple

import torch
from torch import Tensor

from dosimeter.attacks.doses import Dose, check, measure
from dosimeter.cohorts.grids import Grid
from dosimeter.engines.base import Engine
from dosimeter.models.decisions import CLASS, Decision
from dosimeter.models.native import shrink
from dosimeter.models.rings import excess_of
from dosimeter.storage.base import get_storage
from dosimeter.sweeps.paths import Path

UNMOVED = Dose(linf=0.0, l2=0.0, clipped_fraction=0.0)


class Stopped(Exception):
    """The sweep was told to end; what was asked so far is dropped."""


class Target(NamedTuple):
    """One case under attack.

    Attributes:
        image: (3, H, W) in [0, 1], on the classifier's grid or at its own size.
        path: its adversarial images.
        grad_zero: whether its gradient was exactly zero.
        logits: (n_classes,) of the unperturbed image, if the attack computed them.
        n_gradients, n_queries: what the attack spent on it.
        bits: depth of its source, to which floats are rounded where they are resized.
        decision: what is decided; `label` is its right answer, `logits` its logits.
    """

    case_id: str
    label: int
    image: Tensor
    path: Path
    grad_zero: bool = False
    logits: Tensor | None = None
    n_gradients: int = 0
    n_queries: int = 0
    bits: int = 8
    decision: Decision = CLASS


class Question(NamedTuple):
    """What does the classifier say of this case at this epsilon, or severity, stored like this?"""

    target: Target
    storage: str
    epsilon: float


Witness = Callable[[Question, Tensor], None]
"""Looks at a question's image (3, H, W) as it was stored, at its own size."""


class Answer(NamedTuple):
    """The logits of a decision (n_classes,) and the dose the image really received.

    Attributes:
        alarm: how far the alarm is above the largest logit, above 0 the image is rejected; None: nothing rejects.
    """

    logits: Tensor
    dose: Dose
    unchanged: bool
    alarm: float | None = None

    @property
    def predicted(self) -> int:
        """Index of the largest logit."""
        return int(self.logits.argmax())

    @property
    def rejected(self) -> bool:
        """Whether the classifier refuses to answer."""
        return self.alarm is not None and self.alarm > 0

    def departs(self, original: int) -> bool:
        """Whether it gives another class than the `original` one; one that is rejected gives none."""
        return self.predicted != original and not self.rejected

    @property
    def gap(self) -> float:
        """How far the largest logit is above the second."""
        first, second = self.logits.topk(2).values
        return float(first - second)


class Answers:
    """Answers `Question`s about one shard of cases through one engine.

    Args:
        engine: what computes logits.
        attack: its name, for the message if its images leave the ball.
        batch_size: images per forward pass.
        stop: raises `Stopped` at the next batch once it is set.
        grid: the classifier's, on which images of other sizes are put; None: there are none.
    """

    def __init__(
        self, engine: Engine, *, attack: str, batch_size: int, stop: Event | None = None, grid: Grid | None = None
    ) -> None:
        self._engine = engine
        self._attack = attack
        self._batch_size = batch_size
        self._stop = stop
        self._grid = grid
        self._known: dict[bytes, Tensor] = {}  # digest of the stored image, on the grid -> outputs, of every decision
        self._unperturbed: dict[tuple[str, str], bytes] = {}  # case and storage -> digest of its stored image
        self._rejects = getattr(engine.network, "rejects", False)
        self.n_forward = 0

    def ask(self, questions: Iterable[Question], *, witness: Witness | None = None) -> list[Answer]:
        """Return one answer for each question, in order; at most one batch of images is held in memory.

        Args:
            witness: shown the stored image of every question.
        """
        noted: list[tuple[bytes, Dose, bool, Decision]] = []
        pending: dict[bytes, Tensor] = {}
        for question in questions:
            digest, image, dose, unchanged = self._store(question, witness)
            noted.append((digest, dose, unchanged, question.target.decision))
            if digest not in self._known and digest not in pending:
                pending[digest] = image
            if len(pending) == self._batch_size:
                self._forward(pending)
        self._forward(pending)
        return [
            self._decided(self._known[digest], decision)._replace(dose=dose, unchanged=unchanged)
            for digest, dose, unchanged, decision in noted
        ]

    def _decided(self, outputs: Tensor, decision: Decision) -> Answer:
        """Return what outputs (n_outputs,) mean for a decision; what they were asked about is yet to be said."""
        if self._rejects:
            return Answer(outputs[:-1], UNMOVED, unchanged=True, alarm=float(excess_of(outputs[None])))
        return Answer(decision.logits(outputs[None])[0], UNMOVED, unchanged=True)

    def outputs(self, image: Tensor, *, bits: int) -> Tensor:
        """Return all outputs (n_outputs,) about an unperturbed image (3, H, W); they are not asked again."""
        shown = image if self._grid is None else on_grid(image, "float", grid=self._grid, bits=bits)
        digest = _digest(shown)
        self._forward({} if digest in self._known else {digest: shown})
        return self._known[digest]

    def _store(self, question: Question, witness: Witness | None) -> tuple[bytes, Tensor, Dose, bool]:
        target, storage, epsilon = question
        adversarial = target.path.at(target.image, epsilon)
        if target.path.bounded:
            check(target.image, adversarial, epsilon=epsilon, attack=self._attack)
        image = as_stored(adversarial, storage)
        if witness is not None:
            witness(question, image)
        digest, unperturbed = _digest(image), self._unchanged(target, storage)
        dose = measure(target.image, image, outside=target.path.outside(target.image, epsilon))
        shown = self._on_grid(image, target, storage)
        return (digest if shown is image else _digest(shown)), shown, dose, digest == unperturbed

    def _on_grid(self, image: Tensor, target: Target, storage: str) -> Tensor:
        """Return a stored image as the classifier is given it; itself, if it has that size."""
        return image if self._grid is None else on_grid(image, storage, grid=self._grid, bits=target.bits)

    def _unchanged(self, target: Target, storage: str) -> bytes:
        """Return the digest of the unperturbed image, stored; its logits are known if the attack computed them."""
        key = target.case_id, storage
        if key not in self._unperturbed:
            self._unperturbed[key] = _digest(as_stored(target.image, storage))
            if target.logits is not None and target.decision == CLASS:
                shown = self._on_grid(target.image, target, "float")
                self._known.setdefault(_digest(shown), target.logits)
        return self._unperturbed[key]

    def _forward(self, pending: dict[bytes, Tensor]) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Stopped
        if not pending:
            return
        logits = self._engine.logits(torch.stack(list(pending.values())))
        self._known.update(zip(pending, logits, strict=True))
        self.n_forward += len(pending)
        pending.clear()


def as_stored(image: Tensor, storage: str) -> Tensor:
    """Return what the classifier is asked about: an image (3, H, W), written to a file and read again."""
    return torch.from_numpy(get_storage(storage).store(image.numpy()))


def on_grid(image: Tensor, storage: str, *, grid: Grid, bits: int) -> Tensor:
    """Return a stored image (3, H, W) on a classifier's grid, as the loader resizes what it reads of a file; or itself.

    Args:
        bits: depth of the image's source: what floats are rounded to.
    """
    if grid.leaves(*image.shape[1:]):
        return image
    return shrink(image[None], grid=grid, bits=get_storage(storage).bits or bits)[0]


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()


class CheckedAnswers:
    """Answers of a fast engine, with torch's to the same images wherever the fast one's decision is not clear.

    Args:
        fast: answers of the engine.
        reference: answers of torch.
        tolerance: two best logits closer than this are doubtful.
    """

    def __init__(self, fast: Answers, reference: Answers, *, tolerance: float) -> None:
        self._fast = fast
        self._reference = reference
        self._tolerance = tolerance

    def ask(self, questions: Iterable[Question], *, witness: Witness | None = None) -> list[Answer]:
        """Return one answer for each question, in order; `witness` as in `Answers.ask`."""
        asked = list(questions)
        replies = self._fast.ask(asked, witness=witness)
        doubtful = [index for index, reply in enumerate(replies) if not reply.gap >= self._tolerance]
        for index, reply in zip(doubtful, self.confirm([asked[index] for index in doubtful]), strict=True):
            replies[index] = reply
        return replies

    def outputs(self, image: Tensor, *, bits: int) -> Tensor:
        """Return torch's outputs about an unperturbed image."""
        return self._reference.outputs(image, bits=bits)

    def confirm(self, questions: Sequence[Question]) -> list[Answer]:
        """Return torch's answers."""
        return self._reference.ask(questions)
