"""Source shift: what it costs to be asked about images of a source that was not trained on, before any attack."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dosimeter.analysis.base import MODEL, answered, clean_answers, groups
from dosimeter.analysis.shares import shares
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.sources import Sources, sources_of
from dosimeter.cohorts.trials import cohorts_of
from dosimeter.errors import DosimeterError
from dosimeter.progress import Progress
from dosimeter.record.table import read_compact
from dosimeter.study.config import StudyConfig
from dosimeter.study.run import run_study
from dosimeter.study.trials import plan_trials

WITHIN = "patient"
"""The protocol of the run that trains on every source; its test patients are new, and their sources are not."""

COLUMNS = [
    *("cohort", "source", "model", "n_train", "n", "accuracy", "accuracy_low", "accuracy_high"),
    *("n_within", "within", "within_low", "within_high", "cost", "cost_low", "cost_high"),
]


class Shift(NamedTuple):
    """What was run: the run that knows every source, and one for each that was left out."""

    within: Path
    without: dict[str, Path]


def plan_shift(config: StudyConfig) -> tuple[Cohort, Sources]:
    """Return the cohort and its sources, before anything is trained.

    Raises:
        DosimeterError: there are several cohorts, or as `sources_of`.
    """
    trials, _ = plan_trials(config.model_copy(update={"protocol": (WITHIN,), "repeats": 1}))
    cohorts = cohorts_of(trials)
    if len(cohorts) != 1:
        told = ", ".join(cohort.name for cohort in cohorts)
        raise DosimeterError(f"cohort must be one for a source shift, got {told}. Run it for each.")
    return cohorts[0], sources_of(cohorts[0])


def run_shift(config: StudyConfig, sources: Sources, progress: Progress) -> Shift:
    """Run the study by patient, and once without each source, in folders of their own below the one of the settings.

    Feature maps are computed once for all; a run that is finished is not run again.
    """
    assert config.out is not None
    within = config.model_copy(update={"protocol": (WITHIN,), "out": config.out / "every-source"})
    found = {}
    for place, source in enumerate(sources.names):
        out = config.out / f"without-source-{place}"
        found[source] = run_study(
            within.model_copy(update={"left_out": source, "out": out}), progress=progress
        ).run.folder
    return Shift(run_study(within, progress=progress).run.folder, found)


def gather(shift: Shift, cohort: Cohort) -> pd.DataFrame:
    """Return what each source costs, one row per (source, classifier).

    Returns:
        n images of the source that was left out and n_train that were trained on; accuracy on them with its interval by
        patient; within and n_within, the same of the images of that source in the test of the run that trained on every
        source; cost, within less accuracy, in shares, with the interval of a difference of two samples.

    Source: of the interval, Newcombe, Stat. Med. 17 (1998) 873, method 10.
    """
    of_source = {record.case_id: record.source for record in cohort.records}
    inside = _rights(shift.within)
    inside = inside[inside["case_id"].map(of_source).notna()].assign(source=inside["case_id"].map(of_source))
    rows = []
    for source, folder in shift.without.items():
        outside = read_compact(folder / "responses.parquet")
        n_train = max(card["n_train"] for card in outside.meta["cohorts"])
        for names, mine in groups(_rights(folder), MODEL):
            known = inside[(inside["source"] == source) & (inside["model"] == names["model"])]
            facts = {"cohort": names["cohort"], "source": source, "model": names["model"], "n_train": n_train}
            rows.append({**facts, **_cost(mine, known)})
    return pd.DataFrame(rows, columns=COLUMNS)


def _rights(folder: Path) -> pd.DataFrame:
    """Return each test image's answer without attack."""
    return clean_answers(answered(read_compact(folder / "responses.parquet").frame))


def _cost(outside: pd.DataFrame, inside: pd.DataFrame) -> dict[str, Any]:
    new, known = (_share(rows) for rows in (outside, inside))
    below, above = (known["share"] - known["low"], new["high"] - new["share"])
    under, over = (known["high"] - known["share"], new["share"] - new["low"])
    cost = known["share"] - new["share"]
    return {
        "n": len(outside),
        "accuracy": new["share"],
        "accuracy_low": new["low"],
        "accuracy_high": new["high"],
        "n_within": len(inside),
        "within": known["share"],
        "within_low": known["low"],
        "within_high": known["high"],
        "cost": cost,
        "cost_low": cost - np.hypot(below, above),
        "cost_high": cost + np.hypot(under, over),
    }


def _share(rows: pd.DataFrame) -> dict[str, float]:
    if rows.empty:
        return dict.fromkeys(("share", "low", "high"), np.nan)
    found = shares(rows.assign(_all=0, _hit=rows["correct"].astype(np.float64)), ["_all"], "_hit").iloc[0]
    return {name: float(found[name]) for name in ("share", "low", "high")}


def sentences(table: pd.DataFrame) -> Iterator[str]:
    """Yield what each source costs, in words."""
    for row in table.to_dict("records"):
        known = (
            f"{row['within']:.1%} of its {row['n_within']} where it is trained on" if row["n_within"] else "none known"
        )
        cost = f", {100 * row['cost']:+.1f} points" if not np.isnan(row["cost"]) else ""
        interval = (
            "" if np.isnan(row["cost_low"]) else f" ({100 * row['cost_low']:+.0f} to {100 * row['cost_high']:+.0f})"
        )
        yield (
            f"{row['model']} on {row['source']}, left out of training: {row['accuracy']:.1%} of {row['n']} images are "
            f"right, {known}{cost}{interval}"
        )


def check_trained(config: StudyConfig) -> None:
    """Raise DosimeterError if the models are trained already: a source cannot be left out of their training."""
    if config.brought:
        raise DosimeterError("a source shift trains its models: name backbones, as --model vgg16.")
