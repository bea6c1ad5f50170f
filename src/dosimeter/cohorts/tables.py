"""`read_table`: a CSV file's lines by column, none lost; what would have to be guessed is refused."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from dosimeter.errors import DosimeterError
from dosimeter.plain import named, shown

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


class Line(NamedTuple):
    """One line of a table: its number in the file, and its cells by column; a missing cell is ""."""

    number: int
    cells: Mapping[str, str]


class Table(NamedTuple):
    """A CSV file's lines.

    Attributes:
        lines: in the file's order; lines without any text are none.
        unused: its columns that have no meaning here.
    """

    lines: Iterator[Line]
    unused: tuple[str, ...]


def read_table(
    path: Path, *, required: Sequence[str], optional: Sequence[str] = (), beside: Sequence[str] = ()
) -> Table:
    """Read a CSV file; cells are stripped, and a missing one is "".

    A column is known whatever the case of its letters, and whatever spaces, hyphens or underscores are in its name:
    `Patient ID` is `patient_id`.

    Args:
        path: a UTF-8 file of comma-separated values with a header line.
        required: columns that must be there.
        optional: columns that have a meaning if they are.
        beside: likewise, but another column may be called nearly so.

    Raises:
        DosimeterError: the file is none of that, a required column is missing, two columns have one meaning, a
            column's name is one letter away from a known one, a quote is not closed, or a line has more cells than
            the header.
    """
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True, skipinitialspace=True)
    try:
        first = next((row for row in reader if any(cell.strip() for cell in row)), [])
        header = [column.strip() for column in first]
    except csv.Error as error:
        raise _malformed(path, reader.line_num, error) from error
    places = _places(path, header, required, optional, beside)
    unused = tuple(column for place, column in enumerate(header) if column and place not in places.values())
    return Table(_lines(path, reader, len(header), places), unused)


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise DosimeterError(f"the list of images must be a UTF-8 CSV file, {named(path)} is no file.")
        content = path.read_bytes()
    except OSError as error:
        raise DosimeterError(
            f"the list of images must be a UTF-8 CSV file, {named(path)} cannot be read ({error.strerror or error})."
        ) from error
    found = "it holds NUL bytes, as UTF-16 and UTF-32 do" if _is_wide(content) else ""
    try:
        if not found:
            return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = str(error)
    raise DosimeterError(
        f"the list of images must be a UTF-8 CSV file, {named(path)} is not: {found}. Save it as CSV in UTF-8."
    )


def _is_wide(content: bytes) -> bool:
    return content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0\0\0" in (content[:6:2], content[1:6:2])


def _lines(path: Path, reader: Any, n_columns: int, places: Mapping[str, int]) -> Iterator[Line]:
    """Yield the lines below the header; `places` says which cell is which known column."""
    end = reader.line_num
    while True:
        start = end + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise _malformed(path, start, error) from error
        if row is None:
            return
        end = reader.line_num
        if end > start:
            _require_whole_cells(path, row, n_columns, places, lines=(start, end))
        row = [cell.strip() for cell in row]
        if not any(row):
            continue
        if len(row) == 1 < n_columns and (word := _separator(row)):
            raise DosimeterError(
                f"the cells of {named(path)} must be separated by commas, those of line {start} seem to be by {word}."
            )
        if any(row[n_columns:]):
            raise DosimeterError(
                f"each line of {named(path)} must have at most as many cells as its header, which has {n_columns}; "
                f"line {start} has {len(row)}: put a cell that holds a comma in quotes."
            )
        yield Line(start, {name: row[place] if place < len(row) else "" for name, place in places.items()})


def _require_whole_cells(
    path: Path, row: Sequence[str], n_columns: int, places: Mapping[str, int], *, lines: tuple[int, int]
) -> None:
    """Refuse a cell of several lines where they may be lines of the table behind a quote that should not be there."""
    for place, cell in enumerate(row):
        within = re.split(r"\r\n|\r|\n", cell.rstrip())
        if len(within) < 2:
            continue
        if place in places.values() or _holds_a_file(within, place, n_columns, places["file"], row):
            raise DosimeterError(
                f"a quote in {named(path)} must be closed in the cell that it opens, the one in line {lines[0]} is "
                f"open until line {lines[1]}: close it there, or take the line breaks out of the cell."
            )


def _holds_a_file(within: Sequence[str], place: int, n_columns: int, file: int, row: Sequence[str]) -> bool:
    """Whether the lines within the cell at `place` read as the end of one line of the table and the start of another.

    The cell in the place of the file must then end as this line's own file does, `.png` say; prose seldom does.
    """
    first, last = within[0].split(","), within[-1].split(",")
    if len(first) < n_columns - place or len(last) < place + 1:
        return False
    swallowed = last[file] if file < place else first[file - place]
    return Path(swallowed.strip()).suffix.lower() == Path(row[file]).suffix.lower()


def _malformed(path: Path, line: int, error: csv.Error) -> DosimeterError:
    if "unexpected end of data" in str(error):
        return DosimeterError(
            f"every quote in {named(path)} must be closed, the one in line {line} is not: close or remove it."
        )
    reason = str(error)
    if "expected after" in reason:
        return DosimeterError(
            f"a quoted cell of {named(path)} must end with its quote, the one in line {line} goes on behind it: "
            'close or remove that quote, and write a quote inside a cell as "".'
        )
    return DosimeterError(f"the list of images must be a CSV file, {named(path)} is not: line {line}: {reason}.")


def _places(
    path: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str], beside: Sequence[str]
) -> dict[str, int]:
    """Return the place of each known column that is there."""
    places: dict[str, int] = {}
    known = {squeeze(name): name for name in (*required, *optional)}
    meant = known | {squeeze(name): name for name in beside}
    for place, column in enumerate(header):
        name = meant.get(squeeze(column))
        if name in places:
            raise DosimeterError(
                f"a column of {named(path)} must be there once, {shown(header[places[name]])} and {shown(column)} both "
                f"mean {name}: remove or rename one."
            )
        if name is not None:
            places[name] = place
    for name in required:
        if name not in places:
            raise DosimeterError(_missing(path, name, header))
    for column in header:
        near = next((name for spelt, name in known.items() if _one_letter_apart(squeeze(column), spelt)), None)
        if near is not None and near not in places and squeeze(column) not in meant:
            raise DosimeterError(
                f"a column of {named(path)} must be called {near} or be something else, {shown(column)} may be meant "
                f"for {near}: rename or remove it."
            )
    return places


def _missing(path: Path, name: str, header: Sequence[str]) -> str:
    found = named(", ".join(header)) or "none"
    message = f"{named(path)} must have a column '{name}' in its first line, found: {found}."
    word = _separator(header)
    return f"{message} Its separator seems to be {word}: save it with commas." if word else message


def _separator(cells: Sequence[str]) -> str:
    """Return what else may separate cells, in words, "" if nothing does."""
    return next((word for mark, word in _SEPARATORS.items() if any(mark in cell for cell in cells)), "")


def squeeze(name: str) -> str:
    """Return a column's name without what people write in many ways: see `folded`, and hyphens and underscores.

    Example:
        >>> squeeze("Patient-ID ")
        'patientid'
    """
    return folded(name).replace("-", "").replace("_", "")


def folded(name: str) -> str:
    """Return a name without what the eye passes over: case, form of Unicode, spaces, characters of no width."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(char for char in plain if char.isprintable() and not char.isspace())


def meant(name: str) -> str:
    """Return what a name means to people: "01" and "1.0", which spreadsheets write, are 1."""
    plain = folded(name)
    return str(Decimal(plain).normalize()) if re.fullmatch(r"[+-]?[0-9]{1,12}(\.[0-9]{1,9})?", plain) else plain


def _one_letter_apart(one: str, other: str) -> bool:
    """Whether one edit turns one name into the other: a letter more, less or different, or two neighbours swapped."""
    if one == other or abs(len(one) - len(other)) > 1 or len(one) < 3:
        return False
    start = next((place for place in range(min(map(len, (one, other)))) if one[place] != other[place]), len(one))
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
