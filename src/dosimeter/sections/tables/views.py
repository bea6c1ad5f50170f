"""The report's tables: DataFrames turned into captions, heads and cells, the paper's numbers beside this run's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dosimeter.analysis.names import in_order, model_name, series_name
from dosimeter.analysis.wording import is_marked
from dosimeter.presentation.numbers import (
    DASH,
    Cell,
    count,
    decimal,
    decimal_range,
    dose,
    marked,
    median,
    notes,
    percent,
    percent_range,
    plural,
    words,
)
from dosimeter.presentation.ranges import accuracy_ranges, accuracy_said, has_interval, ranks_said
from dosimeter.presentation.style import has_band
from dosimeter.presentation.views import Head, View, classifier_names, of_trial, sorted_by_trial, trials
from dosimeter.units import GREY_LEVELS_8BIT

Tables = Mapping[str, pd.DataFrame]

_SHOWN = ("clean_metrics", "confusion", "fgsm_accuracy", "probability_drop", "epsilon50")


def all_tables(tables: Tables, order: Sequence[tuple[str, str]]) -> Iterator[View]:
    """Yield the report's tables; those without a row are left out.

    Args:
        tables: as `report.build.build_tables` returns them.
        order: of (cohort, protocol).
    """
    tables = {name: sorted_by_trial(tables[name], order) for name in _SHOWN}
    views = [clean_metrics(tables), confusion(tables)]
    for cohort, protocol in trials(tables["fgsm_accuracy"]):
        mine = {name: of_trial(table, cohort, protocol) for name, table in tables.items()}
        views.append(accuracy(mine["fgsm_accuracy"], cohort, protocol))
        drops = mine["probability_drop"]
        for preset in sorted(drops["preset"].unique()):
            chosen = drops[(drops["preset"] == preset) & (drops["storage"] == "float")]
            views.append(probability_drop(chosen, cohort, protocol, str(preset)))
    yield from (view for view in (*views, epsilon50(tables)) if view.rows)


def clean_metrics(tables: Tables) -> View:
    """Return the metrics without attack."""
    clean, rows = tables["clean_metrics"], []
    positive = clean[["sensitivity", "specificity", "auc"]].notna().any(axis=None)  # else no class is declared so
    rates, more = (_RATES, ("F1", "AUC")) if positive else (_RATES[:1], ())
    of_shares = has_interval(clean, *rates)
    known = of_shares or has_interval(clean, "auc")
    for row in _records(clean):
        shares = [Cell(percent(row[name]), percent_range(row[f"{name}_low"], row[f"{name}_high"])) for name in rates]
        area = Cell(decimal(row["auc"]), decimal_range(row["auc_low"], row["auc_high"]))
        calibration = [Cell(decimal(row["brier"])), Cell(decimal(row["ece"]))]
        failed = f"{row['n_errors']} failed" if row["n_errors"] else ""
        of_positive = [Cell(decimal(row["f1"])), area] if positive else []
        rows.append([*classifier_names(row), Cell(count(row["n"]), failed), *shares, *of_positive, *calibration])
    heads = ("cohort", "protocol", "model", "n", *rates, *more, "Brier", "ECE")
    return View(
        f"Without attack: metrics on the test images{', with 95 % intervals' if known else ''}",
        [[Head(name) for name in heads]],
        rows,
        f"{'Proportions have Wilson intervals by patient. ' if of_shares else ''}{_auc_note(clean)}ECE is the expected "
        "calibration error in 15 bins.",
    )


_AUC_METHODS = {
    "DeLong, logit": "one on the logit's scale, with DeLong's variance",
    "Obuchowski, logit": "one on the logit's scale, with Obuchowski's variance, as patients have several images",
    "Newcombe": "Newcombe's interval by patient, where the classes separate completely or all scores are equal",
}


def _auc_note(clean: pd.DataFrame) -> str:
    """Return how the intervals of the AUCs were found."""
    there = set(clean.loc[clean["auc_low"].notna(), "auc_method"].dropna())
    said = [words for method, words in _AUC_METHODS.items() if method in there] + sorted(there - {*_AUC_METHODS})
    return f"The AUC has {'; or '.join(said)}. " if said else ""


_RATES = ("accuracy", "sensitivity", "specificity", "precision")


def confusion(tables: Tables) -> View:
    """Return the confusion matrices, beside the paper's tables 2 and 3 where they are of its X-rays."""
    sources = _SOURCES if tables["confusion"]["paper_tp"].notna().any() else _SOURCES[:1]
    cells = {"tp": "true positive", "fn": "false negative", "fp": "false positive", "tn": "true negative"}
    rows = [
        [
            *classifier_names(row),
            *(Cell(count(row[f"{source}{name}"]), kind=kind) for name in cells for source, kind in sources),
        ]
        for row in _records(tables["confusion"])
    ]
    if len(sources) == 1:
        names = ("cohort", "protocol", "model", *cells.values())
        return View("Without attack: confusion matrices", [[Head(name) for name in names]], rows)
    over = [Head("cohort", rows=2), Head("protocol", rows=2), Head("model", rows=2)]
    shown = tables["confusion"]
    incomplete = (shown["model"] == "inception_v3") & shown["paper_tp"].notna()
    return View(
        "Without attack: confusion matrices, beside tables 2 and 3 of the paper (X-ray)",
        [[*over, *(Head(name, span=2) for name in cells.values())], [Head("here"), Head("published")] * 4],
        rows,
        "The published table 3 (Inception-v3) sums to 53 images although 54 were tested." if incomplete.any() else "",
    )


def accuracy(curves: pd.DataFrame, cohort: str, protocol: str) -> View:
    """Return accuracy against epsilon, one column a curve, beside tables 4 and 8."""
    top, sub, columns = [Head("epsilon", rows=2), Head("grey levels", rows=2)], [], []
    for model in in_order(curves["model"]):
        mine = curves[curves["model"] == model]
        series = sorted(set(zip(mine["preset"], mine["storage"], strict=True)))
        for preset, storage in series:
            chosen = mine[(mine["preset"] == preset) & (mine["storage"] == storage)]
            columns.append(("", chosen.set_index("epsilon")))
            sub.append(Head(series_name(preset, storage), mark=_worst(chosen)))
        published = mine.dropna(subset=["paper_accuracy"]).drop_duplicates("epsilon")
        if not published.empty:
            columns.append(("published", published.set_index("epsilon")))
            sub.append(Head("published"))
        top.append(Head(model_name(model), span=len(series) + (not published.empty)))
    zero = [Cell("zero gradient", kind="name"), Cell("")]
    rows = [zero + [Cell("") if kind else Cell(percent(curve["grad_zero_share"].max())) for kind, curve in columns]]
    for epsilon in sorted(curves["epsilon"].unique()):
        row = [Cell(dose(epsilon), kind="name"), Cell(dose(epsilon * GREY_LEVELS_8BIT))]
        rows.append(row + [_accuracy_cell(curve, epsilon, kind) for kind, curve in columns])
    number = _beside("paper_accuracy", curves, {"xray": "table 4", "ct": "table 8"})
    return View(
        f"Accuracy against epsilon{number}: {cohort}, {protocol} protocol, {plural(curves['n'].max(), 'test image')}",
        [top, sub],
        rows,
        f"Under each accuracy: {notes('how many images were answered correctly', *accuracy_said(curves))}. The first "
        "row is the share of images whose gradient was exactly zero: such an image is not perturbed at any epsilon. "
        "AUC, sensitivity, specificity and the envelope are in tables/fgsm_accuracy.csv.",
    )


def probability_drop(drops: pd.DataFrame, cohort: str, protocol: str, preset: str) -> View:
    """Return the true class's mean probability before and after, beside tables 5 and 9 of the paper."""
    top, sub, columns = [Head("epsilon", rows=2)], [], []
    for model in in_order(drops["model"]):
        mine = drops[drops["model"] == model].set_index("epsilon")
        printed = bool(mine["paper_decrease"].notna().any())
        columns.append((mine, printed))
        heads = ["n still right", "original", "adversarial", "decrease"] + ["published"] * printed
        heads += ["fixed images", "all images"]
        sub += [Head(name) for name in heads]
        top.append(Head(model_name(model), span=len(heads), mark=_worst(mine)))
    rows = []
    for epsilon in sorted(drops["epsilon"].unique()):
        row = [Cell(dose(epsilon), kind="name")]
        for mine, printed in columns:
            row += _drop_cells(mine, epsilon, printed)
        rows.append(row)
    number = _beside("paper_decrease", drops, {"xray": "table 5", "ct": "table 9"})
    whose = "the paper’s statistic: " if number else ""
    known = any(has_band(drops, f"decrease_low{which}", f"decrease_high{which}") for which in ("", "_fixed", "_all"))
    return View(
        f"Probability drop{number}: {cohort}, {protocol} protocol, {preset} preset, floats",
        [top, sub],
        rows,
        f"Original, adversarial and decrease are {whose}means of the true class's probability over the "
        "images answered correctly both before and after, so fewer and more confident images remain as epsilon grows. "
        "“Fixed images” is the decrease over those correct at epsilon 0, “all images” over every image."
        f"{' Under a decrease: its 95 % t interval by patient.' if known else ''}",
    )


def epsilon50(tables: Tables) -> View:
    """Return the epsilon at which half of the correctly answered images have flipped."""
    rows = []
    for row in _records(tables["epsilon50"]):
        attack = words(series_name(row["preset"], row["storage"]))
        grey, never = (
            marked(cell, row) for cell in (Cell(decimal(row["grey_levels"], 2)), Cell(count(row["n_censored"])))
        )
        rows.append([*classifier_names(row), attack, Cell(count(row["n"])), median(row, "epsilon50"), grey, never])
    names = ("cohort", "protocol", "model", "attack", "n", "epsilon50", "in grey levels", "never flipped")
    return View(
        "Epsilon at which half of the correctly answered images have flipped",
        [[Head(name) for name in names]],
        rows,
        "The smallest epsilon along each image's own FGSM direction that changes its answer, refined by bisection; the "
        f"median over the n images answered correctly at epsilon 0{ranks_said(tables['epsilon50'], 'epsilon50')}. An "
        "image that never flipped counts as larger than any epsilon asked.",
    )


_SOURCES = (("", ""), ("paper_", "published"))


def _worst(rows: pd.DataFrame) -> str:
    """Return the verdict on the evaluation of a column, if it must be shown."""
    found = str(rows["evaluation"].iloc[0]) if len(rows) else ""
    return found if is_marked(found) else ""


def _beside(column: str, table: pd.DataFrame, numbers: Mapping[str, str]) -> str:
    """Return " (table 4)", the table of the paper that `table` stands beside; "" if no published number is in it."""
    return f" ({numbers[str(table['modality'].iloc[0])]})" if table[column].notna().any() else ""


def _accuracy_cell(curve: pd.DataFrame, epsilon: float, kind: str) -> Cell:
    if epsilon not in curve.index:
        return Cell(DASH, kind=kind)
    row: Any = curve.loc[epsilon]
    if kind:
        return Cell(percent(row["paper_accuracy"]), kind=kind)
    under = notes(count(row["correct"]), *accuracy_ranges(row))
    cell = Cell(percent(row["accuracy"]), under)
    return marked(cell, row) if epsilon > 0 else cell


def _drop_cells(drops: pd.DataFrame, epsilon: float, printed: bool) -> list[Cell]:
    if epsilon not in drops.index:
        return [Cell(DASH)] * (6 + printed)
    row: Any = drops.loc[epsilon]
    paper = [Cell(decimal(row["paper_decrease"]), kind="published")] if printed else []
    fixed, everything = (_decrease(row, suffix) for suffix in ("_fixed", "_all"))
    means = [Cell(decimal(row["original"])), marked(Cell(decimal(row["adversarial"])), row)]
    return [Cell(count(row["n"])), *means, _decrease(row, ""), *paper, fixed, everything]


def _decrease(row: Mapping[str, float], suffix: str) -> Cell:
    interval = decimal_range(row[f"decrease_low{suffix}"], row[f"decrease_high{suffix}"])
    return marked(Cell(decimal(row[f"decrease{suffix}"]), interval), row)


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")
