"""What a shell completes after an option: names of the registry, read without importing what they name."""

from collections.abc import Callable, Iterable, Iterator

import typer

from dosimeter import registry
from dosimeter.study.settings import EFFORTS, ENGINES, EXECUTORS, PRESETS, PROTOCOLS


def of_kind(kind: str, *more: str) -> Callable[[str], Iterator[str]]:
    """Return what completes names of a kind of the registry, and `more`; also behind commas."""
    return lambda incomplete: _after_commas([*more, *registry.names(kind)], incomplete)


def of_kinds(*kinds: str, more: Iterable[str] = ()) -> Callable[[str], Iterator[str]]:
    """Return what completes names of several kinds, and `more`; also behind commas."""
    return lambda incomplete: _after_commas([*more, *(n for kind in kinds for n in registry.names(kind))], incomplete)


def of(*names: str) -> Callable[[str], Iterator[str]]:
    """Return what completes these names; also behind commas."""
    return lambda incomplete: _after_commas(names, incomplete)


def cohorts(incomplete: str) -> Iterator[str]:
    """Yield the cohorts that begin so."""
    from dosimeter.cohorts import COHORTS

    return _after_commas([name.removesuffix("PATH") for name in COHORTS], incomplete)


def shown(context: typer.Context, incomplete: str) -> Iterator[str]:
    """Yield the names of what is to be shown, the argument before: of a run the shell completes folders itself."""
    what = context.params.get("what")
    kinds = {
        "attack": attacks,
        "change": of_kind("physical"),
        "check": of_kind("checks"),
        "cohort": cohorts,
        "model": models,
    }
    yield from kinds[what](incomplete) if what in kinds else ()


models = of_kind("backbones")
attacks = of_kinds("attacks", "physical", more=("all", "physical"))
storages = of_kind("storages")
defences = of_kind("defences")
presets = of(*PRESETS, "none")
protocols = of(*PROTOCOLS)
efforts = of(*EFFORTS)
engines = of(*ENGINES)
executors = of(*EXECUTORS)


def _after_commas(names: Iterable[str], incomplete: str) -> Iterator[str]:
    before, comma, last = incomplete.rpartition(",")
    return (f"{before}{comma}{name}" for name in names if name.startswith(last))
