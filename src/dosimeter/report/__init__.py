"""The report of a run: tables, figures, summary.json and report.html, all from responses.parquet alone."""

import shutil
import tempfile
from pathlib import Path

from dosimeter.analysis import names
from dosimeter.analysis.marks import with_marks
from dosimeter.analysis.tables import build_tables, visibility_tables, write_tables
from dosimeter.figures import write_figures
from dosimeter.progress import Progress
from dosimeter.record import table
from dosimeter.report.html import write_report
from dosimeter.report.partial import read_partial
from dosimeter.report.summary import summarise, write_summary

__all__ = ["redraw", "redraw_partial", "summarise", "write_report", "write_summary"]

PARTIAL = "PARTIAL: this run was interrupted; its numbers will change."


def redraw(run_folder: Path, *, progress: Progress | None = None) -> Path:
    """Draw everything of a run from its responses.parquet and return the report's path.

    Writes tables/ (CSV and LaTeX), figures/ (SVG and PNG), summary.json and report.html, replacing older ones only
    once all of the new are there. The same table gives the same bytes. Needs neither torch nor images.

    Args:
        run_folder: the run's.
        progress: told of every stage.

    Raises:
        DosimeterError: the folder has no table, or it cannot be read.
    """
    progress = progress or Progress()
    progress.begin("reading the table", 0)
    return _draw(table.read_compact(run_folder / "responses.parquet"), run_folder, progress)


def redraw_partial(run_folder: Path, *, progress: Progress | None = None) -> Path:
    """Draw the same of an interrupted run, from the parts that are there, marked as partial on every page.

    Raises:
        DosimeterError: the run is not interrupted, or has no part yet.
    """
    progress = progress or Progress()
    progress.begin("reading the parts", 0)
    return _draw(read_partial(run_folder), run_folder, progress)


def _draw(responses: table.Responses, run_folder: Path, progress: Progress) -> Path:
    with names.of(responses.meta):
        return _draw_named(responses, run_folder, progress)


def _draw_named(responses: table.Responses, run_folder: Path, progress: Progress) -> Path:
    seen = visibility_tables(responses.frame)
    # No other analysis looks at these columns, a third of the table.
    responses = responses._replace(frame=responses.frame.drop(columns=[*table.VISIBILITY]))
    with tempfile.TemporaryDirectory(dir=run_folder, prefix=".redraw-") as draft_name:
        draft = Path(draft_name)
        progress.begin("tables", 0)
        tables = with_marks(build_tables(responses) | seen)
        write_tables(tables, draft / "tables", remark=PARTIAL if responses.meta.get("partial") else "")
        figures = write_figures(responses, tables, draft / "figures", progress=progress)
        progress.begin("summary and report", 0)
        write_summary(responses, tables, draft / "summary.json")
        write_report(responses, tables, figures, draft / "report.html")
        for item in ("tables", "figures"):
            if (run_folder / item).exists():
                shutil.rmtree(run_folder / item)
            (draft / item).replace(run_folder / item)
        for item in ("summary.json", "report.html"):
            (draft / item).replace(run_folder / item)
    return run_folder / "report.html"
