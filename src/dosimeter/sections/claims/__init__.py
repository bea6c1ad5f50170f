"""What the paper says, and what this run shows."""

from collections.abc import Sequence
from typing import Any

from dosimeter.analysis.findings import Finding, findings
from dosimeter.presentation.section import Page, Reading, Section, fill


class Claims(Section):
    """What the paper says."""

    title = "What the paper says, and what this run shows"
    note = "statements of the paper beside this run's numbers"
    rank = 110
    folded = True

    def is_there(self, run: Reading) -> bool:
        """Whether the run is of the paper's cohorts and networks."""
        return run.subject

    def page(self, run: Reading) -> Page:
        """Return the statements with what this run shows."""
        return Page(fill(__name__, findings=by_claim(findings(run.responses, run.tables))))

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return findings."""
        return {"findings": [finding._asdict() for finding in findings(run.responses, run.tables)]}


def by_claim(found: Sequence[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """Return the findings by what the paper says and where."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        groups.setdefault((finding.claim, finding.source), []).append(finding)
    return groups


ENTRY: Section = Claims()
