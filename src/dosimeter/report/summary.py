"""`summary.json`: a run's main numbers for machines, with a schema version."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.evaluation import overall
from dosimeter.analysis.findings import findings
from dosimeter.analysis.names import PUBLISHED, WORST_CASE
from dosimeter.analysis.repeats import first_repeat
from dosimeter.analysis.verdict import verdict
from dosimeter.analysis.visibility import reader_sentence
from dosimeter.analysis.wording import records
from dosimeter.record.table import Responses
from dosimeter.report.numbers import is_missing

SUMMARY_VERSION = 1
_KEYS = ["cohort", "protocol", "model"]


def summarise(responses: Responses, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return a run's main numbers as JSON types; what is undefined is None.

    Args:
        responses: the run's table and meta.
        tables: as `analysis.tables.build_tables` returns them.

    Returns:
        schema_version, run_id, dosimeter_version, created, phantom; status ("complete", "incomplete" if a model or
        cohort is missing or an image failed, or "partial": the run was interrupted); incomplete (sentences); n_failed
        (images that failed, counted for each classifier); cohorts, one entry for each split with its images: n,
        n_train, n_test, skipped (left out), n_test_sharing_patient and n_test_in_training (of the test images, those
        whose patient, or whose very pixels, are in training too), n_two_labels (images that show a picture under both
        labels), n_flat (images that use next to none of their range); results, one entry for each (cohort, protocol,
        model) with n, accuracy and auc (value, low, high), attacks (see `_attacks`) and worst_case; verdict; findings.
        Of a run of several seeds these are of the first, and there is repeats, the rows of `analysis.repeats.repeats`.
        A run with reader studies has reader_studies, as `readers.results.results` returns them. Where two curves have
        images in common there is paired: rows of `analysis.paired.paired` without attack and at the three doses of
        `_robustness`. Where images were stored, each result has storage (see `_storage`); where a run has attacks
        beyond the study, or was examined, evaluations (see `_evaluations`). Where visibility was measured there are
        readers (a sentence), safe_magnitudes, rows of the table, and observer. `evaluation` beside a number under
        attack is the verdict on the evaluation that it belongs to: PASS, CAUTION, UNRELIABLE (not to be quoted), or
        None if it was not judged. The file also has files, those in tables/ and figures/ that belong to it.
    """
    meta = responses.meta
    firsts = first_repeat(responses, tables)[1]
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
        "results": [_result(row, firsts) for row in firsts["clean_metrics"].to_dict("records")],
        "verdict": verdict(responses, tables),
        "findings": [finding._asdict() for finding in findings(responses, tables)],
    }
    if len(tables["paired"]):
        summary["paired"] = _paired(firsts["paired"])
    if "visibility" in tables:
        summary["readers"] = reader_sentence(meta) or "measured"
        summary["safe_magnitudes"] = _plain(firsts["safe_magnitudes"])
        summary["observer"] = _finite(meta.get("observer", []))
    if "repeats" in tables:
        summary["repeats"] = _plain(tables["repeats"])
    if meta.get("readers"):
        summary["reader_studies"] = _finite(meta["readers"])
    return summary


def _finite(facts: Any) -> Any:
    """Return facts of JSON types, with None for numbers that are not finite."""
    if isinstance(facts, dict):
        return {name: _finite(value) for name, value in facts.items()}
    if isinstance(facts, list):
        return [_finite(value) for value in facts]
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts


def _cohorts(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is known of each cohort and split beside its numbers; counts that were not made are None."""
    names = ("cohort", "protocol", "seed", "n", "n_train", "n_test", "skipped", *_COUNTED)
    return [{name: card.get(name) for name in names} for card in meta["cohorts"]]


_COUNTED = ("n_test_sharing_patient", "n_test_in_training", "n_two_labels", "n_flat")


def _status(meta: Mapping[str, Any], n_failed: int) -> str:
    if meta.get("partial"):
        return "partial"
    return "incomplete" if meta["incomplete"] or n_failed else "complete"


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{name: _plain_value(name, value) for name, value in row.items()} for row in records(table)]


def _plain_value(name: str, value: Any) -> Any:
    return None if is_missing(value) or (name == "evaluation" and not value) else value


def _paired(table: pd.DataFrame) -> list[dict[str, Any]]:
    return _plain(table[table["epsilon"].isin([0.0, *reported_doses(table["epsilon"])])])


def write_summary(
    responses: Responses, tables: Mapping[str, pd.DataFrame], path: Path, files: Sequence[str] = ()
) -> None:
    """Write `summarise` to `path`, with the `files` that were drawn: the same table always gives the same bytes."""
    summary = summarise(responses, tables) | ({"files": list(files)} if files else {})
    text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _result(row: Mapping[Any, Any], tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    keys = {name: row[name] for name in _KEYS}
    result = {
        **keys,
        "modality": row["modality"],
        "n": int(row["n"]),
        "accuracy": _estimate(row, "accuracy"),
        "auc": _estimate(row, "auc"),
        "attacks": _attacks(tables, keys),
        "worst_case": _worst_case(tables, keys),
    }
    if "survival" in tables:
        result["storage"] = _storage(tables, keys)
    if "evaluation" in tables:
        result["evaluations"] = _evaluations(tables["evaluation"], keys)
    if "visibility" in tables:
        result["visibility"] = _visibility(tables["visibility"], keys)
    return result


def _worst_case(tables: Mapping[str, pd.DataFrame], keys: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the lowest accuracy that is left, at the middle one of the three doses, and under what; None if unknown.

    It is that of the worst case over attacks where there are several, else of the attack that leaves least. The
    published preset counts only where it is alone, and controls and other networks' images never do.
    """
    curves = _of(tables[_accuracies(tables)], {**keys, "storage": "float"})
    if "role" in curves:
        curves = curves[~curves["role"].isin(["control", "transfer"])]
    doses = reported_doses(curves["epsilon"])
    if not doses:
        return None
    rows = records(curves[curves["epsilon"] == doses[len(doses) // 2]])
    rows = [row for row in rows if row["preset"] != PUBLISHED] or rows
    worst = min(rows, key=lambda row: (row["preset"] != WORST_CASE, row["accuracy"]))
    return {
        **{name: worst[name] for name in ("epsilon", "preset")},
        "n": int(worst["n"]),
        "value": _number(worst["accuracy"]),
        **_ranges(worst),
        "evaluation": worst["evaluation"] or None,
    }


def _accuracies(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the table that has the accuracy under every attack."""
    return "robust_accuracy" if "robust_accuracy" in tables else "fgsm_accuracy"


def _storage(tables: Mapping[str, pd.DataFrame], keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return, for each preset and way to store: deployed_epsilon and linf, medians over images, and survival.

    `survival` has the three doses of `_robustness`; `censored` is True where half of the files had not flipped at the
    largest epsilon.
    """
    doses = reported_doses(tables["survival"]["epsilon"])
    survival = _of(tables["survival"], keys)
    return [
        {
            **{name: row[name] for name in ("preset", "storage", "aware", "n", "n_censored", "censored")},
            "evaluation": row["evaluation"] or None,
            "deployed_epsilon": {**_estimate(row, "deployed_epsilon"), "to_a_step_of_the_grid": bool(row["grid_step"])},
            "linf": _estimate(row, "linf"),
            "survival": [
                {**{name: point[name] for name in ("epsilon", "n", "survived")}, **_estimate(point, "share")}
                for point in records(_of(survival, {name: row[name] for name in ("preset", "storage")}))
                if point["epsilon"] in doses
            ],
        }
        for row in records(_of(tables["deployed_median"], keys))
    ]


def _attacks(tables: Mapping[str, pd.DataFrame], keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return, for each preset and storage: epsilon50 and its interval, grey_levels, n, n_censored, grad_zero_share.

    `curve` is the accuracy at every epsilon of the grid: value, its interval low to high, which is of that epsilon
    alone, and band_low to band_high, which in 95 % of studies hold the accuracies at all epsilons of the curve at once.
    `epsilon50.censored` is True where half of the images had not flipped at the largest epsilon. Where there are
    attacks beyond the study, each entry has what `_robustness` returns as well, and there is one of the worst case.
    """
    curves, every = (_of(tables[name], keys) for name in ("fgsm_accuracy", _accuracies(tables)))
    attacks = []
    for row in _of(tables["epsilon50"], keys).to_dict("records"):
        names = {"preset": row["preset"], "storage": row["storage"]}
        curve = _of(curves, names)
        attack = {
            **names,
            "evaluation": row["evaluation"] or None,
            "n": int(row["n"]),
            "n_censored": int(row["n_censored"]),
            "epsilon50": {
                **_estimate(row, "epsilon50"),
                "censored": bool(row["censored"]),
                "to_a_step_of_the_grid": bool(row["grid_step"]),
            },
            "grey_levels": _estimate(row, "grey_levels"),
            "grad_zero_share": _number(curve["grad_zero_share"].max()),
            "curve": _points(_of(every, names)),
        }
        if "robust_accuracy" in tables:
            attack |= _robustness(tables, {**keys, **names})
        attacks.append(attack)
    return attacks


def _robustness(tables: Mapping[str, pd.DataFrame], keys: Mapping[str, str]) -> dict[str, Any]:
    """Return an attack's role, effort, robust_accuracy at three doses, area and taxonomy.

    The doses are 0.001, 0.003 and 0.009, or those of the grid that are nearest.
    """
    robust = _of(tables["robust_accuracy"], keys)
    points = robust[robust["epsilon"].isin(reported_doses(tables["robust_accuracy"]["epsilon"]))]
    kinds = records(_of(tables["taxonomy"], {name: keys[name] for name in (*_KEYS, "preset")}))
    areas = records(_of(tables["area"], keys))
    first = records(robust)[0]
    return {
        "role": first["role"],
        "effort": first["effort"] or None,
        "made_on": first["made_on"] or None,
        "robust_accuracy": _points(points),
        "area": [{"epsilon_max": row["epsilon_max"], **_estimate(row, "area")} for row in areas],
        "taxonomy": {name: kinds[0][name] or None for name in _TAXONOMY} if kinds else None,
    }


def _points(curve: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, for each epsilon: n, the accuracy with its interval and the band of its curve, and the verdict on it."""
    return [
        {
            "epsilon": row["epsilon"],
            "n": int(row["n"]),
            "value": _number(row["accuracy"]),
            **_ranges(row),
            "evaluation": row["evaluation"] or None,
        }
        for row in records(curve)
    ]


def _ranges(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the interval of an accuracy (low, high) and the band of its whole curve (band_low, band_high)."""
    names = {"low": "ci_low", "high": "ci_high", "band_low": "band_low", "band_high": "band_high"}
    return {name: _number(row[column]) for name, column in names.items()}


_TAXONOMY = ("knowledge", "atlas", "atlas_version", "nist", "nist_section", "nist_version")


def _evaluations(checks: pd.DataFrame, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return, for each family of attacks, the verdict on the evaluation, why, and what every check found.

    Rules and sources are in tables/evaluation.csv.
    """
    mine = _of(checks, keys)
    return [
        {
            "preset": row["preset"],
            "verdict": row["verdict"],
            "because": row["because"],
            "checks": [
                {name: check[name] for name in ("id", "title", "verdict", "measured")}
                for check in records(mine[mine["preset"] == row["preset"]])
            ],
        }
        for row in records(overall(mine))
    ]


def _visibility(table: pd.DataFrame, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the median, quartiles and n of every metric where SSIM was measured."""
    mine = _of(table, keys)
    doses = mine.loc[mine["metric"] == "ssim", "epsilon"].unique()
    names = ["preset", "storage", "epsilon", "metric", "n", "q1", "median", "q3", "evaluation"]
    return _plain(mine.loc[mine["epsilon"].isin(doses), names])


def _of(table: pd.DataFrame, keys: Mapping[str, str]) -> pd.DataFrame:
    for name, value in keys.items():
        table = table[table[name] == value]
    return table


def _estimate(row: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """Return a value with its interval and, of a number under attack, the verdict on its evaluation."""
    numbers = {"value": _number(row[name]), "low": _number(row[f"{name}_low"]), "high": _number(row[f"{name}_high"])}
    return numbers | ({"evaluation": row["evaluation"] or None} if "evaluation" in row else {})


def _number(value: Any) -> float | None:
    return None if is_missing(value) else float(value)
