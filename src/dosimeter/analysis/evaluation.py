"""The verdict on an evaluation: was the classifier attacked as hard as it can be, or was the attack fooled?

A classifier under a weak attack looks robust. Every check here asks whether that happened, and says PASS, CAUTION or
UNRELIABLE with its number, its rule, its source and what to do. An evaluation is one classifier under one family of
attacks: "paper", FGSM as published, by itself; "sound", every other attack together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from dosimeter import registry
from dosimeter.analysis import checks_after, checks_before, checks_gradient
from dosimeter.analysis.base import APART, CLASSIFIER, MODEL, clean_answers, each_seed, groups, roles
from dosimeter.analysis.checks import VERDICTS, Clean, Curve, Facts, Rule, Trial, make_curve
from dosimeter.analysis.names import PUBLISHED
from dosimeter.errors import NOT_ATTACKED
from dosimeter.record.compact import UNDEFENDED

SOUND = "sound"
"""The family of all attacks but the published preset."""

ENTRIES = {rule.id: rule for rule in (*checks_before.RULES, *checks_gradient.RULES, *checks_after.RULES)}
"""Our checks by name, in the order of the report; another package brings one, a `checks.Rule`, by an entry point."""

Measured = Mapping[str, Sequence[Facts]]
"""What each examination found, by its name."""

_PREFLIGHTS, _CONVERGENCE = "preflights", "convergence"
_LOSS = {SOUND: "margin", PUBLISHED: "keras_bce"}
_EVIDENCE = [
    *(*CLASSIFIER, "seed", "preset", "attack", "loss", "effort", "made_on", "storage", "case_id", "cluster", "label"),
    *("epsilon", "on_grid", "grad_zero", "found", "predicted", "correct", "abstained", "status", "error"),
]


class Check(NamedTuple):
    """What one check says of one evaluation."""

    id: str
    title: str
    verdict: str
    measured: str
    rule: str
    source: str
    remedy: str


COLUMNS = [*MODEL, "preset", *Check._fields]
OVERALL = [*MODEL, "preset", "verdict", "because"]


def evaluate(
    frame: pd.DataFrame,
    preflights: Sequence[Facts] = (),
    *,
    convergence: Sequence[Facts] = (),
    examined: Mapping[str, Sequence[Facts]] = MappingProxyType({}),
) -> pd.DataFrame:
    """Return what every check says of every evaluation.

    Args:
        frame: a response table; empty before the runs.
        preflights: what `preflight.examine` returned, for each classifier once with the loss of each family.
        convergence: what `examinations.convergence` found, with cohort, protocol and model (and seed, if there are
            several).
        examined: what examinations of other packages found, by their names, told likewise.

    Returns:
        One row per (cohort, protocol, model, preset, check), `preset` being the family. A check that had nothing to
        measure is not there.
    """

    measured = {**examined, _PREFLIGHTS: preflights, _CONVERGENCE: convergence}

    @each_seed
    def judged(rows: pd.DataFrame) -> pd.DataFrame:
        found = [
            {**names, "preset": family, **check._asdict()}
            for names, family, trial in _trials(rows[_EVIDENCE], measured)
            for check in judge(trial, family)
        ]
        return pd.DataFrame(found, columns=COLUMNS)

    return judged(frame)


def rules() -> list[Rule]:
    """Return every check, those of other packages too, in the order of the report."""
    return [registry.get("checks", name) for name in registry.names("checks")]


def judge(trial: Trial, family: str = SOUND) -> list[Check]:
    """Return what every check that had something to measure says of one evaluation."""
    found = []
    for rule in rules():
        finding = None if rule.alone and family == SOUND else rule.judge(trial)
        if finding is not None:
            found.append(Check(rule.id, rule.title, *finding, rule.rule, rule.source, rule.remedy))
    return found


def evaluation_name(preset: str, judged: Iterable[str] = (PUBLISHED,)) -> str:
    """Return what people call an evaluation: FGSM as published, or all other attacks together.

    Args:
        preset: the evaluation's.
        judged: of all evaluations beside it; by default FGSM as published is among them.
    """
    if preset == PUBLISHED:
        return "FGSM as published"
    return "all other attacks" if PUBLISHED in set(judged) else "all attacks"


def overall(checks: pd.DataFrame) -> pd.DataFrame:
    """Return the verdict on every evaluation: the worst of its checks.

    Args:
        checks: as `evaluate` returns them.

    Returns:
        One row per evaluation: verdict, and `because`, the titles of the checks that say so, "" for PASS.
    """
    keys = [name for name in (*MODEL, *APART, "preset") if name in checks]
    rows = []
    for names, group in checks.groupby(keys, sort=False):
        verdict = max(group["verdict"], key=VERDICTS.index)
        guilty = group[group["verdict"] == verdict] if verdict != VERDICTS[0] else group[:0]
        rows.append({**dict(zip(keys, names, strict=True)), "verdict": verdict, "because": "; ".join(guilty["title"])})
    return pd.DataFrame(rows, columns=[*keys, "verdict", "because"] if keys else OVERALL)


# --- the evidence -------------------------------------------------------------------------------------------


def _trials(rows: pd.DataFrame, measured: Measured) -> Iterator[tuple[dict[str, Any], str, Trial]]:
    """Yield every evaluation of one seed with its evidence."""
    seed = int(rows["seed"].iloc[0]) if len(rows) else None
    if len(rows):
        decision, defence = rows["decision"].iloc[0], rows["defence"].iloc[0]
        measured = _those(
            measured,
            # a fact that names no decision is about all of them, one that names no defence about the undefended
            lambda fact: fact.get("decision", decision) == decision and fact.get("defence", UNDEFENDED) == defence,
        )
    floats = (rows["storage"] == "float") & rows["on_grid"] | (rows["status"] != "ok")
    tables = {tuple(names.values()): (names, group) for names, group in groups(rows, MODEL, floats)}
    for fact in measured[_PREFLIGHTS]:
        if _is_of(fact, {}, seed):
            names = {name: fact[name] for name in MODEL}
            tables.setdefault(tuple(names.values()), (names, rows[:0]))
    for key in sorted(tables):
        names, group = tables[key]
        mine = _those(measured, partial(_is_of, names=names, seed=seed))
        yield from ((names, *each) for each in _families(group, mine))


def _those(measured: Measured, kept: Callable[[Facts], bool]) -> dict[str, list[Facts]]:
    return {name: [fact for fact in facts if kept(fact)] for name, facts in measured.items()}


def _is_of(fact: Facts, names: Mapping[str, Any], seed: int | None) -> bool:
    same = all(fact[name] == value for name, value in names.items())
    return same and (seed is None or fact.get("seed", seed) == seed)


def _families(rows: pd.DataFrame, measured: Measured) -> Iterator[tuple[str, Trial]]:
    """Yield the evaluations of one classifier."""
    ok = rows["status"] == "ok"
    curves: dict[str, list[Curve]] = {}
    for names, group in groups(rows.assign(role=roles(rows)), ["preset", "role"], ok):
        if (curve := make_curve(group)) is not None:
            curves.setdefault(names["role"], []).append(curve)
    convergence = measured[_CONVERGENCE]
    for family, role, other in ((PUBLISHED, "published", "attack"), (SOUND, "attack", "published")):
        facts = _facts(measured[_PREFLIGHTS], _LOSS[family])
        if not curves.get(role) and facts.get("loss") != _LOSS[family]:
            continue
        yield (
            family,
            Trial(
                facts=facts,
                attacks=curves.get(role, ()),
                others=curves.get(other, ()),
                controls=curves.get("control", ()),
                transfers=curves.get("transfer", ()),
                convergence=convergence[0] if convergence and family == SOUND else None,
                examined=measured,
                accuracy=_accuracy(clean_answers(rows[ok])),
                failed=_failed(rows, published=family == PUBLISHED),
            ),
        )


def _facts(preflights: Sequence[Facts], loss: str) -> dict[str, Any]:
    """Return what was measured with this loss; else with another one, less what depends on it."""
    for fact in preflights:
        if fact["loss"] == loss:
            return dict(fact)
    return {name: fact for name, fact in (*preflights, {})[0].items() if name not in checks_gradient.BY_LOSS}


def _accuracy(clean: pd.DataFrame) -> Clean | None:
    if clean.empty:
        return None
    larger, n_answers = int(clean["label"].value_counts().max()), int(clean["predicted"].nunique())
    correct, patients = clean["correct"].to_numpy(bool), clean["cluster"].to_numpy(object)
    return Clean.of(correct, patients, larger=larger, n_answers=n_answers)


def _failed(rows: pd.DataFrame, *, published: bool) -> tuple[int, int] | None:
    """Return the cases that lack an answer to an attack of the family, and how many cases there are."""
    own = rows[((rows["preset"] == PUBLISHED) == published) & ~rows["error"].isin(NOT_ATTACKED)]
    n = own["case_id"].nunique()
    return (own.loc[own["status"] != "ok", "case_id"].nunique(), n) if n else None
