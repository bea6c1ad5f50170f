"""Evidence toward items of security and reporting frameworks: what a run shows of each, and what it does not."""

from typing import ClassVar

import pandas as pd

from dosimeter.presentation.numbers import words
from dosimeter.presentation.section import Page, Reading, Rows, Section
from dosimeter.presentation.views import Head, View, of_trial
from dosimeter.sections.evidence.frameworks import COLUMNS, evidence


class Evidence(Section):
    """Evidence toward frameworks."""

    title = "Evidence toward frameworks"
    note = "items of security and reporting frameworks: what the run shows, and what it does not"
    rank = 115
    folded = True
    captions: ClassVar = {
        "evidence": "Evidence toward items of frameworks: what this run shows, and what it does not. It is evidence, "
        "no judgement that an item is met."
    }
    unattacked = ("evidence",)  # what it says of numbers under attack says the verdict beside them

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return evidence, of runs of trained classifiers that somebody brought."""
        found = [
            (cohort, protocol, *row)
            for cohort, protocol in dict.fromkeys(zip(rows.frame["cohort"], rows.frame["protocol"], strict=True))
            if protocol == "whole"
            for row in evidence(
                of_trial(rows.frame, cohort, protocol),
                rows.meta,
                {name: of_trial(table, cohort, protocol) for name, table in rows.made.items()},
            )
        ]
        return {"evidence": pd.DataFrame(found, columns=COLUMNS)} if found else {}

    def is_there(self, run: Reading) -> bool:
        """Whether somebody brought a trained classifier."""
        return "evidence" in run.tables

    def page(self, run: Reading) -> Page:
        """Return the table, and how to read it."""
        head = [[Head(name) for name in ("framework", "item", "what this run shows", "what it does not show")]]
        views = []
        for cohort, table in run.tables["evidence"].groupby("cohort", sort=False):
            rows = [[words(str(value)) for value in row] for row in table[COLUMNS[2:]].itertuples(index=False)]
            views.append(View(f"Evidence toward items of frameworks: {cohort}", head, rows))
        said = (
            "Each row is evidence toward an item, for whoever writes the file that the framework asks for; none says "
            "that an item is met. Items are those of the editions named: check them against the text in force."
        )
        return Page(text=[said], tables=views)


ENTRY: Section = Evidence()
