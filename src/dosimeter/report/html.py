"""The report: one HTML file with everything in it, no script, nothing loaded from anywhere."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup, escape
from PIL import Image

from dosimeter.analysis import names
from dosimeter.presentation.patients import worded
from dosimeter.presentation.section import Page, Reading, fill, read_file
from dosimeter.record.table import Responses
from dosimeter.report.decisions import together
from dosimeter.report.figures import FigureFile
from dosimeter.report.first_screen import MOST, Card, cards
from dosimeter.report.glossary import GLOSSARY
from dosimeter.report.sections import in_order
from dosimeter.report.summary import results_of

MAX_BYTES = 10_000_000
_IMAGES_BYTES = 8_500_000  # of base64, leaving room for the tables

SHOWN_PICTURES = 1
"""Figures of a section that are not folded."""

SHOWN_SENTENCES = 4
"""Sentences of a section that are not folded."""

FIRST = "verdict"
"""The section whose first figure stands on the first screen."""

_WORDS = Markup("<!-- the words of this page -->")


class Picture(NamedTuple):
    """A figure on the page; `source` is None where the file's limit left no room for it."""

    figure: FigureFile
    source: str | None


class Shown(NamedTuple):
    """A section as the page shows it."""

    name: str
    heading: str
    page: Page
    folded: bool
    pictures: list[Picture]


def write_report(
    responses: Responses,
    tables: Mapping[str, pd.DataFrame],
    figures: Sequence[FigureFile],
    path: Path,
    *,
    title: str | None = None,
    results: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write the report of a run as one self-contained HTML file, smaller than `MAX_BYTES`.

    Args:
        responses: the run's table and meta.
        tables: as `report.build.build_tables` returns them.
        figures: as `report.figures.write_figures` returns them.
        path: the file.
        title: the page's heading; by default it names the cohorts.
        results: those of `summary.summarise`, where they have been made.
    """
    path.write_text(render(responses, tables, figures, title=title, results=results), encoding="utf-8")


def render(
    responses: Responses,
    tables: Mapping[str, pd.DataFrame],
    figures: Sequence[FigureFile],
    *,
    title: str | None = None,
    results: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Return the page that `write_report` writes."""
    meta = responses.meta
    run = Reading(responses, tables)
    there = [(name, section) for name, section in in_order() if section.is_there(run)]
    run = Reading(responses, tables, {name: number for number, (name, _) in enumerate(there, start=1)})
    pictures = embed(figures)
    first = next((each for each in pictures if each.figure.section == FIRST), None)
    shown = [
        Shown(
            name,
            section.heading(run),
            section.page(run),
            section.folded,
            [each for each in pictures if each.figure.section == name and each is not first],
        )
        for name, section in there
    ]
    order = [*([first] if first else []), *(picture for each in shown for picture in each.pictures)]
    numbers = {picture.figure.name: number for number, picture in enumerate(order, start=1)}
    cohorts = together(dict.fromkeys(cohort for cohort, _ in run.trials))
    filled = fill(
        __package__,
        "report.html",
        title=("PARTIAL: " if meta.get("partial") else "") + (title or f"Robustness to small perturbations: {cohorts}"),
        partial=bool(meta.get("partial")),
        css=read_file(__package__, "style.css") + "".join(section.css for _, section in there),
        meta=meta,
        failures=_failures(responses.frame),
        numbers=numbers,
        first=fill(
            __package__, "first_screen.html", cards=_cards(run, results), most=MOST, picture=first, numbers=numbers
        ),
        sections=shown,
        shown_pictures=SHOWN_PICTURES,
        shown_sentences=SHOWN_SENTENCES,
        trust=run.numbers.get("trust"),
        words=_WORDS,
    )
    page = worded(str(filled), unit=run.unit)
    return page.replace(_WORDS, _words_of(page))


def _cards(run: Reading, results: Sequence[Mapping[str, Any]] | None) -> list[Card]:
    with names.of(run.meta):
        return cards(results_of(run) if results is None else results)


def _words_of(page: str) -> str:
    """Return the entries of the glossary whose words stand in a page."""
    text = re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).lower()
    there = ((word, meaning) for word, meaning in GLOSSARY.items() if any(part in text for part in word.split(", ")))
    return "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>\n" for word, meaning in there)


def embed(figures: Sequence[FigureFile], *, limit: int = _IMAGES_BYTES) -> list[Picture]:
    """Return the figures as data addresses: SVG or PNG, whichever is smaller.

    Where all together would pass `limit` bytes they become lossless WebP, and if that is not enough the largest are
    left out.
    """
    sources: list[str | None] = [_smaller(figure) for figure in figures]
    if _total(sources) > limit:
        sources = [_webp(figure.path_png) for figure in figures]
    while _total(sources) > limit:
        largest = max(range(len(sources)), key=lambda index: len(sources[index] or ""))
        sources[largest] = None
    return [Picture(figure, source) for figure, source in zip(figures, sources, strict=True)]


def _total(sources: Sequence[str | None]) -> int:
    return sum(len(source or "") for source in sources)


def _smaller(figure: FigureFile) -> str:
    svg, png = figure.path_svg.read_bytes(), figure.path_png.read_bytes()
    return _data_url("image/svg+xml", svg) if len(svg) < len(png) else _data_url("image/png", png)


def _webp(png: Path) -> str:
    buffer = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").save(buffer, format="WEBP", lossless=True)
    return _data_url("image/webp", buffer.getvalue())


def _data_url(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _failures(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return how many images failed for each cohort, protocol, model and reason."""
    failed = frame[frame["status"] != "ok"]
    groups = failed.groupby(["cohort", "protocol", "model", "error"], dropna=False)["case_id"].nunique()
    return groups.rename("n").reset_index().to_dict("records")
