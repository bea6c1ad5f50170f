"""The report's answer to "Can these numbers be trusted?": the verdict on each evaluation, and what each check found."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from dosimeter.analysis.evaluation import evaluation_name, overall, rules
from dosimeter.analysis.names import PUBLISHED, in_order, model_name
from dosimeter.analysis.wording import MARKS, records
from dosimeter.presentation.views import of_trial, trials


class Mark(NamedTuple):
    """A verdict as it is shown: its sign, its word, and what stands beside it."""

    sign: str
    verdict: str
    text: str

    @property
    def kind(self) -> str:
        """Its class in the style sheet."""
        return self.verdict.lower()


class Line(NamedTuple):
    """The verdict on one evaluation: whose it is, which attacks it is of, and the checks that decided it."""

    model: str
    evaluation: str
    mark: Mark


class Checked(NamedTuple):
    """One check: what it asks, its rule and source, and what it found in each evaluation, None where nothing was."""

    title: str
    rule: str
    source: str
    found: list[Mark | None]


class Trust(NamedTuple):
    """What is to be said of the evaluations of one cohort and protocol.

    Attributes:
        where: the cohort and protocol.
        lines: one an evaluation.
        checks: every check that had something to measure.
        remedies: what to do, and for which evaluations, of the checks that were not passed.
    """

    where: str
    lines: list[Line]
    checks: list[Checked]
    remedies: list[tuple[str, str]]


def trust(checks: pd.DataFrame, order: Sequence[tuple[str, str]]) -> Iterator[Trust]:
    """Yield what is to be said of each cohort and protocol.

    Args:
        checks: as `analysis.evaluation.evaluate` returns them, of one seed.
        order: of (cohort, protocol).
    """
    known = trials(checks)
    for trial in sorted(known, key=lambda each: order.index(each) if each in order else len(order)):
        mine = of_trial(checks, *trial)
        verdicts = {(row["model"], row["preset"]): row for row in records(overall(mine))}
        models = in_order(mine["model"])
        keys = [(model, preset) for model in models for preset in (PUBLISHED, "sound") if (model, preset) in verdicts]
        lines = [
            Line(*_names(key, keys), Mark(MARKS[row["verdict"]], row["verdict"], row["because"]))
            for key in keys
            for row in [verdicts[key]]
        ]
        yield Trust(f"{trial[0]}, {trial[1]} protocol", lines, list(_checks(mine, keys)), list(_remedies(mine, keys)))


def _names(key: tuple[str, str], keys: Sequence[tuple[str, str]]) -> tuple[str, str]:
    return model_name(key[0]), evaluation_name(key[1], [preset for _, preset in keys])


def _checks(checks: pd.DataFrame, keys: Sequence[tuple[str, str]]) -> Iterator[Checked]:
    order = [rule.id for rule in rules()]
    for _, rows in sorted(checks.groupby("id"), key=lambda group: order.index(str(group[0]))):
        found = {(row["model"], row["preset"]): row for row in records(rows)}
        marks = [
            Mark(MARKS[found[key]["verdict"]], found[key]["verdict"], found[key]["measured"]) if key in found else None
            for key in keys
        ]
        first = records(rows)[0]
        yield Checked(first["title"], first["rule"], first["source"], marks)


def _remedies(checks: pd.DataFrame, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the checks that were not passed, with the evaluations that failed them, and what to do."""
    failed = checks[checks["verdict"] != "PASS"]
    for title, rows in failed.groupby("title", sort=False):
        where = [key for key in keys if ((rows["model"] == key[0]) & (rows["preset"] == key[1])).any()]
        yield f"{title} ({'; '.join(', '.join(_names(key, keys)) for key in where)})", str(rows["remedy"].iloc[0])
