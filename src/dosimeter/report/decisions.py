"""A run of findings as page, figures and summary show it: each finding as a cohort of its own, of two classes.

Tables have a column `decision`. Everything else of the report speaks of a cohort and a protocol, and need not know that
one pass of a classifier answered several questions.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from dosimeter.record.table import Responses

_OF_SEVERAL = {
    "(any)": ["a finding changed", "all as they were"],
    "(hide)": ["all hidden", "a finding shown"],
    "(fabricate)": ["no false finding", "a false finding"],
}
"""The two answers of decisions about several findings at once."""

_ONCE = ("taxonomy",)  # tables that are the same for every decision
_TOLD = ("cohorts", "classifiers", "exemplars", "preflights", "convergence", "partial")


def by_finding(responses: Responses, tables: Mapping[str, pd.DataFrame]) -> tuple[Responses, dict[str, pd.DataFrame]]:
    """Return a run and its tables with each decision as a cohort, "COHORT, FINDING"; without findings as they were."""
    frame = responses.frame
    asked = frame[["cohort", "decision"]].drop_duplicates().astype(str)
    decisions = {str(cohort): list(mine["decision"]) for cohort, mine in asked.groupby("cohort")}
    decisions = {cohort: named for cohort, named in decisions.items() if any(named)}
    if not decisions:
        return responses, dict(tables)
    meta = dict(responses.meta)
    for name in _TOLD:
        if name in meta:
            meta[name] = [each for entry in meta[name] for each in _told(name, entry, decisions)]
    cohort = pd.Series([_named(*each) for each in zip(frame["cohort"], frame["decision"], strict=True)], frame.index)
    blank = pd.Categorical([""] * len(frame), categories=[""])
    told = frame.assign(cohort=cohort.astype("category"), decision=blank)
    return Responses(told, meta), {name: _table(name, table, decisions) for name, table in tables.items()}


def together(cohorts: Iterable[str]) -> str:
    """Return names of cohorts for a title, each once: "COHORT, FINDING and FINDING" of those of one cohort.

    Example:
        >>> together(["films, nodule", "films, effusion", "slices"])
        'films, nodule and effusion; slices'
    """
    by_cohort: dict[str, list[str]] = {}
    for cohort in cohorts:
        name, _, decision = cohort.partition(", ")
        by_cohort.setdefault(name, []).extend([decision] if decision else [])
    said = [
        ", ".join([name, *([" and ".join(decisions)] if decisions else [])]) for name, decisions in by_cohort.items()
    ]
    return "; ".join(said)


def _named(cohort: object, decision: object) -> str:
    return f"{cohort}, {decision}" if decision else str(cohort)


def _table(name: str, table: pd.DataFrame, decisions: Mapping[str, list[str]]) -> pd.DataFrame:
    if "decision" in table:
        cohort = [_named(*each) for each in zip(table["cohort"], table["decision"], strict=True)]
        return table.assign(cohort=cohort).drop(columns="decision")
    if name not in _ONCE:
        return table
    parts = [
        table[table["cohort"] == cohort].assign(cohort=_named(cohort, decision))
        for cohort in table["cohort"].unique()
        for decision in decisions.get(cohort, [""])
    ]
    return pd.concat(parts, ignore_index=True) if parts else table


def _told(name: str, entry: Mapping[str, Any], decisions: Mapping[str, list[str]]) -> Iterator[dict[str, Any]]:
    """Yield an entry of the facts once for each decision that it is about."""
    cohort = entry["cohort"]
    known = [entry["decision"]] if "decision" in entry else decisions.get(cohort, [""])
    for decision in known:
        card = {**entry, "cohort": _named(cohort, decision)}
        yield _card(card, decision) if name == "cohorts" and decision else card


def _card(card: dict[str, Any], decision: str) -> dict[str, Any]:
    """Return what is told of a cohort, of the images of which one decision is known."""
    classes = _OF_SEVERAL.get(decision, [f"no {decision}", decision])
    told = (card.get("finding_counts") or {}).get(decision)
    if told is None:
        return {**card, "classes": classes}
    counts = {side: dict(zip(classes, (n["absent"], n["present"]), strict=True)) for side, n in told.items()}
    n = {side: sum(each.values()) for side, each in counts.items()}
    return {
        **card,
        "classes": classes,
        "n": n["all"],
        "n_train": n["train"],
        "n_test": n["test"],
        "counts": counts["all"],
        "train_counts": counts["train"],
        "test_counts": counts["test"],
    }
