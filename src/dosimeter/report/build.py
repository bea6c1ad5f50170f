"""All tables of a run, as CSV in full precision and as LaTeX for a paper."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dosimeter.analysis.marks import with_marks
from dosimeter.presentation.section import Rows
from dosimeter.record.table import Responses, compact
from dosimeter.report.sections import in_order

LATEX_ROWS = 5_000
"""Rows of a LaTeX table at most, some hundred pages: a table of one row an image goes on in its CSV file."""

_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%_#${}"} | {"\\": "/", "~": r"\textasciitilde{}", "^": r"\^{}"}
)


def build_tables(responses: Responses) -> dict[str, pd.DataFrame]:
    """Return every table of a run, by the name of its file: those that each section of the report makes of it.

    `repeats` is there only of several seeds; then the tables have a column `seed`. Of a run that aimed at a class,
    images of that class count in the paper's tables alone. Numbers under attack have their `evaluation` beside them,
    see `marked`.
    """
    frame = compact(responses.frame)
    seen, rows = measured(frame, responses.meta), Rows(frame, responses.meta)
    return marked(of_sections(rows) | seen)


def marked(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return tables with the verdicts on their evaluations, as `analysis.marks.with_marks` makes them."""
    return with_marks(tables, {name for _, section in in_order() for name in section.unattacked})


def measured(frame: pd.DataFrame, meta: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the tables that are made of the columns `record.table.VISIBILITY`, which no other needs."""
    return of_sections(Rows(frame, meta), measures=True)


def of_sections(rows: Rows, *, measures: bool = False) -> dict[str, pd.DataFrame]:
    """Return the tables of the sections that need those columns, or that do not; without marks."""
    for _, section in in_order():
        if section.measures == measures:
            rows.made |= section.tables(rows)
    return rows.made


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path, *, remark: str = "") -> None:
    """Write each table as NAME.csv (ten digits) and NAME.tex (three): the same table always gives the same bytes.

    The CSV is whole; of a table longer than `LATEX_ROWS` the LaTeX has the first rows, and says so.

    Args:
        tables: by the names of their files.
        folder: where they go.
        remark: what every caption begins with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    captions = {name: said for _, section in in_order() for name, said in section.captions.items()}
    published = {name: where for _, section in in_order() for name, where in section.published.items()}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.10g", lineterminator="\n")
        shown, caption = table.head(LATEX_ROWS), f"{remark} {captions.get(name, '')}".strip()
        column, source = published.get(name, ("", ""))
        if column and table[column].notna().any():
            caption += f" Columns paper_... are the published numbers ({source} of the paper)."
        bounds = [column for column in table.columns if str(column).endswith(("_low", "_high"))]
        if bounds and len(table) and table[bounds].isna().all(axis=None):
            caption += " No row has an interval: too few images."
        if len(shown) < len(table):
            caption += f" The first {len(shown)} of {len(table)} rows; all are in {name}.csv."
        (folder / f"{name}.tex").write_text(to_latex(shown, caption), encoding="utf-8")


def to_latex(table: pd.DataFrame, caption: str) -> str:
    """Return a table for LaTeX's booktabs and longtable."""
    lines = [
        f"% {caption}",
        rf"\begin{{longtable}}{{{'l' * len(table.columns)}}}",
        rf"\caption{{{caption.translate(_ESCAPES)}}} \\",
        r"\toprule",
        " & ".join(str(name).translate(_ESCAPES) for name in table.columns) + r" \\",
        r"\midrule \endhead",
        *(" & ".join(_cell(value) for value in row) + r" \\" for row in table.itertuples(index=False)),
        r"\bottomrule",
        r"\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if value is None or value is pd.NA or value != value:  # NaN is the one value that differs from itself
        return "--"
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.translate(_ESCAPES)
