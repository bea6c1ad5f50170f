"""Where dosimeter keeps what is costly to get again: weights and features."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Return the cache folder: `$DOSIMETER_CACHE` if set, else the platform's own place for caches.

    The folder need not exist. Everything in it can be deleted; dosimeter makes it again.
    """
    chosen = os.environ.get("DOSIMETER_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("dosimeter")


@contextmanager
def temporary_cache() -> Iterator[None]:
    """Let `cache_dir` be an empty folder, which is removed again, while the block runs: for what nobody needs twice."""
    before = os.environ.get("DOSIMETER_CACHE")
    with tempfile.TemporaryDirectory() as name:
        os.environ["DOSIMETER_CACHE"] = name
        try:
            yield
        finally:
            if before is None:
                del os.environ["DOSIMETER_CACHE"]
            else:
                os.environ["DOSIMETER_CACHE"] = before
