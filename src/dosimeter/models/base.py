"""`Classifier`: images in [0, 1] in, logits out. It owns everything between, so epsilon always means image units."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dosimeter.cohorts.base import Case, Decoded
from dosimeter.cohorts.images import to_grid
from dosimeter.errors import DosimeterError
from dosimeter.models.preprocessing import Preprocessing

LEARNING = (_DropoutNd, _BatchNorm)
"""Modules that answer otherwise in training mode."""


class Classifier(nn.Module):
    """A frozen base and a trained head behind one call: `images in [0, 1] -> logits`.

    It lives in evaluation mode; only `fit` trains, and only a head. Channel replication happens in `prepare`, so
    that an attack sees the three planes that the base is fed.

    Args:
        base: images after preprocessing -> feature map (batch, C, H, W).
        head: feature map -> logits (batch, n_classes).
        preprocessing: what the base's weights expect, applied inside `forward`.
        size_px: side of the square image grid.
        classes: names of the logits.
        card: what is known of its making (see `fit`), saved beside the weights.

    Source: the paper, section 2.3.
    """

    def __init__(
        self,
        base: nn.Module,
        head: nn.Module,
        *,
        preprocessing: Preprocessing,
        size_px: int,
        classes: Sequence[str],
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(classes) < 2:
            raise DosimeterError(
                f"classes must name two or more, got {tuple(classes)}. Put `OneLogit()` or `Finding(place)` of "
                "dosimeter.models.outputs behind a head of one logit, or of several findings."
            )
        self.base = base.to(memory_format=torch.channels_last)
        self.head = head
        self.preprocessing = preprocessing
        self.size_px = size_px
        self.classes = tuple(classes)
        self.card = dict(card or {})
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, n_classes) for images (batch, 3, size_px, size_px) in [0, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return the base's feature map (batch, C, H, W) for images (batch, 3, size_px, size_px) in [0, 1]."""
        ready = self.preprocessing.apply(images).contiguous(memory_format=torch.channels_last)
        # The map goes on in plain layout: it is small, and heads then see one layout whatever the base prefers.
        return self.base(ready).contiguous(memory_format=torch.contiguous_format)  # type: ignore[no-any-return]

    def with_base(self, base: nn.Module) -> "Classifier":
        """Return this classifier with another computation of its base; preprocessing and head are shared."""
        return Classifier(
            base,
            self.head,
            preprocessing=self.preprocessing,
            size_px=self.size_px,
            classes=self.classes,
            card=self.card,
        )

    def prepare(self, case: Case) -> Tensor:
        """Return a case's image on the classifier's grid, (3, size_px, size_px) in [0, 1].

        Resized like a stored image: the result is rounded to the source's own 8 or 16 bits.
        """
        image = torch.from_numpy(to_grid(Decoded(case.image, case.bits), size_px=self.size_px))
        return image.expand(3, -1, -1).contiguous()

    @property
    def name(self) -> str:
        """Backbone and the start of the fingerprint, e.g. "vgg16-1f9a03c2"."""
        return f"{self.card.get('model', 'classifier')}-{self.fingerprint[:8]}"

    @property
    def device(self) -> torch.device:
        """Where its tensors live."""
        return next((tensor.device for tensor in self.state_dict().values()), torch.device("cpu"))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines its answers; recomputed once, the weights being frozen."""
        if not hasattr(self, "_fingerprint"):
            digest = hashlib.sha256(f"{self.preprocessing}|{self.size_px}|{self.classes}".encode())
            for name, tensor in sorted(self.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{key}</td><td>{self.card[key]}</td></tr>"
            for key in ("model", "cohort", "protocol", "seed", "test_accuracy")
            if key in self.card
        )
        return f"<table><caption>{self.name}</caption>{rows}</table>"


def answer(classifier: Classifier, images: Tensor) -> Tensor:
    """Return the logits (n, n_classes) of images (n, 3, size_px, size_px), float32 on the CPU.

    Raises:
        DosimeterError: the classifier, which a user may have made, fails or answers something else.
    """
    try:
        with torch.inference_mode():
            logits = classifier(images.to(classifier.device))
    except Exception as error:  # the user's network may raise anything
        raise DosimeterError(
            f"the classifier failed on images of shape {tuple(images.shape)} in [0, 1]: {in_a_line(error)}. "
            "Call it on such a tensor first."
        ) from error
    wanted = (len(images), len(classifier.classes))
    if not isinstance(logits, Tensor) or logits.shape != wanted:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise DosimeterError(
            f"the classifier must return logits of shape {wanted}, one column for each class, got {got}. "
            "Unwrap its output; put `OneLogit()` of dosimeter.models.outputs behind a head of one logit."
        )
    return logits.float().cpu()


def in_a_line(error: BaseException) -> str:
    """Return an error as part of a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(" .:")
