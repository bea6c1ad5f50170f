"""The verdict: the run in a few sentences."""

from typing import Any

from dosimeter.analysis.verdict import verdict
from dosimeter.presentation.section import Page, Reading, Section, fill


class Verdict(Section):
    """The verdict."""

    title = "The verdict"
    note = "the run in a few sentences"
    rank = 20

    def page(self, run: Reading) -> Page:
        """Return the sentences, numbered."""
        return Page(fill(__name__, verdict=verdict(run.responses, run.tables)))

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return verdict, its sentences."""
        return {"verdict": verdict(run.responses, run.tables)}


ENTRY: Section = Verdict()
