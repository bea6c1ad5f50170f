"""How a figure that was drawn for the screen fits the width of a column: its type, its legends, its titles."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

GAP_PT = 1.5
"""Between words on one line."""


def is_crowded(figure: Figure) -> bool:
    """Whether words or legends of a figure leave it, or words touch one another."""
    figure.draw_without_rendering()
    whole, slack = figure.bbox, figure.dpi / 72  # a point
    texts = list(_seen(figure))
    edges = [each.get_window_extent() for each in (*texts, *figure.legends)]
    if any(box.x0 < whole.x0 - slack or box.x1 > whole.x1 + slack for box in edges):
        return True
    return any(True for _ in _touching(texts, figure.dpi))


def _touching(texts: Iterable[Text], dpi: float) -> Iterator[tuple[Text, Text]]:
    """Yield the pairs of texts that stand on one line without a gap, or on one another; the left one first."""
    slack, gap = dpi / 72, GAP_PT * dpi / 72
    boxes = sorted(((text.get_window_extent(), text) for text in texts), key=lambda each: float(each[0].x0))
    for place, (box, text) in enumerate(boxes):
        for other, beside in boxes[place + 1 :]:
            if other.x0 > box.x1 + gap:
                break
            if min(box.y1, other.y1) - max(box.y0, other.y0) > slack:
                yield text, beside


def _seen(figure: Figure) -> Iterator[Text]:
    """Yield the texts of a figure that are shown: of ticks beyond the ends of an axis none is."""
    ticks = {id(label) for ax in figure.axes for label in _tick_labels(ax)}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in ticks and text.get_text().strip() and text.get_visible():
            yield text
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis) if ax.get_visible() else ():
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if low <= tick.get_loc() <= high:
                    yield from (each for each in (tick.label1, tick.label2) if each.get_visible() and each.get_text())


def set_type(figure: Figure, scale: float, font: str, *, least: float) -> None:
    """Give all text of a figure the font, and its size in proportion, at least `least` points."""
    ticks = {id(text) for ax in figure.axes for text in _tick_labels(ax)}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in ticks:
            text.set_fontsize(max(least, float(text.get_fontsize()) * scale))
            text.set_fontfamily([font, "DejaVu Sans"])
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            labels = [tick.label1 for tick in axis.get_major_ticks()]
            size = float(labels[0].get_fontsize()) if labels else float(matplotlib.rcParams["font.size"])
            axis.set_tick_params(which="both", labelsize=max(least, size * scale), labelfontfamily=font)


def _tick_labels(ax: Any) -> list[Text]:
    ticks = [tick for axis in (ax.xaxis, ax.yaxis) for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


def fit_legends(figure: Figure) -> None:
    """Give the legends below a figure so few columns that they fit its width, and the figure the height they need.

    Labels that are too long for a single column are wrapped.
    """
    engine = figure.get_layout_engine()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # while legends are tried that leave no room for the axes
    for legend in list(figure.legends):
        before = float(legend.get_window_extent().height)
        fitting = _narrowed(figure, legend)
        if fitting is not legend:
            grown = float(fitting.get_window_extent().height) - before
            figure.set_figheight(float(figure.get_figheight()) + max(0.0, grown) / figure.dpi)
    figure.set_layout_engine(engine)


def _narrowed(figure: Figure, legend: Legend) -> Legend:
    columns = int(legend._ncols)  # type: ignore[attr-defined]
    while _excess(figure, legend) > 1 and columns > 1:
        columns -= 1
        legend = _laid_out(figure, legend, columns)
    excess = _excess(figure, legend)
    if excess > 1:
        for text in legend.get_texts():
            _wrap(text, float(text.get_window_extent().width) + float(figure.bbox.width) * (1 / excess - 1))
        figure.draw_without_rendering()
    return legend


def _excess(figure: Figure, legend: Legend) -> float:
    """Return how many times wider a legend is than its figure."""
    return float(legend.get_window_extent().width / figure.bbox.width)


def _laid_out(figure: Figure, legend: Legend, columns: int) -> Legend:
    """Return the legend anew, below the figure, in so many columns."""
    labels = [text.get_text() for text in legend.get_texts()]
    size, font = legend.get_texts()[0].get_fontsize(), legend.get_texts()[0].get_fontfamily()
    handles = [each for each in legend.legend_handles if each is not None]
    made: Legend = figure.legend(
        handles=handles, labels=labels, loc="outside lower center", ncols=columns, fontsize=size, frameon=False
    )
    for text in made.get_texts():
        text.set_fontfamily(font)
    legend.remove()
    figure.draw_without_rendering()
    return made


def wrap_titles(figure: Figure) -> None:
    """Wrap the titles that are wider than their axes."""
    for ax in figure.axes:
        for title in ax.findobj(Text, include_self=False):
            if isinstance(title, Text) and title.get_text() in {ax.get_title("left"), ax.get_title()} - {""}:
                _wrap(title, float(ax.get_window_extent().width))


def thin_ticks(figure: Figure) -> None:
    """Hide labels of ticks that touch the one before them on their axis."""
    for ax in figure.axes:
        labels = [tick.label1 for tick in ax.xaxis.get_major_ticks() if tick.label1.get_text()]
        last = None
        for label in sorted(labels, key=lambda each: float(each.get_window_extent().x0)):
            if last is not None and any(True for _ in _touching([last, label], figure.dpi)):
                label.set_visible(False)
            else:
                last = label


def _wrap(text: Text, room: float) -> None:
    """Wrap the lines of a text that are wider than `room`, in pixels."""
    wide = float(text.get_window_extent().width)
    if wide <= room:
        return
    lines = str(text.get_text()).split("\n")
    most = max(8, int(max(map(len, lines)) * room / wide))
    text.set_text("\n".join(part for line in lines for part in textwrap.wrap(line, most) or [""]))
