"""Subgroups: how a classifier fares on the images of each view, sex, age band, scanner and source."""

from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.subgroups import FEWEST_IMAGES, Members, subgroup_tables
from dosimeter.presentation.choices import at_middle_dose
from dosimeter.presentation.section import Page, Reading, Rows, Section
from dosimeter.presentation.values import plain
from dosimeter.sections.subgroups.for_paper import PAPER
from dosimeter.sections.subgroups.page import MEANT, gap_sentences, omitted, subgroup_views


class Subgroups(Section):
    """Subgroup by subgroup."""

    title = "Subgroup by subgroup"
    note = "accuracy, without attack and under the strongest, and epsilon50 by view, sex, age, scanner and source"
    rank = 57
    captions: ClassVar = {
        "subgroup_accuracy": "Images of each subgroup answered correctly, without attack and under the strongest one, "
        "with Wilson's 95 % intervals by patient.",
        "subgroup_epsilon50": "The epsilon at which half of a subgroup's images have flipped, with 95 % intervals.",
        "subgroup_gaps": "The accuracy of each subgroup less that of the others, with intervals that hold together for "
        "all gaps of a classifier.",
    }
    paper: ClassVar = PAPER

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return all of `captions`, where the cohorts' lists say what divides their images."""

        members = _united(rows.meta)
        return subgroup_tables(rows.every, members) if members else {}

    def is_there(self, run: Reading) -> bool:
        """Whether a list says what divides the images."""
        return "subgroup_accuracy" in run.firsts and not run.firsts["subgroup_accuracy"].empty

    def page(self, run: Reading) -> Page:
        """Return the tables, which gaps are clear, and which subgroups were too small."""
        text = [MEANT, omitted(run.firsts["subgroup_accuracy"])]
        views = [view for trial in run.trials for view in subgroup_views(run.firsts, trial)]
        return Page(text=[each for each in text if each], sentences=gap_sentences(run.firsts), tables=views)

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return subgroups: the rows of the tables, without attack and at the epsilon that the page shows."""
        if not self.is_there(run):
            return {}
        accuracy, gaps = (at_middle_dose(run.firsts[name]) for name in ("subgroup_accuracy", "subgroup_gaps"))
        return {
            "subgroups": {
                "fewest_images": FEWEST_IMAGES,
                "accuracy": plain(accuracy),
                "epsilon50": plain(run.firsts["subgroup_epsilon50"]),
                "gaps": plain(gaps),
                "said": gap_sentences(run.firsts),
            }
        }


def _united(meta: Any) -> Members:
    """Return whose images are whose, of the test images of all seeds and protocols."""
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    for card in meta.get("cohorts", []):
        for fact, values in card.get("subgroups", {}).items():
            mine = found.setdefault(card["cohort"], {}).setdefault(fact, {})
            for value, cases in values.items():
                mine[value] = list(dict.fromkeys([*mine.get(value, []), *cases]))
    return found


ENTRY: Section = Subgroups()
