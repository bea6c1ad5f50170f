"""Tables as the page shows them: captions, heads and cells, and how their rows are ordered."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dosimeter.analysis.names import in_order, model_name
from dosimeter.analysis.wording import MARKS
from dosimeter.presentation.numbers import Cell, words


class Head(NamedTuple):
    """A column's head, over `span` columns or `rows` rows; `mark` is that of a `Cell`."""

    text: str
    span: int = 1
    rows: int = 1
    mark: str = ""


class View(NamedTuple):
    """A table ready for the page."""

    caption: str
    head: list[list[Head]]
    rows: list[list[Cell]]
    note: str = ""

    @property
    def flags(self) -> list[str]:
        """The verdicts on evaluations that stand in it, the worst first."""
        there = {head.mark for line in self.head for head in line} | {cell.mark for line in self.rows for cell in line}
        return [verdict for verdict in reversed(MARKS) if verdict in there]


def trials(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the distinct (cohort, protocol) of `table`, in its order."""
    return list(dict.fromkeys(zip(table["cohort"], table["protocol"], strict=True)))


def classifier_names(row: Mapping[Any, Any]) -> list[Cell]:
    """Return the cells that name a row's cohort, protocol and model."""
    cohort, protocol, model = (str(row[name]) for name in ("cohort", "protocol", "model"))
    return [Cell(cohort, kind="name"), words(protocol), words(model_name(model))]


def sorted_by_trial(table: pd.DataFrame, order: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the rows by trial in `order` and by model in the paper's order, otherwise as they are."""
    models = in_order(table["model"])
    known = {trial: index for index, trial in enumerate(dict.fromkeys([*order, *trials(table)]))}
    place = [known[trial] for trial in zip(table["cohort"], table["protocol"], strict=True)]
    ranked = table.assign(_trial=place, _model=table["model"].map(models.index))
    return ranked.sort_values(["_trial", "_model"], kind="stable").drop(columns=["_trial", "_model"])


def of_trial(table: pd.DataFrame, cohort: str, protocol: str) -> pd.DataFrame:
    """Return the rows of one cohort and protocol."""
    own = (table["cohort"] == cohort) & (table["protocol"] == protocol)
    return table if own.all() else table[own]
