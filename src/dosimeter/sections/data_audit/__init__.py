"""The data audit: what may be wrong with the images, each check with its number, rule, source and remedy."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from dosimeter.presentation.section import Page, Reading, Rows, Section, read_file
from dosimeter.record.data_audit import LEVELS
from dosimeter.sections.data_audit.for_paper import PAPER
from dosimeter.sections.data_audit.page import body

_SCOPE = ("cohort", "protocol", "seed")


class DataAuditSection(Section):
    """Can the images be trusted?"""

    title = "Can the images be trusted?"
    note = "near duplicates, shortcuts, outliers, patients and sizes: every check of the data, with its rule and source"
    rank = 35
    css = read_file(__name__, "style.css")
    captions: ClassVar = {
        "data_audit": "Every check of the images, with its rule and source.",
        "data_probes": "Cross-validated AUC of what should not tell the label, with 95 % intervals by patient.",
        "data_pairs": "Near duplicates of different patients, of patients not known, or with different labels.",
        "data_subgroups": "Images of each class by view, sex, age, scanner and source.",
    }
    paper: ClassVar = PAPER
    unattacked = tuple(captions)

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return what the audits found, where the data were audited."""
        audits = audits_of(rows.meta)
        found = {
            "data_audit": [_of(each, check, "numbers", "cases") for each in audits for check in each["checks"]],
            "data_probes": [_of(each, probe) for each in audits for probe in each.get("probes", ())],
            "data_pairs": [_pair(each, pair) for each in audits for pair in each.get("pairs", ())],
            "data_subgroups": [_subgroup(each, row, name) for each in audits for row in each.get("subgroups", ())
                               for name in row["counts"]],
        }  # fmt: skip
        return {name: pd.DataFrame(lines) for name, lines in found.items() if lines}

    def is_there(self, run: Reading) -> bool:
        """Whether the data were audited."""
        return bool(run.meta.get("data_audits"))

    def page(self, run: Reading) -> Page:
        """Return every audit."""
        return Page(body(audits_of(run.meta)))

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return data_audits: of each its checks with verdict, number and cases."""
        audits = audits_of(run.meta)
        if not audits:
            return {}
        kept = ("id", "level", "measured", "remedy", "cases")
        return {
            "data_audits": [
                {**_scope(each), "checks": [{name: check.get(name) for name in kept} for check in each["checks"]]}
                for each in audits
            ]
        }


def audits_of(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the audits of a run's images, each with what its classifiers made of these without their centre."""
    found = []
    for audit in meta.get("data_audits") or []:
        asked = [each for each in meta.get("examined", {}).get("shortcut", ()) if _scope(each) == _scope(audit)]
        more = {name: [row for each in asked for row in each[name]] for name in ("checks", "probes")}
        checks = sorted([*audit["checks"], *more["checks"]], key=lambda check: LEVELS.index(check["level"]))
        found.append({**audit, "checks": checks, "probes": [*audit.get("probes", []), *more["probes"]]})
    return found


def _scope(audit: Mapping[str, Any]) -> dict[str, Any]:
    return {name: audit[name] for name in _SCOPE}


def _of(audit: dict[str, Any], entry: dict[str, Any], *left: str) -> dict[str, Any]:
    return _scope(audit) | {name: value for name, value in entry.items() if name not in left}


def _pair(audit: dict[str, Any], pair: dict[str, Any]) -> dict[str, Any]:
    both = {
        f"{name}_{place}": pair[f"{name}s"][place - 1] for name in ("case", "label", "side") for place in (1, 2)
    }  # fmt: skip
    return _scope(audit) | both | {name: pair[name] for name in ("one_patient", "whole", "detail")}


def _subgroup(audit: dict[str, Any], row: dict[str, Any], name: str) -> dict[str, Any]:
    return _scope(audit) | {"fact": row["fact"], "value": row["value"], "class": name, "n": row["counts"][name]}


ENTRY: Section = DataAuditSection()
