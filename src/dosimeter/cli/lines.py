"""`say`: the one way in which a command writes on the terminal."""

import json
import sys
from contextvars import ContextVar
from typing import Annotated, Any

import typer

from dosimeter.plain import one_line

_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
_JSON: ContextVar[bool] = ContextVar("json", default=False)


def be_quiet(quiet: bool) -> bool:
    """Say results and errors alone from now on, if asked to: the callback of `--quiet`."""
    _QUIET.set(quiet)
    return quiet


def as_json(wanted: bool) -> bool:
    """Keep standard output for JSON from now on, if asked to: the callback of `--json`."""
    _JSON.set(wanted)
    return wanted


def is_quiet() -> bool:
    """Whether notes and progress are left out."""
    return _QUIET.get()


def say(*lines: object, error: bool = False, urgent: bool = False) -> None:
    """Write each argument as one line, whatever it holds: names of files may hold line breaks and control characters.

    Args:
        lines: what to say.
        error: on standard error; standard output is for results. With `--json` it is for JSON alone, and all lines go
            to standard error.
        urgent: also if the user wants quiet, which leaves out notes on standard error.
    """
    error = error or _JSON.get()
    if error and not urgent and is_quiet():
        return
    stream = sys.stderr if error else sys.stdout
    try:
        for line in lines:
            print(one_line(str(line)), file=stream)
        stream.flush()
    except OSError as failed:
        if not error or isinstance(failed, BrokenPipeError):  # a full disk under notes stops no work
            raise


def say_json(facts: Any) -> None:
    """Write `facts` as JSON that a person can read: letters stay, what is no text for a terminal is escaped."""
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    if not _can_write(text):
        text = json.dumps(facts, indent=2)
    plain = (line if line == one_line(line) else "".join(map(_in_json, line)) for line in text.split("\n"))
    print("\n".join(plain), flush=True)


def _can_write(text: str) -> bool:
    """Whether standard output has all of the text's characters; those that no encoding has are escaped anyway."""
    try:
        one_line(text.replace("\n", " ")).encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def tell(facts: Any, *lines: object) -> None:
    """Write a result: `facts` where JSON is asked for, else `lines`."""
    if _JSON.get():
        say_json(facts)
    else:
        say(*lines)


def _in_json(char: str) -> str:
    """Return a character of a JSON text as it is, or as JSON escapes it."""
    return char if one_line(char) == char else json.dumps(char)[1:-1]


Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=be_quiet, help="results and errors alone, no progress and no notes")
]
"""The option that every command has."""

AsJson = Annotated[bool, typer.Option("--json", callback=as_json, help="print the result as JSON")]
"""The option that every command has that ends with a result."""

JsonAlone = Annotated[bool, typer.Option("--json", callback=as_json, help="print JSON, and write nothing")]
"""Its form where a command writes files otherwise."""
