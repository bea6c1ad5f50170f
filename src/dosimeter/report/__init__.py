"""The report of a run: tables, figures, summary.json and report.html, all from responses.parquet alone."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from dosimeter.analysis import names
from dosimeter.files import json_in
from dosimeter.presentation.patients import unit_of
from dosimeter.presentation.section import rows_of
from dosimeter.progress import Progress
from dosimeter.record import table
from dosimeter.record.compact import quick_text
from dosimeter.record.run import REPORTED, Run, require_kind, require_own
from dosimeter.report.build import marked, measured, of_sections, write_tables
from dosimeter.report.decisions import by_finding
from dosimeter.report.figures import write_figures
from dosimeter.report.html import write_report
from dosimeter.report.partial import read_partial, unreported
from dosimeter.report.summary import summarise, write_summary

__all__ = ["redraw", "redraw_partial", "summarise", "unreported", "write_report", "write_summary"]

_FOLDERS = ("tables", "figures")

PARTIAL = "PARTIAL: this run was interrupted; its numbers may change."


@quick_text()
def redraw(run_folder: Path, *, progress: Progress | None = None) -> Path:
    """Draw everything of a run from its responses.parquet and return the report's path.

    Writes tables/ (CSV and LaTeX), figures/ (SVG and PNG), summary.json and report.html, replacing older ones only
    once all of the new are there; what else lies in these folders stays. The same table gives the same bytes. Needs
    neither torch nor images.

    Args:
        run_folder: the run's.
        progress: told of every stage.

    Raises:
        DosimeterError: the folder has no table, or it cannot be read; or it holds other reports than dosimeter's.
    """
    progress = progress or Progress()
    progress.begin("reading the table", 0)
    return _draw(table.read_compact(run_folder / "responses.parquet"), run_folder, progress)


@quick_text()
def redraw_partial(run_folder: Path, *, progress: Progress | None = None) -> Path:
    """Draw the same of an interrupted run, from the parts that are there, marked as partial on every page.

    Raises:
        DosimeterError: the run is not interrupted, or has no part yet.
    """
    progress = progress or Progress()
    progress.begin("reading the parts", 0)
    found = read_partial(run_folder)
    Run(run_folder).save_manifest(status=REPORTED, finished=None)  # what will stand there is of no finished study
    return _draw(found, run_folder, progress)


def _draw(responses: table.Responses, run_folder: Path, progress: Progress) -> Path:
    require_own(run_folder)
    with names.of(responses.meta):
        return _draw_named(responses, run_folder, progress)


def _draw_named(responses: table.Responses, run_folder: Path, progress: Progress) -> Path:
    seen = measured(responses)
    # No other analysis looks at these columns, a third of the table.
    responses = replace(responses, frame=responses.frame.drop(columns=[*table.VISIBILITY]))
    with tempfile.TemporaryDirectory(dir=run_folder, prefix=".redraw-") as draft_name:
        draft = Path(draft_name)
        progress.begin("tables", 0)
        tables = marked(of_sections(rows_of(responses)) | seen)
        remark = PARTIAL if responses.meta.get("partial") else ""
        write_tables(tables, draft / "tables", unit=unit_of(responses.frame, responses.meta), remark=remark)
        responses, tables = by_finding(responses, tables)
        figures = write_figures(responses, tables, draft / "figures", progress=progress)
        progress.begin("summary and report", 0)
        drawn = sorted(f"{name}/{file.name}" for name in _FOLDERS for file in (draft / name).iterdir())
        summary = write_summary(responses, tables, draft / "summary.json", drawn)
        write_report(responses, tables, figures, draft / "report.html", results=summary["results"])
        _put(draft, run_folder, drawn)
    return run_folder / "report.html"


def _put(draft: Path, run_folder: Path, drawn: Sequence[str]) -> None:
    """Move what was drawn to where it belongs, and remove what the last drawing left there: that, and nothing else."""
    last = _drawn_before(run_folder)
    for name in _FOLDERS:
        if (run_folder / name).is_symlink():  # what it leads to is not the run's
            (run_folder / name).unlink()
        (run_folder / name).mkdir(exist_ok=True)
    for file in drawn:
        require_kind(run_folder, file, is_folder=False)
    for file in (*drawn, "summary.json", "report.html"):
        (draft / file).replace(run_folder / file)
    for file in set(last) - set(drawn):
        (run_folder / file).unlink(missing_ok=True)


def _drawn_before(run_folder: Path) -> list[str]:
    """Return the files in tables/ and figures/ that the summary says the last drawing wrote."""
    try:
        found = json_in(run_folder / "summary.json")["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # there was none, or one of an older version
    names = [PurePath(name) for name in found if isinstance(name, str)] if isinstance(found, list) else []
    return [str(name) for name in names if len(name.parts) == 2 and name.parts[0] in _FOLDERS and name.name != ".."]
