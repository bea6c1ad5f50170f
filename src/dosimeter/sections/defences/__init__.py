"""Defences: what each is worth beside none, at what cost, under attackers who know it and who do not."""

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.defences import defence_accuracy, defences, helpful
from dosimeter.analysis.detection import detection
from dosimeter.analysis.margins import margins
from dosimeter.presentation.section import Drawing, Page, Panel, Reading, Rows, Section
from dosimeter.presentation.values import plain
from dosimeter.record.compact import UNDEFENDED
from dosimeter.sections.defences.figures import (
    certified_captions,
    certified_curves,
    detector_captions,
    detector_curves,
    margin_captions,
    margin_curves,
    trade_off,
    trade_off_captions,
)
from dosimeter.sections.defences.for_paper import PAPER
from dosimeter.sections.defences.page import defence_tables, sentences

_HOW = (
    "Each defence is judged beside none on the same images. The attacker who knows it attacks the whole defended "
    "classifier, a detector's alarm included; the one who does not attacks the undefended classifier, and the defended "
    "one is shown those images. What whichever of the two breaks counts. An image that is refused is not right; it is "
    "not wrongly answered either: both shares stand in the tables."
)


class Defences(Section):
    """Defences."""

    title = "What defences are worth"
    note = "each defence beside none: accuracy, refusals, what attackers leave who know it and who do not, its cost"
    rank = 75
    unattacked = ("margins",)
    captions: ClassVar = {
        "defences": "Defences: what each costs without attack, and what it is worth under the worst attack.",
        "defence_accuracy": "What is left at each epsilon by an attacker who knows the defence, by one who does not, "
        "and by whichever breaks an image, with the paired difference to no defence.",
        "margins": "Margins within which training images were attacked, before the first epoch and after each.",
        "detection": "What detectors do about images of attackers who know them, of those who do not, and about noise.",
    }
    paper: ClassVar = PAPER

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return all of `captions`, where a classifier is defended; detection where one refuses to answer, margins
        where a defence grew some."""
        if (rows.frame["defence"] == UNDEFENDED).all():
            return {}
        curves = defence_accuracy(rows.attackable)
        found = {"defences": defences(rows.attackable, rows.meta, rows.made), "defence_accuracy": curves}
        seen = detection(rows.attackable)
        grown = margins(rows.meta)
        more = {"detection": seen, "margins": grown}
        return found | {name: table for name, table in more.items() if len(table)}

    def is_there(self, run: Reading) -> bool:
        """Whether a classifier is defended."""
        return len(run.tables.get("defences", ())) > 0

    def page(self, run: Reading) -> Page:
        """Return which defences help, and the tables."""
        return Page(text=[_HOW], sentences=sentences(run.tables), tables=list(defence_tables(run.firsts, run.trials)))

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield accuracy against robustness, what is certified, and what detectors see."""
        table = panel.tables.get("defences", pd.DataFrame())
        if table.empty:
            return
        curves = panel.tables["defence_accuracy"]
        draw = functools.partial(trade_off, table, curves)
        yield Drawing("defences", "What defences are worth", draw, trade_off_captions(curves))
        if curves["certified"].notna().any():
            draw = functools.partial(certified_curves, curves)
            yield Drawing("certified", "What is proven", draw, certified_captions(curves))
        if len(panel.tables.get("margins", ())):
            grown = panel.tables["margins"]
            yield Drawing(
                "margins", "How margins grew", functools.partial(margin_curves, grown), margin_captions(grown)
            )
        if len(panel.tables.get("detection", ())):
            seen = panel.tables["detection"]
            yield Drawing(
                "detection", "What detectors see", functools.partial(detector_curves, seen), detector_captions()
            )

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return defences: the rows of the table, and those that help with the epsilons at which they do."""
        if "defences" not in run.tables:
            return {}
        helps = helpful(run.tables["defence_accuracy"], run.tables["defences"])
        return {"defences": {"helpful": helps, "table": plain(run.tables["defences"])}}


ENTRY: Section = Defences()
