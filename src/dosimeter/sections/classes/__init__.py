"""Classes: what becomes of each, where a classifier knows more than two."""

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.classes import MACRO_LABEL, OF_ATTACKS, OF_CLEAN, has_many
from dosimeter.analysis.names import attack_title
from dosimeter.analysis.wording import records
from dosimeter.presentation.section import Drawing, Keys, Page, Panel, Reading, Rows, Section
from dosimeter.presentation.style import MOST_CLASSES
from dosimeter.presentation.values import estimate, of_keys
from dosimeter.sections.classes.figures import recall_curves, roc_by_class, shown_preset
from dosimeter.sections.classes.for_paper import PAPER
from dosimeter.sections.classes.page import class_views


class Classes(Section):
    """Classes one by one."""

    title = "Class by class"
    note = "recall of each class and their mean, who is taken for whom, the true class among the first few"
    rank = 55
    captions: ClassVar = {
        "confusion_by_class": "Who is taken for whom without attack: images of each class by the class answered.",
        "class_auc": "Area under the ROC curve of each class against all others without attack, and their mean "
        "(label -1).",
        "top_k": "How often the true class is among the k best without attack.",
        "class_recall": "Images of each class still answered correctly, with Wilson's 95 % interval by patient.",
        "macro_recall": "The mean over classes of the share answered correctly, with its 95 % interval by patient.",
        "flips_by_class": "What images of each class become, of those answered correctly without attack.",
    }
    paper: ClassVar = PAPER
    unattacked = ("confusion_by_class", "class_auc", "top_k")

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return all of `captions`, where there is a decision between more than two classes."""
        if not has_many(rows.frame):
            return {}
        clean = {analyse.__name__: analyse(rows.frame) for analyse in OF_CLEAN}
        return clean | {analyse.__name__: analyse(rows.every) for analyse in OF_ATTACKS}

    def is_there(self, run: Reading) -> bool:
        """Whether there is a decision between more than two classes."""
        return "class_recall" in run.firsts

    def page(self, run: Reading) -> Page:
        """Return the tables class by class."""
        classes = {(card["cohort"], card["protocol"]): card["classes"] for card in run.first.meta["cohorts"]}
        text = (
            "Every class is judged against all others, and a mean over classes gives a rare one as much weight as a "
            "common one."
        )
        many = [trial for trial in run.trials if len(classes[trial]) > 2]
        views = [view for trial in many for view in class_views(run.firsts, trial, classes[trial])]
        return Page(text=[text], tables=views)

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield ROC curves and recall by class, of few classes."""
        if not 2 < len(panel.classes) <= MOST_CLASSES or panel.clean.empty:
            return
        areas, recall, macro = (panel.tables[name] for name in ("class_auc", "class_recall", "macro_recall"))
        draw = functools.partial(roc_by_class, panel.clean, areas, panel.classes)
        said = ["All thresholds of each class's score against all other classes, on the unperturbed test images."]
        yield Drawing("roc-by-class", "ROC of each class without attack", draw, said, attacked=False)
        if (recall["epsilon"] > 0).any():
            draw = functools.partial(recall_curves, recall, macro, panel.classes)
            title = f"Recall of each class under {attack_title(shown_preset(recall))}"
            said = [
                "The share of each class's images that are still answered correctly.",
                "Bands are 95 % Wilson intervals by patient; the thick line is the mean over classes.",
            ]
            yield Drawing("recall", title, draw, said)

    def of_classifier(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return macro_auc, without attack."""
        if not self.is_there(run):
            return {}
        rows = records(of_keys(run.firsts["class_auc"], {**keys, "label": MACRO_LABEL}))
        return {"macro_auc": estimate(rows[0], "auc")} if rows else {}


ENTRY: Section = Classes()
