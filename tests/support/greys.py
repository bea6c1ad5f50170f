"""A cohort of small grey images, its labels as a classifier would have them, and the setting of its sweep."""

from dataclasses import replace

import numpy as np

from dosimeter.attacks.presets import PRESETS
from dosimeter.cohorts.base import Cohort, Decoded, Record, pseudonymise
from dosimeter.models.base import Classifier
from dosimeter.sweeps.plan import Setting, pseudonymise_patients

SIZE = 32


def cohort(n: int = 5, size: int = SIZE, *, value: float | None = None) -> Cohort:
    """Grey 8-bit images in [0.3, 0.7], labels alternating, two images a patient."""

    def record(index: int) -> Record:
        def read() -> Decoded:
            levels = np.random.default_rng(index).integers(76, 179, (1, size, size))
            image = levels / np.float32(255) if value is None else np.full((1, size, size), value)
            return Decoded(image.astype(np.float32), 8)

        return Record(pseudonymise(index, f"{index:064x}"), index % 2, f"{index:064x}", read, f"name-{index // 2}")

    return Cohort("made", ("clear", "opacity"), tuple(record(index) for index in range(n)), modality="xray")


def setting(preset: str = "sound", epsilons: tuple[float, ...] = (0.0, 0.001, 0.003, 0.01, 0.09)) -> Setting:
    return Setting("paper", PRESETS[preset], epsilons, seed=0, patients=pseudonymise_patients(cohort()))


def true_labels(classifier: Classifier, cases: Cohort) -> Cohort:
    """The same cohort with the labels that the classifier gives, so that every case starts correct."""
    predicted = [int(classifier(classifier.prepare(case)[None]).argmax()) for case in cases]
    records = [replace(record, label=label) for record, label in zip(cases.records, predicted, strict=True)]
    return replace(cases, records=tuple(records))
