"""What was computed of training images once, as feature maps or smaller images: on disk, read when it is asked for."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Inputs(Protocol):
    """What a student learns on: `training.Training`, or a `Pool` of what was computed of it."""

    labels: Tensor
    groups: Tensor

    def __len__(self) -> int:
        """Return how many there are."""

    def take(self, places: Sequence[int]) -> "Inputs":
        """Return some of them."""

    def images(self, places: Sequence[int]) -> Tensor:
        """Return inputs (n, ...) at `places`."""

    def batches(
        self, size: int, *, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield places, inputs and labels of all, shuffled if there is a generator."""


class Pool:
    """Inputs that were computed of others.

    Attributes:
        labels, groups: of its rows.
    """

    def __init__(
        self,
        rows: "Sequence[np.ndarray[Any, np.dtype[np.float32]]]",
        labels: Tensor,
        groups: Tensor,
        device: torch.device,
    ) -> None:
        self._rows, self.labels, self.groups, self._device = rows, labels, groups, device

    @classmethod
    def of(
        cls,
        inputs: Inputs,
        compute: Callable[[Tensor, Tensor], Tensor],
        *,
        batch: int = 8,
        advance: Callable[[int], None] = lambda _: None,
    ) -> "Pool":
        """Return what `compute` makes of inputs (b, ...) and labels (b, ...), in batches; their labels stay."""
        stored: np.ndarray[Any, np.dtype[np.float32]] | None = None
        device = torch.device("cpu")
        for places, given, labels in inputs.batches(batch):
            made = compute(given, labels).detach().float()
            device = made.device
            if stored is None:  # a file without a name: it is gone when nobody holds it
                file = tempfile.TemporaryFile()  # noqa: SIM115 - the map keeps it
                stored = np.memmap(file, np.float32, "w+", shape=(len(inputs), *made.shape[1:]))
            stored[places.numpy()] = made.cpu().numpy()
            advance(len(given))
        assert stored is not None, "there are inputs"
        return cls(list(stored), inputs.labels, inputs.groups, device)

    def plus(self, other: "Pool") -> "Pool":
        """Return the rows of both."""
        labels, groups = torch.cat([self.labels, other.labels]), torch.cat([self.groups, other.groups])
        return Pool([*self._rows, *other._rows], labels, groups, self._device)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Sequence[int]) -> "Pool":
        """Return some of the rows."""
        chosen = torch.as_tensor(list(places), dtype=torch.long)
        return Pool([self._rows[place] for place in places], self.labels[chosen], self.groups[chosen], self._device)

    def images(self, places: Sequence[int]) -> Tensor:
        """Return the rows (n, ...) at `places`, float32."""
        return torch.from_numpy(np.stack([self._rows[place] for place in places])).to(self._device)

    def batches(
        self, size: int, *, generator: torch.Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield places (b,), rows (b, ...) and labels (b, ...) of all, shuffled if there is a generator."""
        order = torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)
        for places in order.split(size):
            yield places, self.images(places.tolist()), self.labels[places].to(self._device)
