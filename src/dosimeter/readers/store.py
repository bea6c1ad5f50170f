"""The answers of a reader study: one SQLite file, in which what was said to be saved is saved.

A reader's trials are written down when the reader joins, so that they stay the same on another day. Every answer is
a transaction of its own that has reached the disk (WAL, synchronous=FULL) before it is acknowledged.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import Field, ValidationError

from dosimeter.errors import DosimeterError
from dosimeter.files import json_of
from dosimeter.readers.design import Design, Trial, schedule
from dosimeter.record.facts import reasons
from dosimeter.record.typed import Typed

FILE = "answers.sqlite"
PSEUDONYM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,23}")

_TABLES = """
CREATE TABLE IF NOT EXISTS study (digest TEXT NOT NULL, simulated INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS readers (
    reader INTEGER PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE COLLATE NOCASE, joined TEXT NOT NULL, display TEXT
);
CREATE TABLE IF NOT EXISTS trials (
    reader INTEGER NOT NULL REFERENCES readers, place INTEGER NOT NULL,
    pair INTEGER NOT NULL, practice INTEGER NOT NULL, altered TEXT NOT NULL,
    chosen TEXT, response_s REAL, window_centre REAL, window_width REAL, answered TEXT,
    PRIMARY KEY (reader, place)
) WITHOUT ROWID;
"""

Side = Literal["left", "right"]


class _Answered(Typed):
    """A row of `trials` that has an answer."""

    reader: Annotated[int, Field(ge=1)]
    place: Annotated[int, Field(ge=0)]
    pair: Annotated[int, Field(ge=0)]
    practice: Literal[0, 1]
    altered: Side
    chosen: Side
    response_s: float | None
    window_centre: float | None
    window_width: float | None


class _Display(Typed):
    """What a reader said of the display's test pattern."""

    dark_seen: bool
    bright_seen: bool


_Row = TypeVar("_Row", bound=Typed)


class Taken(DosimeterError):
    """A trial was answered before, otherwise."""


class Reader(NamedTuple):
    """A reader, known by number and pseudonym only."""

    number: int
    pseudonym: str
    n_answered: int
    n_trials: int


class Upcoming(NamedTuple):
    """A trial that waits for its answer, and its place among the reader's trials."""

    place: int
    trial: Trial


class Answer(NamedTuple):
    """What a reader said.

    Attributes:
        chosen: the side taken for the altered one.
        response_s: seconds since both images were shown; None for a simulated reader.
        window_centre, window_width: the grey window then, as shares of the image range; None where it is locked.
    """

    chosen: Side
    response_s: float | None = None
    window_centre: float | None = None
    window_width: float | None = None


class Store:
    """The readers and answers of the study in `folder`. Safe to use from several threads and processes.

    Args:
        folder: the study's.
        design: its design, as read.

    Raises:
        DosimeterError: the file is damaged, cannot be written, or holds answers to another design.
    """

    def __init__(self, folder: Path, design: Design) -> None:
        self.design = design
        self._file = folder / FILE
        self._lock = RLock()
        if self._file.exists() and not self._file.is_file():
            raise DosimeterError(f"{FILE} is no file. Put back a copy of the study's folder.")
        with self._sentences():
            self._database = sqlite3.connect(self._file, timeout=10, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute("PRAGMA foreign_keys=ON")
            self._database.executescript(_TABLES)
        with self._transaction():
            found = self._one("SELECT digest FROM study")
            if found is None:
                self._do("INSERT INTO study VALUES (?, 0)", design.digest)
            elif found[0] != design.digest:
                raise DosimeterError(
                    f"{self._file} holds answers to another design than the one that is there now. Put back the "
                    "design.json with which the study began, or make a new study; the answers are kept."
                )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    @property
    def simulated(self) -> bool:
        """Whether its readers are simulated: a study has either such readers or people."""
        with self._sentences():
            return bool(self._one("SELECT simulated FROM study")[0])

    def mark_simulated(self) -> None:
        """Note that the readers of this study are simulated.

        Raises:
            DosimeterError: people have joined it.
        """
        with self._transaction():
            if self._one("SELECT count(*) FROM readers")[0] and not self.simulated:
                raise DosimeterError("people have joined this study. Simulate readers in a study of their own.")
            self._do("UPDATE study SET simulated = 1")

    def find(self, pseudonym: str) -> Reader | None:
        """Return the reader of this pseudonym, None if there is none."""
        counts = "SELECT reader, pseudonym, count(chosen), count(*) FROM readers JOIN trials USING (reader)"
        with self._sentences():
            row = self._one(f"{counts} WHERE pseudonym = ? GROUP BY reader", pseudonym)
        return None if row is None else Reader(*row)

    def join(self, pseudonym: str, *, simulated: bool = False) -> Reader:
        """Add a reader, with all trials.

        Raises:
            DosimeterError: the pseudonym is taken or malformed, or the study has readers of the other sort.
        """
        if not PSEUDONYM.fullmatch(pseudonym):
            raise DosimeterError(
                "a pseudonym must have 2 to 24 letters, digits, - or _ and begin with a letter or digit. Do not use "
                "your name."
            )
        with self._transaction():
            if self.simulated and not simulated:
                raise DosimeterError("the readers of this study are simulated. Make a new study for people.")
            if self.find(pseudonym) is not None:
                raise DosimeterError(f"the pseudonym {pseudonym} is taken. Choose another.")
            number = self._one("SELECT coalesce(max(reader), 0) + 1 FROM readers")[0]
            self._do("INSERT INTO readers VALUES (?, ?, ?, NULL)", number, pseudonym, _now())
            trials = schedule(self.design, number)
            self._database.executemany(
                "INSERT INTO trials (reader, place, pair, practice, altered) VALUES (?, ?, ?, ?, ?)",
                ((number, place, *trial) for place, trial in enumerate(trials)),
            )
        return Reader(number, pseudonym, 0, len(trials))

    def note_display(self, reader: int, facts: Mapping[str, Any]) -> None:
        """Keep what a reader said of the display."""
        with self._transaction():
            self._do("UPDATE readers SET display = ? WHERE reader = ?", json.dumps(dict(facts)), reader)

    def upcoming(self, reader: int, n: int = 2) -> list[Upcoming]:
        """Return the reader's next trials, `n` at most; none if all are answered."""
        query = "SELECT place, pair, practice, altered FROM trials WHERE reader = ? AND chosen IS NULL ORDER BY place"
        with self._sentences():
            rows = self._all(f"{query} LIMIT ?", reader, n)
        return [Upcoming(place, Trial(pair, bool(practice), altered)) for place, pair, practice, altered in rows]

    def answer(self, reader: int, place: int, answer: Answer) -> bool:
        """Save an answer and return whether it is right; once this returns, the answer is on the disk.

        The same answer may come twice: a browser whose connection broke asks again.

        Raises:
            Taken: the trial was answered otherwise before, or is not the reader's next.
            DosimeterError: the answer could not be saved.
        """
        with self._transaction():
            waiting = self.upcoming(reader, 1)
            if waiting and waiting[0].place == place:
                self._do(
                    "UPDATE trials SET chosen = ?, response_s = ?, window_centre = ?, window_width = ?, answered = ? "
                    "WHERE reader = ? AND place = ?",
                    *(*answer, _now(), reader, place),
                )
            row = self._one("SELECT altered, chosen FROM trials WHERE reader = ? AND place = ?", reader, place)
            if row is None or row[1] != answer.chosen:
                raise Taken("this trial was answered before, or is not the next one. Reload the page to go on.")
        return bool(row[0] == row[1])

    def answers(self) -> list[dict[str, Any]]:
        """Return every answer, reader by reader in the order given, as mappings of the columns of `trials`.

        Raises:
            DosimeterError: the file holds what no reader could have answered.
        """
        columns = "reader, place, pair, practice, altered, chosen, response_s, window_centre, window_width, answered"
        with self._sentences():
            rows = self._all(f"SELECT {columns} FROM trials WHERE chosen IS NOT NULL ORDER BY reader, place")
        found = [dict(zip(columns.split(", "), row, strict=True)) for row in rows]
        for row in self._parsed(_Answered, found):
            n = len(self.design.practice if row.practice else self.design.pairs)
            if row.pair >= n:
                raise DosimeterError(_malformed(self._file, f"pair {row.pair} of {n}"))
        return found

    def displays(self) -> dict[int, dict[str, Any] | None]:
        """Return, for each reader's number, what was said of the display, None if nothing.

        Raises:
            DosimeterError: the file holds what no browser could have said.
        """
        with self._sentences():
            rows = self._all("SELECT reader, display FROM readers ORDER BY reader")
        try:
            said = [(reader, None if display is None else json_of(display)) for reader, display in rows]
        except (ValueError, TypeError) as error:
            raise DosimeterError(_malformed(self._file, "a display that is no JSON")) from error
        self._parsed(_Display, [display for _, display in said if display is not None])
        return dict(said)

    def _parsed(self, model: type[_Row], rows: Sequence[Any]) -> list[_Row]:
        try:
            return [model.model_validate(row) for row in rows]
        except ValidationError as error:
            raise DosimeterError(_malformed(self._file, reasons(error))) from error

    def _do(self, query: str, *values: Any) -> None:
        self._database.execute(query, values)

    def _one(self, query: str, *values: Any) -> Any:
        return self._database.execute(query, values).fetchone()

    def _all(self, query: str, *values: Any) -> Sequence[Any]:
        return self._database.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Do all of the block or nothing."""
        with self._sentences():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Hold the file for this thread, and say in one sentence what SQLite refused."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise DosimeterError(_sentence(self._file, error)) from error


def _sentence(file: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kept = "Answers that were saved before are kept."
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"the disk is full or refused: this was not saved. Make room and send it again. {kept}"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"{file.name} cannot be written: nothing was saved. Make the study's folder writable. {kept}"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"{file.name} is held by another program: this was not saved. Close that and send it again. {kept}"
    return f"{file.name} is damaged or not ours ({error}). Put back a copy of the study's folder."


def _malformed(file: Path, what: str) -> str:
    return f"{file.name} holds what no reader could have answered ({what}). Put back a copy of the study's folder."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
