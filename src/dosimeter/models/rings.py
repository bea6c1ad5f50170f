"""What stands around a classifier: it asks what is inside, once or many times, and may refuse to answer.

A ring that may refuse adds one output behind the classes', the alarm: the largest logit plus how far its score is
above its threshold. So an image is rejected where the alarm is the largest output, and a network with a reject option
is still one function of the image, which any attack can differentiate or ask. Source: Carlini and Wagner 2017 (arXiv
1705.07263), section 5, with a scale that does not depend on the logits' sign.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Seen(NamedTuple):
    """What is inside of a ring says of images.

    Attributes:
        outputs: (batch, n_classes), or with an alarm behind them (batch, n_classes + 1).
        maps: returns the base's feature maps (batch, C, H, W) of these very images.
    """

    outputs: Tensor
    maps: Callable[[], Tensor]


Inside = Callable[[Tensor], Seen]
"""Images (batch, 3, H, W) in [0, 1] to what is inside of a ring says of them."""


class Ring(nn.Module, ABC):
    """A module around a classifier, see `Classifier.around`.

    Attributes:
        alarms: whether it adds an alarm, see `with_alarm`.
        random: whether it draws at random, see `draws`: an attacker's gradient is then that of other draws' mean, and
            not the derivative of its answers.
    """

    alarms: ClassVar[bool] = False
    random: ClassVar[bool] = False

    @abstractmethod
    def forward(self, images: Tensor, inside: Inside) -> Tensor:
        """Return outputs (batch, n_classes), with an alarm behind them if it `alarms`, or what is inside does.

        Where gradients are enabled an attacker asks, else the system answers (see `draws`).
        """

    def certify(self, images: Tensor, inside: Inside) -> Tensor | None:
        """Return the epsilon (batch,) within which the answer provably stays, 0 without one; None: it proves none."""
        del images, inside
        return None


def with_alarm(outputs: Tensor, excess: Tensor, n_classes: int) -> Tensor:
    """Return outputs with an alarm: how far (batch,) a score is above its threshold, in logits, above 0 rejected.

    An alarm that is there already stays where it is larger: what any of several detectors rejects is rejected.
    """
    logits = outputs[:, :n_classes]
    alarm = logits.amax(dim=1) + excess
    if outputs.shape[1] > n_classes:
        alarm = torch.maximum(alarm, outputs[:, n_classes])
    return torch.cat([logits, alarm[:, None]], dim=1)


def excess_of(outputs: Tensor) -> Tensor:
    """Return how far (batch,) the alarm behind the classes' logits is above the largest of them: above 0 rejected."""
    return outputs[:, -1] - outputs[:, :-1].amax(dim=1)


def draws(image: Tensor, seed: int) -> torch.Generator:
    """Return the generator of a random defence's draws for an image (3, H, W).

    The same image gets the same draws in every pass and batch, so that it has one answer. An attacker who
    differentiates gets others: one who knew them would attack a fixed network, which no one deployed. Source: Athalye
    et al. 2018 (arXiv 1802.00420), section 4.2, expectation over transformations.
    """
    asked_by = b"attacker" if torch.is_grad_enabled() else b"system"
    content = image.detach().cpu().contiguous().numpy().tobytes()
    digest = hashlib.blake2b(content, digest_size=7, salt=seed.to_bytes(8, "big"), person=asked_by)
    return torch.Generator().manual_seed(int.from_bytes(digest.digest(), "big"))
