"""Files that are whole, old or absent after a crash, never half."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file beside `path` to write; it takes the place of `path` when the block ends without an error."""
    temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")  # nobody else's
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_free(folder: Path) -> bool:
    """Whether `folder` may be written to without touching what is there: it is absent or empty."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Give a folder inside the empty or absent `folder` to write to; what is in it moves up if no error ends the block.

    After an error `folder` is empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".unfinished-") as name:
        draft = Path(name)
        yield draft
        for item in sorted(draft.iterdir()):
            item.rename(folder / item.name)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
