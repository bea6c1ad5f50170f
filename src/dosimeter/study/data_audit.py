"""The data audit of a study: once for each cohort and protocol, kept in the run."""

from collections.abc import Sequence
from typing import Any

import dosimeter
from dosimeter import registry
from dosimeter.cohorts.auditing.base import audit_cohort
from dosimeter.cohorts.trials import Trial
from dosimeter.progress import Progress
from dosimeter.record.provenance import digest_of
from dosimeter.record.run import Run, keep, kept
from dosimeter.study.config import StudyConfig


def data_audits(config: StudyConfig, trials: Sequence[Trial], run: Run, progress: Progress) -> list[dict[str, Any]]:
    """Return what the audit of each trial's images found, of the first seed (see `record.data_audit`)."""
    tuned = None if config.tuned_on_test is None else config.tuned_on_test == "yes"
    return [_audited(trial, run, progress, tuned) for trial in trials if trial.split.seed == config.seed]


def _audited(trial: Trial, run: Run, progress: Progress, tuned: bool | None) -> dict[str, Any]:
    told = [str((record.patient_id, record.source, record.facts, record.group)) for record in trial.cohort.records]
    scope = [trial.split.protocol, trial.split.test.sha256, str(tuned)]
    identity = [dosimeter.__version__, *registry.names("data_checks"), trial.cohort.sha256, *scope, *told]
    file = run.folder / "examined" / f"data-{digest_of(identity)}.json"
    found: dict[str, Any] | None = kept(file)
    if found is None:
        progress.begin(f"auditing the images of {trial.cohort.name}", 0)
        with run.stage("data audit", **trial.scope):
            found = audit_cohort(trial.cohort, split=trial.split, tuned=tuned).model_dump()
        keep(file, found)
    return found
