"""What is left of an image once it is stored: the classifier is asked about that, not about what was meant."""

from collections.abc import Callable

from torch import Tensor

from dosimeter.units import GREY_LEVELS_8BIT


def as_float(image: Tensor) -> Tensor:
    """Return the image as it is: it never left memory."""
    return image


def as_png8(image: Tensor) -> Tensor:
    """Return the image rounded to the 256 levels of an 8-bit file, as values in [0, 1]."""
    return image.mul(GREY_LEVELS_8BIT).round_().div_(GREY_LEVELS_8BIT)


STORAGES: dict[str, Callable[[Tensor], Tensor]] = {"float": as_float, "png8": as_png8}
