"""The verdict: the run in a few sentences."""

import functools
from collections.abc import Iterator
from typing import Any

from dosimeter.analysis.verdict import verdict
from dosimeter.presentation.section import Drawing, Page, Panel, Reading, Section, fill
from dosimeter.sections.verdict.figures import answer_caption, answer_curves, shown_curves


class Verdict(Section):
    """The verdict."""

    title = "The verdict in sentences"
    note = "the run in a few sentences"
    rank = 20
    folded = True

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield the figure of the first screen."""
        curves = shown_curves(panel.tables)
        if (curves["epsilon"] > 0).any():
            draw = functools.partial(answer_curves, curves)
            yield Drawing("answer", "Right answers under attack", draw, answer_caption(curves))

    def page(self, run: Reading) -> Page:
        """Return the sentences, numbered."""
        return Page(fill(__name__, verdict=verdict(run.responses, run.tables)))

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return verdict, its sentences."""
        return {"verdict": verdict(run.responses, run.tables)}


ENTRY: Section = Verdict()
