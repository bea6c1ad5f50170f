"""Findings together: means over those of which there are enough images."""

from typing import ClassVar

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.decisions import FEWEST_OF_EITHER, findings_of, macro_findings
from dosimeter.analysis.names import attack_title, model_name, place
from dosimeter.analysis.wording import records
from dosimeter.presentation.numbers import Cell, count, decimal, dose, marked, percent, percent_range
from dosimeter.presentation.section import Page, Reading, Rows, Section
from dosimeter.presentation.views import Head, View
from dosimeter.sections.findings.for_paper import PAPER


class SeveralFindings(Section):
    """Means over findings."""

    title = "Findings together"
    note = "sensitivity, specificity and AUC as means over findings, and which are left out"
    rank = 56
    captions: ClassVar = {
        "macro_findings": "Means over findings of sensitivity, specificity and AUC, with 95 % intervals by patient.",
    }
    paper: ClassVar = PAPER

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return macro_findings, where the run has findings."""
        return {"macro_findings": macro_findings(rows.attackable)} if len(findings_of(rows.frame)) else {}

    def is_there(self, run: Reading) -> bool:
        """Whether the run has findings."""
        return "macro_findings" in run.firsts

    def page(self, run: Reading) -> Page:
        """Return the means, and which findings are left out."""
        table = run.firsts["macro_findings"]
        omitted = sorted({name for names in table["omitted"] for name in str(names).split(", ") if name})
        left = f" Left out: {', '.join(omitted)}." if omitted else ""
        text = (
            f"Each finding is a decision of its own, at its threshold. Means are over findings of at least "
            f"{FEWEST_OF_EITHER} images that have them and {FEWEST_OF_EITHER} that do not; images of unknown label are "
            f"in no count.{left}"
        )
        return Page(text=[text], tables=[view for view in [_means(table)] if view.rows])


def _means(table: pd.DataFrame) -> View:
    table = table[table["storage"] == "float"]
    doses = [0.0, *reported_doses(table["epsilon"])]
    rows = []
    trial = ("cohort", "protocol", "model")
    for row in sorted(records(table), key=lambda row: (*(row[name] for name in trial), place(row["preset"]))):
        if row["epsilon"] in doses and row["n_findings"]:
            shares = [
                marked(
                    Cell(percent(row[name]), percent_range(row[f"{name}_low"], row[f"{name}_high"], 0)),
                    row,
                )
                for name in ("macro_sensitivity", "macro_specificity")
            ]
            names = (str(row["cohort"]), model_name(row["model"]), attack_title(row["preset"]))
            area = marked(Cell(decimal(row["macro_auc"])), row)
            known = [Cell(dose(row["epsilon"])), Cell(count(row["n_findings"]))]
            rows.append([*(Cell(name, kind="name") for name in names), *known, *shares, area])
    heads = ("cohort", "model", "attack", "epsilon", "findings", "sensitivity", "specificity", "AUC")
    note = "An AUC under attack pools images that were pushed down with images that were pushed up: it is a worst case."
    return View("Means over findings, floats", [[Head(name) for name in heads]], rows, note)


ENTRY: Section = SeveralFindings()
