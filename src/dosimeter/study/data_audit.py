"""The data audit of a study: once for each cohort and protocol, kept in the run."""

from collections.abc import Sequence
from typing import Any

import dosimeter
from dosimeter.cohorts.auditing.base import audit_cohort
from dosimeter.cohorts.trials import Trial
from dosimeter.progress import Progress
from dosimeter.record.provenance import digest_of
from dosimeter.record.run import Run, keep, kept


def data_audits(trials: Sequence[Trial], run: Run, progress: Progress) -> list[dict[str, Any]]:
    """Return what the audit of each trial's images found, of the first seed (see `record.data_audit`)."""
    first = trials[0].split.seed
    return [_audited(trial, run, progress) for trial in trials if trial.split.seed == first]


def _audited(trial: Trial, run: Run, progress: Progress) -> dict[str, Any]:
    told = [str((record.patient_id, record.source, record.facts, record.group)) for record in trial.cohort.records]
    identity = [dosimeter.__version__, trial.cohort.sha256, trial.split.protocol, trial.split.test.sha256, *told]
    file = run.folder / "examined" / f"data-{digest_of(identity)}.json"
    found: dict[str, Any] | None = kept(file)
    if found is None:
        progress.begin(f"auditing the images of {trial.cohort.name}", 0)
        with run.stage("data audit", **trial.scope):
            found = audit_cohort(trial.cohort, split=trial.split).model_dump()
        keep(file, found)
    return found
