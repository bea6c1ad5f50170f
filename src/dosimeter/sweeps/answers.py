"""Asking a classifier about many perturbed images, each distinct image once.

The sweep is nearly all forward passes. Images that come out identical (a zero gradient, a dose rounded away, two
epsilons that give the same 8-bit file) are recognised by digest and answered from memory.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from dosimeter.attacks.base import Dose, check, measure, perturb
from dosimeter.attacks.storage import STORAGES
from dosimeter.models.base import Classifier


class Target(NamedTuple):
    """One case under attack.

    Attributes:
        image: (3, H, W) in [0, 1].
        sign: (3, H, W), the attack's direction.
    """

    case_id: str
    label: int
    image: Tensor
    sign: Tensor
    grad_zero: bool


class Question(NamedTuple):
    """What does the classifier say of this case at this epsilon, stored like this?"""

    target: Target
    storage: str
    epsilon: float


class Answer(NamedTuple):
    """The classifier's logits (n_classes,) and the dose the image really received."""

    logits: Tensor
    dose: Dose
    unchanged: bool

    @property
    def predicted(self) -> int:
        """Index of the largest logit."""
        return int(self.logits.argmax())


class Answers:
    """Answers `Question`s about one shard of cases through one classifier.

    Args:
        classifier: asked in inference mode.
        attack: its name, for the message if its images leave the ball.
        batch_size: images per forward pass.
    """

    def __init__(self, classifier: Classifier, *, attack: str, batch_size: int) -> None:
        self._classifier = classifier
        self._attack = attack
        self._batch_size = batch_size
        self._known: dict[bytes, Tensor] = {}  # digest of the stored image -> logits
        self.n_forward = 0

    def ask(self, questions: Iterable[Question]) -> list[Answer]:
        """Return one answer for each question, in order; at most one batch of images is held in memory."""
        noted: list[tuple[bytes, Dose, bool]] = []
        pending: dict[bytes, Tensor] = {}
        for question in questions:
            digest, image, dose, unchanged = self._store(question)
            noted.append((digest, dose, unchanged))
            if digest not in self._known and digest not in pending:
                pending[digest] = image
            if len(pending) == self._batch_size:
                self._forward(pending)
        self._forward(pending)
        return [Answer(self._known[digest], dose, unchanged) for digest, dose, unchanged in noted]

    def _store(self, question: Question) -> tuple[bytes, Tensor, Dose, bool]:
        target, storage, epsilon = question
        store = STORAGES[storage]
        adversarial = perturb(target.image, target.sign, epsilon)
        check(target.image, adversarial, epsilon=epsilon, attack=self._attack)
        image, unperturbed = store(adversarial), store(target.image)
        digest = hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()
        dose = measure(target.image, target.sign, epsilon, image)
        return digest, image, dose, torch.equal(image, unperturbed)

    def _forward(self, pending: dict[bytes, Tensor]) -> None:
        if not pending:
            return
        batch = torch.stack(list(pending.values())).to(self._classifier.device)
        with torch.inference_mode():
            logits = self._classifier(batch).float().cpu()
        self._known.update(zip(pending, logits, strict=True))
        self.n_forward += len(pending)
        pending.clear()
