"""Progress for people: a bar with time left on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from dosimeter.cli.lines import is_quiet, say
from dosimeter.plain import one_line
from dosimeter.progress import Progress

LINE_EVERY_S = 30.0


class Display(Progress):
    """Draws on standard error, so that standard output stays for results. A context manager."""

    def __init__(self, *, terminal: bool | None = None) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._terminal = (sys.stderr.isatty() and not is_quiet()) if terminal is None else terminal
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bars = Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console)
        self._task: TaskID | None = None
        self._stage, self._total, self._done = "", 0, 0
        self._started = self._spoke = time.monotonic()

    def __enter__(self) -> "Display":
        if self._terminal:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self._end()
        if self._terminal:
            self._bars.stop()

    def begin(self, stage: str, total: int) -> None:
        """Show a new stage, the one before it being over; `total` 0 means that its length is not known."""
        self._end()
        self._stage, self._total, self._done = stage, total, 0
        self._started = self._spoke = time.monotonic()
        if self._terminal:
            self._task = self._bars.add_task(escape(one_line(stage)), total=total or None)
        else:
            self._say(stage)

    def advance(self, steps: int = 1) -> None:
        """Move the bar, or say a line now and then."""
        self._done += steps
        if self._terminal:
            assert self._task is not None
            self._bars.advance(self._task, steps)
        elif time.monotonic() - self._spoke > LINE_EVERY_S:
            self._spoke = time.monotonic()
            if not self._total:
                self._say(f"{self._stage}: {self._done} done")
            elif self._done:
                left = (self._spoke - self._started) / self._done * max(self._total - self._done, 0)
                self._say(f"{self._stage}: {self._done} of {self._total}, about {_duration(left)} left")

    def _end(self) -> None:
        """Let the stage's clock stand; off a terminal say how long a long one took."""
        took = time.monotonic() - self._started
        if self._task is not None:
            total = self._total or max(self._done, 1)
            self._bars.update(self._task, total=total, completed=self._done if self._total else total)
            self._bars.stop_task(self._task)
            self._task = None
        elif self._stage and took > LINE_EVERY_S:
            counted = f"{self._done} of {self._total}" if self._total else "done"
            self._say(f"{self._stage}: {counted} in {_duration(took)}")
        self._stage = ""

    def note(self, message: str) -> None:
        """Print one sentence above the bar."""
        self._say(f"note: {message}")

    def _say(self, line: str) -> None:
        if self._terminal:
            self._console.print(one_line(line), markup=False)
        else:
            say(line, error=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
