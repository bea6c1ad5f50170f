"""What a study runs on: cohorts, split by protocols, once for each seed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.contrast import flat, require_contrast
from dosimeter.cohorts.copies import two_labels
from dosimeter.cohorts.split import Split, draw_tests, require_apart, shared_images, shared_patients, split
from dosimeter.errors import DosimeterError
from dosimeter.study.config import StudyConfig


class Trial(NamedTuple):
    """A cohort split by a protocol: what every model is trained and attacked on."""

    cohort: Cohort
    split: Split

    @property
    def scope(self) -> dict[str, str]:
        """Its keys in the manifest's stages."""
        return {"cohort": self.cohort.name, "protocol": self.split.protocol}


def plan_trials(config: StudyConfig) -> tuple[list[Trial], list[str]]:
    """Load the cohorts and split them; return the trials and a sentence for each that could not be made."""
    trials: list[Trial] = []
    notes: list[str] = []
    for name in config.cohort:
        cohort = load_cohort(
            name,
            data=config.data,
            limit=config.limit,
            strict=config.strict,
            positive=config.positive,
            seed=config.seed,
            patients=config.patients,
        )
        if not config.allow_flat:
            require_contrast(cohort)
        has_official = any(record.official_split == "test" for record in cohort.records)
        for protocol in config.protocol or (("paper", "official") if has_official else ("paper",)):
            try:
                halves = [split(cohort, protocol, seed=seed) for seed in config.seeds]
                if config.test_limit is not None:
                    halves = [draw_tests(each, config.test_limit) for each in halves]
            except DosimeterError as error:
                notes.append(f"{cohort.name}: the {protocol} protocol was left out: {error}")
                continue
            trials += [Trial(cohort, each) for each in halves]
    if config.strict:
        for trial in trials:
            require_apart(trial.split)
    if not trials:
        raise DosimeterError(" ".join(notes))
    first = (trials[0].split.protocol, trials[0].split.seed)
    names = [trial.cohort.name for trial in trials if (trial.split.protocol, trial.split.seed) == first]
    for name in names:
        if names.count(name) > 1:
            raise DosimeterError(f"cohort: two are called '{name}' in the outputs. Rename one, or run two studies.")
    return trials, notes


def cohorts_of(trials: Sequence[Trial]) -> list[Cohort]:
    """Return each cohort once."""
    return list({trial.cohort.name: trial.cohort for trial in trials}.values())


def describe(trial: Trial) -> dict[str, Any]:
    """Return what the report says of a cohort and its split; no file name, no patient id."""
    cohort, halves = trial
    return {
        "cohort": cohort.name,
        "modality": cohort.modality,
        "protocol": halves.protocol,
        "seed": halves.seed,
        "classes": list(cohort.classes),
        "n": len(cohort),
        "counts": cohort.counts,
        "sha256": cohort.sha256,
        "skipped": len(cohort.skipped),
        "n_flat": len(flat(cohort)),
        "n_train": len(halves.train),
        "n_test": len(halves.test),
        "train_counts": halves.train.counts,
        "test_counts": halves.test.counts,
        "n_test_sharing_patient": shared_patients(halves),
        "n_test_in_training": shared_images(halves),
        "n_two_labels": sum(map(len, two_labels(cohort))),
        "n_unused": halves.n_unused,
        "provenance": cohort.provenance,
    }
