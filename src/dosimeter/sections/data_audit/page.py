"""Data audits as a page shows them, in a run's report or by themselves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from dosimeter.presentation.section import fill
from dosimeter.record.data_audit import LEVELS

SIGNS = {"fail": "✕", "warn": "▲", "info": "•", "pass": "✓"}
"""A shape for each verdict, so that no reader depends on its colour."""

MOST_CASES = 10
"""Cases that a check names on the page; all are in summary.json."""


def body(audits: Sequence[Mapping[str, Any]]) -> Markup:
    """Return audits laid out: verdicts, what to do, pairs as pictures, probes and subgroups."""
    return fill(__package__ or "", audits=list(map(_shown, audits)), signs=SIGNS, most_cases=MOST_CASES)


def _shown(audit: Mapping[str, Any]) -> dict[str, Any]:
    tally = Counter(check["level"] for check in audit["checks"])
    split = f", {audit['protocol']} protocol, seed {audit['seed']}" if audit.get("protocol") else ""
    checks = sorted(audit["checks"], key=lambda check: LEVELS.index(check["level"]))
    pairs = audit.get("pairs", [])
    return {
        "where": f"{audit['cohort']}: {audit['n']} images{split}",
        "tally": [(level, tally[level]) for level in LEVELS if tally[level]],
        "checks": checks,
        "pairs": [pair for pair in pairs if pair.get("pictures")],
        "n_pairs": len(pairs),
        "probes": audit.get("probes", []),
        "subgroups": audit.get("subgroups", []),
        "classes": list(audit["subgroups"][0]["counts"]) if audit.get("subgroups") else [],
    }
