"""Grids: how an image of any size becomes the pixels that a classifier looks at, and the linear map behind it."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from dosimeter.cohorts.base import Decoded, FloatImage
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.record.resizing import Interpolation, Resize

FILTERS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's filters. All but `nearest` average where they shrink an image (antialiasing)."""

MAX_PIXELS = 16_000_000
"""Width x height that an image may grow to before it is cropped."""

_BLOCK_PX = 256  # of an identity matrix that is held at once
_CUBIC = -0.75  # of the bicubic kernel without antialiasing: torch's and OpenCV's


@dataclass(frozen=True)
class Grid:
    """What a classifier looks at: its height and width, and how an image of another size gets there.

    Attributes:
        height_px, width_px: of the result.
        resize: "squash" to height and width; "crop": until the grid is covered, and its middle; "letterbox": until it
            fits in, with black around it. Crop and letterbox keep the aspect ratio.
        interpolation: a key of `FILTERS`.
        antialias: whether a smaller image is an average, as Pillow makes it; without it only the nearest two pixels a
            side count (four for bicubic), as torch, TensorFlow and OpenCV do unless they are told otherwise.
        crop_pct: the share of the resized image's sides that is kept, its middle; of "crop" of the shorter side.

    Raises:
        DosimeterError: there is no such grid.

    Example:
        >>> Grid(224, 224, resize="crop", crop_pct=0.875).resized(512, 1024)
        (256, 512)
    """

    height_px: int
    width_px: int
    resize: Resize = "squash"
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        """Check that there is such a grid."""
        for side in (self.height_px, self.width_px):
            if isinstance(side, bool) or not isinstance(side, int) or side < 1:
                raise DosimeterError(
                    f"size_px must be a whole number, at least 1, got {side!r}: the side of the images, such as 224."
                )
        if self.resize not in get_args(Resize):
            raise DosimeterError(f"resize '{self.resize}' is not known. {did_you_mean(self.resize, get_args(Resize))}")
        if self.interpolation not in FILTERS:
            raise DosimeterError(
                f"interpolation '{self.interpolation}' is not known. {did_you_mean(self.interpolation, FILTERS)}"
            )
        if not self.antialias and self.interpolation not in ("bilinear", "bicubic"):
            raise DosimeterError(f"antialias = false is for bilinear and bicubic, not for {self.interpolation}.")
        if not 0 < self.crop_pct <= 1:
            raise DosimeterError(f"crop_pct must be above 0 and at most 1, got {self.crop_pct:g}.")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height_px, self.width_px

    @property
    def size_px(self) -> int | tuple[int, int]:
        """The side of a square, or height and width."""
        return self.height_px if self.height_px == self.width_px else self.shape

    @property
    def settled(self) -> "Grid":
        """The grid for images that are on one already: they are not cropped once more."""
        return self if self.crop_pct == 1 else replace(self, crop_pct=1.0)

    @property
    def is_plain(self) -> bool:
        """Whether images are squashed, bilinear and antialiased."""
        return self == Grid(self.height_px, self.width_px)

    def leaves(self, height: int, width: int) -> bool:
        """Whether an image of that size stays as it is."""
        return (height, width) == self.shape == self.resized(height, width)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the size that an image gets before it is cropped or laid on black.

        The side that decides has it exactly, the other is cut to whole pixels: torchvision's rule.
        """
        wanted = self._covered
        if self.resize == "squash":
            return wanted
        tall = wanted[0] * width > wanted[1] * height  # the height decides of a crop
        if tall == (self.resize == "crop"):
            return wanted[0], max(1, wanted[0] * width // height)
        return max(1, wanted[1] * height // width), wanted[1]

    def put(self, decoded: Decoded) -> FloatImage:
        """Resize an image and round it to the source's grid, as if the resized image had been stored in a file.

        An image that has the size already is not resampled.

        Args:
            decoded: pixels (C, H, W) and their depth.

        Returns:
            Float32 (C, height_px, width_px); every value that was resampled is float32(k / (2**bits - 1)) for an
            integer k.

        Raises:
            DosimeterError: it is a strip that would grow beyond `MAX_PIXELS`.
        """
        image, bits = decoded
        size = self.resized(*image.shape[1:])
        if size[0] * size[1] > max(MAX_PIXELS, image.shape[1] * image.shape[2]):
            raise DosimeterError(
                f"an image of {image.shape[2]} x {image.shape[1]} pixels would become {size[1]} x {size[0]} before it "
                f"is cropped, more than {MAX_PIXELS}. Leave such strips out, or take resize = 'squash'."
            )
        if image.shape[1:] == size:
            resized = image.copy()
        else:
            planes = np.stack([self._resampled(plane, size) for plane in image])  # (C, *size)
            resized = on_levels(np.rint(planes.clip(0, 1) * (2**bits - 1)).astype(np.int64), bits)
        return _middle(_middle(resized, self.height_px, axis=1), self.width_px, axis=2)

    def weights(self, height: int, width: int) -> tuple[FloatImage, FloatImage]:
        """Return the weights (height_px, height) and (width_px, width) that `put` applies to rows and columns.

        What it rounds and clips is left out.
        """
        sides = zip((height, width), self.resized(height, width), self.shape, strict=True)
        how = {"interpolation": self.interpolation, "antialias": self.antialias}
        down, across = (_middle(grid_weights(n, size_px=to, **how), side, axis=0) for n, to, side in sides)
        return down, across

    def _resampled(self, plane: FloatImage, size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Return a plane (H, W) in another size, not rounded."""
        if self.antialias:
            height, width = size
            image = Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), FILTERS[self.interpolation])
            return np.asarray(image, dtype=np.float64)
        down, across = (_taps(n, to, self.interpolation == "bicubic") for n, to in zip(plane.shape, size, strict=True))
        resampled: npt.NDArray[np.float64] = down @ plane.astype(np.float64) @ across.T
        return resampled

    @property
    def words(self) -> str:
        """What the record says of it."""
        size = f"{self.height_px} x {self.width_px}"
        if self.is_plain:
            return size
        ways = {"squash": "squashed to", "crop": "resized to cover", "letterbox": "resized to fit into"}
        black = ", black around" if self.resize == "letterbox" else ""
        middle = ", its middle" if self.crop_pct < 1 or self.resize == "crop" else ""
        edges = "" if self.antialias else ", not antialiased"
        height, width = self._covered
        return f"{size} ({ways[self.resize]} {height} x {width}{black}{middle}; {self.interpolation}{edges})"

    @property
    def _covered(self) -> tuple[int, int]:
        """Height and width of what the middle is taken of."""
        height, width = (int(side / self.crop_pct + 1e-6) for side in self.shape)
        return height, width


def grid_of(size_px: "int | tuple[int, int] | Grid", **how: Any) -> Grid:
    """Return the grid of a square's side, of height and width, or a grid itself.

    Raises:
        DosimeterError: there is no such grid.
    """
    if isinstance(size_px, Grid):
        return size_px
    if isinstance(size_px, tuple | list):
        if len(size_px) != 2:
            raise DosimeterError(f"size_px must be a number or [height, width], got {list(size_px)}.")
        return Grid(*size_px, **how)
    return Grid(size_px, size_px, **how)


def to_grid(decoded: Decoded, *, size_px: int) -> FloatImage:
    """Squash to a square and round to the source's grid: `Grid.put` of the plain square.

    Args:
        decoded: pixels (C, H, W) and their depth.
        size_px: height and width of the result.
    """
    return grid_of(size_px).put(decoded)


@lru_cache(maxsize=8)
def grid_weights(
    n_px: int, *, size_px: int, interpolation: Interpolation = "bilinear", antialias: bool = True
) -> FloatImage:
    """Return the weights (size_px, n_px) by which a grid averages `n_px` rows, or columns, before it rounds.

    They are read off what the filter makes of the identity.
    """
    if antialias:
        blocks = []
        for start in range(0, n_px, _BLOCK_PX):
            block = np.eye(n_px, min(_BLOCK_PX, n_px - start), -start, dtype=np.float32)
            resized = Image.fromarray(block).resize((block.shape[1], size_px), FILTERS[interpolation])
            blocks.append(np.asarray(resized))
        weights: FloatImage = np.concatenate(blocks, axis=1)
    else:
        weights = _taps(n_px, size_px, interpolation == "bicubic").astype(np.float32)
    weights.flags.writeable = False
    return weights


def _taps(n_px: int, size_px: int, cubic: bool) -> npt.NDArray[np.float64]:
    """Return the weights (size_px, n_px) of two neighbours, or four, without antialiasing.

    Pixels are squares whose centres are compared; beyond the edge stands the edge.

    Source: Keys 1981, IEEE TASSP 29(6), equation 4 with a = -0.75, for four.
    """
    places = (np.arange(size_px) + 0.5) * n_px / size_px - 0.5
    first = np.floor(places).astype(np.int64)
    offsets = np.arange(-1, 3) if cubic else np.arange(2)
    away = np.abs(places[:, None] - first[:, None] - offsets)  # (size_px, taps)
    if cubic:
        near = ((_CUBIC + 2) * away - (_CUBIC + 3)) * away**2 + 1
        far = _CUBIC * (((away - 5) * away + 8) * away - 4)
        shares = np.where(away <= 1, near, far)
    else:
        shares = 1 - away
    weights = np.zeros((size_px, n_px))
    np.add.at(weights, (np.arange(size_px)[:, None], (first[:, None] + offsets).clip(0, n_px - 1)), shares)
    return weights


def _middle(values: FloatImage, n: int, *, axis: int) -> FloatImage:
    """Return the middle `n` along an axis, with zeros around where there are fewer."""
    spare = values.shape[axis] - n
    if spare == 0:
        return values
    if spare > 0:
        return np.take(values, range(start := round(spare / 2), start + n), axis=axis)
    before = -spare // 2
    around = [(before, -spare - before) if each == axis else (0, 0) for each in range(values.ndim)]
    return np.pad(values, around)


def on_levels(samples: npt.NDArray[np.integer[Any]], bits: int) -> FloatImage:
    """Return every sample k as float32(k / (2**bits - 1))."""
    image: FloatImage = np.take(_values(bits), samples)
    return image


@lru_cache(maxsize=4)
def _values(bits: int) -> FloatImage:
    """All values that a sample of `bits` bits can stand for, shape (2**bits,)."""
    top = 2**bits - 1
    values: FloatImage = (np.arange(top + 1) / top).astype(np.float32)
    values.flags.writeable = False
    return values
