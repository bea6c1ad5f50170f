"""What a study runs on: its cohorts, split by its protocols, once for each seed."""

from collections.abc import Sequence
from dataclasses import replace

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.contrast import require_contrast
from dosimeter.cohorts.groups import grouped
from dosimeter.cohorts.sources import leave_out
from dosimeter.cohorts.split import Split, draw_tests, draw_training, require_apart, split
from dosimeter.cohorts.trials import Trial
from dosimeter.errors import DosimeterError
from dosimeter.record.model_card import trained_on
from dosimeter.study.config import StudyConfig
from dosimeter.study.given import given
from dosimeter.study.subjects import NOBODY, Subjects


def plan_trials(config: StudyConfig, subjects: Subjects = NOBODY) -> tuple[list[Trial], list[str]]:
    """Load the cohorts and split them; return the trials and a sentence for each that could not be made.

    Args:
        subjects: cohorts that need not be loaded.
    """
    trials: list[Trial] = []
    notes: list[str] = []
    for name in config.cohort:
        cohort = subjects.cohorts.get(name) or load_cohort(
            name,
            data=config.data,
            limit=config.limit,
            strict=config.strict,
            positive=config.positive,
            seed=config.seed,
            patients=config.patients,
            findings=config.findings,
            classes=config.classes,
            labels=config.labels,
            label_tag=config.label_tag,
        )
        if config.modality is not None and not cohort.modality:
            cohort = replace(cohort, modality=config.modality)
        if config.brought:
            cohort = _held_out(cohort, config.model)
        if not config.allow_flat:
            require_contrast(cohort)
        cohort = grouped(cohort, config.group)
        has_official = any(record.official_split == "test" for record in cohort.records)
        default = ("whole",) if config.brought else ("paper", "official") if has_official else ("paper",)
        for protocol in config.protocol or default:
            try:
                halves = [_divided(cohort, protocol, config.left_out, seed=seed) for seed in config.seeds]
                if config.train_patients is not None:
                    halves = [draw_training(each, config.train_patients) for each in halves]
                if config.test_limit is not None:
                    halves = [draw_tests(each, config.test_limit) for each in halves]
                if config.given is not None:
                    halves = [given(each, config.given, config.constants) for each in halves]
            except DosimeterError as error:
                if config.given is not None:
                    raise
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


def _divided(cohort: Cohort, protocol: str, left_out: str | None, *, seed: int) -> Split:
    return split(cohort, protocol, seed=seed) if left_out is None else leave_out(cohort, left_out, seed=seed)


def _held_out(cohort: Cohort, models: Sequence[str]) -> Cohort:
    """Return a cohort without the images that a model was trained on, as its card tells."""
    trained = frozenset().union(*(trained_on(model) for model in models))
    kept = [place for place, record in enumerate(cohort.records) if record.sha256 not in trained]
    n = len(cohort) - len(kept)
    if not n:
        return cohort
    if not kept:
        raise DosimeterError(
            f"{cohort.name}: a model was trained on every image, so none is left to test. Bring others."
        )
    sentence = f"{n} images that a model was trained on were left out."
    return replace(cohort.subset(kept), notes=(*cohort.notes, sentence))
