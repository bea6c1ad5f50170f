"""Lengths as people type them, "88mm" or "3.46in"; inside they are points, 72.27 to the inch as in LaTeX."""

import re

from dosimeter.errors import DosimeterError
from dosimeter.plain import shown

POINTS_PER_INCH = 72.27
_POINTS = {"mm": POINTS_PER_INCH / 25.4, "cm": POINTS_PER_INCH / 2.54, "in": POINTS_PER_INCH, "pt": 1.0}


def parse_length(text: str, *, name: str, least_mm: float, most_mm: float = 1000.0) -> float:
    """Return a length in points.

    Args:
        text: a number with mm, cm, in or pt.
        name: of the argument, for the sentence of an error.
        least_mm: the smallest that makes sense, in millimetres.
        most_mm: the largest.

    Raises:
        DosimeterError: it is no length, or not between the two.

    Example:
        >>> round(parse_length("1in", name="width", least_mm=20), 2)
        72.27
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(mm|cm|in|pt)\s*", text)
    if found is None:
        raise DosimeterError(f"{name} must be a number with mm, cm, in or pt, got {shown(text)}. Try 88mm.")
    points = float(found[1]) * _POINTS[found[2]]
    if not least_mm <= points / _POINTS["mm"] <= most_mm:
        raise DosimeterError(
            f"{name} must be from {least_mm:g} to {most_mm:g} mm, got {shown(text.strip())}. Try 88mm, a column's."
        )
    return points


def inches(points: float) -> float:
    """Return points in inches."""
    return points / POINTS_PER_INCH
