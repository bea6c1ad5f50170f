"""The threat model: what an attacker may do to an image, and to what end.

A user declares it by names and numbers (`ThreatModel`); against one cohort and classifier it is a `Threat`, which makes
the problems that attacks are given, wherever in the house one is attacked.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from dosimeter.attacks.base import Problem
from dosimeter.cohorts.grids import grid_of
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.files import require_file

GOALS = ("finding", "any", "hide", "fabricate")
"""What an attack on a classifier of findings is after, see `ThreatModel`."""


@dataclass(frozen=True)
class Threat:
    """What an attacker may do to the images of one classifier.

    Attributes:
        target: the class that images should be given; None: any but their own.
        mask: (1, H, W), True where a pixel may move; None: everywhere.
        levels: steps between black and white of the lattice that attacks keep to; None: floats.
        native: whether images are attacked at their own size, behind the loader's resize (see `models.native`).
        fill: whether a search goes on after its first success in a ball, for the largest loss there (see `Problem`).
        exhaustive: whether a search looks into every ball (see `sweeps.search`).
        goal: of several findings, what is after: one of `GOALS`.
    """

    target: int | None = None
    mask: Tensor | None = None
    levels: int | None = None
    native: bool = False
    fill: bool = False
    exhaustive: bool = False
    goal: str = GOALS[0]

    def problem(self, network: nn.Module, images: Tensor, labels: Tensor, **how: Any) -> Problem:
        """Return what an attack is given of `images` (batch, 3, H, W); without `fill`, which only a sweep asks for.

        Args:
            network: images to logits.
            labels: (batch,) true classes.
            how: further fields of the problem.
        """
        mask = self.mask
        return Problem(
            network,
            images,
            labels,
            targets=None if self.target is None else torch.full_like(labels, self.target),
            mask=None if mask is None else mask.to(images.device).expand(len(images), 1, *images.shape[2:]),
            levels=self.levels,
            **how,
        )

    @property
    def limits(self) -> bool:
        """Whether it limits which images an attack may make: to a class, to a mask, or to a file's grey levels."""
        return self.target is not None or self.mask is not None or self.levels is not None

    @property
    def identity(self) -> list[object]:
        """All that determines what an attack may do, as JSON types."""
        known: list[object] = [self.target, self.mask_sha256, self.levels, self.native, self.fill, self.exhaustive]
        return known if self.goal == GOALS[0] else [*known, self.goal]

    @property
    def mask_sha256(self) -> str | None:
        """Digest of where pixels may move; None: everywhere."""
        return None if self.mask is None else hashlib.sha256(self.mask.numpy().tobytes()).hexdigest()


ANYTHING = Threat()
"""Any change within epsilon, to any end."""


@dataclass(frozen=True)
class ThreatModel:
    """What an attacker may do, as a user declares it.

    Args:
        target: the class that images should be given; by default any but their own.
        mask: (size_px, size_px), what is not zero may move, or an image file, white where a pixel may move; by default
            every pixel.
        bits: the attack keeps to the grey levels of a file with so many; by default it moves floats.
        native: attack images at their own size, behind the resizing that the loader does; epsilons are then of the
            file's pixels. Not with a mask or a universal perturbation.
        fill: whether a search goes on to the strongest image within epsilon, instead of stopping at the first that
            fools the classifier; by default where images are stored, or shown to other models.
        goal: of a classifier of several findings: "finding", each by itself; "any", a report that differs anywhere;
            "hide", a report without any of the findings that are there; "fabricate", one that is not there.

    Example:
        >>> import dosimeter as dm
        >>> dm.ThreatModel(bits=8, target="COVID-19")
        ThreatModel(target='COVID-19', mask=None, bits=8, native=False, fill=None, goal='finding')
    """

    target: str | None = None
    mask: ArrayLike | Path | None = None
    bits: int | None = None
    native: bool = False
    fill: bool | None = None
    goal: str = GOALS[0]

    def against(
        self, *, classes: Sequence[str], size_px: int | tuple[int, int], fill: bool, exhaustive: bool
    ) -> Threat:
        """Return the threat to a classifier of `classes` that looks at `size_px` pixels a side, or (height, width).

        Args:
            fill: what is taken where the user declared none.
            exhaustive: whether a search looks into every ball.

        Raises:
            DosimeterError: there is no such class, the mask is not one of that size, or there are no such files.
        """
        if self.goal not in GOALS:
            raise DosimeterError(f"goal '{self.goal}' is not known. {did_you_mean(self.goal, GOALS)}")
        is_file = isinstance(self.mask, Path)
        return Threat(
            target=as_target(self.target, classes),
            mask=read_mask(self.mask, size_px) if is_file else as_mask(self.mask, size_px),  # type: ignore[arg-type]
            levels=as_levels(self.bits),
            native=self.native,
            fill=fill if self.fill is None else self.fill,
            exhaustive=exhaustive,
            goal=self.goal,
        )


def as_mask(mask: ArrayLike | None, size_px: int | tuple[int, int]) -> Tensor | None:
    """Return a mask (1, H, W), True where a pixel may move; None stays None.

    Args:
        mask: (H, W), what is not zero may move.
        size_px: H and W of a square, or both.

    Raises:
        DosimeterError: it has another size, or lets nothing move.
    """
    if mask is None:
        return None
    shape = grid_of(size_px).shape
    size = " x ".join(map(str, shape))
    try:
        pixels = np.asarray(mask)
    except ValueError as error:
        raise DosimeterError(f"mask must be an array of {size} pixels ({error}).") from error
    if pixels.dtype.kind not in "biuf":
        raise DosimeterError(f"mask must be an array of numbers, got {mask!r}. Read the image file first.")
    if pixels.shape != shape:
        raise DosimeterError(
            f"mask must have the size of the classifier's images, {size}, got "
            f"{' x '.join(map(str, pixels.shape))}. Resize it with nearest-neighbour interpolation."
        )
    if not np.isfinite(pixels).all():
        raise DosimeterError(
            "mask must be 0 where nothing may move and 1 where it may, got a number that is not finite."
        )
    if not pixels.any():
        raise DosimeterError("mask must let at least one pixel move, but it is zero everywhere. Is it inverted?")
    return torch.from_numpy(pixels != 0)[None]


def read_mask(path: Path | None, size_px: int | tuple[int, int]) -> Tensor | None:
    """Return the mask in an image file, white where a pixel may move; None without a file.

    Raises:
        DosimeterError: the file cannot be read, or as `as_mask`.
    """
    if path is None:
        return None
    try:
        require_file(path)
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
    except (OSError, UnidentifiedImageError) as error:
        raise DosimeterError(f"mask: {path} cannot be read as an image. Give a black and white PNG.") from error
    return as_mask(2 * pixels.astype(int) > pixels.max(), size_px)  # black and white may be 0 and 1, or 0 and 255


def as_target(target: str | None, classes: Sequence[str]) -> int | None:
    """Return the place of the class that images should be given; None stays None.

    Raises:
        DosimeterError: there is no such class.
    """
    if target is None:
        return None
    if target not in classes:
        if not isinstance(target, str):
            raise DosimeterError(f"target must be the name of a class, got {target!r}. It is one of {list(classes)}.")
        raise DosimeterError(f"target '{target}' is no class of this cohort. {did_you_mean(target, classes)}")
    return list(classes).index(target)


def as_levels(bits: int | None) -> int | None:
    """Return the steps between black and white of a file of so many bits; None stays None.

    Raises:
        DosimeterError: a file cannot have so many.
    """
    if bits is None:
        return None
    if bits not in range(2, 17):
        raise DosimeterError(f"bits must be from 2 to 16, a whole number, got {bits!r}. Files have 8, 12 or 16.")
    return int(2**bits - 1)
