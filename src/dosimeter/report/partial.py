"""The report of a run that was interrupted: from the parts that are there, and marked so on every page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from dosimeter.analysis.names import model_name
from dosimeter.errors import DosimeterError
from dosimeter.record import table
from dosimeter.record.facts import Interim, Planned, check_facts
from dosimeter.record.run import Run, kept
from dosimeter.record.table import Responses

AGAIN = "Run the same `dosimeter study` again: it continues where it stopped."


def read_partial(folder: Path) -> Responses:
    """Return the rows that an interrupted run has, with its facts; `partial` among them says what they are of.

    Raises:
        DosimeterError: the folder is no interrupted run, or no part of it is done yet.
    """
    run = Run(folder)
    interim = _interim(run)
    parts = [run.part(cell_id) for planned in interim.planned for cell_id in planned.cells]
    done = [part for part in parts if table.is_done(part)]
    if not done:
        raise DosimeterError(f"{folder}: no part of this run is done yet, so there is nothing to report. {AGAIN}")
    frame = table.read_parts(done)
    facts = dict(interim.facts)
    facts["partial"] = list(_counts(frame, interim.planned, facts["cohorts"]))
    facts["incomplete"] = [*facts["incomplete"], *_sentences(facts)]
    try:
        return Responses(frame, check_facts({"schema_version": table.SCHEMA_VERSION, **facts}))
    except ValidationError as error:
        raise DosimeterError(f"{run.interim} is damaged. {AGAIN}") from error


def _interim(run: Run) -> Interim:
    """Return what an interrupted study left to be reported."""
    if not run.parts.is_dir():
        raise DosimeterError(f"{run.folder} is no run: it has no folder parts. Name the run's folder.")
    if not run.interim.is_file():
        if run.responses.is_file():
            raise DosimeterError(f"{run.folder} is finished, not interrupted. Leave out --partial.")
        raise DosimeterError(
            f"{run.folder}: this run was stopped before its sweep began, so there is nothing to report. {AGAIN}"
        )
    try:
        return Interim.model_validate(kept(run.interim))
    except ValidationError as error:
        raise DosimeterError(f"{run.interim} is damaged. {AGAIN}") from error


def _counts(
    frame: pd.DataFrame, planned: Sequence[Planned], cohorts: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield, for each classifier, how many of its test images each preset has been asked about."""
    keys = ["cohort", "protocol", "model", "seed", "preset"]
    own = frame[frame["made_on"] == ""]
    n_done = own.groupby(keys, observed=True)["case_id"].nunique().to_dict()
    n_test = {(each["cohort"], each["protocol"], each["seed"]): each["n_test"] for each in cohorts}
    counts: dict[tuple[str, str, str, int], dict[str, int]] = {}
    for each in planned:
        scope = (each.cohort, each.protocol, each.model, each.seed)
        counts.setdefault(scope, {})[each.preset] = int(n_done.get((*scope, each.preset), 0))
    for scope, done in counts.items():
        cohort, protocol, _, seed = scope
        yield {**dict(zip(keys, scope, strict=False)), "done": done, "n_test": n_test[cohort, protocol, seed]}


def _sentences(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not there, for each classifier."""
    yield (
        "This run was interrupted: its numbers are of the images that were done, the first of each test set and no "
        "random sample of it, and will change."
    )
    begun = set()
    for each in facts["partial"]:
        begun.add((each["cohort"], each["protocol"], each["seed"], each["model"]))
        counts = ", ".join(f"preset {preset} {n} of {each['n_test']}" for preset, n in each["done"].items())
        yield f"{model_name(each['model'])} on {_where(each)}: test images done: {counts}."
    for trial in facts["cohorts"]:
        for model in facts["config"].get("model", ()):
            if (trial["cohort"], trial["protocol"], trial["seed"], model) not in begun:
                yield f"{model_name(model)} on {_where(trial)}: not begun."


def _where(entry: Mapping[str, Any]) -> str:
    return f"{entry['cohort']} ({entry['protocol']} protocol, seed {entry['seed']})"
