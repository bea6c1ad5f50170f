"""Text that is safe on a terminal and in a log: names of files, labels and cells may hold anything."""

import logging
import re
import reprlib
import unicodedata
from typing import Any

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats (they turn lines round), lone surrogates, line ends
_JOINERS = "\u200c\u200d"  # formats that some scripts are written with

LONGEST_NAME = 200
"""Characters of a name in a sentence; a longer one loses its middle."""


def one_line(text: str) -> str:
    r"""Return `text` with every character that moves a cursor, ends a line or hides another written as its escape.

    A byte that was no UTF-8 in a file's name is written as that byte.

    Example:
        >>> one_line("x\n\x1b[2J.png")
        'x\\n\\x1b[2J.png'
    """
    if text.isprintable():
        return text
    return "".join(_escaped(char) if _is_unsafe(char) else char for char in text)


def is_utf8(text: str) -> bool:
    """Whether a name is text; of a file whose name's bytes are not, some libraries cannot be asked.

    Example:
        >>> is_utf8("scan.png"), is_utf8("scan" + chr(0xDCFF))
        (True, False)
    """
    return not any(0xD800 <= ord(char) < 0xE000 for char in text)


def named(value: object) -> str:
    """Return a name as a sentence shows it: safe, in one line, and of bounded length."""
    text = one_line(str(value))
    half = LONGEST_NAME // 2
    return text if len(text) <= LONGEST_NAME else f"{text[:half]}[...]{text[-half:]}"


def shown(value: object) -> str:
    """Return a value as a sentence quotes it: `repr`, safe and of bounded length; a number of any size has one."""
    if isinstance(value, int) and value.bit_length() > 400:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, str):
        return named(f"'{value}'")
    return named(repr(value) if isinstance(value, int | float) else reprlib.repr(value))


_QUOTED = re.compile(r"""(["'`])(?:[A-Za-z]:[\\/]|[\\/])[^"'`\n]*[\\/]([^"'`\\/\n]*)\1""")
_WORD = r"""[^\s\\/"'`<>|:;,()]+"""
_FOLDER = rf"{_WORD}(?: {_WORD}){{0,3}}[\\/]+"
_ABSOLUTE = re.compile(rf"(?<![\w.:/\\~])(?:file:/+|[A-Za-z]:[\\/]|[\\/]{{1,2}})(?:{_FOLDER})+")


def without_folders(text: str) -> str:
    """Return `text` with `...` in place of the folders of absolute paths: a folder may name a person.

    A folder's name may have up to four words; where it has more, quotation marks around the path help.

    Example:
        >>> without_folders("/home/jane/scans/1.png: there is no such file.")
        '.../1.png: there is no such file.'
    """
    text = _QUOTED.sub(r"\1.../\2\1", text)
    return _ABSOLUTE.sub(".../", text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line, whatever is in its message; lines of a traceback are set in, and can forge none."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """Return the line."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback, each line behind a margin."""
        return "\n".join(f"    {one_line(line)}" for line in super().formatException(ei).split("\n"))


class FolderlessFormatter(LineFormatter):
    """The same, `without_folders`: for a log that lies in a run's folder, and goes where the run goes."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return without_folders(super().format(record))


def _is_unsafe(char: str) -> bool:
    return char not in _JOINERS and unicodedata.category(char) in _UNSAFE


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # Python's stand-in for a byte that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
