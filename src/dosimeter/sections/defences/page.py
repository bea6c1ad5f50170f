"""The report's part on defences: which help, which only hide, and the tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.defences import helpful
from dosimeter.analysis.names import model_name
from dosimeter.analysis.wording import mark, percent, records, unmet
from dosimeter.presentation.numbers import (
    DASH,
    Cell,
    count,
    decimal,
    dose,
    is_missing,
    marked,
    notes,
    percent_range,
    words,
)
from dosimeter.presentation.numbers import percent as share
from dosimeter.presentation.views import Head, View, of_trial, trials
from dosimeter.record.compact import UNDEFENDED

Tables = Mapping[str, pd.DataFrame]
Row = Mapping[str, Any]
SIDE_BY_SIDE = 2
"""Epsilons in a table at most; all are in its file."""

PER = 1000
"""Refusals are given per so many images."""


def sentences(tables: Tables) -> list[str]:
    """Return what a reader should take away: which defences help, by how much, and which only look as if they did."""
    curves, table = tables["defence_accuracy"], tables["defences"]
    helps = helpful(curves, table)
    said = [_recommended(name, epsilons, curves, table) for name, epsilons in helps.items()]
    if not helps:
        said.append(
            "No defence helps for certain at any epsilon asked: no paired 95 % interval of its difference to no "
            "defence lies above 0 for every classifier and cohort, with an evaluation that can be relied on."
        )
    for row in records(table[(table["verdict"] == "UNRELIABLE") & (table["defence"] != UNDEFENDED)]):
        said.append(
            f"{_of(row)}: do not quote its robustness. Its evaluation is UNRELIABLE ({unmet(row['because'])}); what is "
            "left by the attacker who does not know it, if that is less, is in the tables."
        )
    said += _hiding(curves)
    for row in _constants(table):
        said.append(
            f"{_of(row)}: from epsilon {dose(row['constant_from'])} on it gives nearly all images one answer, and no "
            f"more are right than the larger class has ({percent(row['larger_class'])}): a constant, not a robust "
            "classifier."
        )
    return said


def _constants(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the defended classifiers that become constant where the undefended one is none."""
    bare = table[table["defence"] == UNDEFENDED].set_index(["cohort", "protocol", "seed", "undefended"])[
        "constant_from"
    ]
    for row in records(table[table["constant_from"].notna() & (table["defence"] != UNDEFENDED)]):
        without = bare.get((row["cohort"], row["protocol"], row["seed"], row["undefended"]), float("nan"))
        if not without <= row["constant_from"]:
            yield row


def _recommended(name: str, epsilons: list[float], curves: pd.DataFrame, table: pd.DataFrame) -> str:
    epsilon = epsilons[-1]
    rows = records(curves[(curves["defence"] == name) & (curves["epsilon"] == epsilon)])
    least = min(rows, key=lambda row: float(row["difference"]))
    mine = table[table["defence"] == name]
    bare = table[(table["defence"] == UNDEFENDED) & table["undefended"].isin(mine["undefended"])]
    cost = f"accuracy without attack {percent(mine['accuracy'].mean())} against {percent(bare['accuracy'].mean())}"
    if (mine["refused"] > 0).any():
        cost += f", {PER * mine['refused'].mean():.0f} of {PER} unperturbed images refused"
    where = "on this cohort" if len(rows) == 1 else f"in all {len(rows)} trials"
    interval = _points(least)
    return (
        f"{name} helps {where} up to epsilon {dose(epsilon)}: there, under whichever attack breaks an image, "
        f"{percent(least['worst'])} are right{mark(least)}, {100 * least['difference']:.0f} points more than without "
        f"it (paired 95 % interval {interval}{', the least of the trials' if len(rows) > 1 else ''}); {cost}."
    )


def _hiding(curves: pd.DataFrame) -> Iterator[str]:
    """Yield the defences against which those who do not know them break more, by more than an image."""
    found = curves.assign(gap=(curves["known_kept"] - curves["unknown_kept"]) * curves["n"])
    for _, rows in found[found["gap"] > 1].groupby(["cohort", "protocol", "seed", "model"], sort=False):
        row = records(rows.sort_values("gap"))[-1]
        yield (
            f"{_of(row)}: images made on the undefended classifier break more than attacks on it (at epsilon "
            f"{dose(row['epsilon'])} {percent(row['unknown_kept'])} withstand them, {percent(row['known_kept'])} the "
            "others): it hides its gradient, and only the smaller number counts."
        )


def _of(row: Row) -> str:
    return f"{model_name(row['model'])} on {row['cohort']} ({row['protocol']} protocol, seed {row['seed']})"


def defence_tables(tables: Tables, order: Sequence[tuple[str, str]]) -> Iterator[View]:
    """Yield the tables of the section, trial by trial, of one seed."""
    known = trials(tables["defences"])
    for trial in sorted(known, key=lambda each: order.index(each) if each in order else len(order)):
        where = f"{trial[0]}, {trial[1]} protocol"
        mine = of_trial(tables["defences"], *trial)
        yield worth(mine, of_trial(tables["defence_accuracy"], *trial), where)
        yield costs(mine, where)
        if "detection" in tables and len(seen := of_trial(tables["detection"], *trial)):
            yield seen_by(seen, where)


def worth(table: pd.DataFrame, curves: pd.DataFrame, where: str) -> View:
    """Return what is left with each defence: without attack and at the reported epsilons."""
    doses = reported_doses(curves["epsilon"])[:SIDE_BY_SIDE]
    rows = []
    for row in records(table):
        points = {point["epsilon"]: point for point in records(curves[curves["model"] == row["model"]])}
        cells = [_clean(row), _refused(row)]
        for epsilon in doses:
            cells += _left(points.get(epsilon), row["defence"])
        rows.append([Cell(model_name(row["undefended"]), kind="name"), words(row["defence"]), *cells, _half(row)])
    top = [Head("model", rows=2), Head("defence", rows=2), Head("right, no attack", rows=2), Head("refused", rows=2)]
    top += [Head(f"epsilon {dose(epsilon)}", span=4) for epsilon in doses]
    sub = [Head(text) for _ in doses for text in ("attacker knows", "does not", "worst of both", "to none")]
    return View(
        f"What defences are worth: {where}",
        [[*top, Head("epsilon50", rows=2)], sub],
        rows,
        "Right answers in percent, under each with its 95 % interval by patient; in brackets right or refused, where "
        "the classifier may refuse. “To none”: paired difference of the worst of both to no defence on the same "
        "images, in "
        f"points. Refused: of {PER} unperturbed images. All epsilons are in tables/defence_accuracy.csv.",
    )


def _clean(row: Row) -> Cell:
    return Cell(share(row["accuracy"]), percent_range(row["accuracy_low"], row["accuracy_high"], 0))


def _refused(row: Row) -> Cell:
    if not row["refused"]:
        return Cell("0")
    bounds = [row["refused_low"], row["refused_high"]]
    interval = "" if any(map(is_missing, bounds)) else "–".join(f"{PER * bound:.0f}" for bound in bounds)
    return Cell(f"{PER * row['refused']:.0f}", interval)


def _left(point: Row | None, defence: str) -> list[Cell]:
    if point is None:
        return [Cell(DASH)] * 4
    cells = []
    for name in ("known", "unknown", "worst"):
        kept = point[f"{name}_kept"]
        also = "" if is_missing(kept) or kept == point[name] else f"[{share(kept, 0)}]"
        interval = percent_range(point[f"{name}_low"], point[f"{name}_high"], 0)
        cells.append(marked(Cell(share(point[name]), notes(interval, also)), point))
    if defence == UNDEFENDED or is_missing(point["difference"]):
        return [*cells, Cell(DASH)]
    return [*cells, marked(Cell(f"{100 * point['difference']:+.0f}", _points(point)), point)]


def _points(row: Row) -> str:
    """Return the interval of a difference, in points."""
    bounds = row["difference_low"], row["difference_high"]
    return "" if any(map(is_missing, bounds)) else " to ".join(f"{100 * bound:+.0f}" for bound in bounds)


def _half(row: Row) -> Cell:
    if row["epsilon50_censored"]:
        return marked(Cell("beyond the largest"), row)
    bounds = [row["epsilon50_low"], row["epsilon50_high"]]
    interval = "" if any(map(is_missing, bounds)) else " to ".join(map(dose, bounds))
    ratio = "" if is_missing(row["ratio"]) or row["defence"] == UNDEFENDED else f"{row['ratio']:.1f} times none"
    return marked(Cell(dose(row["epsilon50"]), notes(interval, ratio)), row)


def costs(table: pd.DataFrame, where: str) -> View:
    """Return what each defence costs, and what speaks against it."""
    alarms = bool((table["n_alarmed"] > 0).any())
    rows = [
        [
            Cell(model_name(row["undefended"]), kind="name"),
            words(row["defence"]),
            Cell(share(row["sensitivity_at"])),
            *([_alarm(row)] if alarms else []),
            Cell(decimal(row["fit_s"], 0)),
            Cell(decimal(row["passes"], 0)),
            Cell(decimal(row["answer_ms"], 0)),
            Cell(decimal(row["megabytes"], 0)),
            marked(words(row["verdict"] or "not judged"), row),
            words(row["broken_by"] or DASH),
        ]
        for row in records(table)
    ]
    alarm = ("false alarms",) if alarms else ()
    heads = (
        "model",
        "defence",
        "sensitivity",
        *alarm,
        "fit, s",
        "passes",
        "ms",
        "MB",
        "evaluation",
        "known to be broken by",
    )
    return View(
        f"What defences cost: {where}",
        [[Head(name) for name in heads]],
        rows,
        "Sensitivity at the specificity of the undefended classifier; a refused image is called nothing. "
        + (
            "False alarms: the epsilon at which half of the images that are right and accepted are made to be refused. "
            if alarms
            else ""
        )
        + "Passes of the "
        "network, milliseconds and megabytes are those of one answer on this machine.",
    )


def _alarm(row: Row) -> Cell:
    if not row["n_alarmed"]:
        return Cell(DASH)
    if row["alarm50_censored"]:
        return Cell("beyond the largest", f"n = {row['n_alarmed']}")
    bounds = [row["alarm50_low"], row["alarm50_high"]]
    interval = "" if any(map(is_missing, bounds)) else " to ".join(map(dose, bounds))
    return Cell(dose(row["alarm50"]), notes(interval, f"n = {row['n_alarmed']}"))


def seen_by(table: pd.DataFrame, where: str) -> View:
    """Return what detectors do about images, at the reported epsilons, by the attack that passes them most often."""
    doses = reported_doses(table["epsilon"])
    rows = []
    for (model, attacker, epsilon), mine in table.groupby(["model", "attacker", "epsilon"], sort=False):
        if epsilon not in doses:
            continue
        row = records(mine.sort_values("passed", ascending=False, kind="stable"))[0]
        interval = "" if is_missing(row["auc_low"]) else f"{row['auc_low']:.2f} to {row['auc_high']:.2f}"
        cells = [Cell(decimal(row["auc"], 2), interval)]
        for name in ("flagged", "passed"):
            cells.append(Cell(share(row[name]), percent_range(row[f"{name}_low"], row[f"{name}_high"], 0)))
        cells = [marked(cell, row) for cell in cells]
        rows.append(
            [
                Cell(model_name(model), kind="name"),
                words(str(attacker)),
                Cell(dose(epsilon)),
                Cell(count(row["n"])),
                *cells,
            ]
        )
    heads = ("model", "attacker", "epsilon", "changed images", "AUC of the alarm", "refused", "wrong and not refused")
    return View(
        f"What detectors see: {where}",
        [[Head(name) for name in heads]],
        rows,
        "Of several attacks the one that gets most past the detector. AUC: how the alarm tells changed images from "
        "unchanged ones; below 0.5 changed images look more usual than unchanged ones. Wrong and not refused: of the "
        "images that are right and accepted without attack. The share of false alarms that was chosen holds for "
        "unperturbed images alone; an attack is not exchangeable with them.",
    )
