"""One look for every figure: colours, fonts, the epsilon axis, and how a figure becomes a file.

Colours are Okabe and Ito's, which colour-blind readers tell apart; line styles and markers differ as well, so that
print in grey stays readable. Nothing here touches pyplot or leaves a trace in matplotlib's settings, and the same
figure always gives the same bytes.
"""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, ParamSpec

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, PercentFormatter

from dosimeter.analysis.names import (
    STUDY_PRESETS,
    WORST_CASE,
    attack_number,
    family,
    in_order,
    model_name,
)
from dosimeter.analysis.wording import HALF_GREY_LEVEL, MARKS, is_marked
from dosimeter.units import GREY_LEVELS_8BIT

P = ParamSpec("P")

BLACK, GREY = "#1a1a1a", "#767676"
BLUE, VERMILLION, GREEN, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7"
SKY = "#56B4E9"

WIDTH = 5.8
"""Width of a figure in inches: its 9 point text stays legible when a phone shows it."""

MOST_CLASSES = 6
"""Classes that a figure tells apart; of more there are tables."""

DPI = 150
"""Dots per inch of PNG files."""


STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": BLACK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "text.parse_math": False,  # a `$` in a class name is a dollar
    "svg.fonttype": "path",  # looks the same on every machine
    "svg.hashsalt": "dosimeter",
}
"""matplotlib's settings for every figure."""


class Look(NamedTuple):
    """How a series is drawn: the arguments of `Axes.plot`."""

    color: str
    linestyle: str
    marker: str
    linewidth: float = 1.3
    markersize: float = 4
    fillstyle: Literal["full", "none"] = "full"


# Where curves coincide, the thick one with rings shows around the thin ones.
_SERIES = {
    ("paper", "float"): Look(VERMILLION, "-", "o", linewidth=2.1, markersize=6, fillstyle="none"),
    ("sound", "float"): Look(BLUE, "-", "s", markersize=3.6),
    ("sound", "png8"): Look(GREEN, "--", "^", markersize=4.2),
}
_SPARE = (Look(PURPLE, "-.", "v"), Look(ORANGE, ":", "D"), Look(GREY, "-", "P"))

# Where many attacks share an axes: a colour for each family, a marker for each attack.
_FAMILIES = {"one step": BLUE, "iterative": ORANGE, "minimum norm": GREEN, "black box": PURPLE, "universal": SKY}
_MARKERS = ("s", "v", "^", "o", "D", "d", "<", ">", "P", "X", "h", "*", "p", "+", "x", "1", "2", "3", "4")


def series_look(preset: str, storage: str) -> Look:
    """Return the look of a preset's curve, the same in every figure."""
    known = _SERIES.get((preset, storage))
    return known or _SPARE[sum(map(ord, preset + storage)) % len(_SPARE)]


def attack_look(preset: str) -> Look:
    """Return the look of an attack's curve where many share an axes."""
    if preset == WORST_CASE:
        return Look(BLACK, "-", "", linewidth=4.2)  # shows around what lies on it
    if preset in STUDY_PRESETS:
        return series_look(preset, "float")._replace(linewidth=1.1)
    attack = preset.partition(" from ")[0]
    number = attack_number(attack)
    line = ":" if family(attack) in ("one step", "control") else "-"
    return Look(
        _FAMILIES.get(family(attack), GREY), line, _MARKERS[number % len(_MARKERS)], linewidth=0.9, markersize=3.6
    )


def flagged(label: str, rows: pd.DataFrame) -> str:
    """Return a legend's `label` with, on a second line, the verdict on evaluations that its numbers belong to.

    Args:
        label: what the legend calls the series.
        rows: of the series, with model and evaluation; those that passed are not marked.
    """
    if "evaluation" not in rows:
        return label
    judged = rows[["model", "evaluation"]].drop_duplicates()
    said = []
    for verdict, sign in reversed(MARKS.items()):
        models = in_order(judged.loc[judged["evaluation"] == verdict, "model"])
        if models and is_marked(verdict):
            said.append(f"{sign} {verdict}: {', '.join(map(model_name, models))}")
    return "\n".join([label, *said])


def signed(text: str, rows: pd.DataFrame, *, words: bool = True) -> str:
    """Return `text` with the sign of the worst verdict among `rows`, and its word, unless all passed."""
    found = set(rows["evaluation"]) if "evaluation" in rows else set()
    worst = next((verdict for verdict in reversed(MARKS) if verdict in found and is_marked(verdict)), "")
    return f"{text} {MARKS[worst]}{f' {worst}' if words else ''}" if worst else text


def has_band(table: pd.DataFrame, low: str, high: str) -> bool:
    """Whether any row of `table` has both ends of an interval, so that a band can be drawn."""
    return bool((table[low].notna() & table[high].notna()).any())


def class_look(label: int) -> Look:
    """Return the look of a class among `MOST_CLASSES`; of two, the second stands out."""
    colors = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
    lines, markers = ("--", "-", "-.", ":", "--", "-"), ("s", "o", "^", "v", "D", "P")
    place = label % len(colors)
    return Look(colors[place], lines[place], markers[place], linewidth=2.2)


def model_color(index: int) -> str:
    """Return the colour of the model at `index` where models share an axes; dark and light alternate."""
    return (BLUE, ORANGE, GREEN, PURPLE)[index % 4]


def shorten(name: str, length: int) -> str:
    """Return `name`, cut to `length` characters if it is longer."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make `draw` work in this module's style, whatever the user's matplotlib settings are."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return wrapper


def panels(rows: int, columns: int, *, height: float, width: float = WIDTH, **options: Any) -> tuple[Figure, Any]:
    """Return a figure and its axes, an array (rows, columns), laid out without overlaps.

    Args:
        rows: of axes.
        columns: of axes.
        height: of the figure in inches.
        width: of the figure in inches.
        options: of `Figure.subplots`, such as `sharex`.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def save(figure: Figure, stem: Path, *, mark: str = "") -> tuple[Path, Path]:
    """Write `figure` as `stem`.svg and `stem`.png, without dates, and return both paths; `mark` is written across."""
    svg, png = stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.png")
    with matplotlib.style.context(["default", STYLE]):
        engine = figure.get_layout_engine()
        if engine is not None:  # lay out once, not once for each file
            engine.execute(figure)
            figure.set_layout_engine("none")
        if mark:
            look: dict[str, Any] = {
                "fontsize": 48,
                "rotation": 30,
                "ha": "center",
                "va": "center",
                "alpha": 0.3,
                "zorder": 99,
            }
            figure.text(0.5, 0.5, mark, color=VERMILLION, **look)
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
        figure.savefig(png, dpi=DPI, metadata={"Software": None})
    return svg, png


def svg_of(figure: Figure, file: IO[bytes]) -> None:
    """Write `figure` as SVG, without dates."""
    with matplotlib.style.context(["default", STYLE]):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def percent_axis(ax: Axes, label: str, *, low: float = 0.0) -> None:
    """Let `ax` run from `low` to 1 and read in percent."""
    margin = 0.03 * (1 - low)
    ax.set_ylim(low - margin, 1 + margin)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_ylabel(label)


def epsilon_axis(ax: Axes, epsilons: Iterable[float], *, label: bool = True, grey_levels: bool = False) -> None:
    """Give `ax` a logarithmic epsilon axis with 0 at its left edge, and mark half a grey level.

    Args:
        ax: the axes.
        epsilons: doses that must fit; below the smallest that is not 0 the axis is linear.
        label: whether to name the axis.
        grey_levels: whether to add a top axis in 8-bit grey levels.
    """
    doses = sorted({float(epsilon) for epsilon in epsilons if epsilon > 0}) or [1e-4]
    first, last = doses[0], max(doses[-1], 10 * doses[0])
    ticks = [tick for tick in (10.0**power for power in range(-7, 1)) if first * 0.999 <= tick <= last * 1.2]
    _symlog(ax, first, last)
    ax.set_xticks([0, *ticks], labels=["0", *(f"{tick:g}" for tick in ticks)])
    minor = [step * tick for tick in (0.1 * ticks[0], *ticks) for step in range(2, 10)] if ticks else []
    ax.xaxis.set_minor_locator(FixedLocator([tick for tick in minor if first <= tick <= last * 1.2]))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if label:
        ax.set_xlabel("epsilon (fraction of the image range)")
    if first < HALF_GREY_LEVEL < last:
        ax.axvline(HALF_GREY_LEVEL, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    if grey_levels:
        top = ax.twiny()
        levels = [level for level in (0.05, 0.1, 0.5, 1, 5, 20, 100) if first <= level / GREY_LEVELS_8BIT <= last]
        _symlog(top, first, last)
        top.set_xticks([0, *(level / GREY_LEVELS_8BIT for level in levels)], ["0", *map("{:g}".format, levels)])
        top.xaxis.set_minor_locator(FixedLocator([]))
        half = " (dotted line: half a level)" if first < HALF_GREY_LEVEL < last else ""
        top.set_xlabel(f"8-bit grey levels{half}", fontsize=8)
        top.spines["top"].set_visible(True)
        top.grid(visible=False)


def _symlog(ax: Axes, first: float, last: float) -> None:
    ax.set_xscale("symlog", linthresh=first, linscale=0.5)
    ax.set_xlim(-0.12 * first, last * 1.2)
