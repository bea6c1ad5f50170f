"""Classes: what becomes of each, where a classifier knows more than two."""

from typing import ClassVar

import pandas as pd

from dosimeter.analysis.classes import OF_ATTACKS, OF_CLEAN, has_many
from dosimeter.presentation.section import Reading, Rows, Section


class Classes(Section):
    """Classes one by one."""

    title = "Class by class"
    note = "recall of each class and their mean, who is taken for whom, the true class among the first few"
    rank = 55
    captions: ClassVar = {
        "confusion_by_class": "Who is taken for whom without attack: images of each class by the class answered.",
        "class_auc": "Area under the ROC curve of each class against all others without attack, and their mean, which "
        "has the label -1.",
        "top_k": "How often the true class is among the k best without attack.",
        "class_recall": "Images of each class still answered correctly, with Wilson's 95 % interval by patient.",
        "macro_recall": "The mean over classes of the share answered correctly, with its 95 % interval by patient.",
        "flips_by_class": "What images of each class become, of those answered correctly without attack.",
    }

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


ENTRY: Section = Classes()
