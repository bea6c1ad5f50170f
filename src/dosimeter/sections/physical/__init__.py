"""What everyday changes do: dose, blur, geometry and files, beside what an attacker does."""

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.equal_visibility import attack_losses, equal_visibility
from dosimeter.analysis.physical import physical_accuracy, physical_ranking
from dosimeter.analysis.wording import records
from dosimeter.presentation.numbers import plural
from dosimeter.presentation.section import Drawing, Keys, Page, Panel, Reading, Rows, Section
from dosimeter.presentation.values import estimate, number, of_keys, plain
from dosimeter.sections.physical.figures import CAPTIONS, MOST_DRAWN, equal_figure, severity_curves
from dosimeter.sections.physical.for_paper import PAPER
from dosimeter.sections.physical.page import MEANT, accuracy_views, ranking_views
from dosimeter.sections.physical.sentences import assumptions, sentences


class Physical(Section):
    """What everyday changes do."""

    title = "What everyday changes do"
    note = "dose, blur, geometry and files: accuracy against severity, what breaks first, beside attacks"
    rank = 82
    captions: ClassVar = {
        "physical_accuracy": "Accuracy, sensitivity, specificity, AUC and calibration at every severity of each "
        "physical change, with 95 % intervals by patient, paired to the unchanged images.",
        "physical_ranking": "Physical changes in the order in which they break a classifier: the severity at which "
        "half of the right answers are lost, with its 95 % interval.",
        "equal_visibility": "What each physical change costs, and what the attack costs that may be seen as well.",
        "attack_losses": "What attacks cost beside how far they may be seen: share of right answers lost, and JND.",
    }
    paper: ClassVar = PAPER
    unattacked: ClassVar = ("physical_accuracy", "physical_ranking")
    measures = True

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return all of `captions`, where the run has physical changes."""
        if rows.physical.empty:
            return {}
        attacked = attack_losses(rows.frame)
        return {
            "physical_accuracy": physical_accuracy(rows.physical),
            "physical_ranking": physical_ranking(rows.physical),
            "equal_visibility": equal_visibility(rows.physical, attacked),
            "attack_losses": attacked,
        }

    def is_there(self, run: Reading) -> bool:
        """Whether the run has physical changes."""
        return "physical_ranking" in run.firsts and not run.firsts["physical_ranking"].empty

    def page(self, run: Reading) -> Page:
        """Return what is meant and assumed, what breaks first, and the tables."""
        failed = int(run.firsts["physical_accuracy"]["n_failed"].sum())
        text = [MEANT, *assumptions(run.meta)]
        text += [f"{plural(failed, 'answer')} to changed images failed, and are in no number."] if failed else []
        views = [view for trial in run.trials for view in ranking_views(run.firsts, trial)]
        views += [view for trial in run.trials for view in accuracy_views(run.firsts, trial)]
        return Page(text=text, sentences=sentences(run.firsts), tables=views)

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield accuracy against severity, and adversarial against physical at equal visibility."""
        accuracy = panel.tables.get("physical_accuracy", pd.DataFrame())
        if accuracy.empty:
            return
        changes = list(dict.fromkeys(panel.tables["physical_ranking"].sort_values("place")["change"].astype(str)))
        for start in range(0, len(changes), MOST_DRAWN):
            shown = accuracy[accuracy["change"].isin(changes[start : start + MOST_DRAWN])]
            draw = functools.partial(severity_curves, shown, changes[start : start + MOST_DRAWN])
            part = f"-{start // MOST_DRAWN + 1}" if len(changes) > MOST_DRAWN else ""
            yield Drawing(f"severity{part}", "Accuracy against severity", draw, CAPTIONS["severity"], attacked=False)
        equal, losses = panel.tables["equal_visibility"], panel.tables["attack_losses"]
        if not equal.empty and not losses.empty:
            draw = functools.partial(equal_figure, equal, losses)
            yield Drawing("equal-visibility", "Everyday changes and attacks that may be seen as well", draw,
                          CAPTIONS["equal"])  # fmt: skip

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return physical: the ranking, accuracy at every severity, attacks that may be seen as well, and sentences."""
        if not self.is_there(run):
            return {}
        names = ("physical_ranking", "physical_accuracy", "equal_visibility")
        ranking, accuracy, equal = (plain(run.firsts[name]) for name in names)
        said = sentences(run.firsts)
        return {"physical": {"ranking": ranking, "accuracy": accuracy, "equal_visibility": equal, "said": said}}

    def of_classifier(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return everyday: of images as floats, the change that breaks it first, or else the one that costs most.

        severity50 is where half of the n right answers are lost, censored if that is beyond severity_max, the farthest
        severity asked; lost_max is the share lost there; n_changes were asked.
        """
        if not self.is_there(run):
            return {}
        ranking = of_keys(run.firsts["physical_ranking"], keys)
        floats = records(ranking[ranking["storage"] == "float"].sort_values("place", kind="stable"))
        return {"everyday": _everyday(floats[0], len(floats))} if floats else {}


def _everyday(row: dict[str, Any], n_changes: int) -> dict[str, Any]:
    return {
        "change": row["change"],
        "unit": row["unit"],
        "n": int(row["n"]),
        "n_changes": n_changes,
        "severity50": estimate(row, "severity50"),
        "censored": bool(row["censored"]),
        "high_censored": bool(row["high_censored"]),
        **{name: number(row[name]) for name in ("severity_max", "lost_max", "jnd50")},
    }


ENTRY: Section = Physical()
