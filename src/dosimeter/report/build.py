"""All tables of a run, as CSV in full precision and as LaTeX of what a paper shows of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from dosimeter.analysis.marks import with_marks
from dosimeter.errors import DosimeterError
from dosimeter.presentation.paper import Sheet, sheets
from dosimeter.presentation.patients import Unit, worded
from dosimeter.presentation.section import Rows, Section, rows_of
from dosimeter.presentation.typeset import latex
from dosimeter.presentation.values import write_csv
from dosimeter.record.table import Responses, compact, responses_of
from dosimeter.report.sections import in_order


def build_tables(responses: Responses) -> dict[str, pd.DataFrame]:
    """Return every table of a run, by the name of its file: those that each section of the report makes of it.

    `repeats` is there only of several seeds; then the tables have a column `seed`. Of a run that aimed at a class,
    images of that class count in the paper's tables alone. Numbers under attack have their `evaluation` beside them,
    see `marked`.
    """
    found = responses if responses.physical is not None else responses_of(compact(responses.frame), responses.meta)
    seen, rows = measured(found), rows_of(found)
    return marked(of_sections(rows) | seen)


def marked(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return tables with the verdicts on their evaluations, as `analysis.marks.with_marks` makes them."""
    return with_marks(tables, {name for _, section in in_order() for name in section.unattacked})


def measured(responses: Responses) -> dict[str, pd.DataFrame]:
    """Return the tables that are made of the columns `record.table.VISIBILITY`, which no other needs."""
    return of_sections(rows_of(responses), measures=True)


def of_sections(rows: Rows, *, measures: bool = False) -> dict[str, pd.DataFrame]:
    """Return the tables of the sections that need those columns, or that do not; without marks."""
    for name, section in in_order():
        if section.measures == measures:
            made = section.tables(rows)
            for table in made:
                _check_table(name, section, table, made[table])
            rows.made |= made
    return rows.made


def _check_table(name: str, section: Section, table: str, found: pd.DataFrame) -> None:
    """Raise DosimeterError unless a section's table has a caption, and the columns by which pages find their part."""
    if table not in section.captions:
        raise DosimeterError(f"section {name}: its table '{table}' must have a caption. Add it to `captions`.")
    if missing := {"cohort", "protocol"} - {*found.columns}:
        raise DosimeterError(
            f"section {name}: its table '{table}' must have columns cohort and protocol, got none of the name "
            f"{' or '.join(sorted(missing))}. Group by them."
        )


def write_tables(
    tables: Mapping[str, pd.DataFrame], folder: Path, *, unit: Unit | None = "patient", remark: str = ""
) -> None:
    """Write each table as NAME.csv (ten digits), whole, and as NAME.tex what a paper shows of it, if anything.

    The same table always gives the same bytes.

    Args:
        tables: by the names of their files, with verdicts (`marked`).
        folder: where they go.
        unit: whose images intervals take together (`unit_of`).
        remark: what every caption begins with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_csv(table, folder / f"{name}.csv")
    for name, found in printed(tables, unit=unit):
        if found:
            shown = [sheet._replace(caption=f"{remark} {sheet.caption}".strip()) for sheet in found]
            text = "\n".join(latex(sheet, source=remark or name) for sheet in shown)
            (folder / f"{name}.tex").write_text(text, encoding="utf-8", newline="\n")


def printed(tables: Mapping[str, pd.DataFrame], *, unit: Unit | None) -> Iterator[tuple[str, list[Sheet] | None]]:
    """Yield the name of each table of a section and its sheets for a paper, in the report's order.

    None stands where no paper shows the table: it is too long, or too wide.
    """
    for _, section in in_order():
        for name in section.captions:
            if name not in tables:
                continue
            spec = section.paper.get(name)
            caption = section.captions[name].partition(" The simultaneous band")[0]
            if spec is None:
                yield name, None
                continue
            made = sheets(name, spec, tables[name], caption)
            yield name, [sheet._replace(caption=worded(sheet.caption, unit=unit)) for sheet in made]
