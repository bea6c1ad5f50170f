"""The page's part on physical changes: which breaks first, and accuracy at every severity."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from dosimeter.analysis.names import change_title, in_order, model_name, storage_name, storages_in_order
from dosimeter.analysis.wording import records
from dosimeter.presentation.numbers import DASH, Cell, count, decimal, dose, is_missing, percent, percent_range
from dosimeter.presentation.views import Head, View, of_trial

Tables = Mapping[str, pd.DataFrame]

MEANT = (
    "Images are changed as an apparatus, a patient or a file may change them, without any knowledge of the classifier. "
    "The changes are simulated on the images as they are given, on the grid that the classifier is asked about: doses "
    "are relative and nominal, and no apparatus was measured. A severity says nothing of what a department would "
    "accept. Where a change hides the finding itself, a wrong answer is no fault of the classifier."
)


def ranking_views(tables: Tables, trial: tuple[str, str]) -> Iterator[View]:
    """Yield, for each classifier of one cohort and protocol, its changes in the order in which they break it."""
    table = of_trial(tables["physical_ranking"], *trial)
    for model in in_order(table["model"].unique()):
        for storage in storages_in_order(table["storage"].unique()):
            mine = table[(table["model"] == model) & (table["storage"] == storage)].sort_values("place")
            if len(mine):
                yield _ranking(mine, f"{model_name(model)}, {storage_name(storage)}: {trial[0]}, {trial[1]} protocol")


def _ranking(table: pd.DataFrame, where: str) -> View:
    rows = []
    for row in records(table):
        first = [Cell(count(row["place"])), Cell(change_title(str(row["change"])), kind="name"), Cell(count(row["n"]))]
        lost = Cell(percent(row["lost_any"]), f"{percent(row['lost_max'])} at {dose(row['severity_max'])}")
        seen = Cell(decimal(row["jnd50"], 1) if not is_missing(row["jnd50"]) else DASH)
        error = Cell(percent(row["mean_error"]), f"unchanged {percent(row['clean_error'])}")
        rows.append([*first, _half(row), Cell(str(row["unit"]), kind="words"), seen, lost, error])
    heads = ("", "change", "n", "half are lost at", "unit", "JND there", "lost at any", "mean error")
    return View(
        f"Which change breaks it first: {where}",
        [[Head(name) for name in heads]],
        rows,
        "Of n images that are answered rightly unchanged: the severity at which half have changed their answer, with "
        "its 95 % interval, on the grid that was asked; how far images are moved there (95th percentile over pixels, "
        "median over images), by which the changes are ordered; and the share lost at some severity, which of "
        "placements is the worst case, and at the farthest. The mean error is over all severities but the one that "
        "changes nothing.",
    )


def _half(row: Mapping[str, Any]) -> Cell:
    beyond = f"beyond {dose(row['severity_max'])}"
    if row["censored"]:
        low = row["severity50_low"]
        return Cell(beyond, "" if is_missing(low) else f"{dose(low)} or beyond")
    low, high = dose(row["severity50_low"]), beyond if row["high_censored"] else dose(row["severity50_high"])
    return Cell(dose(row["severity50"]), "" if is_missing(row["severity50_low"]) else f"{low} to {high}")


def accuracy_views(tables: Tables, trial: tuple[str, str]) -> Iterator[View]:
    """Yield, for each classifier of one cohort and protocol, what it answers at every severity, of floats."""
    table = of_trial(tables["physical_accuracy"], *trial)
    table = table[table["storage"] == "float"]
    ranking = of_trial(tables["physical_ranking"], *trial)
    for model in in_order(table["model"].unique()):
        order = ranking[(ranking["model"] == model) & (ranking["storage"] == "float")].sort_values("place")["change"]
        mine = table[table["model"] == model]
        rows = [cells for change in order for cells in _severities(mine[mine["change"] == change])]
        if rows:
            yield _accuracy(rows, f"{model_name(model)}: {trial[0]}, {trial[1]} protocol")


def _accuracy(rows: list[list[Cell]], where: str) -> View:
    heads = ["change", "severity", "n", "right", "less than unchanged", "sensitivity", "specificity", "AUC"]
    heads += ["missed", "false alarms", "JND, p95", "SSIM"]
    return View(
        f"What it answers to changed images: {where}",
        [[Head(name) for name in heads]],
        rows,
        "Floats; stored images are in tables/physical_accuracy.csv. Shares with 95 % intervals by patient; the "
        "difference, in points, is paired image by image. Missed and false alarms count the answers that are right "
        "unchanged and are lost: of the positive class not called so, and of others called so.",
    )


def _severities(table: pd.DataFrame) -> Iterator[list[Cell]]:
    for row in records(table):
        low, high = row["difference_low"], row["difference_high"]
        apart = "" if is_missing(low) else f"{100 * low:+.0f} to {100 * high:+.0f}"
        yield [
            Cell(change_title(str(row["change"])), kind="name"),
            Cell(dose(row["severity"]), str(row["unit"])),
            Cell(count(row["n"])),
            *(Cell(percent(row[name]), percent_range(row[f"{name}_low"], row[f"{name}_high"], 0)) for name in _FIRST),
            Cell(f"{100 * row['difference']:+.1f}", apart),
            *(Cell(percent(row[name]), percent_range(row[f"{name}_low"], row[f"{name}_high"], 0)) for name in _THEN),
            Cell(decimal(row["auc"])),
            Cell(count(row["missed"])),
            Cell(count(row["false_alarms"])),
            Cell(decimal(row["jnd_p95"], 1)),
            Cell(decimal(row["ssim"])),
        ]


_FIRST, _THEN = ("accuracy",), ("sensitivity", "specificity")
