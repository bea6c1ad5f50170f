"""The numbers of a run that rules are about, each with its interval and the verdict on its evaluation."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dosimeter.analysis.against import with_differences
from dosimeter.analysis.base import APART, MODEL
from dosimeter.analysis.evaluation import SOUND
from dosimeter.analysis.names import PUBLISHED, WORST_CASE, attack_title, model_name
from dosimeter.analysis.wording import records, unmet
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.gate.rules import CLASSIFIER, Rule, rank
from dosimeter.plain import named, shown
from dosimeter.presentation.numbers import dose
from dosimeter.report.quoted import Quoted
from dosimeter.units import GREY_LEVELS_8BIT, Epsilon

WORST = "worst"
"""What a rule calls the worst case over attacks."""


class Measured(NamedTuple):
    """A number of one classifier.

    Attributes:
        who: the classifier, in words.
        value: NaN where it is not defined, infinite where it lies beyond what was asked.
        low: lower bound of its 95 % interval, NaN where there is none.
        high: upper bound.
        n: images.
        evaluation: the verdict on the evaluation that it belongs to; "" without attack, or where none was judged.
        what: what it is of beyond the rule's words, such as the attack that stands for `worst`.
    """

    who: str
    value: float
    low: float
    high: float
    n: int
    evaluation: str = ""
    what: str = ""


class Numbers(Quoted):
    """What rules ask of a run."""

    def of(self, rule: Rule) -> list[Measured]:
        """Return what a rule is about, of every classifier that it does not leave out.

        Raises:
            DosimeterError: the run has no such attack, epsilon, storage or classifier.
        """
        if rule.metric == "verdict":
            return list(self._verdicts(rule))
        if rule.metric == "epsilon50":
            return [_half(row, self._what(rule, row)) for row in records(self._half_rows(rule))]
        if rule.metric == "robust_accuracy":
            return [_share(row, "accuracy", "ci", self._what(rule, row)) for row in records(self.robust_rows(rule))]
        if rule.metric == "accuracy":
            return [_share(row, "accuracy", "accuracy", "") for row in records(self._changed_rows(rule))]
        name = rule.metric.removeprefix("clean_")
        return [_share(row, name, name, "") for row in records(chosen(self.clean, rule))]

    def robust_rows(self, rule: Rule) -> pd.DataFrame:
        """Return the rows of the accuracy table that a rule about it, or about the accuracy without attack, means."""
        table = chosen(self.robust, rule)
        if rule.metric == "clean_accuracy":
            start = table[(table["epsilon"] == 0) & (table["storage"] == "float")]
            start = start.assign(_last=start["preset"] != SOUND).sort_values("_last", kind="stable")
            return start.drop_duplicates([name for name in (*MODEL, *APART) if name in table]).drop(columns="_last")
        attack, epsilon = rule.arguments
        table = _of_attack(table, rule, attack)
        wanted, grid = float(Epsilon(epsilon)), np.unique(table["epsilon"].to_numpy(np.float64))
        near = grid[np.isclose(grid, wanted, rtol=1e-9, atol=1e-12)]
        if not len(near):
            raise DosimeterError(
                f"epsilon must be one of the run's grid, got {named(epsilon)}. The grid is {_listed(grid)}."
            )
        rows: pd.DataFrame = table[table["epsilon"] == near[0]]
        return rows

    def _changed_rows(self, rule: Rule) -> pd.DataFrame:
        """Return the rows of the table of physical changes that a rule means."""
        change, severity = rule.arguments
        known = set(self.physical["change"].astype(str)) if len(self.physical) else set()
        if change not in known:
            hint = did_you_mean(change, known) if known else "Run it with --attack dose_fraction, say."
            raise DosimeterError(f"change must be in the run, got {shown(change)}. {hint}")
        table = chosen(self.physical[self.physical["change"] == change], rule)
        table = _stored(table, rule)
        grid = np.unique(table["severity"].to_numpy(np.float64))
        try:
            near = grid[np.isclose(grid, float(severity), rtol=1e-9, atol=1e-12)]
        except ValueError:
            near = grid[:0]
        if not len(near):
            listed = ", ".join(f"{each:g}" for each in grid)
            raise DosimeterError(f"severity must be one that was asked, got {named(severity)}. There are {listed}.")
        rows: pd.DataFrame = table[table["severity"] == near[0]]
        return rows

    def _half_rows(self, rule: Rule) -> pd.DataFrame:
        return _of_attack(chosen(self.half, rule), rule, rule.arguments[0])

    def _what(self, rule: Rule, row: Mapping[str, Any]) -> str:
        return attack_title(str(row["preset"])) if rule.arguments[0] == WORST else ""

    def _verdicts(self, rule: Rule) -> Iterator[Measured]:
        family = rule.arguments[0] if rule.arguments else SOUND
        if family not in (SOUND, PUBLISHED):
            raise DosimeterError(
                f"verdict must be of sound or paper, got {shown(family)}. {did_you_mean(family, (SOUND, PUBLISHED))}"
            )
        mine = self.verdicts[self.verdicts["preset"] == family]
        mine = chosen(mine, rule) if len(mine) else mine
        keys = [name for name in (*MODEL, *APART) if name in mine and name in self.clean]
        found = {tuple(row[name] for name in keys): row for row in records(mine)}
        for row in records(chosen(self.clean, rule)):
            verdict = found.get(tuple(row[name] for name in keys))
            value = float(rank(verdict["verdict"])) if verdict else math.nan
            because = f" ({unmet(verdict['because'])})" if verdict and verdict["because"] else ""
            what = f"{verdict['verdict']}{because}" if verdict else ""
            yield Measured(who(row), value, value, value, int(row["n"]), what=what)

    def differences(self, rule: Rule, baseline: "Numbers") -> list[Measured]:
        """Return how much more accurate this run is than a baseline on the images that both have.

        Args:
            rule: about `clean_accuracy` or `robust_accuracy`.
            baseline: the other run.

        Raises:
            DosimeterError: as `of`; or the baseline has not the same attacks and epsilons.
        """
        keys = [*MODEL, "preset", "storage", *(name for name in APART if name in self.robust)]
        rows = with_differences(self.robust_rows(rule), self.every, baseline.every)
        before = baseline.robust
        found = []
        for row in records(rows):
            if pd.isna(row["n_common"]):
                raise DosimeterError(
                    f"baseline must have been attacked as the run was, and has no {attack_title(str(row['preset']))} "
                    f"at epsilon {dose(row['epsilon'])} on the same images. Run it with the same attacks and epsilons."
                )
            same = before[np.logical_and.reduce([before[key] == row[key] for key in keys if key in before])]
            marks = [str(row["evaluation"]), *map(str, same["evaluation"].unique())] if row["epsilon"] > 0 else []
            worst = min((mark for mark in marks if mark), key=rank, default="")
            low, high = (float(row[f"difference_{end}"]) for end in ("low", "high"))
            found.append(
                Measured(who(row), float(row["difference"]), low, high, int(row["n_common"]), worst, _method(row))
            )
        return found


def chosen(table: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """Return the rows of the classifiers that a rule is about.

    Raises:
        DosimeterError: the run has none of that name.
    """
    for keyword, value in rule.chosen.items():
        column = CLASSIFIER.get(keyword)
        if column is None:
            continue
        if column not in table:
            raise DosimeterError(f"{keyword} must tell classifiers apart, and this run has one. Leave it out.")
        known = table[column].astype(str)
        if not (known == value).any():
            raise DosimeterError(f"{keyword} must be in the run, got {shown(value)}. {did_you_mean(value, set(known))}")
        table = table[known == value]
    return table


def who(row: Mapping[str, Any]) -> str:
    """Return what a classifier is called: its name, cohort and protocol, and what else tells it from others."""
    more = [f"seed {row['seed']}"] if "seed" in row else []
    more += [str(row["decision"])] if row.get("decision") else []
    where = ", ".join([str(row["cohort"]), f"{row['protocol']} protocol", *more])
    return f"{model_name(row['model'])} on {where}"


def _of_attack(table: pd.DataFrame, rule: Rule, attack: str) -> pd.DataFrame:
    """Return the rows of an attack and of the rule's storage."""
    table = _stored(table, rule)
    presets = set(table["preset"])
    if attack == WORST:
        attack = WORST_CASE
        own = set(table.loc[table["role"] == "attack", "preset"]) if "role" in table else presets - {PUBLISHED}
        if WORST_CASE not in presets and len(own) == 1:  # of one attack that attack is the worst case
            attack = own.pop()
    if attack not in presets:
        known = {WORST, *presets} - {WORST_CASE}
        raise DosimeterError(f"attack must be in the run, got {shown(attack)}. {did_you_mean(attack, known)}")
    return table[table["preset"] == attack]


def _stored(table: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """Return the rows of the rule's storage."""
    storage = rule.chosen.get("storage", "float")
    stored = set(table["storage"])
    if storage not in stored:
        raise DosimeterError(f"storage must be in the run, got {shown(storage)}. {did_you_mean(storage, stored)}")
    rows: pd.DataFrame = table[table["storage"] == storage]
    return rows


def _listed(grid: Any) -> str:
    """Return a grid of epsilons as a person types it: whole grey levels as fractions."""
    levels = [epsilon * GREY_LEVELS_8BIT for epsilon in grid]
    return ", ".join(
        f"{round(level)}/255" if level >= 1 and abs(level - round(level)) < 1e-9 else dose(epsilon)
        for epsilon, level in zip(grid, levels, strict=True)
    )


def _share(row: Mapping[str, Any], name: str, interval: str, what: str) -> Measured:
    value, low, high = (_number(row[each]) for each in (name, f"{interval}_low", f"{interval}_high"))
    mark = str(row.get("evaluation") or "") if row.get("epsilon") != 0 else ""
    return Measured(who(row), value, low, high, int(row["n"]), mark, what)


def _half(row: Mapping[str, Any], what: str) -> Measured:
    """Return an epsilon50: beyond the largest epsilon asked it is infinite, and as a lower bound that epsilon."""
    largest = float(row["epsilon_max"])
    value = math.inf if row["censored"] else _number(row["epsilon50"])
    low = largest if row["low_censored"] else _number(row["epsilon50_low"])
    high = math.inf if row["high_censored"] else _number(row["epsilon50_high"])
    return Measured(who(row), value, low, high, int(row["n"]), str(row.get("evaluation") or ""), what)


def _number(value: Any) -> float:
    return math.nan if value is None or pd.isna(value) else float(value)


def _method(row: Mapping[str, Any]) -> str:
    alone = f"p {row['p_patient']:.3f}" if row["p_patient"] >= 0.001 else "p < 0.001"
    return f"{alone}, {row['method']}"
