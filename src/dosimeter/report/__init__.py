"""The report of a run: tables, figures, summary.json and report.html, all from responses.parquet alone."""

import shutil
import tempfile
from pathlib import Path

from dosimeter import responses as table
from dosimeter.analysis.tables import build_tables, visibility_tables, write_tables
from dosimeter.figures import write_figures
from dosimeter.report.html import write_report
from dosimeter.report.summary import summarise, write_summary

__all__ = ["redraw", "summarise", "write_report", "write_summary"]


def redraw(run_folder: Path) -> Path:
    """Draw everything of a run from its responses.parquet and return the report's path.

    Writes tables/ (CSV and LaTeX), figures/ (SVG and PNG), summary.json and report.html, replacing older ones only
    once all of the new are there. The same table gives the same bytes. Needs neither torch nor images.

    Raises:
        DosimeterError: the folder has no table, or it cannot be read.
    """
    responses = table.read_compact(run_folder / "responses.parquet")
    seen = visibility_tables(responses.frame)
    # No other analysis looks at these columns, a third of the table.
    responses = responses._replace(frame=responses.frame.drop(columns=[*table.VISIBILITY]))
    with tempfile.TemporaryDirectory(dir=run_folder, prefix=".redraw-") as name:
        draft = Path(name)
        tables = build_tables(responses) | seen
        write_tables(tables, draft / "tables")
        figures = write_figures(responses, tables, draft / "figures")
        write_summary(responses, tables, draft / "summary.json")
        write_report(responses, tables, figures, draft / "report.html")
        for item in ("tables", "figures"):
            if (run_folder / item).exists():
                shutil.rmtree(run_folder / item)
            (draft / item).replace(run_folder / item)
        for item in ("summary.json", "report.html"):
            (draft / item).replace(run_folder / item)
    return run_folder / "report.html"
