"""Numbers as the report writes them: shares in percent, the interval beside the value, a dash for nothing."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd

from dosimeter.analysis.wording import TO_A_STEP, is_marked

DASH = "–"


class Cell(NamedTuple):
    """A table cell: its text, a smaller note under it, and how it is marked.

    Attributes:
        text: the value.
        note: usually its interval.
        kind: "" or one of "name" (a row's name), "words" (text, no number), "published" (the paper's number).
        mark: the verdict on the evaluation that the number belongs to, "" where it passed or was not judged.
    """

    text: str
    note: str = ""
    kind: str = ""
    mark: str = ""


def marked(cell: Cell, row: Mapping[Any, Any]) -> Cell:
    """Return a cell of an attacked number with the verdict on its evaluation, if that must be shown."""
    shown = is_marked(row.get("evaluation")) and cell.text != DASH
    return cell._replace(mark=str(row["evaluation"])) if shown else cell


def median(row: Mapping[Any, Any], name: str, *, of_grid: bool = True) -> Cell:
    """Return the cell of a censored median with its interval, and whether that is known to a step of the grid."""
    beyond = f"above {dose(row['epsilon_max'])}"
    high = beyond if row["high_censored"] else dose(row[f"{name}_high"])
    step = f", {TO_A_STEP}" if of_grid and row.get("grid_step") else ""
    note = "" if is_missing(row[f"{name}_low"]) else f"{dose(row[f'{name}_low'])} to {high}{step}"
    return marked(Cell(beyond if row["censored"] else dose(row[name]), note), row)


def words(text: str, note: str = "") -> Cell:
    """Return a cell of text, which stands left, as numbers stand right."""
    return Cell(text, note, kind="words")


def notes(*parts: str) -> str:
    """Return what stands under a value: the parts that are there, with semicolons between."""
    return "; ".join(part for part in parts if part)


def plural(n: Any, noun: str) -> str:
    """Return "1 test image" or "54 test images"."""
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


def is_missing(value: Any) -> bool:
    """Whether `value` is None, NaN or pandas' NA."""
    return value is None or value is pd.NA or bool(value != value)  # NaN alone differs from itself


def percent(share: Any, decimals: int = 1) -> str:
    """Return a share in [0, 1] as "87.5 %"."""
    return DASH if is_missing(share) else f"{100 * float(share):.{decimals}f} %"


def decimal(value: Any, decimals: int = 3) -> str:
    """Return `value` with a fixed number of decimals."""
    return DASH if is_missing(value) else f"{float(value):.{decimals}f}"


def count(value: Any) -> str:
    """Return a whole number."""
    return DASH if is_missing(value) else f"{int(value)}"


def dose(epsilon: Any) -> str:
    """Return an epsilon, or a severity, in three significant digits, never as 1e-04."""
    if is_missing(epsilon):
        return DASH
    if epsilon == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(epsilon))))
    text = f"{epsilon:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def at_severity(severity: float, unit: str) -> str:
    """Return a severity of a physical change with its unit."""
    return f"{dose(severity)} {unit}"


def seconds(duration_s: float) -> str:
    """Return a duration as "12.3 s" or "4 min 05 s"."""
    if duration_s < 60:
        return f"{duration_s:.1f} s"
    minutes, rest = divmod(round(duration_s), 60)
    return f"{minutes} min {rest:02d} s"


def moment(created: str) -> str:
    """Return an ISO-8601 time as "2026-01-31 12:00 UTC"."""
    return datetime.fromisoformat(created).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def percent_range(low: Any, high: Any, decimals: int = 1) -> str:
    """Return an interval of shares as "69.0–95.7", in percent."""
    return "" if is_missing(low) or is_missing(high) else f"{100 * low:.{decimals}f}–{100 * high:.{decimals}f}"


def decimal_range(low: Any, high: Any, decimals: int = 3) -> str:
    """Return an interval as "0.708 to 1.000"."""
    return "" if is_missing(low) or is_missing(high) else f"{low:.{decimals}f} to {high:.{decimals}f}"
