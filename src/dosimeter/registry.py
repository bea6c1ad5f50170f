"""What there is by name, found and not listed: the files of a kind's folder, and what other packages bring.

A file of the folder is one thing, its name the file's, its object the file's `ENTRY`; small things of one kind are the
entries of one mapping, `ENTRIES`. Another package brings one with an
entry point of the group `dosimeter.KIND`:

    [project.entry-points."dosimeter.attacks"]
    mine = "my_package.mine:ENTRY"

Names are read without importing any of it.
"""

import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dosimeter.errors import DosimeterError, did_you_mean

FOLDERS = {"attacks": "dosimeter.attacks.known", "backbones": "dosimeter.models.known"}
"""The folder of each kind whose things are files: their names are read without importing one."""

MAPPINGS = {"storages": "dosimeter.storage.base"}
"""The module of each kind whose things are entries of a mapping."""


def names(kind: str) -> tuple[str, ...]:
    """Return the names of all things of a kind, a key of `FOLDERS` or `MAPPINGS`.

    Files come in alphabetical order, entries of a mapping as they stand there, what other packages bring after them.
    """
    return tuple(dict.fromkeys([*_own(kind), *sorted(_brought(kind))]))


def get(kind: str, name: str) -> Any:
    """Return the thing of that name.

    Raises:
        DosimeterError: there is none, or what another package brings cannot be imported.
    """
    if name in _own(kind):
        if kind in MAPPINGS:
            return importlib.import_module(MAPPINGS[kind]).ENTRIES[name]
        return importlib.import_module(f"{FOLDERS[kind]}.{name}").ENTRY
    found = _brought(kind).get(name)
    if found is None:
        raise DosimeterError(f"{kind.removesuffix('s')} '{name}' is not known. {did_you_mean(name, names(kind))}")
    try:
        return found.load()
    except Exception as error:
        package = found.dist.name if found.dist else found.module
        what = f"{kind.removesuffix('s')} '{name}' of the package {package}"
        raise DosimeterError(f"{what} cannot be loaded ({error}). Mend or uninstall it.") from error


def _own(kind: str) -> list[str]:
    if kind in MAPPINGS:
        return list(importlib.import_module(MAPPINGS[kind]).ENTRIES)
    folder = importlib.import_module(FOLDERS[kind])
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if not module.name.startswith("_"))


def _brought(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"dosimeter.{kind}")}
