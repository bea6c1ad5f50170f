"""Epsilon, the dose: a fraction of the image range, parsed once."""

import re
from collections.abc import Iterable
from fractions import Fraction

from dosimeter.errors import DosimeterError

GREY_LEVELS_8BIT = 255
"""Steps between black and white in an 8-bit file; half a step is 0.00196 of the image range."""

DEFAULT_EPSILONS = (
    *(0.0, 1e-4, 3e-4, 5e-4, 7e-4, 9e-4, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3, 9e-3, 1e-2),
    *(0.07, 0.08, 0.09),
)
"""Every epsilon of the paper's tables 4, 5, 8 and 9 and figures 6 and 11."""


class Epsilon(float):
    """A perturbation size as a fraction of the image range [0, 1].

    Accepts a number, or what a person types: "0.003", "3e-3", "4/255".

    Raises:
        DosimeterError: not a number, or outside [0, 1].

    Example:
        >>> Epsilon("4/255").grey_levels
        4.0
    """

    def __new__(cls, value: float | str) -> "Epsilon":
        """Parse and check `value`."""
        if isinstance(value, str) and re.fullmatch(r"0\d+", value.strip()):  # what a comma leaves of 0,01
            raise DosimeterError(f"epsilon must have a point where decimals begin, got {value.strip()!r}. Write 0.01.")
        try:
            if isinstance(value, bool):
                raise TypeError
            number = float(Fraction(value.strip()) if isinstance(value, str) and "/" in value else value)
        except (ValueError, ArithmeticError, TypeError):
            raise DosimeterError(
                f"epsilon must be a number such as 0.003 or a fraction such as 4/255, got {value!r}."
            ) from None
        if not 0 <= number <= 1:
            hint = f" Did you mean {value}/255?" if 1 < number <= GREY_LEVELS_8BIT else ""
            raise DosimeterError(f"epsilon must be in [0, 1] of the image range, got {value}.{hint}")
        return super().__new__(cls, number)

    @property
    def grey_levels(self) -> float:
        """The same dose in grey levels of an 8-bit image."""
        return round(float(self) * GREY_LEVELS_8BIT, 6)


def parse_epsilons(values: str | float | Iterable[float | str]) -> tuple[float, ...]:
    """Parse a comma-separated string, a list of epsilons or one into sorted unique floats; 0 is always included.

    Example:
        >>> parse_epsilons("0.5, 51/255")
        (0.0, 0.2, 0.5)
    """
    if isinstance(values, str):
        values = [item for item in values.split(",") if item.strip()]
    items = list(values) if isinstance(values, Iterable) else [values]
    if not items:
        raise DosimeterError("epsilons must name at least one value, got none. Try 0.001,4/255.")
    return tuple(sorted({0.0, *(float(Epsilon(item)) for item in items)}))
