"""`summary.json`: a run's main numbers for machines, with a schema version."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dosimeter.analysis import names
from dosimeter.analysis.wording import records
from dosimeter.presentation.section import Reading
from dosimeter.presentation.values import of_keys
from dosimeter.record.table import Responses
from dosimeter.report.answer import lines
from dosimeter.report.sections import in_order

SUMMARY_VERSION = 1
_KEYS = ["cohort", "protocol", "model"]


def summarise(responses: Responses, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return a run's main numbers as JSON types; what is undefined is None.

    Args:
        responses: the run's table and meta.
        tables: as `report.build.build_tables` returns them.

    Returns:
        answer, what a run found in a line for each classifier, as a command ends with; schema_version, run_id,
        dosimeter_version, created, phantom; status ("complete", "incomplete" if a model or
        cohort is missing or an image failed, or "partial": the run was interrupted); incomplete (sentences); n_failed
        (images that failed, counted for each classifier); cohorts, one entry for each split with its images: n,
        n_train, n_test, skipped (left out), n_test_sharing_patient and n_test_in_training (of the test images, those
        whose patient, or whose very pixels, are in training too), n_two_labels (images that show a picture under both
        labels), n_flat (images that use next to none of their range); results, one entry for each (cohort, protocol,
        model), with attacks, one entry for each preset and storage. What else is there each section of the report says
        of itself: see `Section.summary`, `of_classifier` and `of_attack` of each. Of a run of several seeds it is of
        the first, but for repeats. `evaluation` beside a number under attack is the verdict on the evaluation that it
        belongs to: PASS, CAUTION, UNRELIABLE (not to be quoted), or None if it was not judged. The file also has
        files, those in tables/ and figures/ that belong to it.
    """
    meta, run = responses.meta, Reading(responses, tables)
    failed = responses.frame[responses.frame["status"] != "ok"]  # also of a network that answered nothing
    n_failed = len(failed.drop_duplicates(["cohort", "protocol", "model", "seed", "case_id"]))
    summary = {
        "schema_version": SUMMARY_VERSION,
        "run_id": meta["run_id"],
        "dosimeter_version": meta["dosimeter_version"],
        "created": meta["created"],
        "phantom": meta["phantom"],
        "status": _status(meta, n_failed),
        "incomplete": list(meta["incomplete"]),
        "n_failed": n_failed,
        "kinds": meta.get("kinds") or {},
        "cohorts": _cohorts(meta),
        "results": results_of(run),
    }
    for _, section in in_order():
        summary |= section.summary(run)
    with names.of(summary):
        return {"answer": list(lines(summary)), **summary}


def results_of(run: Reading) -> list[dict[str, Any]]:
    """Return the entry of each (cohort, protocol, model) in `results`, see `summarise`."""
    return [_result(run, row) for row in records(run.firsts["clean_metrics"])]


def _result(run: Reading, row: Mapping[str, Any]) -> dict[str, Any]:
    keys = {name: row[name] for name in _KEYS}
    result = dict(keys)
    for _, section in in_order():
        result |= section.of_classifier(run, keys)
    return result | {"attacks": [_attack(run, keys, each) for each in records(of_keys(run.firsts["epsilon50"], keys))]}


def _attack(run: Reading, keys: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    names = {name: row[name] for name in ("preset", "storage")}
    attack = dict(names)
    for _, section in in_order():
        attack |= section.of_attack(run, {**keys, **names})
    return attack


def _cohorts(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is known of each cohort and split beside its numbers; counts that were not made are None."""
    names = ("cohort", "protocol", "seed", "n", "n_train", "n_test", "skipped", *_COUNTED)
    return [{name: card.get(name) for name in names} for card in meta["cohorts"]]


_COUNTED = ("n_test_sharing_patient", "n_test_in_training", "n_two_labels", "n_flat")


def _status(meta: Mapping[str, Any], n_failed: int) -> str:
    if meta.get("partial"):
        return "partial"
    return "incomplete" if meta["incomplete"] or n_failed else "complete"


def write_summary(
    responses: Responses, tables: Mapping[str, pd.DataFrame], path: Path, files: Sequence[str] = ()
) -> dict[str, Any]:
    """Write `summarise` to `path`, with the `files` that were drawn, and return it.

    The same table always gives the same bytes.
    """
    summary = summarise(responses, tables) | ({"files": list(files)} if files else {})
    text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")
    return summary
