"""Progress for people: a bar with time left on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from dosimeter.cli.lines import say
from dosimeter.plain import one_line
from dosimeter.progress import Progress

LINE_EVERY_S = 30.0


class Display(Progress):
    """Draws on standard error, so that standard output stays for results. A context manager."""

    def __init__(self, *, terminal: bool | None = None) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
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
        self._bars.stop()

    def begin(self, stage: str, total: int) -> None:
        """Show a new stage; `total` 0 means that its length is not known."""
        self._stage, self._total, self._done = stage, total, 0
        self._started = self._spoke = time.monotonic()
        if self._terminal:
            self._task = self._bars.add_task(escape(one_line(stage)), total=total or None)
        else:
            self._say(stage + (f": {total} images" if total else ""))

    def advance(self, steps: int = 1) -> None:
        """Move the bar, or say a line now and then."""
        self._done += steps
        if self._terminal:
            assert self._task is not None
            self._bars.advance(self._task, steps)
        elif time.monotonic() - self._spoke > LINE_EVERY_S:
            self._spoke = time.monotonic()
            left = (self._spoke - self._started) / self._done * (self._total - self._done)
            self._say(f"{self._stage}: {self._done} of {self._total}, about {left / 60:.0f} min left")

    def note(self, message: str) -> None:
        """Print one sentence above the bar."""
        self._say(f"note: {message}")

    def _say(self, line: str) -> None:
        if self._terminal:
            self._console.print(one_line(line), markup=False)
        else:
            say(line, error=True)
