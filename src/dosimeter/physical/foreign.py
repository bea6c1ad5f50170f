"""Anybody's transform as a physical change, with a declared unit: a function, or one of NRTK, albumentations, TorchIO.

Such a library names its strength in its own way, so a transform is given as a callable of an image and a severity.
"""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dosimeter import registry
from dosimeter.errors import DosimeterError
from dosimeter.physical.base import BOTH, Change, Entry, Modality, Random
from dosimeter.physical.registry import KIND, check_entry
from dosimeter.plain import shown

_SEEDS = 2**31


@dataclass(frozen=True, kw_only=True)
class Foreign(Change):
    """A callable of an image and a severity.

    Args:
        transform: see `physical_change`.
        draws: whether it takes random numbers.
        code: a digest of what it is, by which a run knows it again.
    """

    transform: Callable[..., Any]
    draws: bool
    code: str
    name: str

    def change(self, images: Tensor, severity: float, random: Random) -> Tensor:
        """Return images as the callable makes them, one by one."""
        seeds = (random.uniform(1).flatten() * _SEEDS).long().tolist()
        made = [self._one(image, severity, seed) for image, seed in zip(images, seeds, strict=True)]
        return torch.stack(made).to(images)

    def _one(self, image: Tensor, severity: float, seed: int) -> Tensor:
        planes = image.cpu().permute(1, 2, 0).numpy().copy()
        rng = (np.random.default_rng(seed),) if self.draws else ()
        made = np.asarray(self.transform(planes, severity, *rng), np.float32)
        if made.ndim == 2:
            made = made[..., None]
        return torch.from_numpy(made.transpose(2, 0, 1).copy())


def physical_change(
    transform: Callable[..., Any],
    *,
    name: str,
    unit: str,
    severities: Sequence[float],
    bounds: tuple[float, float] | None = None,
    modalities: Sequence[Modality] = BOTH,
    title: str = "",
    note: str = "",
    reason: str = "its author says so",
    source: str = "none",
) -> str:
    """Make anybody's transform known to this process as a physical change, and return its name, which sweeps take.

    Args:
        transform: an image (H, W, C), float32 in [0, 1], C 1 where it is grey, and a severity, to an image of the same
            size; with a third argument it is given a numpy generator that belongs to the image, its severity and the
            seed. One that draws otherwise gives other images in every run.
        name: for tables.
        unit: of its severities, as people write it behind a number.
        severities: that are asked by default, the first the one that changes nothing.
        bounds: the least and the largest that is allowed; by default those of `severities`.
        modalities: of the images that it is of.
        title: its name as people write it.
        note: what it does, in a line.
        reason: why no other severity is allowed, in words that go on from "because".
        source: the paper.

    Raises:
        DosimeterError: it is no callable, its name is taken, or it does not say what its severities mean.

    Example:
        >>> physical_change(lambda image, fog: image + fog * (1 - image), name="fog", unit="of it", severities=(0, 0.2))
        'fog'
    """
    if not callable(transform):
        raise DosimeterError(f"transform must be a callable of an image and a severity, got {shown(transform)}.")
    mine = registry.ADDED.get((KIND, name))
    if not name.isidentifier() or (name in registry.names(KIND) and not isinstance(mine, Entry)):
        raise DosimeterError(
            f"name must be a new one of letters, digits and underscores, got {shown(name)}. Rename it."
        )
    grid = tuple(map(float, severities))
    change = Foreign(transform=transform, draws=_n_arguments(transform) > 2, code=_code(transform), name=name)
    entry = Entry(
        build=lambda constants: change,
        title=title or name,
        note=note or "brought by the user",
        unit=unit,
        severities=grid,
        bounds=bounds or ((min(grid), max(grid)) if grid else (0.0, 0.0)),
        reason=reason,
        source=source,
        modalities=tuple(modalities),
        rank=1000,
    )
    check_entry(name, entry)
    registry.add(KIND, name, entry)
    return name


def _n_arguments(transform: Callable[..., Any]) -> int:
    try:
        return len(inspect.signature(transform).parameters)
    except (TypeError, ValueError):  # a builtin that does not tell
        return 2


def _code(transform: Callable[..., Any]) -> str:
    """Return a digest of a function's bytecode and constants, or of what an object says of itself."""
    code = getattr(transform, "__code__", None)
    kind = type(transform)
    told = f"{kind.__module__}.{kind.__qualname__} {transform!r}" if code is None else f"{code.co_consts}"
    return hashlib.sha256(told.encode() + (b"" if code is None else code.co_code)).hexdigest()[:16]
