"""`say`: the one way in which a command writes on the terminal."""

import json
import sys
from typing import Any

from dosimeter.plain import one_line


def say(*lines: object, error: bool = False) -> None:
    """Write each argument as one line, whatever it holds: names of files may hold line breaks and control characters.

    Args:
        lines: what to say.
        error: on standard error; standard output is for results.
    """
    stream = sys.stderr if error else sys.stdout
    for line in lines:
        print(one_line(str(line)), file=stream)
    stream.flush()


def say_json(facts: Any) -> None:
    """Write `facts` as JSON that a person can read: letters stay, what is no text for a terminal is escaped."""
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    plain = (line if line == one_line(line) else "".join(map(_in_json, line)) for line in text.split("\n"))
    print("\n".join(plain), flush=True)


def _in_json(char: str) -> str:
    """Return a character of a JSON text as it is, or as JSON escapes it."""
    return char if one_line(char) == char else json.dumps(char)[1:-1]
