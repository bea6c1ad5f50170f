"""The tables of a finished run as a paper prints them, from the objects that make the report's."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.plain import shown
from dosimeter.presentation.paper import Sheet
from dosimeter.presentation.patients import unit_of
from dosimeter.presentation.typeset import ARTICLE_PT, comma_separated, document, latex, markdown
from dosimeter.record.table import Responses
from dosimeter.report.build import build_tables, printed
from dosimeter.report.figures import slug
from dosimeter.report.sections import in_order

FORMATS = {"latex": "tex", "csv": "csv", "md": "md"}
"""Endings of the files, by the formats that they are of."""


class Paper(NamedTuple):
    """The sheets of a run.

    Attributes:
        sheets: in the report's order.
        left_out: tables of the run that are too long or too wide for a paper: they are files in tables/ alone.
        source: what they were made of, to be cited.
    """

    sheets: list[Sheet]
    left_out: list[str]
    source: str


def for_paper(responses: Responses, chosen: Collection[str] = ()) -> Paper:
    """Return the tables of a run for a paper; its names must be in force (`analysis.names.of`).

    Args:
        responses: the run's rows and facts.
        chosen: the names of the tables that are wanted; by default all that a paper shows.

    Raises:
        DosimeterError: one of `chosen` is none of the run, or no paper shows it.
    """
    return of_tables(build_tables(responses), responses, chosen)


def of_tables(tables: Mapping[str, pd.DataFrame], responses: Responses, chosen: Collection[str] = ()) -> Paper:
    """Return the same of tables that are built already."""
    made = source(responses)
    known = {name for _, section in in_order() for name in section.paper}
    _require(chosen, tables, known & set(tables))
    found: list[Sheet] = []
    left_out: list[str] = []
    for name, of_table in printed(tables, unit=unit_of(responses.frame, responses.meta)):
        if chosen and name not in chosen:
            continue
        if of_table is None:
            left_out.append(name)
        else:
            found += of_table
    said = [sheet._replace(name=slug(sheet.name), caption=f"{sheet.caption} {made}.") for sheet in found]
    return Paper(said, left_out, made)


def _require(chosen: Collection[str], tables: Mapping[str, pd.DataFrame], known: Collection[str]) -> None:
    for name in chosen:
        if name in tables and name not in known:
            raise DosimeterError(f"table must be one that a paper shows, {name} is long: take tables/{name}.csv.")
        if name not in known:
            raise DosimeterError(f"table must be in the run, got {shown(name)}. {did_you_mean(name, known)}")


def source(responses: Responses) -> str:
    """Return what numbers of a run are made with, to be cited."""
    meta = responses.meta
    phantom = ", PHANTOM DATA" if meta["phantom"] else ""
    partial = ", PARTIAL" if meta.get("partial") else ""
    return f"Made with dosimeter {meta['dosimeter_version']}, run {meta['run_id']}{phantom}{partial}"


def write(paper: Paper, kind: str, *, width: float = ARTICLE_PT) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every file.

    Args:
        paper: the tables.
        kind: a key of `FORMATS`; of LaTeX there is one more file, a document that has all of them.
        width: of LaTeX's tables, in points.
    """
    for sheet in paper.sheets:
        text = {"csv": comma_separated, "md": markdown}[kind](sheet) if kind != "latex" else latex(
            sheet, width=width, source=paper.source
        )  # fmt: skip
        yield f"{sheet.name}.{FORMATS[kind]}", text
    if kind == "latex":
        yield "all.tex", document([sheet.name for sheet in paper.sheets])
