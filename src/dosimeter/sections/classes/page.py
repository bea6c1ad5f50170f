"""The page's part on classes: who is taken for whom, and what is left of each under attack."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.classes import MACRO_LABEL
from dosimeter.analysis.names import attack_title, in_order, model_name
from dosimeter.analysis.wording import records
from dosimeter.presentation.numbers import (
    DASH,
    Cell,
    count,
    decimal,
    decimal_range,
    dose,
    marked,
    percent,
    percent_range,
)
from dosimeter.presentation.views import Head, View, of_trial
from dosimeter.sections.classes.figures import shown_preset

MOST_ACROSS = 12
"""Classes that a table of classes by classes holds on the page."""

Tables = Mapping[str, pd.DataFrame]


def class_views(tables: Tables, trial: tuple[str, str], classes: Sequence[str]) -> Iterator[View]:
    """Yield the tables of one cohort and protocol; those without a row are left out."""
    mine = {name: of_trial(table, *trial) for name, table in tables.items()}
    where = f"{trial[0]}, {trial[1]} protocol"
    views = [_without(mine, where, classes), _first_few(mine, where), _under_attack(mine, where, classes)]
    if len(classes) <= MOST_ACROSS:
        models = in_order(mine["confusion_by_class"]["model"])
        views[1:1] = [_taken(mine, where, classes, model) for model in models]
        views += [_become(mine, where, classes, model) for model in models]
    yield from (view for view in views if view.rows)


def _without(tables: Tables, where: str, classes: Sequence[str]) -> View:
    recall, areas = tables["class_recall"], tables["class_auc"]
    recall = recall[(recall["epsilon"] == 0) & (recall["storage"] == "float")].drop_duplicates(["model", "label"])
    rows = []
    for model in in_order(areas["model"]):
        shares = recall[recall["model"] == model].set_index("label")
        for row in records(areas[areas["model"] == model]):
            label = int(row["label"])
            area = Cell(decimal(row["auc"]), decimal_range(row["auc_low"], row["auc_high"]))
            if label == MACRO_LABEL:
                share = Cell(percent(shares["recall"].mean()))
                rows.append([_name(model_name(model)), _name("mean over classes"), Cell(count(row["n"])), share, area])
            elif label in shares.index:
                low, high = shares.loc[label, "recall_low"], shares.loc[label, "recall_high"]
                share = Cell(percent(shares.loc[label, "recall"]), percent_range(low, high))
                rows.append([_name(model_name(model)), _name(classes[label]), Cell(count(row["n"])), share, area])
    heads = ("model", "class", "n", "recall", "AUC against all others")
    note = "Recall is the share of the class's images that are answered with it; the mean weighs every class alike."
    return View(f"Without attack, class by class: {where}", [[Head(name) for name in heads]], rows, note)


def _taken(tables: Tables, where: str, classes: Sequence[str], model: str) -> View:
    table = tables["confusion_by_class"]
    table = table[table["model"] == model]
    found = {(row["label"], row["predicted"]): row for row in records(table)}
    rows = [
        [_name(name), *(_images(found.get((label, predicted))) for predicted in range(len(classes)))]
        for label, name in enumerate(classes)
        if any((label, predicted) in found for predicted in range(len(classes)))
    ]
    heads = [Head("true class"), *(Head(f"answered {name}") for name in classes)]
    return View(f"Without attack, who is taken for whom: {model_name(model)}, {where}", [heads], rows)


def _first_few(tables: Tables, where: str) -> View:
    table = tables["top_k"]
    most = sorted(table["k"].unique())
    rows = []
    for model in in_order(table["model"]):
        found = table[table["model"] == model].set_index("k")
        cells = [
            Cell(percent(found.loc[k, "accuracy"]), percent_range(found.loc[k, "ci_low"], found.loc[k, "ci_high"]))
            for k in most
        ]
        rows.append([_name(model_name(model)), *cells])
    heads = [Head("model"), *(Head(f"among the first {k}" if k > 1 else "the first") for k in most)]
    return View(f"Without attack, the true class among the best: {where}", [heads], rows if len(most) > 1 else [])


def _under_attack(tables: Tables, where: str, classes: Sequence[str]) -> View:
    shown = shown_preset(tables["class_recall"])
    recall, macro = (
        table[(table["preset"] == shown) & (table["storage"] == "float")]
        for table in (tables["class_recall"], tables["macro_recall"])
    )
    doses, rows = reported_doses(recall["epsilon"]), []
    for model in in_order(recall["model"]):
        mean = {row["epsilon"]: row for row in records(macro[macro["model"] == model])}
        means = [_left(mean, each, "macro_recall") for each in doses]
        rows.append([_name(model_name(model)), _name("mean over classes"), *means])
        for label in sorted(recall["label"].unique()):
            curve = recall[(recall["model"] == model) & (recall["label"] == label)]
            by_dose = {row["epsilon"]: row for row in records(curve)}
            rows.append([_name(""), _name(classes[label]), *(_left(by_dose, each, "recall") for each in doses)])
    heads = [Head("model"), Head("class"), *(Head(f"at {dose(each)}") for each in doses)]
    note = "The share still answered correctly, with its 95 % interval by patient. All epsilons and attacks are in "
    note += "tables/class_recall.csv and macro_recall.csv."
    return View(f"Recall of each class under {attack_title(shown)}: {where}, floats", [heads], rows, note)


def _become(tables: Tables, where: str, classes: Sequence[str], model: str) -> View:
    shown, table = shown_preset(tables["class_recall"]), tables["flips_by_class"]
    doses = reported_doses(tables["class_recall"]["epsilon"])
    own = (table["preset"] == shown) & (table["storage"] == "float") & (table["model"] == model)
    table = table[own & (table["epsilon"] == (doses[len(doses) // 2] if doses else 0))]
    found = {(row["label"], row["predicted"]): row for row in records(table)}
    rows = [
        [_name(name), *(_flipped(found.get((label, predicted))) for predicted in range(len(classes)))]
        for label, name in enumerate(classes)
        if any((label, predicted) in found for predicted in range(len(classes)))
    ]
    heads = [Head("true class"), *(Head(f"becomes {name}") for name in classes)]
    at = f" at {dose(doses[len(doses) // 2])}" if doses else ""
    caption = f"What images become under {attack_title(shown)}{at}: {model_name(model)}, {where}, floats"
    return View(caption, [heads], rows, "Of the images answered correctly without attack.")


def _name(text: str) -> Cell:
    return Cell(text, kind="name")


def _images(row: Mapping[str, object] | None) -> Cell:
    return Cell(DASH) if row is None else Cell(count(row["images"]))


def _flipped(row: Mapping[str, object] | None) -> Cell:
    if row is None:
        return Cell(DASH)
    return marked(Cell(percent(row["share"]), f"{row['flipped']} of {row['n']}"), row)


def _left(curve: Mapping[float, Mapping[str, object]], epsilon: float, name: str) -> Cell:
    row = curve.get(epsilon)
    if row is None:
        return Cell(DASH)
    interval = percent_range(row[f"{name}_low"], row[f"{name}_high"], 0)
    return marked(Cell(percent(row[name]), interval), row)
