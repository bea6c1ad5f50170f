"""Where the files of a list and of a folder are: links, other forms of Unicode, and what cannot be read."""

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dosimeter.cohorts.base import Skipped
from dosimeter.cohorts.images import ImageError

_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
"""What operating systems leave in folders of images, beside files with a leading dot."""


class Found(NamedTuple):
    """What a folder holds, its sub-folders included.

    Attributes:
        files: paths relative to the root, with forward slashes, in the order of their parts.
        skipped: folders that could not be looked into.
        hidden: files and folders that begin with a dot or that an operating system left there.
        empty: folders that hold nothing.
    """

    files: list[str]
    skipped: list[Skipped]
    hidden: list[str]
    empty: list[str]


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is no image of anybody's."""
    return name.startswith(".") or name.lower() in _LITTER


def walk(root: Path, folder: str) -> Found:
    """Find every file below `root / folder`, or below `root` if that is "".

    Links to folders are followed, but never into a folder that holds them.
    """
    found = Found([], [], [], [])
    waiting = [(folder, frozenset([_identity(root), _identity(root / folder)]))]
    while waiting:
        here, above = waiting.pop()
        try:
            entries = list(os.scandir(root / here))
        except OSError as error:
            reason = f"the folder cannot be looked into ({error.strerror or error}), and what it holds is left out."
            found.skipped.append(Skipped(here, reason))
            continue
        if not entries:
            found.empty.append(here)
        for entry in entries:
            name = f"{here}/{entry.name}" if here else entry.name
            if is_hidden(entry.name):
                found.hidden.append(name)
            elif not _is_folder(entry):
                found.files.append(name)
            elif (identity := _identity(Path(entry.path))) in above:
                found.skipped.append(Skipped(name, "it is a link to a folder that holds it, and was not followed."))
            else:
                waiting.append((name, above | {identity}))
    for names in (found.files, found.hidden, found.empty):
        names.sort(key=lambda name: name.split("/"))
    found.skipped.sort(key=lambda item: item.name.split("/"))
    return found


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle; reading it says so
        return False


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError:  # may not be asked; listing it says why
        return (-1, -1)
    return (status.st_dev, status.st_ino)


def find_file(root: Path, file: str, *, inside: bool) -> Path:
    """Return where the file of a list lies.

    A name with letters that Unicode writes in several ways is found in whichever form the disk has it.

    Args:
        root: the folder that a relative path begins at, and may not climb out of.
        file: the path, with forward slashes.
        inside: absolute paths are refused too.

    Raises:
        ImageError: there is no such file, or it is none that can be read.
    """
    _require_path(file, inside=inside)
    path = os.path.join(root, file)  # noqa: PTH118 (a list may have a million lines, and pathlib is slow)
    try:
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            if path.isascii():
                raise
            path = str(next(_other_forms(Path(path)), path))
            mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        raise ImageError(file, _why_not(path, file, error)) from error
    if stat.S_ISDIR(mode):
        raise ImageError(file, "it is a folder, not a file.")
    if not stat.S_ISREG(mode):  # a pipe would be waited for
        raise ImageError(file, "it is no regular file.")
    return Path(path)


def _require_path(file: str, *, inside: bool) -> None:
    if not file:
        raise ImageError(file, "its line names no file.")
    if "\0" in file:
        raise ImageError(file, "its name holds a NUL character, which no file's can.")
    absolute = file.startswith(os.sep)
    if inside and absolute:
        raise ImageError(file, "its path must be relative and stay inside the folder of the list.")
    if not absolute and ".." in file and Path(os.path.normpath(file)).parts[:1] == ("..",):
        remedy = "" if inside else ", or be absolute"
        raise ImageError(file, f"its path must stay inside the folder of the list{remedy}.")


def _other_forms(path: Path) -> Iterator[Path]:
    """Yield the files whose path has the same letters in other forms of Unicode."""
    places = [Path(path.anchor)]
    for part in path.parts[1:] if path.anchor else path.parts:
        exact = [place / part for place in places if (place / part).exists()]
        places = exact or [place / name for place in places for name in _names(place) if _form(name) == _form(part)]
    yield from places


def _names(folder: Path) -> list[str]:
    try:
        return sorted(item.name for item in folder.iterdir())
    except OSError:
        return []


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _why_not(path: str, file: str, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "its links lead in a circle."
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        return f"{error.strerror or error}."
    if os.path.islink(path):  # noqa: PTH114
        return "it is a link to a file that is not there."
    if "://" in file:
        return "it is an address, not a file: fetch it first."
    if "\\" in file:
        return "there is no such file; write its path with forward slashes."
    return "there is no such file."
