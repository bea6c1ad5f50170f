"""What a defence is worth: each defended classifier beside the undefended one, on the same images, by its worst attack.

Three attackers are told apart. One who knows the defence attacks all of it: the worst case over the attacks on the
defended classifier. One who does not attacks the undefended classifier and shows those images to the defended one. The
worst of both is what counts: a defence that only hides the gradient looks good to the first alone.

An image that the classifier refuses to answer is not right; it is not wrongly answered either. Both shares are given:
right, and right or refused (Tramer 2021, arXiv 2107.11630), and beside them what it refuses without attack.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dosimeter.analysis.base import TRIAL, answered, clean_answers, groups, roles
from dosimeter.analysis.clusters import per_patient
from dosimeter.analysis.evaluation import SOUND, overall
from dosimeter.analysis.flips import censored_median
from dosimeter.analysis.intervals import FloatArray, proportion_interval
from dosimeter.analysis.names import WORST_CASE
from dosimeter.analysis.paired import compare
from dosimeter.analysis.wording import records
from dosimeter.record.compact import UNDEFENDED

KEYS = [*TRIAL, "model", "seed", "undefended", "defence"]
_SHARES = ("known", "known_kept", "unknown", "unknown_kept", "worst", "worst_kept")
CURVE_COLUMNS = [
    *(*KEYS, "epsilon", "n"),
    *(f"{name}{bound}" for name in _SHARES for bound in ("", "_low", "_high")),
    *("difference", "difference_low", "difference_high", "p_patient", "certified", "one_class", "modality"),
]
COLUMNS = [
    *(*KEYS, "n", "accuracy", "accuracy_low", "accuracy_high", "refused", "refused_low", "refused_high"),
    *("sensitivity_at", "sensitivity_at_none", "larger_class", "constant_from", "epsilon50", "epsilon50_low"),
    *("epsilon50_high", "epsilon50_censored", "ratio", "alarm50", "alarm50_low", "alarm50_high", "alarm50_censored"),
    *("n_alarmed", "fit_s", "passes", "answer_ms", "megabytes"),
    *("verdict", "because", "broken_by", "modality"),
]
ONE_CLASS = 0.95
"""Share of images with one and the same answer from which a classifier may be a constant."""


class _Outcomes(NamedTuple):
    """What several attacks together left of each case: (cases, epsilons), 1, 0, or NaN where one has no answer.

    Attributes:
        right: the class is right and was given.
        kept: it is right, or the classifier refused.
    """

    right: FloatArray
    kept: FloatArray


class _System(NamedTuple):
    """A classifier, defended or not, on one trial and seed.

    Attributes:
        model: what tables call it.
        undefended: what they call the classifier without the defence.
        cases, patients: (n,).
        known: what attacks on itself left; None: there was none.
        unknown: what images made on the undefended classifier left; None: none were shown.
        clean: rows (n,) without attack, in the order of `cases`.
    """

    model: str
    undefended: str
    defence: str
    cases: "npt.NDArray[np.object_]"
    patients: "npt.NDArray[np.object_]"
    epsilons: FloatArray
    known: _Outcomes | None
    unknown: _Outcomes | None
    clean: pd.DataFrame
    answers: FloatArray  # (epsilons,) the largest share of one answer under the attacks on itself

    @property
    def worst(self) -> _Outcomes | None:
        """What is left by whoever breaks an image."""
        if self.known is None or self.unknown is None:
            return self.known or self.unknown
        pairs = zip(self.known, self.unknown, strict=True)
        return _Outcomes(*(np.fmin(one, other) for one, other in pairs))


def defence_accuracy(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what is left at each epsilon, a row for each classifier, seed, defence ("none" too) and epsilon.

    Args:
        frame: a response table; of images stored as floats.

    Returns:
        n images; `known`, the share that is right under the worst case of the attacks on this very classifier;
        `unknown`, under images made on the undefended one; `worst`, under whichever breaks an image; each also as
        `_kept`: right or refused; all with 95 % bounds (`intervals.proportion_interval`). difference of `worst` to the
        undefended classifier on the same images, paired (`paired.compare`), with its bounds and p by patient;
        certified, the share that is right and proven to stay so within epsilon; one_class, the largest share of one
        answer.
    """
    parts = []
    for names, systems in _trials(frame):
        bare = next((each for each in systems if each.defence == UNDEFENDED), None)
        parts += [{**names, **row} for system in systems for row in _curve(system, bare)]
    return pd.DataFrame(parts, columns=CURVE_COLUMNS)


def defences(frame: pd.DataFrame, meta: Mapping[str, Any], made: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return what each defence costs and is worth, a row for each classifier, seed and defence ("none" too).

    Args:
        frame: a response table.
        meta: the run's facts.
        made: `epsilon50`, and `evaluation` where the evaluations were judged.

    Returns:
        n images; accuracy without attack; refused without attack; each with 95 % bounds; sensitivity_at and
        sensitivity_at_none, of this and of the undefended classifier at the undefended one's specificity, where a class
        is positive; larger_class, its share; constant_from, the smallest epsilon from which one answer is given to more
        than 95 % of images and no more are right than that class has and one, NaN if there is none; epsilon50 of the
        worst case with bounds, and its ratio to the undefended one's; alarm50, the epsilon at which half of n_alarmed
        images that are right and accepted are made to be refused, with bounds; fit_s, seconds of learning; passes of
        the base, ms and megabytes of one answer; verdict on the evaluation and because; broken_by, papers.
    """
    parts = []
    for names, systems in _trials(frame):
        bare = next((each for each in systems if each.defence == UNDEFENDED), None)
        rows = [_summary(system, bare) | _told(system, names, meta, made) for system in systems]
        reference = next((row["epsilon50"] for row in rows if row["defence"] == UNDEFENDED), np.nan)
        parts += [{**names, **row, "ratio": row["epsilon50"] / reference} for row in rows]
    return pd.DataFrame(parts, columns=COLUMNS)


def helpful(curves: pd.DataFrame, table: pd.DataFrame) -> dict[str, list[float]]:
    """Return the defences that help, each with the epsilons at which they do, the most of these first.

    One helps at an epsilon if it leaves more images right under the worst attack than no defence does, with the paired
    95 % interval above 0, of every classifier, cohort and seed that has it; if no evaluation of it is UNRELIABLE; and
    if it is no constant there.

    Args:
        curves: as `defence_accuracy` returns them.
        table: as `defences` returns it.
    """
    found: dict[str, list[float]] = {}
    for defence, rows in curves[curves["defence"] != UNDEFENDED].groupby("defence", sort=False):
        mine = table[table["defence"] == defence]
        if (mine["verdict"] == "UNRELIABLE").any():
            continue
        constant = float(mine["constant_from"].min())
        least = rows[rows["epsilon"] > 0].groupby("epsilon")["difference_low"].agg(lambda low: low.min(skipna=False))
        doses, lows = least.index.to_numpy(np.float64), least.to_numpy(np.float64)
        helps = doses[(lows > 0) & ~(doses >= constant)].tolist()
        if helps:
            found[str(defence)] = helps
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def undefended(model: str, defence: str) -> str:
    """Return what tables call the model that a defended one was, if they call it so."""
    return model.removesuffix(f" + {defence}")


# --- systems ------------------------------------------------------------------------------------------------


def _trials(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], list[_System]]]:
    """Yield cohort, protocol, seed and modality of each trial, and its systems, each model's undefended first."""
    rows = answered(frame)
    rows = rows[(rows["storage"] == "float") & rows["on_grid"] & (rows["decision"] == "")]
    for names, trial in groups(rows, [*TRIAL, "seed", "modality"]):
        by_model: dict[str, list[_System]] = {}
        for found, mine in groups(trial, ["model", "defence"]):
            system = _system(mine, str(found["model"]), str(found["defence"]))
            by_model.setdefault(system.undefended, []).append(system)
        for systems in by_model.values():
            if any(each.defence != UNDEFENDED for each in systems):
                yield names, sorted(systems, key=lambda each: each.defence != UNDEFENDED)


def _system(rows: pd.DataFrame, model: str, defence: str) -> _System:
    clean = clean_answers(rows).sort_values("case_id", ignore_index=True)
    cases = clean["case_id"].to_numpy(object)
    rows = rows.assign(role=roles(rows))
    attacks = rows["role"] == "attack"
    own = rows[attacks if attacks.any() else rows["role"] == "published"]
    bare = undefended(model, defence)
    shown = rows[(rows["role"] == "transfer") & (rows["made_on"].astype(str) == bare)]
    epsilons = np.unique(own["epsilon"].to_numpy(np.float64))
    return _System(
        model,
        bare,
        defence,
        cases,
        clean["cluster"].to_numpy(object),
        epsilons,
        _outcomes(own, cases, epsilons),
        _outcomes(shown, cases, epsilons),
        clean,
        _answers(own, epsilons),
    )


def _outcomes(rows: pd.DataFrame, cases: "npt.NDArray[np.object_]", epsilons: FloatArray) -> _Outcomes | None:
    """Return the worst case over the presets of `rows`: what is broken in one ball is broken in any larger one."""
    if rows.empty:
        return None
    kept = rows["correct"].to_numpy(bool) | (rows["abstained"].to_numpy() == 1)
    worst = []
    for value in (rows["correct"].to_numpy(np.float64), kept.astype(np.float64)):
        table = rows[["case_id", "preset", "epsilon"]].assign(value=value)
        least = np.full((len(cases), len(epsilons)), np.inf)
        for _, mine in table.groupby("preset", observed=True):
            wide = mine.pivot_table(index="case_id", columns="epsilon", values="value", aggfunc="min", observed=True)
            least = np.minimum(least, wide.reindex(index=cases, columns=epsilons).to_numpy(np.float64))
        worst.append(np.minimum.accumulate(least, axis=1))
    return _Outcomes(*worst)


def _answers(rows: pd.DataFrame, epsilons: FloatArray) -> FloatArray:
    """Return the largest share of one answer at each epsilon, under the preset where that is largest."""
    found = np.zeros(len(epsilons))
    for _, mine in rows.groupby("preset", observed=True):
        shares = mine.groupby("epsilon")["predicted"].agg(lambda each: each.value_counts(normalize=True).max())
        found = np.fmax(found, shares.reindex(epsilons).to_numpy(np.float64))
    return found


# --- numbers ------------------------------------------------------------------------------------------------


def _names(system: _System) -> dict[str, str]:
    return {"model": system.model, "undefended": system.undefended, "defence": system.defence}


def _share(values: FloatArray, patients: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the share (epsilons,) of values (cases, epsilons) that are 1, of those known, and its bounds."""
    known = ~np.isnan(values)
    hits, trials = per_patient(np.where(known, values, 0.0), patients), per_patient(known.astype(float), patients)
    low, high = proportion_interval(hits, trials)
    n = trials.sum(axis=0)
    return hits.sum(axis=0) / np.where(n > 0, n, np.nan), low, high


def _curve(system: _System, bare: _System | None) -> Iterator[dict[str, Any]]:
    columns: dict[str, FloatArray] = {}
    for name, found in (("known", system.known), ("unknown", system.unknown), ("worst", system.worst)):
        for suffix, values in zip(("", "_kept"), found or (None, None), strict=True):
            shares = (np.full(len(system.epsilons), np.nan),) * 3 if values is None else _share(values, system.patients)
            columns |= dict(zip((f"{name}{suffix}{end}" for end in ("", "_low", "_high")), shares, strict=True))
    columns |= _differences(system, bare) if system.defence != UNDEFENDED else {}
    proven = system.clean["certified"].to_numpy(np.float64)
    right = system.clean["correct"].to_numpy(bool)
    for place, epsilon in enumerate(system.epsilons.tolist()):
        certified = np.nan if np.isnan(proven).all() else float((right & (proven >= epsilon)).mean())
        yield {
            **_names(system),
            "epsilon": epsilon,
            "n": len(system.cases),
            **{name: float(values[place]) for name, values in columns.items()},
            "certified": certified,
            "one_class": float(system.answers[place]),
        }


def _differences(system: _System, bare: _System | None) -> dict[str, FloatArray]:
    """Return the paired difference of what the worst attacks leave, to the undefended classifier on the same cases."""
    mine, theirs = system.worst, None if bare is None else bare.worst
    if mine is None or theirs is None or bare is None:
        return {}
    place = pd.Index(bare.cases).get_indexer(pd.Index(system.cases))
    column = pd.Index(bare.epsilons).get_indexer(pd.Index(system.epsilons))
    other = np.full(mine.right.shape, np.nan)
    rows, columns = place >= 0, column >= 0
    other[np.ix_(rows, columns)] = theirs.right[np.ix_(place[rows], column[columns])]
    found = compare(mine.right, other, system.patients)
    difference = found.right - found.right_other
    names = ("difference", "difference_low", "difference_high", "p_patient")
    return dict(zip(names, (difference, found.low, found.high, found.p_patient), strict=True))


def _summary(system: _System, bare: _System | None) -> dict[str, Any]:
    clean = system.clean
    right, refused = clean["correct"].to_numpy(float), (clean["abstained"].to_numpy() == 1).astype(float)
    larger = int(clean["label"].value_counts().max())
    found: dict[str, Any] = {**_names(system), "n": len(clean)}
    for name, values in (("accuracy", right), ("refused", refused)):
        shares = _share(values[:, None], system.patients)
        found |= {f"{name}{end}": float(each[0]) for end, each in zip(("", "_low", "_high"), shares, strict=True)}
    own, reference = _sensitivities(system, bare)
    found |= {"sensitivity_at": own, "sensitivity_at_none": reference, "larger_class": larger / len(clean)}
    return found | {"constant_from": _constant_from(system, larger)}


def _constant_from(system: _System, larger: int) -> float:
    if system.worst is None:
        return np.nan
    right = np.nansum(system.worst.right, axis=0)
    constant = (right <= larger + 1) & (right > 0) & (system.answers > ONE_CLASS)
    return float(system.epsilons[constant.argmax()]) if constant.any() else np.nan


def _sensitivities(system: _System, bare: _System | None) -> tuple[float, float]:
    """Return the sensitivity of both at the undefended one's specificity; a refused image is called nothing."""
    if bare is None or (system.clean["positive"] < 0).any() or (system.clean["n_classes"] != 2).any():
        return np.nan, np.nan
    reference = bare.clean
    negative = reference["label"] != reference["positive"]
    called = reference["predicted"] == reference["positive"]
    if not negative.any() or negative.all():
        return np.nan, np.nan
    mine = system.clean
    mine_negative = (mine["label"] != mine["positive"]).to_numpy()
    given = mine["abstained"].to_numpy() != 1
    scores = np.where(given, mine["score"].to_numpy(np.float64), -np.inf)
    allowed = int((called & negative).sum() / negative.sum() * mine_negative.sum() + 1e-9)  # false alarms
    at = np.sort(scores[mine_negative])[::-1][allowed] if allowed < mine_negative.sum() else -np.inf
    return float((scores[~mine_negative] > at).mean()), float(called[~negative].mean())


def _told(
    system: _System, names: Mapping[str, Any], meta: Mapping[str, Any], made: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """Return what other tables and the run's facts tell of a system."""
    keys = {**{name: names[name] for name in TRIAL}, "model": system.model, "seed": int(names["seed"])}
    half = _rows_of(made.get("epsilon50"), keys)
    if len(half):
        half = half[half["storage"] == "float"]
        worst = half["preset"].isin([WORST_CASE])
        half = (half[worst] if worst.any() else half).head(1)
    medians = ("epsilon50", "epsilon50_low", "epsilon50_high")
    found: dict[str, Any] = {name: half[name].iloc[0] if len(half) else np.nan for name in medians}
    found["epsilon50_censored"] = bool(half["censored"].iloc[0]) if len(half) else False
    judged = _rows_of(made.get("evaluation"), keys)
    sound = records(overall(judged[judged["preset"] == SOUND])) if len(judged) else []
    verdict, because = (sound[0]["verdict"], sound[0]["because"]) if sound else ("", "")
    found |= _alarms(system, keys, (meta.get("examined") or {}).get("false_alarms", []))
    card: Mapping[str, Any] = next((card for card in meta.get("classifiers", []) if keys.items() <= card.items()), {})
    cost = card.get("cost") or {}
    broken = [part["broken_by"] for part in card.get("defences", []) if part.get("broken_by")]
    return {
        **found,
        **{name: cost.get(name, np.nan) for name in ("fit_s", "passes", "answer_ms", "megabytes")},
        "verdict": verdict,
        "because": because,
        "broken_by": "; ".join(dict.fromkeys(broken)),
    }


def _alarms(system: _System, keys: Mapping[str, Any], facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the epsilon at which half of the images that are right and accepted are made to be refused."""
    mine = [fact for fact in facts if keys.items() <= fact.items()]
    doses = pd.Series([np.nan if fact["epsilon"] is None else fact["epsilon"] for fact in mine], dtype=np.float64)
    patients = dict(zip(system.cases, system.patients, strict=True))
    clusters = pd.Series([patients.get(fact["case_id"], fact["case_id"]) for fact in mine], dtype=object)
    if not mine:
        return {"n_alarmed": 0, "alarm50_censored": False}
    median = censored_median(doses, clusters)
    half = {f"alarm50{suffix}": value for suffix, value in median.finite.items()}
    return {**half, "n_alarmed": len(mine), "alarm50_censored": median.flags["censored"]}


def _rows_of(table: pd.DataFrame | None, keys: Mapping[str, Any]) -> pd.DataFrame:
    if table is None:
        return pd.DataFrame()
    same = np.ones(len(table), bool)
    for name, value in keys.items():
        if name in table:
            same &= (table[name] == value).to_numpy()
    return table[same]
