"""What more than two classes tell: recall of each, who is taken for whom, the right answer among the first few.

Of two classes, one of which is positive, sensitivity and specificity say it all (`clean`, `curves`). Of more, every
class counts by itself, against all others, and a mean over classes gives a rare one as much weight as a common one.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dosimeter.analysis.attacks import ATTACK, flip_counts, joined_shares, ordered
from dosimeter.analysis.auc import auc_interval, macro_auc_interval
from dosimeter.analysis.base import CLASSIFIER, CURVE, GROUP, MODEL, answered, clean_answers, each_seed, groups, plain
from dosimeter.analysis.intervals import FloatArray, bootstrap_by_group
from dosimeter.analysis.shares import shares
from dosimeter.analysis.worst_case import with_worst_case
from dosimeter.record.scores import class_scores

MOST_TOP = 5
"""Answers among which the right one is looked for, at most."""

_OF_CURVE = [*CURVE, *ATTACK[:-1]]
CONFUSION = [*MODEL, "label", "predicted", "images", "n", "share", "share_low", "share_high", "modality"]
AUC = [*MODEL, "label", "n", "auc", "auc_low", "auc_high", "auc_method", "modality"]
TOP = [*MODEL, "k", "n", "correct", "accuracy", "ci_low", "ci_high", "modality"]
RECALL = [*CURVE, *ATTACK, "label", "epsilon", "n", "correct", "recall", "recall_low", "recall_high", "modality"]
MACRO = [
    *(*CURVE, *ATTACK, "epsilon", "n", "n_classes", "macro_recall", "macro_recall_low", "macro_recall_high"),
    *("lowest_recall", "lowest_label", "macro_auc", "modality"),
]
FLIPS = [
    *(*CURVE, *ATTACK, "label", "predicted", "epsilon", "n", "flipped", "share", "share_low", "share_high"),
    "modality",
]
MACRO_LABEL = -1
"""The `label` of a mean over classes in `class_auc`."""


def has_many(frame: pd.DataFrame) -> bool:
    """Whether a compact table has a decision between more than two classes."""
    return bool((frame["n_classes"] > 2).any())


@each_seed
def confusion_by_class(frame: pd.DataFrame) -> pd.DataFrame:
    """Return who is taken for whom at epsilon 0, one row per (classifier, true class, class answered).

    Args:
        frame: a response table.

    Returns:
        label and predicted; images of the n of that label, a refused one being given no class; share, of these, with
        its interval (`shares`). Every pair of classes has a row, those that never occurred too.
    """
    parts = []
    for names, rows in _clean(frame):
        for predicted in range(int(rows["n_classes"].iloc[0])):
            counted = rows.assign(images=(rows["predicted"] == predicted) & (rows["abstained"] != 1))
            parts.append(shares(counted, ["label"], "images").assign(**names, predicted=predicted))
    table = _table(parts).rename(columns={"low": "share_low", "high": "share_high"})
    return table.reindex(columns=CONFUSION).sort_values([*MODEL, "label", "predicted"], ignore_index=True)


@each_seed
def class_auc(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the area under the ROC curve of each class against all others at epsilon 0, and their mean.

    An image's score for a class is its logit less the logarithm of the summed exponentials of the others.

    Args:
        frame: a response table.

    Returns:
        One row per (classifier, label), and one with the label `MACRO_LABEL`, the mean over classes; n images of the
        class (of the mean: all); auc with its interval and `auc_method`, null where the class is absent.
    """
    rows = [row for names, group in _clean(frame) for row in _areas(group, names)]
    return pd.DataFrame(rows, columns=AUC)


def _areas(rows: pd.DataFrame, names: dict[str, Any]) -> Iterator[dict[str, Any]]:
    label, cluster, scores = rows["label"].to_numpy(), rows["cluster"].to_numpy(object), class_scores(rows)
    for place in range(scores.shape[1]):
        found = auc_interval(label == place, scores[:, place], cluster)
        yield {**names, "label": place, "n": int((label == place).sum()), **_area(found)}
    yield {**names, "label": MACRO_LABEL, "n": len(rows), **_area(macro_auc_interval(label, scores, cluster))}


def _area(found: Any) -> dict[str, Any]:
    return {"auc": found.auc, "auc_low": found.low, "auc_high": found.high, "auc_method": found.method or None}


@each_seed
def top_k(frame: pd.DataFrame) -> pd.DataFrame:
    """Return how often the true class is among the k best at epsilon 0, one row per (classifier, k up to 5).

    Args:
        frame: a response table.

    Returns:
        n images; correct, of which fewer than k other classes have a score as high as the true one; accuracy with its
        interval, ci_low and ci_high. k is below the number of classes.
    """
    parts = []
    for names, rows in _clean(frame):
        rank = true_rank(class_scores(rows), rows["label"].to_numpy())
        for k in range(1, min(MOST_TOP, int(rows["n_classes"].iloc[0]) - 1) + 1):
            counted = rows.assign(k=k, correct=rank < k)
            parts.append(shares(counted, ["k"], "correct").assign(**names))
    table = _table(parts).rename(columns={"share": "accuracy", "low": "ci_low", "high": "ci_high"})
    return table.reindex(columns=TOP)


def true_rank(scores: FloatArray, label: Any) -> Any:
    """Return how many other classes score at least as high as the true one (n,), from `scores` (n, classes)."""
    true = np.take_along_axis(scores, np.asarray(label)[:, None], axis=1)
    return (scores >= true).sum(axis=1) - 1


@each_seed
def class_recall(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the share of each class that is still answered correctly, one row per (curve, class, epsilon).

    Args:
        frame: a response table; the worst case is added to it where there are several attacks.

    Returns:
        label (the true class); n images of it; correct; recall with its interval (`shares`).
    """
    parts = [shares(group, ["label", "epsilon"], "correct").assign(**names) for names, group in _attacked(frame)]
    table = _table(parts).rename(columns={"share": "recall", "low": "recall_low", "high": "recall_high"})
    return ordered(table, RECALL)


@each_seed
def macro_recall(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over classes of the share answered correctly (balanced accuracy), a row per (curve, epsilon).

    Args:
        frame: a response table; the worst case is added to it where there are several attacks.

    Returns:
        n images, n_classes that they have; macro_recall with its interval, a bootstrap by patient in which every class
        must be drawn, null where it has no width; lowest_recall and lowest_label, of the class that is answered worst;
        macro_auc, the mean AUC of each class against all others, null for the worst case.
    """
    parts = [_macro(group).assign(**names) for names, group in _attacked(frame)]
    return ordered(_table(parts), MACRO)


def _macro(rows: pd.DataFrame) -> pd.DataFrame:
    doses, dose = np.unique(rows["epsilon"].to_numpy(np.float64), return_inverse=True)
    cases, case = np.unique(rows["case_id"].cat.codes.to_numpy(), return_inverse=True)
    right = np.full((len(cases), len(doses)), np.nan)
    right[case, dose] = rows["correct"]
    label, cluster = np.zeros(len(cases), np.int64), np.empty(len(cases), object)
    label[case], cluster[case] = rows["label"], rows["cluster"].to_numpy(object)
    classes = np.unique(label)

    def recalls(weights: FloatArray) -> FloatArray:  # (replicates, n) to (replicates, classes, epsilons)
        found = []
        for each in classes:
            mine, drawn = right[label == each], weights[:, label == each]
            asked = drawn @ (~np.isnan(mine)).astype(np.float64)
            found.append((drawn @ np.nan_to_num(mine)) / np.where(asked > 0, asked, np.nan))
        return np.stack(found, axis=1)

    each = recalls(np.ones((1, len(cases))))[0]
    low, high = bootstrap_by_group(lambda weights: recalls(weights).mean(axis=1), cluster)
    bounds = np.where(low < high, [low, high], np.nan)  # without width it would claim to be certain
    worst = np.argmin(np.nan_to_num(each, nan=np.inf), axis=0)
    return pd.DataFrame(
        {
            "epsilon": doses,
            "n": (~np.isnan(right)).sum(axis=0),
            "n_classes": len(classes),
            "macro_recall": each.mean(axis=0),
            "macro_recall_low": bounds[0],
            "macro_recall_high": bounds[1],
            "lowest_recall": each[worst, np.arange(len(doses))],
            "lowest_label": classes[worst],
            "macro_auc": [_macro_auc(rows.iloc[np.flatnonzero(dose == place)]) for place in range(len(doses))],
        }
    )


def _macro_auc(rows: pd.DataFrame) -> float:
    if rows["scores"].isna().any():
        return np.nan
    return macro_auc_interval(rows["label"], class_scores(rows), rows["cluster"].to_numpy(object)).auc


@each_seed
def flips_by_class(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the images of each class become, of those answered correctly without attack.

    Args:
        frame: a response table; the worst case is added to it where there are several attacks.

    Returns:
        One row per (curve, true class, class answered, epsilon above 0) that an image has: label, predicted; n images
        of that label that were right, flipped of them to that class, and the share with its interval (`shares`).
    """
    parts = []
    for names, group in _attacked(frame):
        answers = group.loc[group["epsilon"] > 0, ["label", "predicted"]].drop_duplicates()
        for predicted in sorted(answers.loc[answers["label"] != answers["predicted"], "predicted"].unique()):
            other = (group["predicted"] != predicted) | (group["abstained"] == 1)
            mine = group.assign(correct=group["correct"] | other)
            clean = group["epsilon"] == 0
            mine.loc[clean, "correct"] = group.loc[clean, "correct"]
            counts = flip_counts(mine, ["label"])
            parts.append((names | {"predicted": predicted}, counts[counts["label"] != predicted]))
    table = joined_shares(parts, [*_OF_CURVE, "modality", "label", "predicted"])
    return ordered(table[table["flipped"] > 0], FLIPS)


def _clean(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield each classifier of more than two classes with its answers at epsilon 0."""
    rows = answered(frame)
    yield from groups(clean_answers(rows[rows["n_classes"] > 2]), CLASSIFIER)


def _attacked(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield each curve of more than two classes, on the grid."""
    rows = answered(frame)
    rows = with_worst_case(rows[rows["n_classes"] > 2])
    yield from groups(rows, [*GROUP, *ATTACK[:-1]], rows["on_grid"])


def _table(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return plain(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()


OF_CLEAN = (confusion_by_class, class_auc, top_k)
"""Analyses of answers without attack."""

OF_ATTACKS = (class_recall, macro_recall, flips_by_class)
