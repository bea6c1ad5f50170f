"""Where code comes from, an installed package or the user, and what it names outside of itself."""

import dis
import functools
import re
import sys
import types
from collections.abc import Iterator
from importlib import metadata

_HEAP_TYPE, _IMMUTABLE = 1 << 9, 1 << 8  # of CPython's flags: a class that was made when it was met; one of C
_WITHOUT_VERSION = {"torch", "dosimeter"}  # a cell's own identity says them


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code object and those of the functions and classes that are defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def loaded(code: types.CodeType) -> Iterator[str]:
    """Yield the names that code looks up outside of itself."""
    kinds = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    yield from (each.argval for each in dis.get_instructions(code) if each.opname in kinds)


def imported(code: types.CodeType) -> Iterator[tuple[str, int]]:
    """Yield the modules that code imports, each with the number of dots before its name."""
    instructions = list(dis.get_instructions(code))
    for place, each in enumerate(instructions):
        if each.opname == "IMPORT_NAME":
            yield each.argval, instructions[place - 2].argval


def made_in_python(kind: type) -> bool:
    """Whether a class holds no more than attributes can show: none of C, whose own fields nothing reads."""
    return bool(kind.__flags__ & _HEAP_TYPE) and not kind.__flags__ & _IMMUTABLE and "pybind" not in type(kind).__name__


def called(module: str, name: str) -> object:
    """Return what a module calls by a name, with dots in it or none; None if it calls nothing so."""
    return functools.reduce(lambda value, part: getattr(value, part, None), name.split("."), sys.modules.get(module))


def installed_as(module: str) -> str | None:
    """Return package and version of what a module of an installed package is defined by; None for the user's code."""
    top = module.partition(".")[0]
    if top == "__main__":  # of a notebook it is a file of an installed package
        return None
    if top in sys.stdlib_module_names or top in _WITHOUT_VERSION:
        return top
    package = sys.modules.get(top)
    places = [getattr(package, "__file__", None) or "", *map(str, getattr(package, "__path__", ()))]
    if not any(re.search(r"[\\/](site|dist)-packages[\\/]", place) for place in places):
        return None
    version = getattr(package, "__version__", None)
    version = version if isinstance(version, str) else _version(top)
    return None if version is None else f"{top} {version.partition('+')[0]}"


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
