"""Learning curves: how accuracy, robust accuracy and epsilon50 grow with the number of training patients."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dosimeter.errors import DosimeterError
from dosimeter.progress import Progress
from dosimeter.record.table import read_meta
from dosimeter.study.config import StudyConfig
from dosimeter.study.run import run_study
from dosimeter.study.trials import plan_trials

SMALLEST = 8
"""Patients of the smallest size, where sizes are not given."""

COLUMNS = [
    *("cohort", "protocol", "model", "patients", "images", "quantity", "preset", "epsilon", "n_repeats"),
    *("mean", "low", "high", "minimum", "maximum", "evaluation"),
]


class Step(NamedTuple):
    """One size of a learning curve, and the run that measured it."""

    patients: int
    images: int
    run: Path


def sizes(config: StudyConfig, n: int) -> list[int]:
    """Return `n` numbers of training patients, each about the same factor above the last, the largest all there are.

    Raises:
        DosimeterError: there are too few patients for so many sizes.
    """
    trials, _ = plan_trials(config)
    most = min(len({record.unit or record.case_id for record in trial.split.train.records}) for trial in trials)
    found = [int(each) for each in np.unique(np.geomspace(min(SMALLEST, most), most, n).round())]
    if len(found) < n:
        raise DosimeterError(f"sizes must be at most {len(found)} for {most} patients in training, got {n}.")
    return found


def run_steps(config: StudyConfig, patients: Sequence[int], progress: Progress) -> Iterator[Step]:
    """Run the study with each number of training patients, in a folder of its own below the one of the settings.

    Feature maps are computed once for all; a run that is finished is not run again.
    """
    assert config.out is not None
    for number in patients:
        out = config.out / f"patients-{number}"
        outcome = run_study(config.model_copy(update={"train_patients": number, "out": out}), progress=progress)
        splits = read_meta(outcome.run.responses)["cohorts"]
        yield Step(number, max(split["n_train"] for split in splits), outcome.run.folder)


def gather(steps: Sequence[Step]) -> pd.DataFrame:
    """Return the learning curves as a table, from the tables of the runs.

    Returns:
        For each size and classifier: accuracy without attack (no epsilon), accuracy under every attack at every
        epsilon, and epsilon50; of several seeds the mean with its interval over splits and the range, of one the
        value with its interval over images; `evaluation`, the verdict.
    """
    parts = [_of_run(step) for step in steps]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _of_run(step: Step) -> pd.DataFrame:
    tables = step.run / "tables"
    if (tables / "repeats.csv").is_file():
        found = pd.read_csv(tables / "repeats.csv")
        found = found[found["quantity"].isin(["accuracy", "epsilon50"])]
        found = found[found["storage"].isna() | (found["storage"] == "float")]
    else:
        found = pd.concat(list(_single(tables)), ignore_index=True)
    return found.assign(patients=step.patients, images=step.images).reindex(columns=COLUMNS)


def _single(tables: Path) -> Iterator[pd.DataFrame]:
    """Yield the numbers of a run of one seed as `repeats` names them."""
    clean = pd.read_csv(tables / "clean_metrics.csv")
    yield _as_means(clean, "accuracy", "accuracy", "accuracy_low", "accuracy_high")
    for name in ("fgsm_accuracy", "robust_accuracy"):
        if (tables / f"{name}.csv").is_file():
            curves = pd.read_csv(tables / f"{name}.csv")
            curves = curves[(curves["storage"] == "float") & (curves["epsilon"] > 0)]
            if name == "robust_accuracy":
                curves = curves[curves["preset"] != "sound"]
            yield _as_means(curves, "accuracy", "accuracy", "ci_low", "ci_high")
    half = pd.read_csv(tables / "epsilon50.csv")
    yield _as_means(half[half["storage"] == "float"], "epsilon50", "epsilon50", "epsilon50_low", "epsilon50_high")


def _as_means(table: pd.DataFrame, quantity: str, value: str, low: str, high: str) -> pd.DataFrame:
    numbers = {"mean": table[value], "low": table[low], "high": table[high]}
    ends = {"minimum": table[value], "maximum": table[value]}
    return table.assign(quantity=quantity, n_repeats=1, **numbers, **ends).reindex(columns=COLUMNS)
