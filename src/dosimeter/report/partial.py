"""The report of a run that was interrupted: from the parts that are there, and marked so on every page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from dosimeter.analysis.names import model_name
from dosimeter.errors import DosimeterError
from dosimeter.files import check_folder_name
from dosimeter.record import table
from dosimeter.record.facts import Interim, Planned, check_facts
from dosimeter.record.run import Run, is_study, kept
from dosimeter.record.table import Responses

AGAIN = "Run the same `dosimeter study` again: it continues where it stopped."

SOME = (
    "This run was interrupted: its numbers are of the images that were done, which are no random sample of a test set, "
    "and will change."
)
WHOLE = (
    "This run was interrupted when all of its images were done: its rows will not change, but what is examined after "
    "them may be lacking."
)


def read_partial(folder: Path) -> Responses:
    """Return the rows that an interrupted run has, with its facts; `partial` among them says what they are of.

    Raises:
        DosimeterError: the folder is no interrupted run, or no part of it is done yet.
    """
    check_folder_name(folder)
    run = Run(folder)
    interim = _interim(run)
    facts = _facts(interim, run)
    parts = [run.part(cell_id) for planned in interim.planned for cell_id in planned.cells]
    done = [part for part in parts if table.is_done(part)]
    if not done:
        raise DosimeterError(f"{folder}: no part of this run is done yet, so there is nothing to report. {AGAIN}")
    missing = list(_not_begun(facts, interim.planned))
    whole = len(done) == len(parts) and not missing
    if whole and _merged_id(run) == facts["run_id"]:
        raise DosimeterError(f"{folder}: all rows of this run are in {run.responses.name}. Leave out --partial.")
    frame = table.read_parts(done)
    counts = list(_counts(frame, interim.planned, facts["cohorts"]))
    sentences = [*facts["incomplete"], WHOLE if whole else SOME, *_sentences(counts), *missing]
    return table.responses_of(frame, check_facts({**facts, "partial": counts, "incomplete": sentences}))


def unreported(folder: Path) -> str | None:
    """Return a sentence where a report of the table is not that of the last study in its folder, which is not done."""
    run = Run(folder)
    if not is_study(folder) or run.is_settled or not run.interim.is_file():
        return None
    try:
        facts = _facts(_interim(run), run)
    except DosimeterError:
        return None
    if _merged_id(run) == facts["run_id"]:
        return None
    return (
        "this is the report of the study that was finished here. A later one was interrupted: add --partial to report "
        "that, or run its `dosimeter study` again."
    )


def _merged_id(run: Run) -> str | None:
    """Return the name of the run whose rows are merged, None if there is none."""
    try:
        return str(table.read_meta(run.responses)["run_id"])
    except DosimeterError:
        return None


def _interim(run: Run) -> Interim:
    """Return what an interrupted study left to be reported."""
    if not (is_study(run.folder) or run.parts.is_dir()):
        raise DosimeterError(f"{run.folder} is no run: it has no manifest.json and no parts. Name the run's folder.")
    if run.is_settled and run.responses.is_file():
        raise DosimeterError(f"{run.folder} is finished, not interrupted. Leave out --partial.")
    if run.is_settled:
        raise DosimeterError(f"{run.folder} was finished, but its {run.responses.name} is gone. {AGAIN}")
    if run.interim.exists() and not run.interim.is_file():
        raise DosimeterError(f"{run.interim} is no file: remove it. {AGAIN}")
    if not run.interim.is_file():
        before = f"; {run.responses.name} is of a study that was finished before it: leave out --partial to report that"
        raise DosimeterError(
            f"{run.folder}: this run was stopped before its sweep began, so there is nothing to report"
            f"{before if run.responses.is_file() else ''}. {AGAIN}"
        )
    try:
        return Interim.model_validate(kept(run.interim))
    except ValidationError as error:
        raise DosimeterError(f"{run.interim} is damaged. {AGAIN}") from error


def _facts(interim: Interim, run: Run) -> dict[str, Any]:
    try:
        return check_facts({"schema_version": table.SCHEMA_VERSION, **interim.facts})
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


def _sentences(counts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield how many images are there, for each classifier."""
    for each in counts:
        done = ", ".join(f"preset {preset} {n} of {each['n_test']}" for preset, n in each["done"].items())
        yield f"{model_name(each['model'])} on {_where(each)}: test images done: {done}."


def _not_begun(facts: Mapping[str, Any], planned: Sequence[Planned]) -> Iterator[str]:
    """Yield a sentence for each classifier whose sweep has not begun."""
    begun = {(each.cohort, each.protocol, each.seed, each.model) for each in planned}
    for trial in facts["cohorts"]:
        for model in facts.get("config", {}).get("model", ()):
            if (trial["cohort"], trial["protocol"], trial["seed"], model) not in begun:
                yield f"{model_name(model)} on {_where(trial)}: not begun."


def _where(entry: Mapping[str, Any]) -> str:
    return f"{entry['cohort']} ({entry['protocol']} protocol, seed {entry['seed']})"
