"""Whether the numbers can be trusted: every check of every evaluation."""

from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.evaluation import evaluate, overall
from dosimeter.analysis.wording import records
from dosimeter.presentation.section import Keys, Page, Reading, Rows, Section, fill, read_file
from dosimeter.presentation.values import of_keys
from dosimeter.sections.trust.for_paper import EVALUATION
from dosimeter.sections.trust.page import trust


class Trust(Section):
    """Can these numbers be trusted?"""

    title = "Can these numbers be trusted?"
    note = "the verdict on each evaluation, and what each check found"
    rank = 30
    css = read_file(__name__, "style.css")
    captions: ClassVar = {"evaluation": "Whether the numbers can be trusted: every check of every evaluation."}
    unattacked = ("evaluation",)

    paper: ClassVar = {"evaluation": EVALUATION}

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return evaluation, where the run has several attacks or was examined before it began."""
        preflights, convergence = (rows.meta.get(name) or [] for name in ("preflights", "convergence"))
        if not (rows.several or preflights or convergence):
            return {}
        others = rows.meta.get("examined") or {}
        return {"evaluation": evaluate(rows.frame, preflights, convergence=convergence, examined=others)}

    def is_there(self, run: Reading) -> bool:
        """Whether anything was judged."""
        return len(run.firsts.get("evaluation", ())) > 0

    def page(self, run: Reading) -> Page:
        """Return the section's own lay-out."""
        return Page(fill(__name__, trust=list(trust(run.firsts["evaluation"], run.trials))))

    def of_classifier(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return evaluations: for each family of attacks its verdict, why, and what every check found.

        Rules and sources are in tables/evaluation.csv.
        """
        if "evaluation" not in run.firsts:
            return {}
        mine = of_keys(run.firsts["evaluation"], keys)
        return {"evaluations": [_evaluation(row, mine) for row in records(overall(mine))]}


def _evaluation(row: dict[str, Any], checks: pd.DataFrame) -> dict[str, Any]:
    found = [
        {name: check[name] for name in ("id", "title", "verdict", "measured")}
        for check in records(checks[checks["preset"] == row["preset"]])
    ]
    return {**{name: row[name] for name in ("preset", "verdict", "because")}, "checks": found}


ENTRY: Section = Trust()
