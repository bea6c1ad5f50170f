"""What there is by name, found and not listed: the files of a kind's folder, and what other packages bring.

A file of the folder is one thing, its name the file's, its object the file's `ENTRY`; small things of one kind are the
entries of one mapping, `ENTRIES`. Another package brings one with an entry point of the group `dosimeter.KIND`:

    [project.entry-points."dosimeter.attacks"]
    mine = "my_package.mine:ENTRY"

Names are read without importing any of it.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from dosimeter.errors import DosimeterError, did_you_mean


class Kind(NamedTuple):
    """A kind of things.

    Attributes:
        word: what people call one of them.
        module: the folder whose files they are, whose names are read without importing one; or, of a mapping, the
            module that has it.
        is_mapping: whether they are the entries of a mapping.
    """

    word: str
    module: str
    is_mapping: bool = False


KINDS = {
    "attacks": Kind("attack", "dosimeter.attacks.known"),
    "backbones": Kind("model", "dosimeter.models.known"),
    "checks": Kind("check", "dosimeter.analysis.evaluation", is_mapping=True),
    "data_checks": Kind("data check", "dosimeter.cohorts.auditing.base", is_mapping=True),
    "defences": Kind("defence", "dosimeter.defences.known"),
    "examinations": Kind("examination", "dosimeter.examinations.known"),
    "physical": Kind("change", "dosimeter.physical.known"),
    "sections": Kind("section", "dosimeter.sections"),
    "sources": Kind("source", "dosimeter.models.sources"),
    "storages": Kind("storage", "dosimeter.storage.base", is_mapping=True),
}

ADDED: dict[tuple[str, str], Any] = {}
"""What this process added, by (kind, name); it stands before all others of its name."""


def names(kind: str) -> tuple[str, ...]:
    """Return the names of all things of a kind, a key of `KINDS`.

    Files come in alphabetical order, entries of a mapping as they stand there, what other packages bring and what was
    added after them.
    """
    return tuple(dict.fromkeys([*_own(kind), *sorted(_brought(kind)), *(name for each, name in ADDED if each == kind)]))


def get(kind: str, name: str) -> Any:
    """Return the thing of that name.

    Raises:
        DosimeterError: there is none, or what another package brings cannot be imported.
    """
    if (kind, name) in ADDED:
        return ADDED[kind, name]
    word, module, is_mapping = KINDS[kind]
    if name in _own(kind):
        found = importlib.import_module(module if is_mapping else f"{module}.{name}")
        if not is_mapping and not hasattr(found, "ENTRY"):
            raise DosimeterError(f"{word} '{name}': its file must define ENTRY. CONTRIBUTING.md has an example.")
        return found.ENTRIES[name] if is_mapping else found.ENTRY
    point = _brought(kind).get(name)
    if point is None:
        raise DosimeterError(f"{word} '{name}' is not known. {did_you_mean(name, names(kind))}")
    try:
        return point.load()
    except Exception as error:
        package = point.dist.name if point.dist else point.module
        raise DosimeterError(
            f"{word} '{name}' of the package {package} cannot be loaded ({error}). Mend or uninstall it."
        ) from error


def add(kind: str, name: str, thing: Any) -> None:
    """Make a thing known to this process, as in a notebook; a package brings it by an entry point."""
    if kind not in KINDS:
        raise DosimeterError(f"kind must be one of {', '.join(KINDS)}, got '{kind}'.")
    ADDED[kind, name] = thing


def _own(kind: str) -> Sequence[str]:
    _, module, is_mapping = KINDS[kind]
    found = importlib.import_module(module)
    if is_mapping:
        return list(found.ENTRIES)
    return _modules(tuple(found.__path__))


@cache
def _modules(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(each.name for each in pkgutil.iter_modules(folders) if not each.name.startswith("_")))


@cache
def _brought(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"dosimeter.{kind}")}
