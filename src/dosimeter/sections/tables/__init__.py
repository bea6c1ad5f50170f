"""The study's tables: without attack, and under FGSM, beside the paper's where they are of its cohorts."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.clean import clean_metrics, confusion, training, without_scores
from dosimeter.analysis.clusters import FEWEST
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.drops import probability_drop
from dosimeter.analysis.flips import epsilon50, flip_epsilon
from dosimeter.analysis.intervals import FEWEST_OF_A_MEDIAN, FEWEST_OF_SEVERAL, FEWEST_TO_RESAMPLE
from dosimeter.analysis.names import PUBLISHED, WORST_CASE
from dosimeter.analysis.paired import paired
from dosimeter.analysis.wording import records
from dosimeter.presentation.paired import paired_tables
from dosimeter.presentation.patients import Unit
from dosimeter.presentation.ranges import BAND_CAPTION, has_interval
from dosimeter.presentation.section import Keys, Page, Reading, Rows, Section, Tables, fill
from dosimeter.presentation.values import at_reported_doses, estimate, number, of_keys, points, ranges
from dosimeter.sections.tables.for_paper import PAPER
from dosimeter.sections.tables.views import all_tables


class StudyTables(Section):
    """Tables of the study."""

    title = "Tables"
    note = "metrics without attack, accuracy and probability drop under FGSM, epsilon50, paired comparisons"
    rank = 40
    captions: ClassVar = {
        "clean_metrics": "Classification without attack, with 95 % intervals.",
        "confusion": "Confusion matrices without attack.",
        "training": "Loss and accuracy on training and test images after every epoch.",
        "fgsm_accuracy": f"Accuracy under FGSM, with Wilson's 95 % interval by patient. {BAND_CAPTION}",
        "probability_drop": "Probability of the true class before and after FGSM.",
        "flip_epsilon": "The smallest epsilon that changes each image's answer.",
        "epsilon50": "The epsilon at which half of the correctly classified images have flipped.",
        "paired": "Two curves over the same images at every epsilon: the difference in accuracy with its 95 % "
        "interval, images that one alone answers correctly, McNemar's exact p, that of sign flips by patient, and "
        "this by Holm.",
    }
    unattacked = ("clean_metrics", "confusion", "training")
    published: ClassVar = {
        "confusion": ("paper_tp", "tables 2 and 3"),
        "fgsm_accuracy": ("paper_accuracy", "tables 4 and 8"),
        "probability_drop": ("paper_decrease", "tables 5 and 9"),
    }

    paper: ClassVar = PAPER

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return all of `captions`; fgsm_accuracy and probability_drop are of FGSM alone, whatever else was run."""
        return {
            "clean_metrics": without_scores(clean_metrics(rows.frame), rows.meta),
            "confusion": confusion(rows.frame),
            "training": training(rows.meta),
            "fgsm_accuracy": fgsm_accuracy(rows.fgsm),
            "probability_drop": probability_drop(rows.fgsm),
            "flip_epsilon": flip_epsilon(rows.attackable),
            "epsilon50": epsilon50(rows.every),
            "paired": paired(rows.every),
        }

    def heading(self, run: Reading) -> str:
        """Return whether they stand beside the paper's."""
        return "Tables beside the paper’s" if are_published(run.firsts) else self.title

    def page(self, run: Reading) -> Page:
        """Return what stands beside the paper's numbers, FGSM alone, and the paired comparisons."""
        body = fill(
            __name__,
            interval_rules=interval_rules(run.firsts, several=run.patients_repeat, unit=run.unit),
            published=are_published(run.firsts),
        )
        views = [*all_tables(_of_study(run.firsts), run.trials), *paired_tables(run.firsts["paired"], run.trials)]
        return Page(body, tables=views)

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return paired, rows of that table without attack and at three doses, where two curves share images."""
        return {"paired": at_reported_doses(run.firsts["paired"])} if len(run.tables["paired"]) else {}

    def of_classifier(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return modality, n, accuracy, auc and worst_case."""
        row = records(of_keys(run.firsts["clean_metrics"], keys))[0]
        return {
            "modality": row["modality"],
            "n": int(row["n"]),
            "accuracy": estimate(row, "accuracy"),
            "auc": estimate(row, "auc"),
            "worst_case": _worst_case(run.firsts, keys),
        }

    def of_attack(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return epsilon50 and its interval, grey_levels, n, n_censored, grad_zero_share and curve.

        `curve` is the accuracy at every epsilon of the grid: value, its interval low to high, which is of that epsilon
        alone, and band_low to band_high, which in 95 % of studies hold the accuracies at all epsilons of the curve at
        once. `epsilon50.censored` is True where half of the images had not flipped at the largest epsilon.
        """
        row = records(of_keys(run.firsts["epsilon50"], keys))[0]
        return {
            "evaluation": row["evaluation"] or None,
            "n": int(row["n"]),
            "n_censored": int(row["n_censored"]),
            "epsilon50": {
                **estimate(row, "epsilon50"),
                "censored": bool(row["censored"]),
                "to_a_step_of_the_grid": bool(row["grid_step"]),
            },
            "grey_levels": estimate(row, "grey_levels"),
            "grad_zero_share": number(of_keys(run.firsts["fgsm_accuracy"], keys)["grad_zero_share"].max()),
            "curve": points(of_keys(_accuracies(run.firsts), keys)),
        }


def are_published(tables: Tables) -> bool:
    """Whether any number of the paper stands beside this run's."""
    beside = (("confusion", "paper_tp"), ("fgsm_accuracy", "paper_accuracy"), ("probability_drop", "paper_decrease"))
    return any(bool(tables[name][column].notna().any()) for name, column in beside)


def _accuracies(tables: Tables) -> pd.DataFrame:
    """Return the table that has the accuracy under every attack."""
    return tables["robust_accuracy"] if "robust_accuracy" in tables else tables["fgsm_accuracy"]


def _worst_case(tables: Tables, keys: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the lowest accuracy that is left, at the middle one of the three doses, and under what; None if unknown.

    It is that of the worst case over attacks where there are several, else of the attack that leaves least. The
    published preset counts only where it is alone, and controls and other networks' images never do.
    """
    curves = of_keys(_accuracies(tables), {**keys, "storage": "float"})
    if "role" in curves:
        curves = curves[~curves["role"].isin(["control", "transfer"])]
    doses = reported_doses(curves["epsilon"])
    if not doses:
        return None
    rows = records(curves[curves["epsilon"] == doses[len(doses) // 2]])
    rows = [row for row in rows if row["preset"] != PUBLISHED] or rows
    worst = min(rows, key=lambda row: (row["preset"] != WORST_CASE, row["accuracy"]))
    return {
        **{name: worst[name] for name in ("epsilon", "preset")},
        "n": int(worst["n"]),
        "value": number(worst["accuracy"]),
        **ranges(worst),
        "evaluation": worst["evaluation"] or None,
    }


def _of_study(tables: Tables) -> dict[str, pd.DataFrame]:
    """Return the tables with what stands beside the paper's numbers: FGSM alone."""
    half = tables["epsilon50"]
    return {**tables, "epsilon50": half[half["preset"].isin(tables["fgsm_accuracy"]["preset"].unique())]}


def interval_rules(tables: Tables, *, several: bool, unit: Unit | None) -> str:
    """Return what an interval of this run is of, and below how many images or patients there is none.

    Args:
        tables: of the run.
        several: whether patients have several images (`several_images`).
        unit: whose images intervals take together (`unit_of`).
    """
    said = ["Intervals are 95 %, of one number each"]
    if has_interval(tables["fgsm_accuracy"], "band"):
        said.append("; the band beside that of an accuracy is of its whole curve at once")
    said.append(". ")
    if unit and has_interval(tables["fgsm_accuracy"], "ci"):
        said.append(
            "“By patient” means that images of one patient count for less than as many patients, by how alike they "
            "are in this table. "
        )
    if unit == "group":
        said.append("Images that near duplicates connect, or the same patient where that is known, are one group. ")
    whose = "images or patients" if several else "images"
    said.append(
        f"Fewer than {FEWEST} {whose} have no interval, for an AUC fewer of either class; a median (epsilon50) has "
        f"none with fewer than {FEWEST_OF_A_MEDIAN} images"
    )
    if several:
        said.append(
            f", nor, where patients have several, with fewer than {FEWEST_OF_SEVERAL} patients or with such as count "
            f"as fewer than {FEWEST_OF_A_MEDIAN} of equal numbers of images"
        )
    if "rank_agreement" in tables:
        count = f"patients who count as fewer than {FEWEST_TO_RESAMPLE} of equal numbers of images" if several else (
            f"fewer than {FEWEST_TO_RESAMPLE} images"
        )  # fmt: skip
        said.append(f"; a rank correlation has none with {count}")
    return f"{''.join(said)}."


ENTRY: Section = StudyTables()
