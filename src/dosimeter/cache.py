"""Where dosimeter keeps what is costly to get again: weights and features."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Return the cache folder: `$DOSIMETER_CACHE` if set, else the platform's own place for caches.

    The folder need not exist. Everything in it can be deleted; dosimeter makes it again.
    """
    chosen = os.environ.get("DOSIMETER_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("dosimeter")
