"""The figures of a finished run for a paper: at the width of a column, in its type, as PDF, SVG or PNG."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from dosimeter.errors import DosimeterError
from dosimeter.files import replacing
from dosimeter.plain import named, shown
from dosimeter.presentation.lengths import inches
from dosimeter.presentation.style import STYLE, WIDTH
from dosimeter.record.table import Responses
from dosimeter.report.build import build_tables
from dosimeter.report.decisions import by_finding
from dosimeter.report.figures import captioned
from dosimeter.report.fitting import fit_legends, is_crowded, set_type, thin_ticks, wrap_titles

FORMATS = ("pdf", "svg", "png")
DPI = 300
DRAWN_PT = 9.0
"""The size of the type that figures are drawn with; `Look.size` takes its place."""

SMALLEST_PT, LARGEST_PT = 5.0, 24.0
READABLE_PT = 6.0
"""No word is set smaller, unless that is asked for: journals refuse it."""

_LEAST = READABLE_PT * DRAWN_PT / 8  # ticks and legends are drawn with 8 points
_REAL_TEXT = {"pdf.fonttype": 42, "svg.fonttype": "none"}
_DATELESS = {"pdf": {"CreationDate": None}, "svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


class Look(NamedTuple):
    """How figures are printed.

    Attributes:
        width: in points.
        font: of a family that matplotlib finds.
        size: of the type, in points.
    """

    width: float
    font: str = "DejaVu Sans"
    size: float = 8.0


class Print(NamedTuple):
    """A figure that was written.

    Attributes:
        file: where.
        caption: how to read it.
        size: of its type in points: smaller than was asked where its words would have met or left the figure.
    """

    file: Path
    caption: str
    size: float


def check_look(look: Look) -> None:
    """Check what figures are printed with.

    Raises:
        DosimeterError: no font of that name is installed, or the type is too small or too large to be read.
    """
    known = sorted({each.name for each in fontManager.ttflist})
    if look.font not in known:
        near = get_close_matches(look.font, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else "Install it, or take DejaVu Sans, which is always there."
        raise DosimeterError(f"font must be installed, got {shown(look.font)}. {hint}")
    if not SMALLEST_PT <= look.size <= LARGEST_PT:
        raise DosimeterError(
            f"size must be from {SMALLEST_PT:g} to {LARGEST_PT:g} points, got {look.size:g}. Try 8, as most journals."
        )


def print_figures(responses: Responses, folder: Path, kind: str, look: Look) -> Iterator[Print]:
    """Write every figure of a run, and yield what was written; its names must be in force (`analysis.names.of`).

    Args:
        responses: its rows and facts.
        folder: made if needed.
        kind: one of `FORMATS`: PDF and SVG have real text, PNG 300 dots per inch.
        look: width, font and size of the type.

    Raises:
        DosimeterError: as `check_look`; or the folder cannot be written.
    """
    check_look(look)
    tables = build_tables(responses)
    responses, tables = by_finding(responses, tables)
    with matplotlib.style.context(["default", STYLE, {**_REAL_TEXT, "font.family": [look.font, "DejaVu Sans"]}]):
        for name, title, caption, drawing in captioned(responses, tables):
            file = folder / f"{name}.{kind}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                size = save(drawing.draw, file, look)
            except OSError as error:
                raise DosimeterError(
                    f"out must be a folder that can be written, {named(folder)} cannot ({error.strerror})."
                ) from error
            yield Print(file, f"{title}. {caption}", size)


def save(draw: Callable[[], Figure], file: Path, look: Look) -> float:
    """Write a figure, made for the screen, as it is printed: laid out anew at its width, its type set anew.

    Args:
        draw: makes it.
        file: whose ending names the format.
        look: of the print. Where words meet or leave the figure it is set in smaller type, though in none below
            `READABLE_PT` that was not asked for; where that does not help, titles are wrapped and ticks lose labels.

    Returns:
        The size of its type in points.
    """
    width = inches(look.width)
    least = min(look.size, max(DRAWN_PT * width / WIDTH, _LEAST))
    sizes = [look.size] if least == look.size else [look.size, (look.size + least) / 2, least]
    for size in sizes:
        figure = draw()
        figure.set_dpi(DPI)  # letters are as wide as they are written: at fewer dots they are rounded to narrower ones
        set_type(figure, size / DRAWN_PT, look.font, least=min(READABLE_PT, look.size))
        figure.set_size_inches(width, float(figure.get_figheight()) * size / DRAWN_PT)
        fit_legends(figure)
        if not is_crowded(figure):
            break
    else:
        wrap_titles(figure)
        thin_ticks(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what was looked at is what is written
    kind = file.suffix.removeprefix(".")
    with replacing(file) as temporary:
        figure.savefig(temporary, format=kind, dpi=DPI, metadata=_DATELESS[kind])
    return size
