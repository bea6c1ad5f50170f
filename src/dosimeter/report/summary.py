"""`summary.json`: a run's main numbers for machines, with a schema version."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dosimeter.analysis.findings import findings
from dosimeter.analysis.repeats import first_repeat
from dosimeter.analysis.verdict import verdict
from dosimeter.analysis.wording import records
from dosimeter.report.numbers import is_missing
from dosimeter.responses import Responses

SUMMARY_VERSION = 1
_KEYS = ["cohort", "protocol", "model"]


def summarise(responses: Responses, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return a run's main numbers as JSON types; what is undefined is None.

    Args:
        responses: the run's table and meta.
        tables: as `analysis.tables.build_tables` returns them.

    Returns:
        schema_version, run_id, dosimeter_version, created, phantom; status ("complete", or "incomplete" if a model or
        cohort is missing or an image failed); incomplete (sentences); n_failed (images that failed, counted for each
        classifier); results, one entry for each (cohort, protocol, model) with n, accuracy and auc (value, low, high)
        and attacks (see `_attacks`); verdict; findings. Of a run of several seeds these are of the first, and there is
        repeats, the rows of `analysis.repeats.repeats`.
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
        "status": "incomplete" if meta["incomplete"] or n_failed else "complete",
        "incomplete": list(meta["incomplete"]),
        "n_failed": n_failed,
        "results": [_result(row, firsts) for row in firsts["clean_metrics"].to_dict("records")],
        "verdict": verdict(responses, tables),
        "findings": [finding._asdict() for finding in findings(responses, tables)],
    }
    if "repeats" in tables:
        summary["repeats"] = [
            {name: None if is_missing(value) else value for name, value in row.items()}
            for row in records(tables["repeats"])
        ]
    return summary


def write_summary(responses: Responses, tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write `summarise` to `path`: the same table always gives the same bytes."""
    text = json.dumps(summarise(responses, tables), indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _result(row: Mapping[Any, Any], tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    keys = {name: row[name] for name in _KEYS}
    return {
        **keys,
        "modality": row["modality"],
        "n": int(row["n"]),
        "accuracy": _estimate(row, "accuracy"),
        "auc": _estimate(row, "auc"),
        "attacks": _attacks(tables, keys),
    }


def _attacks(tables: Mapping[str, pd.DataFrame], keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return, for each preset and storage: epsilon50 and its interval, grey_levels, n, n_censored, grad_zero_share.

    `epsilon50.censored` is True where half of the images had not flipped at the largest epsilon.
    """
    curves = _of(tables["fgsm_accuracy"], keys)
    attacks = []
    for row in _of(tables["epsilon50"], keys).to_dict("records"):
        curve = curves[(curves["preset"] == row["preset"]) & (curves["storage"] == row["storage"])]
        attacks.append(
            {
                "preset": row["preset"],
                "storage": row["storage"],
                "n": int(row["n"]),
                "n_censored": int(row["n_censored"]),
                "epsilon50": {**_estimate(row, "epsilon50"), "censored": bool(row["censored"])},
                "grey_levels": _estimate(row, "grey_levels"),
                "grad_zero_share": _number(curve["grad_zero_share"].max()),
            }
        )
    return attacks


def _of(table: pd.DataFrame, keys: Mapping[str, str]) -> pd.DataFrame:
    for name, value in keys.items():
        table = table[table[name] == value]
    return table


def _estimate(row: Mapping[Any, Any], name: str) -> dict[str, float | None]:
    return {"value": _number(row[name]), "low": _number(row[f"{name}_low"]), "high": _number(row[f"{name}_high"])}


def _number(value: Any) -> float | None:
    return None if is_missing(value) else float(value)
