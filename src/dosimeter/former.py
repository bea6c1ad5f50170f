"""Modules of before 0.2.0 under the names they had: they are found, with a warning, until the next release."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "analysis.tables": "report.build",
    "atomic": "files",
    "compact": "record.compact",
    "config": "study.config",
    "estimate": "study.estimate",
    "examination": "examinations.examination",
    "export": "replay.export",
    "facts": "record.facts",
    "figures": "report.figures",
    "gathering": "study.gathering",
    "planning": "study.planning",
    "preflight": "examinations.preflight",
    "provenance": "record.provenance",
    "report.numbers": "presentation.numbers",
    "report.tables": "presentation.views",
    "reader_images": "replay.reader_study",
    "responses": "record.table",
    "runs": "record.run",
    "schema": "record.schema",
    "sweeps.api": "study.sweep",
    "sweeps.cluster": "executors.ray",
    "sweeps.executor": "executors.local",
    "trials": "study.trials",
    **{
        f"attacks.{name}": f"attacks.known.{name}"
        for name in (
            *("apgd", "bim", "carlini_wagner", "ddn", "deepfool", "fgsm", "fmn", "hopskipjump", "mi_fgsm", "pgd"),
            *("random_sign", "square", "stored_pgd", "uniform_noise", "universal"),
        )
    },
}
"""By a module's former name, where it is now; both below `dosimeter`."""


class Finder(MetaPathFinder, Loader):
    """Finds what moved; it stands behind all other finders, so that it costs nothing otherwise."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of a module under its former name, None if it never had one."""
        name = fullname.removeprefix("dosimeter.")
        return ModuleSpec(fullname, self) if name in MOVED and name != fullname else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module that is to be replaced by the one that moved."""
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Put the module that moved in the place of `module`."""
        now = f"dosimeter.{MOVED[module.__name__.removeprefix('dosimeter.')]}"
        warnings.warn(f"{module.__name__} is now {now}.", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(now)


def attribute(package: str, name: str, module: str) -> object:
    """Return a name that a package's former module had, and that one of its modules has now.

    Raises:
        AttributeError: neither has it.
    """
    found = importlib.import_module(f"{package}.{module}")
    if name.startswith("_") or not hasattr(found, name):
        raise AttributeError(f"module '{package}' has no attribute '{name}'")
    warnings.warn(f"{package}.{name} is now {package}.{module}.{name}.", DeprecationWarning, stacklevel=3)
    return getattr(found, name)
