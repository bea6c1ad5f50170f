"""The report's part on storage: what survives it, and how small a dose a file can carry."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.names import (
    attack_title,
    in_order,
    model_name,
    place,
    storage_kind,
    storage_name,
    storages_in_order,
)
from dosimeter.analysis.wording import mark, records
from dosimeter.presentation.numbers import (
    DASH,
    Cell,
    count,
    dose,
    is_missing,
    marked,
    median,
    notes,
    percent,
    percent_range,
    words,
)
from dosimeter.presentation.ranges import ranks_said, share_said
from dosimeter.presentation.views import Head, View, of_trial, trials
from dosimeter.units import GREY_LEVELS_8BIT

Tables = Mapping[str, pd.DataFrame]
Row = Mapping[str, Any]


def storage_sentences(tables: Tables, meta: Mapping[str, Any]) -> list[str]:
    """Return how the attack that looks for a file compares with rounding, for each classifier and each such file."""
    bits = meta.get("config", {}).get("bits") or 8
    table = tables["deployed_median"]
    of_bits = [storage_kind(str(storage)).bits == bits for storage in table["storage"]]
    table = table[pd.Series(of_bits, table.index, dtype=bool)]  # an empty list would take the columns away
    sentences = []
    for (cohort, protocol, model, storage), rows in table.groupby(
        ["cohort", "protocol", "model", "storage"], sort=False
    ):
        naive = [row for row in records(rows) if not row["aware"] and row["preset"] in ("pgd", "sound")]
        aware = [row for row in records(rows) if row["aware"]]
        for one in aware:
            named = ", ".join(f"{attack_title(row['preset'])} rounded afterwards {_half(row)}" for row in naive)
            if named:
                sentences.append(
                    f"{model_name(model)} on {cohort} ({protocol} protocol), {storage_name(str(storage))}: half of the "
                    f"correctly answered images are flipped by a file that moves no pixel by more than "
                    f"{attack_title(one['preset'])} {_half(one)}; {named}."
                )
    return sentences


def storage_tables(tables: Tables, order: Sequence[tuple[str, str]]) -> Iterator[View]:
    """Yield the tables of the section on storage, trial by trial; those without a row are left out.

    Args:
        tables: as `report.build.build_tables` returns them, of one seed.
        order: of (cohort, protocol).
    """
    known = trials(tables["deployed_median"])
    for trial in sorted(known, key=lambda each: order.index(each) if each in order else len(order)):
        where = f"{trial[0]}, {trial[1]} protocol"
        views = [
            survived(of_trial(tables["survival"], *trial), where),
            deployed(of_trial(tables["deployed_median"], *trial), where),
        ]
        yield from (view for view in views if view.rows)


def survived(table: pd.DataFrame, where: str) -> View:
    """Return the share of flips that survive at the reported doses, a row for each model, attack and storage."""
    doses = reported_doses(table["epsilon"])
    rows = []
    for names, curve in _curves(table):
        points = {row["epsilon"]: row for row in records(curve)}
        rows.append([*names, *(_share(points.get(each)) for each in doses)])
    return View(
        f"Flips that survive storage: {where}",
        [[Head(name) for name in ("model", "attack", "stored as", *(f"at {dose(each)}" for each in doses))]],
        rows,
        "Of the correctly answered images that the attack flips as floats, the share whose file is misclassified "
        f"too. Under it: {notes('how many of how many', *share_said(table))}. A dash means that no image flipped as "
        "a float. All epsilons are in tables/survival.csv.",
    )


def deployed(table: pd.DataFrame, where: str) -> View:
    """Return the deployed epsilon and what its file really moves, a row for each model, attack and storage."""
    rows = []
    for names, curve in _curves(table):
        row = records(curve)[0]
        kind = "looks for a file" if row["aware"] else "rounded afterwards"
        level = DASH if is_missing(row["linf"]) else f"{row['linf'] * GREY_LEVELS_8BIT:.2f}"
        medians = [median(row, "deployed_epsilon"), median(row, "linf", of_grid=False)]
        others = [marked(cell, row) for cell in (Cell(level), Cell(count(row["n_censored"])))]
        rows.append([*names, words(kind), Cell(count(row["n"])), *medians, *others])
    heads = ("model", "attack", "stored as", "lattice", "n", "deployed epsilon", "file moves", "in 8-bit levels")
    return View(
        f"Deployed epsilon, the smallest whose file changes the answer: {where}",
        [[Head(name) for name in (*heads, "never flipped")]],
        rows,
        "Medians over the n images whose unperturbed file is answered "
        f"correctly{ranks_said(table, 'deployed_epsilon', 'linf')}. The deployed epsilon is what the attack was "
        "given, known to a quarter of the file's grey level; “file moves” is the largest change of a pixel in the "
        "file itself, which rounding can make larger than epsilon, and by which attacks are to be compared. Each "
        "image is in tables/deployed_epsilon.csv.",
    )


def _curves(table: pd.DataFrame) -> Iterator[tuple[list[Cell], pd.DataFrame]]:
    """Yield the rows of each model, attack and storage, and the cells that name them."""
    for model in in_order(table["model"]):
        mine = table[table["model"] == model]
        for preset in sorted(mine["preset"].unique(), key=place):
            for storage in storages_in_order(mine.loc[mine["preset"] == preset, "storage"]):
                names = [Cell(model_name(model), kind="name"), Cell(attack_title(preset), kind="name")]
                curve = mine[(mine["preset"] == preset) & (mine["storage"] == storage)]
                yield [*names, Cell(storage_name(storage), kind="name")], curve


def _share(row: Row | None) -> Cell:
    if row is None or not row["n"]:
        return Cell(DASH)
    interval = percent_range(row["share_low"], row["share_high"], 0)
    return marked(Cell(percent(row["share"]), notes(f"{row['survived']} of {row['n']}", interval)), row)


def _half(row: Row) -> str:
    """Return the median of what files really move, in words."""
    if row["censored"]:
        flipped = percent((row["n"] - row["n_censored"]) / row["n"])
        return f"more than was tried ({flipped} flipped, n = {row['n']}){mark(row)}"
    return f"{dose(row['linf'])} ({row['linf'] * GREY_LEVELS_8BIT:.2f} 8-bit levels, n = {row['n']}){mark(row)}"
