"""Dosimeter measures how small a perturbation breaks a radiology image classifier, and whether anyone could see it.

Example:
    >>> import dosimeter as dm
    >>> dm.Epsilon("4/255").grey_levels
    4.0
"""

import importlib
import sys
from typing import Any

from dosimeter.former import Finder

__version__ = "0.2.0"

# Public names and where they live ("module:name" where the names differ). They are imported on first use, so
# that `import dosimeter` alone loads no torch.
_PUBLIC = {
    "DosimeterError": "dosimeter.errors",
    "Epsilon": "dosimeter.units",
    "Case": "dosimeter.cohorts.base",
    "Cohort": "dosimeter.cohorts.base",
    "load_cohort": "dosimeter.cohorts",
    "cohort_of": "dosimeter.cohorts.arrays",
    "split": "dosimeter.cohorts.split",
    "audit_cohort": "dosimeter.cohorts.auditing.base",
    "classifier": "dosimeter.models.source",
    "bring": "dosimeter.defences.saved",
    "Classifier": "dosimeter.models.base",
    "OneLogit": "dosimeter.models.outputs",
    "Output": "dosimeter.models.outputs",
    "Finding": "dosimeter.models.outputs",
    "Findings": "dosimeter.models.decisions",
    "defend": "dosimeter.defences.base",
    "load_weights": "dosimeter.models.weights",
    "fit": "dosimeter.models.fit",
    "load_classifier": "dosimeter.models.saved",
    "save_classifier": "dosimeter.models.saved",
    "FGSM": "dosimeter.attacks.known.fgsm",
    "ThreatModel": "dosimeter.attacks.threat",
    "examine": "dosimeter.examinations.examination",
    "attack": "dosimeter.study.attack",
    "sweep": "dosimeter.study.sweep",
    "Compute": "dosimeter.study.compute",
    "change": "dosimeter.physical.registry",
    "physical_change": "dosimeter.physical.foreign",
    "audit": "dosimeter.study.audit",
    "read_responses": "dosimeter.record.table:read",
    "accuracy_table": "dosimeter.analysis.against",
    "StudyConfig": "dosimeter.study.config",
    "run_study": "dosimeter.study.run",
}

__all__ = ["__version__", *_PUBLIC]

sys.meta_path.append(Finder())


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dosimeter' has no attribute '{name}'")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = globals()[name] = getattr(importlib.import_module(module), attribute or name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
