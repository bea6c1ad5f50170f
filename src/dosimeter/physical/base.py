"""What every physical change shares: it proposes, the framework draws its random numbers and checks what it made.

A physical change has a severity in a unit of its own (a share of the dose, degrees, pixels) instead of an epsilon: it
keeps to no ball. One file of `known` is one change: a frozen dataclass of its constants with the method `change`, and
an `ENTRY` that says what its severities mean. Nothing that a change returns is trusted to be an image of the same size.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.physical.constants import Constants
from dosimeter.plain import named

RANGE_TOLERANCE = 1e-6
"""How far rounding may carry a value out of [0, 1] before it is the change's fault."""

Modality = Literal["xray", "ct"]
BOTH: tuple[Modality, ...] = ("xray", "ct")


class PhysicalError(DosimeterError):
    """A physical change broke its contract; its numbers cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A physical change; a subclass has its constants as fields, which together with its name determine what it does.

    Attributes:
        name: in the table's columns `attack` and `preset`.
        loss, channels, norm: what the table says of attacks; a change climbs nothing, and what is grey stays grey.
    """

    name: str
    loss: ClassVar[str] = "none"
    channels: ClassVar[str] = "tied"
    norm: ClassVar[str] = "none"

    def change(self, images: Tensor, severity: float, random: "Random") -> Tensor:
        """Return images (batch, C, H, W) as they are at one severity, in [0, 1] and of the same size.

        Args:
            images: (batch, C, H, W) in [0, 1], C 1 or 3, on the network's device.
            severity: in the entry's unit, within its bounds, never the identity.
            random: each image's own random numbers.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Entry:
    """What is known of a physical change before it is built.

    Attributes:
        build: makes it of the constants of an apparatus.
        title: its name as people write it.
        note: what it does, in a line.
        unit: of its severities, as people write it behind a number.
        severities: those that are asked by default, the identity first: the severity that leaves images as they are.
        bounds: the least and the largest severity that is allowed.
        reason: why no other is, in words that go on from "because".
        source: the paper.
        modalities: of the images that it is of.
        constants: which fields of `Constants` it needs.
        whole: whether severities are whole numbers.
        ordered: whether a farther severity is a stronger change; if not they are tries, of which the worst counts.
        rank: its place in tables.
    """

    build: Callable[[Constants], Change]
    title: str
    note: str
    unit: str
    severities: tuple[float, ...]
    bounds: tuple[float, float]
    reason: str
    source: str
    modalities: tuple[str, ...] = BOTH
    constants: tuple[str, ...] = ()
    whole: bool = False
    ordered: bool = True
    rank: int = 100

    @property
    def identity(self) -> float:
        """The severity that leaves images as they are."""
        return self.severities[0]


class Random:
    """Random numbers of a batch, each image's from a generator of its own, so that a batch equals its singles.

    A generator is seeded by the image's pixels, the change, its severity and the sweep's seed.

    Args:
        images: (batch, C, H, W).
        change: its name.
        severity: what it is asked.
        seed: of the sweep.
    """

    def __init__(self, images: Tensor, *, change: str, severity: float, seed: int) -> None:
        self._like = images
        self._generators = _generators(images, f"{change} {severity!r} {seed}")
        self._places = _generators(images, f"{change} {seed}")

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers (batch, *shape)."""
        return torch.stack([torch.randn(shape, generator=each) for each in self._generators]).to(self._like)

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1), (batch, *shape)."""
        return torch.stack([torch.rand(shape, generator=each) for each in self._generators]).to(self._like)

    def place(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1), (batch, *shape), that are the same at every severity: where a thing lies."""
        return torch.stack([torch.rand(shape, generator=each) for each in self._places]).to(self._like)


def _generators(images: Tensor, what: str) -> list[torch.Generator]:
    salt = hashlib.blake2b(what.encode(), digest_size=16).digest()
    pixels = (image.detach().cpu().contiguous().numpy().tobytes() for image in images)
    digests = (hashlib.blake2b(each, digest_size=7, salt=salt).digest() for each in pixels)
    return [torch.Generator().manual_seed(int.from_bytes(digest, "big")) for digest in digests]


def changed(change: Change, images: Tensor, severity: float, *, identity: float, seed: int = 0) -> Tensor:
    """Return images as `change` makes them at one severity, checked.

    Args:
        change: what is done.
        images: (batch, C, H, W) in [0, 1], on the device where it is to be done. Where planes are equal one is changed.
        severity: in the unit of the change.
        identity: the severity at which images stay as they are; nothing is done then.
        seed: of its random numbers.

    Returns:
        (batch, C, H, W) in [0, 1].

    Raises:
        PhysicalError: the change failed, changed the size, left [0, 1] or made a number that is not finite.
    """
    if severity == identity:
        return images
    grey = bool((images == images[:, :1]).all())
    given = images[:, :1] if grey else images
    random = Random(images, change=change.name, severity=severity, seed=seed)
    try:
        with torch.no_grad():
            made: Any = change.change(given.clone(), severity, random)
    except (DosimeterError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a foreign callable may raise anything
        raise PhysicalError(
            f"the change {named(change.name)} failed at {severity:g} on images of shape {tuple(given.shape)}: "
            f"{in_a_line(error)}. Call it on such a tensor first."
        ) from error
    _check(made, given, change.name, severity)
    result: Tensor = made.to(images).clamp(0, 1)
    return result.expand_as(images) if grey else result


def _check(made: Any, given: Tensor, name: str, severity: float) -> None:
    who = f"the change {named(name)}"
    if not isinstance(made, Tensor):
        raise PhysicalError(f"{who} must return a tensor, got {type(made).__name__} at {severity:g}. Convert it.")
    if made.shape != given.shape:
        raise PhysicalError(
            f"{who} must keep the size of images, {tuple(given.shape)}, got {tuple(made.shape)} at {severity:g}. Crop "
            "or pad what it returns."
        )
    low, high = (float(bound) for bound in torch.aminmax(made))
    if not -RANGE_TOLERANCE <= low <= high <= 1 + RANGE_TOLERANCE:  # False for NaN
        raise PhysicalError(
            f"{who} must stay in [0, 1], the range from black to white, got [{low:g}, {high:g}] at {severity:g}. Clip "
            "or scale what it returns."
        )
