"""Runs that are read as they ended: a study that is under way, or was interrupted, has no numbers to quote."""

from pathlib import Path

from dosimeter.errors import DosimeterError
from dosimeter.plain import named
from dosimeter.record import table
from dosimeter.record.run import FINISHED, Run, is_study


def finished_table(folder: Path) -> Path:
    """Return the table of a finished run; a folder that holds such a table alone will do.

    Raises:
        DosimeterError: a study works in the folder or was interrupted there, or there is no table.
    """
    path = folder / "responses.parquet"
    if is_study(folder) and (status := Run(folder).status) != FINISHED:
        raise DosimeterError(
            f"{named(folder)} must be a finished run, and its study is under way or was interrupted ({status}). Let it "
            "end, or run the same `dosimeter study` again."
        )
    if not path.is_file():
        raise DosimeterError(f"{named(folder)} must be a finished run, and has no responses.parquet. Name its folder.")
    return path


def read_finished(folder: Path) -> table.Responses:
    """Return the rows and facts of a finished run, as `table.read_compact` gives them.

    Raises:
        DosimeterError: as `finished_table` and `table.read_compact`.
    """
    return table.read_compact(finished_table(folder))
