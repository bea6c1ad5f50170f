"""Sittings: what a browser is told of a study, and nothing that tells the altered image from the other.

Images are known by random names that hold for one sitting. All are in memory, of the same number of bytes, and are
given in the same way, so that neither names nor sizes nor the time they take tell them apart.
"""

import hashlib
import secrets
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

from dosimeter.errors import DosimeterError
from dosimeter.files import require_file
from dosimeter.readers import design as designs
from dosimeter.readers.design import Pair
from dosimeter.readers.store import Answer, Reader, Side, Store, Upcoming

SECONDS_A_TRIAL = 5
SIDES: tuple[Side, Side] = ("left", "right")
TOKENS_KEPT = 64
"""Names of images that a sitting remembers: the next trials' two, and those of trials just answered."""


class NoSitting(DosimeterError):
    """The browser's sitting is not known: the server was started again, say."""


class Begun(DosimeterError):
    """A reader of this pseudonym has begun before."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(f"{reader.pseudonym} has begun this study. Go on as that reader, or choose another name.")
        self.reader = reader


class StudyChanged(DosimeterError):
    """The study's design is not what it was when serving began."""


class _Sitting:
    """One browser of one reader."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.names: dict[tuple[int, Side], str] = {}


class Saved(NamedTuple):
    """An answer that is on the disk; `correct` is told after practice trials only."""

    correct: bool | None
    state: dict[str, Any]


class Sittings:
    """Serves the study in `folder` to any number of browsers. Safe to use from several threads.

    Raises:
        DosimeterError: the folder holds no study, or one that was edited or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.design = designs.read_design(folder)
        self._file = folder / designs.FILE
        self._stamp = self._stat()
        self._images = [_read_image(folder, place, sha256) for place, sha256 in enumerate(self.design.images)]
        if len({len(image) for image in self._images}) > 1:
            raise DosimeterError(f"{folder}: its images differ in size, which would tell them apart. Make a new study.")
        self.store = Store(folder, self.design)
        self._sittings: dict[str, _Sitting] = {}
        self._shown: dict[str, bytes] = {}
        self._lock = RLock()

    def facts(self) -> dict[str, Any]:
        """Return what everyone may know of the study."""
        n = len(self.design.pairs)
        return {
            "n_practice": len(self.design.practice),
            "n_trials": n,
            "minutes": max(1, round(n * SECONDS_A_TRIAL / 60)),
            "break_every": self.design.break_every,
            "window": self.design.window,
            "phantom": self.design.phantom,
            "suggestion": f"reader-{secrets.token_hex(2)}",
        }

    def join(self, pseudonym: str, *, resume: bool = False) -> str:
        """Begin a sitting and return its name.

        Args:
            pseudonym: the reader's.
            resume: whether it is that of a reader who has begun.

        Raises:
            Begun: there is such a reader, and it was not to be resumed.
            DosimeterError: the pseudonym is malformed, or the study is simulated.
        """
        self.check()
        reader = self.store.find(pseudonym)
        if reader is not None and not resume:
            raise Begun(reader)
        if self.store.simulated:
            raise DosimeterError("the readers of this study are simulated. Make a new study for people.")
        sitting = _Sitting(reader or self.store.join(pseudonym))
        name = secrets.token_urlsafe(24)
        with self._lock:
            self._sittings[name] = sitting
        return name

    def state(self, session: str) -> dict[str, Any]:
        """Return the next trial: phase ("practice", "trial" or "done"), place, total, and names of images.

        `pause` says that a break is due before it. `left` and `right` are what to show, `ahead` what comes after, to
        be fetched in the meantime.
        """
        self.check()
        sitting = self._sitting(session)
        waiting = self.store.upcoming(sitting.reader.number)
        n_practice, n = len(self.design.practice), len(self.design.pairs)
        if not waiting:
            ended = {"phase": "done", "place": n_practice + n, "index": n, "total": n, "pause": False}
            return {**ended, "left": "", "right": "", "ahead": []}
        upcoming = waiting[0]
        practice = upcoming.trial.practice
        index = upcoming.place - (0 if practice else n_practice)
        left, right = self._names(sitting, upcoming)
        return {
            "phase": "practice" if practice else "trial",
            "place": upcoming.place,
            "index": index,
            "total": n_practice if practice else n,
            "pause": not practice and index > 0 and index % self.design.break_every == 0,
            "left": left,
            "right": right,
            "ahead": [name for later in waiting[1:] for name in self._names(sitting, later)],
        }

    def answer(self, session: str, place: int, answer: Answer) -> Saved:
        """Save an answer; once this returns it is on the disk.

        Raises:
            DosimeterError: it could not be saved, or is not the next trial's.
        """
        self.check()
        sitting = self._sitting(session)
        correct = self.store.answer(sitting.reader.number, place, answer)
        return Saved(correct if place < len(self.design.practice) else None, self.state(session))

    def note_display(self, session: str, facts: dict[str, Any]) -> bool:
        """Keep what the reader said of the display; True once that is on the disk."""
        self.check()
        self.store.note_display(self._sitting(session).reader.number, facts)
        return True

    def image(self, name: str) -> bytes | None:
        """Return a PNG by the name that a sitting knows it by; None if there is none."""
        return self._shown.get(name)

    def check(self) -> None:
        """Raise StudyChanged if the design is not what it was; nothing more is answered then."""
        stamp = self._stat()
        if stamp == self._stamp:
            return
        try:
            same = designs.read_design(self._file.parent).digest == self.design.digest
        except DosimeterError:
            same = False
        if not same:
            raise StudyChanged(
                "the study was changed while it ran, so it is halted: put its design.json back as it was. Answers that "
                "were saved are kept."
            )
        self._stamp = stamp

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _sitting(self, session: str) -> _Sitting:
        with self._lock:
            if session not in self._sittings:
                raise NoSitting("this sitting is over. Enter your pseudonym to go on where you stopped.")
            return self._sittings[session]

    def _names(self, sitting: _Sitting, upcoming: Upcoming) -> list[str]:
        """Return the names of a trial's left and right image, the same whenever they are asked for."""
        pair = self.design.pair(upcoming.trial)
        with self._lock:
            for side in SIDES:
                key = upcoming.place, side
                if key not in sitting.names:
                    name = sitting.names[key] = secrets.token_urlsafe(24)
                    self._shown[name] = self._images[_place(pair, altered=side == upcoming.trial.altered)]
            while len(sitting.names) > TOKENS_KEPT:
                self._shown.pop(sitting.names.pop(next(iter(sitting.names))))
            return [sitting.names[upcoming.place, side] for side in SIDES]


def _place(pair: Pair, *, altered: bool) -> int:
    return pair.altered if altered else pair.plain


def _read_image(folder: Path, place: int, sha256: str) -> bytes:
    path = folder / "images" / f"{place:04d}.png"
    try:
        require_file(path)
        content = path.read_bytes()
    except OSError as error:
        raise DosimeterError(f"{path} cannot be read. Put back the study's folder as it was made.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DosimeterError(f"{path} was changed after the study was made. Put back the file, or make a new study.")
    return content
