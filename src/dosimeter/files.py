"""Files that are whole, old or absent after a crash, never half; and what a crash leaves is swept."""

import hashlib
import json
import os
import re
import shutil
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.plain import is_utf8, named


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write; it takes the place of `path` when the block ends without an error.

    Raises:
        DosimeterError: a folder stands at `path`.
    """
    if path.is_dir() and not path.is_symlink():
        raise DosimeterError(
            f"{named(path)} must be a file, it is a folder: rename or remove it, and the same command writes the file "
            "in its place."
        )
    temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")  # nobody else's
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_folder_name(folder: Path) -> None:
    """Raise DosimeterError if a run's folder has a name that is no UTF-8: what reads tables cannot be given it."""
    if not is_utf8(str(folder)):
        raise DosimeterError(f"the run's folder must have a name in UTF-8, got {named(folder)}. Rename it.")


def require_file(path: Path) -> None:
    """Raise OSError if what stands at `path` is no file: a pipe is waited for, and a device has no end."""
    if path.exists() and not path.is_file():
        raise OSError("it is no file")


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return what a TOML file holds, `what` being what people call it.

    Raises:
        DosimeterError: it cannot be read, or is not TOML.
    """
    try:
        require_file(path)
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DosimeterError(f"the {what} {named(path)} cannot be read ({error}).") from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and deep nesting
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"{error}"
        raise DosimeterError(f"{named(path)} is not valid TOML: {reason}.") from error


def json_of(text: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is no JSON, or nested more deeply than anything of ours.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def json_in(path: Path) -> Any:
    """Return what a JSON file says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON in UTF-8, or no file: whoever opens a pipe waits for somebody to write to it.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    return json_of(path.read_bytes().decode("utf-8"))


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """Return what a JSON file holds, `what` being what people call it.

    Raises:
        DosimeterError: it cannot be read, or is no JSON object.
    """
    try:
        found = json_in(path)
    except (OSError, ValueError) as error:
        raise DosimeterError(f"{what} cannot be read as JSON ({in_a_line(error)[:160]}).") from error
    if not isinstance(found, dict):
        raise DosimeterError(f"{what} must be a JSON object, got {type(found).__name__}.")
    return found


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: it cannot be read, or is none.
    """
    require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder that of its files' names and digests."""
    if not path.is_dir():
        return digest_of_file(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    lines = [f"{each.relative_to(path).as_posix()} {digest_of_file(each)}\n" for each in files]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


LEFT = re.compile(r"\.\d+-\d+\.tmp$|^\.redraw-|^\.unfinished-")
"""Names that only a process that was killed leaves behind."""


def sweep(folder: Path) -> None:
    """Remove what killed processes left in `folder`, which is known to be ours; no other process may write there.

    What lies in its sub-folders stays, links are not followed, and what cannot be removed stays: it harms nobody.
    """
    left: list[Path] = []
    if not folder.is_symlink():
        with suppress(OSError):
            left = [path for path in folder.iterdir() if LEFT.search(path.name)]
    for path in left:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def is_free(folder: Path) -> bool:
    """Whether `folder` may be written to without touching what is there: it holds nothing but what `sweep` removes."""
    return not folder.exists() or (folder.is_dir() and all(LEFT.search(path.name) for path in folder.iterdir()))


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Give a folder inside the empty or absent `folder` to write to; what is in it moves up if no error ends the block.

    After an error `folder` is empty. What an earlier process left there is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    with TemporaryDirectory(dir=folder, prefix=".unfinished-") as name:
        draft = Path(name)
        yield draft
        for item in sorted(draft.iterdir()):
            item.rename(folder / item.name)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
