"""Sheets as files: LaTeX that the article class compiles without a package, Markdown, CSV.

LaTeX makes a column only as wide as it is told to, so widths are measured here, with the metrics of Computer Modern:
the largest type is taken at which a sheet fits. Where none does, the first key becomes a line above its rows, words are
wrapped, or columns become several tables.
"""

import csv
import functools
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from dosimeter.presentation.paper import Entry, Sheet
from dosimeter.presentation.tex import breakable, escape, unbroken

ARTICLE_PT = 345.0
"""The text width of the article class at 10 pt."""

_SIZES = {"normalsize": 1.0, "small": 0.925, "footnotesize": 0.85}
"""Sizes of a 10 pt document, and their digits' width beside that of its own: small type is wider for its height."""

_SEPARATION_PT = 3.0  # \tabcolsep, on either side of a column
_SPACE_PT = 3.4
_PAGE_PT = 550.0
"""The text height of the article class."""

_BASELINE_PT = {"normalsize": 12.0, "small": 11.0, "footnotesize": 9.5}


class Fit(NamedTuple):
    """How a sheet is set.

    Attributes:
        size: of its type.
        wrapped: the widths in points of the columns of words that are wrapped.
        lifted: whether the first key stands in lines of its own, above the rows that it names.
    """

    size: str
    wrapped: dict[int, float]
    lifted: bool = False


@functools.cache
def width_pt(text: str) -> float:
    """Return the width of a line in 10 pt Computer Modern, in points."""
    font = FontProperties(fname=str(Path(matplotlib.get_data_path(), "fonts", "ttf", "cmr10.ttf")), size=10)
    plain = "".join(char if " " <= char <= "~" else {"–": "--", "†": "*"}.get(char, "m") for char in text)
    width, _, _ = TextToPath().get_text_width_height_descent(plain.replace(" ", "n"), font, ismath=False)
    return float(width) * 72.27 / 72


def latex(sheet: Sheet, *, width: float = ARTICLE_PT, source: str = "") -> str:
    """Return a sheet as LaTeX, no wider than `width` points; as several tables where it does not fit.

    Args:
        sheet: the table.
        width: in points.
        source: what a comment at its head says.
    """
    parts = list(_fitting(sheet, width))
    head = [
        f"% {source}".rstrip(),
        f"% For a 10 pt document and {width:.0f} pt of width. Rules are booktabs' where that package is loaded.",
        r"\providecommand{\toprule}{\hline}\providecommand{\midrule}{\hline}\providecommand{\bottomrule}{\hline}",
    ]
    tables = [line for part, fit in parts for line in _table(part, fit)]
    return "\n".join([*head, *tables]) + "\n"


def document(names: Sequence[str]) -> str:
    """Return a document of the article class that has the files of these names, a page for each."""
    inputs = [rf"\input{{{name}}}\clearpage" for name in names]
    return "\n".join([r"\documentclass{article}", r"\begin{document}", *inputs, r"\end{document}"]) + "\n"


def markdown(sheet: Sheet) -> str:
    """Return a sheet in Markdown."""
    heads = [_one_head(head) for head in sheet.heads]
    rule = [":--" if words else "--:" for words in sheet.words]
    lines = [heads, rule, *([_pipe(cell.text) for cell in row] for row in sheet.rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{_pipe(sheet.caption)}\n"


def comma_separated(sheet: Sheet) -> str:
    """Return a sheet as CSV: the cells as they are printed, and no caption."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_one_head(head) for head in sheet.heads])
    writer.writerows([cell.text for cell in row] for row in sheet.rows)
    return text.getvalue()


def _one_head(head: tuple[str, ...]) -> str:
    return _pipe(" ".join(line for line in head if line))


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")


# --- LaTeX --------------------------------------------------------------------------------------------------


def _fitting(sheet: Sheet, width: float) -> Iterator[tuple[Sheet, Fit]]:
    """Yield the sheet, or its parts, each with how it fits."""
    fit = _fit(sheet, width)
    n_values = len(sheet.heads) - sheet.keys
    if fit is None and n_values > 1:
        half = sheet.keys + -(-n_values // 2)
        for place, columns in enumerate((range(sheet.keys, half), range(half, len(sheet.heads)))):
            part = _columns(sheet, [*range(sheet.keys), *columns])
            yield from _fitting(part._replace(name=f"{sheet.name}-{'ab'[place]}"), width)
        return
    fit = fit or Fit("footnotesize", dict.fromkeys((place for place, each in enumerate(sheet.words) if each), 40.0))
    parts = list(_pages(sheet, fit, width))
    for number, rows in enumerate(parts, start=1):
        name, caption = f"{sheet.name}-{number}", f"{sheet.caption} Part {number} of {len(parts)}."
        part = sheet._replace(rows=rows)
        yield part._replace(name=name, caption=caption) if len(parts) > 1 else part, fit


def _columns(sheet: Sheet, columns: Sequence[int]) -> Sheet:
    return sheet._replace(
        heads=[sheet.heads[column] for column in columns],
        words=[sheet.words[column] for column in columns],
        rows=[[row[column] for column in columns] for row in sheet.rows],
    )


def _pages(sheet: Sheet, fit: Fit, width: float) -> Iterator[list[list[Entry]]]:
    """Yield the rows of one page after another, below the caption."""
    n_caption = math.ceil(width_pt(sheet.caption) / (0.9 * width)) + 2
    room = _PAGE_PT - n_caption * _BASELINE_PT["normalsize"] - 40.0
    most = int(room / _BASELINE_PT[fit.size]) - len(sheet.heads[0])
    page: list[list[Entry]] = []
    used = 0
    for row in sheet.rows:
        lines = max([1, *(_n_lines(row[place], width, fit.size) for place, width in fit.wrapped.items())])
        lines += fit.lifted and (not page or row[0] != page[-1][0])
        if page and used + lines > most:
            yield page
            page, used = [], 0
        page.append(row)
        used += lines
    yield page


def _n_lines(cell: Entry, width: float, size: str) -> int:
    return math.ceil(_SIZES[size] * width_pt(cell.value) / (0.8 * width))


def _fit(sheet: Sheet, width: float) -> Fit | None:
    for lifted in (False, True):
        if lifted and not _can_lift(sheet):
            continue
        for size, scale in _SIZES.items():
            if sum(_widths(sheet, scale, lifted=lifted)) <= width:
                return Fit(size, {}, lifted)
    for size in ("small", "footnotesize"):
        for lifted in (False, True):
            if lifted and not _can_lift(sheet):
                continue
            wrapped = _wrapped(sheet, width, _SIZES[size], lifted=lifted)
            if wrapped is not None:
                return Fit(size, wrapped, lifted)
    return None


def _can_lift(sheet: Sheet) -> bool:
    """Whether the first key may stand as a line above its rows: it is of words, and another key names them."""
    return sheet.keys > 1 and sheet.words[0]


def _widths(sheet: Sheet, scale: float, *, lifted: bool = False) -> list[float]:
    """Return the width of each column with what separates it; of columns under one head what that head needs."""
    natural = []
    for place, words in enumerate(sheet.words):
        if lifted and place == 0:
            natural.append(0.0)
            continue
        head = max(width_pt(line) for line in _own_lines(sheet, place))
        natural.append(scale * max(_body([row[place] for row in sheet.rows], words=words), head) + 2 * _SEPARATION_PT)
    for line in range(len(sheet.heads[0]) - 1):
        for text, columns in _spans(sheet.heads, line):
            lacking = scale * width_pt(text) + 2 * _SEPARATION_PT - sum(natural[column] for column in columns)
            if lacking > 0 and not (lifted and columns[-1] == 0):
                natural[columns[-1]] += lacking
    return natural


def _own_lines(sheet: Sheet, place: int) -> list[str]:
    """Return the lines of a head that stand above its column alone."""
    depth = len(sheet.heads[0])
    shared = {
        line for line in range(depth) for _, columns in _spans(sheet.heads, line) if place in columns and columns[1:]
    }
    return [sheet.heads[place][line] for line in range(depth) if line not in shared] or [""]


def _body(cells: Sequence[Entry], *, words: bool) -> float:
    if words or not cells:
        return max((width_pt(each.value) for each in cells), default=0.0)
    decimals = max(_decimals(each.value) for each in cells)
    value = max(width_pt(each.value) + width_pt("0") * (decimals - _decimals(each.value)) for each in cells)
    rest = max(width_pt(_behind(each)) for each in cells)
    return value + (rest + _SPACE_PT if rest else 0.0)


def _behind(cell: Entry) -> str:
    return f"{f'({cell.interval})' if cell.interval else ''}{cell.sign}"


def _wrapped(sheet: Sheet, width: float, scale: float, *, lifted: bool) -> dict[int, float] | None:
    """Return the widths of the columns of words, so that all fits; None if a part of a word would not.

    Each has what its longest unbroken part needs, and what is left goes to those that would be wider.
    """
    widths = _widths(sheet, scale, lifted=lifted)
    words = [place for place, each in enumerate(sheet.words) if each and not (lifted and place == 0)]
    room = width - sum(widths) + sum(widths[place] for place in words) - (2 * _SEPARATION_PT + 0.5) * len(words)
    wanted = {place: widths[place] - 2 * _SEPARATION_PT for place in words}
    least = {}
    for place in words:
        texts = [*sheet.heads[place], *(row[place].value for row in sheet.rows)]
        least[place] = min(wanted[place], scale * max(width_pt(part) for text in texts for part in unbroken(text)) + 1)
    spare = room - sum(least.values())
    if not words or spare < 0:
        return None
    lacking = {place: wanted[place] - least[place] for place in words}
    share = min(1.0, spare / sum(lacking.values())) if sum(lacking.values()) else 0.0
    return {place: least[place] + share * lacking[place] for place in words}


def _decimals(value: str) -> int:
    """Return how many characters a number has from its point on; of what is no number 0."""
    found = re.fullmatch(r"[<>+\-−]*\d+(\.\d+)?", value)
    return len(found[1] or "") if found else 0


def _spans(heads: Sequence[tuple[str, ...]], line: int) -> Iterator[tuple[str, list[int]]]:
    """Yield the texts of a line of the heads, and the columns that share each; under another head none is shared."""
    last = line == len(heads[0]) - 1
    for (_, text, _), columns in groupby(
        range(len(heads)),
        key=lambda column: (
            heads[column][:line],
            heads[column][line],
            column if last or not heads[column][line] else 0,
        ),
    ):
        yield text, list(columns)


def _table(sheet: Sheet, fit: Fit) -> Iterator[str]:
    paired = [any(_behind(row[place]) for row in sheet.rows) for place in range(len(sheet.heads))]
    shown = range(int(fit.lifted), len(sheet.heads))
    columns = "".join(_column(sheet, fit, place, paired[place]) for place in shown)
    yield rf"\begin{{table}}[tbp]\centering\{fit.size}\setlength{{\tabcolsep}}{{{_SEPARATION_PT:g}pt}}"
    yield rf"\caption{{{escape(sheet.caption)}}}\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', sheet.name)}}}"
    yield rf"\medskip\begin{{tabular}}{{@{{}}{columns}@{{}}}}"
    yield r"\toprule"
    yield from _strutted(_head_lines(sheet, paired, lifted=fit.lifted))
    yield r"\midrule"
    yield from _strutted(_body_lines(sheet, fit, paired))
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _strutted(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines, the first one with room above it: a rule of plain LaTeX leaves none."""
    for number, line in enumerate(lines):
        yield line if number else line.replace(r" \tabularnewline", r"\rule{0pt}{2.3ex} \tabularnewline")


def _column(sheet: Sheet, fit: Fit, place: int, paired: bool) -> str:
    if place in fit.wrapped:
        return f"p{{{fit.wrapped[place]:.1f}pt}}"
    return "l" if sheet.words[place] else r"r@{\ }l" if paired else "r"


def _head_lines(sheet: Sheet, paired: Sequence[bool], *, lifted: bool) -> Iterator[str]:
    for line in range(len(sheet.heads[0])):
        spans = list(_spans(sheet.heads, line))[int(lifted) :]
        if not any(text for text, _ in spans):
            continue
        cells = []
        for text, columns in spans:
            n = sum(1 + paired[column] for column in columns)
            words = sheet.words[columns[0]] and not columns[1:]
            cells.append(
                escape(text) if words or (n == 1 and not text) else rf"\multicolumn{{{n}}}{{c}}{{{escape(text)}}}"
            )
        yield " & ".join(cells) + r" \tabularnewline"


def _body_lines(sheet: Sheet, fit: Fit, paired: Sequence[bool]) -> Iterator[str]:
    """Yield the rows; a key that is that of the row above is left out."""
    n_columns = sum(1 + each for each in paired) - int(fit.lifted)
    last: list[str] = [""] * sheet.keys
    for row in sheet.rows:
        keys = [entry.value for entry in row[: sheet.keys]]
        same = next((place for place in range(sheet.keys) if keys[place] != last[place]), sheet.keys)
        if fit.lifted and same == 0:
            yield rf"\multicolumn{{{n_columns}}}{{@{{}}l}}{{\itshape {escape(keys[0])}}} \tabularnewline"
        shown = [Entry("") if place < min(same, sheet.keys - 1) else entry for place, entry in enumerate(row)]
        last = keys
        yield " & ".join(_cells(sheet, shown, paired, fit)) + r" \tabularnewline"


def _cells(sheet: Sheet, row: Sequence[Entry], paired: Sequence[bool], fit: Fit) -> Iterator[str]:
    for place, cell in enumerate(row):
        if fit.lifted and place == 0:
            continue
        if sheet.words[place]:
            yield rf"\raggedright {breakable(cell.value)}" if place in fit.wrapped else escape(cell.value)
            continue
        decimals = max(_decimals(each[place].value) for each in sheet.rows)
        lacking = decimals - _decimals(cell.value)
        phantom = rf"\phantom{{{'.' if lacking == decimals else ''}{'0' * (lacking - (lacking == decimals))}}}"
        yield escape(cell.value) + (phantom if lacking and re.search(r"\d", cell.value) else "")
        if paired[place]:
            behind = f"({cell.interval})" if cell.interval else ""
            yield escape(behind) + (rf"\textsuperscript{{{escape(cell.sign)}}}" if cell.sign else "")
