"""The report's part on attacks beyond the paper's study: what they show in sentences, and their tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.attacks import FROM_POSITIVE, reported_doses
from dosimeter.analysis.names import WORST_CASE, attack_title, in_order, is_known, model_name, place
from dosimeter.analysis.taxonomy import catalogue_note
from dosimeter.analysis.wording import percent, records
from dosimeter.presentation.numbers import (
    DASH,
    Cell,
    count,
    decimal,
    decimal_range,
    dose,
    is_missing,
    marked,
    median,
    notes,
    percent_range,
    plural,
    seconds,
    words,
)
from dosimeter.presentation.ranges import accuracy_ranges, has_interval, share_said
from dosimeter.presentation.values import of_keys
from dosimeter.presentation.views import Head, View, of_trial, trials
from dosimeter.sections.attacks.sentences import strength_note

Tables = Mapping[str, pd.DataFrame]
Row = Mapping[str, Any]

MOST_LISTED = 12
"""Classes in the table of flips, at most."""


def attack_tables(tables: Tables, order: Sequence[tuple[str, str]], meta: Mapping[str, Any]) -> Iterator[View]:
    """Yield the tables of the section on attacks, trial by trial; those without a row are left out.

    Args:
        tables: as `report.build.build_tables` returns them, of one seed.
        order: of (cohort, protocol).
        meta: the run's.
    """
    classes = {(card["cohort"], card["protocol"]): card["classes"] for card in meta.get("cohorts", [])}
    known = trials(tables["robust_accuracy"])
    for trial in sorted(known, key=lambda each: order.index(each) if each in order else len(order)):
        mine = {name: of_trial(table, *trial) for name, table in tables.items()}
        names = classes.get(trial, ("class 0", "class 1"))
        where = f"{trial[0]}, {trial[1]} protocol"
        views = [strength(mine, where), gains(mine, where), harm(mine, where, names), agreement(mine, where)]
        views += [listed(mine, where, names), transferred(mine, where), costs(mine, where)]
        yield from (view for view in views if view.rows)
    if len(tables["taxonomy"]):
        yield catalogue(tables["taxonomy"])


def strength(tables: Tables, where: str) -> View:
    """Return robust accuracy at the reported doses, epsilon50 and area, a row an attack."""
    robust = _floats(tables["robust_accuracy"])
    doses = reported_doses(robust["epsilon"])
    half, areas = _floats(tables["epsilon50"]), _floats(tables["area"])
    areas = areas.sort_values("epsilon_max").drop_duplicates(["model", "preset"])  # the smaller limit

    def cells(model: str, preset: str) -> list[Cell]:
        curve = {row["epsilon"]: row for row in records(of_keys(robust, {"model": model, "preset": preset}))}
        shares = [_share(curve.get(each)) for each in doses]
        median = records(of_keys(half, {"model": model, "preset": preset}))
        under = records(of_keys(areas, {"model": model, "preset": preset}))
        last = Cell(DASH) if not under else marked(
            Cell(decimal(under[0]["area"]), decimal_range(under[0]["area_low"], under[0]["area_high"], 2)), under[0]
        )  # fmt: skip
        return [*shares, _half(median[0]) if median else Cell(DASH), last]

    stored = bool((tables["robust_accuracy"]["storage"] != "float").any())
    limit = f" {dose(areas['epsilon_max'].iloc[0])}" if len(areas) else ""
    heads = [*(f"at {dose(each)}" for each in doses), "epsilon50", f"area to{limit}"]
    return _by_attack(
        f"Accuracy left by every attack: {where}, {plural(robust['n'].max(), 'test image')}, floats",
        robust, heads, cells,
        strength_note({"robust_accuracy": robust, "epsilon50": half, "area": areas}, stored=stored),
    )  # fmt: skip


def gains(tables: Tables, where: str) -> View:
    """Return what each attack does beyond random signs of the same epsilon."""
    table = _floats(tables["gain"])
    table = table[table["role"] != "transfer"]
    doses = reported_doses(table["epsilon"])

    def cells(model: str, preset: str) -> list[Cell]:
        curve = {row["epsilon"]: row for row in records(of_keys(table, {"model": model, "preset": preset}))}
        return [_gain(curve[each]) if each in curve else Cell(DASH) for each in doses]

    return _by_attack(
        f"Gain over random signs of the same epsilon: {where}, floats",
        table, [f"at {dose(each)}" for each in doses], cells,
        "The fall in accuracy under the attack less that under random signs, image by image: the part of it that is "
        "adversarial, in percent of all images"
        f"{', with Newcombe’s 95 % interval for pairs, by patient' if has_interval(table, 'gain') else ''}.",
    )  # fmt: skip


def harm(tables: Tables, where: str, classes: Sequence[str]) -> View:
    """Return the flips by class under the worst case, or where there is none, FGSM."""
    flips = _floats(tables["class_flips"])
    shown = WORST_CASE if WORST_CASE in set(flips["preset"]) else "sound"
    flips = flips[flips["preset"] == shown]
    doses = reported_doses(flips["epsilon"])
    kinds = _kinds(flips, classes)
    rows = []
    for model in in_order(flips["model"]):
        for label, kind in kinds:
            curve = {row["epsilon"]: row for row in records(of_keys(flips, {"model": model, "label": label}))}
            if curve:
                cells = [_flipped(curve.get(each)) for each in doses]
                rows.append([Cell(model_name(model), kind="name"), Cell(kind, kind="name"), *cells])
    heads = ["model", "flip", *(f"at {dose(each)}" for each in doses)]
    return View(
        f"Flips by class, {attack_title(shown)}: {where}, floats",
        [[Head(name) for name in heads]],
        rows,
        f"Of the images answered correctly without attack. {_unequal(flips, classes)}Under each share: "
        f"{notes('how many flipped of how many', *share_said(flips))}. Every attack is in tables/class_flips.csv"
        f"{'' if len(classes) == 2 else ', and what the images become in flips_by_class.csv'}.",
    )


def _kinds(flips: pd.DataFrame, classes: Sequence[str]) -> list[tuple[int, str]]:
    """Return the classes that are listed, and what their flips are called: of many those that flip most."""
    if len(classes) == 2:
        return [(label, f"{classes[label]} answered as {classes[1 - label]}") for label in (1, 0)]
    most = flips[flips["epsilon"] == flips["epsilon"].max()].groupby("label")["share"].max()
    listed = sorted(most.sort_values(ascending=False, kind="stable").index[:MOST_LISTED])
    return [(label, f"{classes[label]} answered as another class") for label in listed]


def _unequal(flips: pd.DataFrame, classes: Sequence[str]) -> str:
    if not set(flips["direction"]) & {FROM_POSITIVE}:
        return ""
    positive = classes[int(flips.loc[flips["direction"] == FROM_POSITIVE, "label"].iloc[0])]
    return f"A missed case of {positive} and a false alarm do not do the same harm. "


def agreement(tables: Tables, where: str) -> View:
    """Return whether the models agree on which images fall first."""
    table = _floats(tables["rank_agreement"])
    rows = [
        [
            Cell(attack_title(row["preset"]), kind="name"),
            words(f"{model_name(row['model'])}, {model_name(row['other'])}"),
            Cell(count(row["n"])),
            marked(Cell(f"{row['n_flipped']}, {row['n_flipped_other']}"), row),
            marked(Cell(decimal(row["spearman"], 2), decimal_range(row["spearman_low"], row["spearman_high"], 2)), row),
        ]
        for row in records(table)
    ]
    names = ("attack", "models", "images right on both", "of them flipped", "rank correlation")
    known = ", with a 95 % bootstrap interval by patient" if has_interval(table, "spearman") else ""
    return View(
        f"Do the same images fall first? {where}, floats",
        [[Head(name) for name in names]],
        rows,
        f"Spearman's correlation of the two models' flip epsilons{known}: 1 if both lose the images in the same "
        "order, 0 if the orders have nothing in common. Images that never flip are tied.",
    )


def listed(tables: Tables, where: str, classes: Sequence[str]) -> View:
    """Return the images that fall first under the worst case, model beside model."""
    table = tables["most_susceptible"]
    models = in_order(table["model"])
    rows = []
    for number in sorted(table["place"].unique()):
        cells = [Cell(count(number), kind="name")]
        for model in models:
            found = records(of_keys(table, {"model": model, "place": number}))
            cells += _listed(found[0], classes) if found else [Cell(DASH)] * 3
        rows.append(cells)
    star = any(cell.text.endswith(" *") for row in rows for cell in row)
    starred = " A star marks an image that is in this list for every model." if star else ""
    top = [Head("place", rows=2), *(Head(model_name(model), span=3) for model in models)]
    return View(
        f"The images that fall first: {where}, floats",
        [top, [Head(name) for name in ("image", "epsilon", "first attack")] * len(models)],
        rows,
        f"By the smallest epsilon at which any attack changes the answer.{starred} Images have pseudonyms, to which "
        "“dosimeter data info COHORT --cases” is the key. All images are in tables/susceptibility.csv.",
    )


def transferred(tables: Tables, where: str) -> View:
    """Return the transfer matrix as rows."""
    table = _floats(tables["transfer"])
    doses = reported_doses(table["epsilon"])
    rows = []
    for preset in sorted(table["preset"].unique(), key=place):
        mine = table[table["preset"] == preset]
        for source in in_order(mine["made_on"]):
            for target in in_order(mine["model"]):
                curve = {row["epsilon"]: row for row in records(of_keys(mine, {"made_on": source, "model": target}))}
                if curve:
                    answered = model_name(target) + (" (white box)" if source == target else "")
                    names = [Cell(name, kind="name") for name in (attack_title(preset), model_name(source), answered)]
                    rows.append([*names, *(_flipped(curve.get(each)) for each in doses)])
    heads = ["attack", "made on", "answered by", *(f"at {dose(each)}" for each in doses)]
    return View(
        f"Images made on one model, answered by another: {where}, floats",
        [[Head(name) for name in heads]],
        rows,
        "The share of the images that the answering model has right without attack whose answer the adversarial "
        f"image flips. Under it: {notes('how many of how many', *share_said(table))}. An image that the model it is "
        "made on has wrong already is left as it is by searches, and counts.",
    )


def costs(tables: Tables, where: str) -> View:
    """Return what each attack spent on an image."""
    table = tables["cost"]
    table = table[table["role"] != "transfer"]

    def cells(model: str, preset: str) -> list[Cell]:
        found = records(of_keys(table, {"model": model, "preset": preset}))
        if not found:
            return [Cell(DASH)] * 3
        row = found[0]
        passes = [Cell(count(row[f"{name}_median"]), _spread(row, name)) for name in ("gradients", "queries")]
        time = row["seconds_median"]
        took = Cell(DASH if is_missing(time) else seconds(time) if time >= 1 else f"{time:.2g} s")
        return [marked(cell, row) for cell in (*passes, took)]

    universal = (table["attack"] == "universal").any()
    learned = (
        " A universal perturbation was learned before, on training images; that is not counted." if universal else ""
    )
    return _by_attack(
        f"What the attacks cost: {where}",
        table, ["gradients", "queries", "time"], cells,
        "Medians over images, for all epsilons together; under them the quartiles, where images differ. Time is the "
        f"wall time of this machine and holds the answers to every epsilon and storage too.{learned} Totals are in "
        "tables/cost.csv.",
    )  # fmt: skip


def catalogue(taxonomy: pd.DataFrame) -> View:
    """Return what each attack needs, and what MITRE ATLAS and NIST AI 100-2 call it."""
    table = taxonomy.drop_duplicates("preset")
    rows = [
        [Cell(attack_title(row["preset"]), kind="name"), words(row["role"]), words(row["knowledge"]),
         words(row["atlas"] or DASH), words(row["nist"] or DASH, row["nist_section"])]
        for row in sorted(records(table), key=lambda row: place(row["preset"]))
    ]  # fmt: skip
    names = ("attack", "role", "needs of the classifier", "MITRE ATLAS", "NIST AI 100-2")
    note = catalogue_note(set(table["role"]), foreign=not all(map(is_known, table["attack"])))
    return View("What the attacks are in two public catalogues", [[Head(name) for name in names]], rows, note)


def _by_attack(
    caption: str, table: pd.DataFrame, heads: Sequence[str], cells: Callable[[str, str], list[Cell]], note: str
) -> View:
    """Return a view with a row for each attack and the same columns for each model."""
    table = table[table["role"] != "transfer"]
    models, presets = in_order(table["model"]), sorted(table["preset"].unique(), key=place)
    top = [Head("attack", rows=2), *(Head(model_name(model), span=len(heads)) for model in models)]
    rows = [
        [Cell(attack_title(preset), kind="name"), *(cell for model in models for cell in cells(model, preset))]
        for preset in presets
    ]
    return View(caption, [top, [Head(name) for name in heads] * len(models)], rows, note)


def _floats(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["storage"] == "float"]


def _share(row: Row | None) -> Cell:
    return Cell(DASH) if row is None else marked(Cell(percent(row["accuracy"]), notes(*accuracy_ranges(row))), row)


def _gain(row: Row) -> Cell:
    interval = "" if is_missing(row["gain_low"]) else f"{100 * row['gain_low']:.0f} to {100 * row['gain_high']:.0f}"
    return marked(Cell(percent(row["gain"]), interval), row)


def _flipped(row: Row | None) -> Cell:
    if row is None:
        return Cell(DASH)
    interval = percent_range(row["share_low"], row["share_high"], 0)
    return marked(Cell(percent(row["share"]), notes(f"{row['flipped']} of {row['n']}", interval)), row)


def _half(row: Row) -> Cell:
    return median(row, "epsilon50")


def _listed(row: Row, classes: Sequence[str]) -> list[Cell]:
    star = " *" if row["n_models"] > 1 and row["n_models_listing"] == row["n_models"] else ""
    return [
        Cell(f"{row['case_id']}{star}", classes[int(row["label"])]),
        marked(Cell(dose(row["flip_epsilon"])), row),
        marked(Cell(attack_title(row["first_attack"]), f"flipped by {row['n_flipping']} of {row['n_attacks']}"), row),
    ]


def _spread(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if is_missing(low) or low == high else f"{low:.0f} to {high:.0f}"
