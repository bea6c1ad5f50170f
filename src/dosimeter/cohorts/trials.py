"""A cohort split by a protocol: what every model of a study is trained and attacked on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.contrast import flat
from dosimeter.cohorts.copies import two_labels
from dosimeter.cohorts.split import Split, shared_images, shared_patients
from dosimeter.cohorts.subgroups import members


class Trial(NamedTuple):
    """A cohort split by a protocol: what every model is trained and attacked on."""

    cohort: Cohort
    split: Split

    def of_finding(self, name: str) -> "Trial":
        """Return the trial of the images of which it is known whether they have a finding, as two classes."""
        train, test = (side.of_finding(name) for side in (self.split.train, self.split.test))
        return Trial(self.cohort.of_finding(name), replace(self.split, train=train, test=test))

    @property
    def scope(self) -> dict[str, str]:
        """Its keys in the manifest's stages."""
        return {"cohort": self.cohort.name, "protocol": self.split.protocol}


def cohorts_of(trials: Sequence[Trial]) -> list[Cohort]:
    """Return each cohort once."""
    return list({trial.cohort.name: trial.cohort for trial in trials}.values())


def describe(trial: Trial) -> dict[str, Any]:
    """Return what the report says of a cohort and its split; no file name, no patient id.

    Of a network that was trained elsewhere it is not known which of these images it has seen: those counts are None.
    """
    cohort, halves = trial
    return {
        "cohort": cohort.name,
        "modality": cohort.modality,
        "protocol": halves.protocol,
        "seed": halves.seed,
        "classes": list(cohort.classes),
        **({"positive": cohort.positive} if cohort.positive else {}),
        **({"findings": list(cohort.findings)} if cohort.findings else {}),
        **({"finding_counts": _finding_counts(trial)} if cohort.findings else {}),
        "n": len(cohort),
        "counts": cohort.counts,
        "sha256": cohort.sha256,
        "skipped": len(cohort.skipped),
        "n_flat": len(flat(cohort)),
        "n_train": len(halves.train),
        "n_test": len(halves.test),
        "train_counts": halves.train.counts,
        "test_counts": halves.test.counts,
        "n_test_sharing_patient": shared_patients(halves) if len(halves.train) else None,
        "n_test_in_training": shared_images(halves) if len(halves.train) else None,
        "n_two_labels": sum(map(len, two_labels(cohort))),
        "n_unused": halves.n_unused,
        **({"subgroups": told} if (told := members(halves.test)) else {}),
        "provenance": cohort.provenance,
    }


def _finding_counts(trial: Trial) -> dict[str, dict[str, dict[str, int]]]:
    """Return the images with each finding, without it, and of unknown label, of all, in training and in the test."""
    sides = {"all": trial.cohort, "train": trial.split.train, "test": trial.split.test}
    counts = {side: cohort.finding_counts for side, cohort in sides.items()}
    return {name: {side: counts[side][name] for side in sides} for name in trial.cohort.findings}
