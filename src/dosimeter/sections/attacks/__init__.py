"""Attacks beyond FGSM: what every attack leaves, what it costs, and whom it harms."""

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.attacks import area, class_flips, cost, gain, reported_doses, robust_accuracy, transfer
from dosimeter.analysis.names import WORST_CASE
from dosimeter.analysis.susceptibility import most_susceptible, rank_agreement, susceptibility
from dosimeter.analysis.taxonomy import taxonomy
from dosimeter.analysis.wording import records
from dosimeter.presentation.ranges import BAND_CAPTION
from dosimeter.presentation.section import Drawing, Keys, Page, Panel, Reading, Rows, Section, Tables
from dosimeter.presentation.style import MOST_CLASSES
from dosimeter.presentation.values import estimate, of_keys, points
from dosimeter.sections.attacks import captions
from dosimeter.sections.attacks.figures import (
    class_flip_curves,
    cost_against_strength,
    security_curves,
    susceptibility_scatter,
    transfer_matrices,
)
from dosimeter.sections.attacks.for_paper import PAPER
from dosimeter.sections.attacks.page import attack_tables
from dosimeter.sections.attacks.sentences import attack_sentences

_ANALYSES = [robust_accuracy, area, class_flips, gain, susceptibility, rank_agreement, most_susceptible, transfer, cost]
_CATALOGUED = ("knowledge", "atlas", "atlas_version", "nist", "nist_section", "nist_version")


class Attacks(Section):
    """Attacks beyond FGSM."""

    title = "Attacks beyond FGSM"
    note = "accuracy under every attack and their worst case, harm by class, transfer, cost"
    rank = 70
    captions: ClassVar = {
        "robust_accuracy": "Accuracy under every attack, with Wilson's 95 % interval by patient, and the worst case "
        f"over attacks. {BAND_CAPTION}",
        "area": "Area under the accuracy curve, epsilon being linear, as a share of the largest possible.",
        "class_flips": "Images of each class that each attack flips, of those answered correctly without attack.",
        "gain": "What each attack does beyond random signs of the same epsilon.",
        "susceptibility": "The order in which images fall under each attack.",
        "rank_agreement": "Rank correlation of two models' flip epsilons.",
        "most_susceptible": "The images that fall first under the worst case over attacks.",
        "transfer": "Images made on one model, answered by another: the share that flips.",
        "cost": "Gradients, queries and seconds of each attack, an image and in all.",
        "taxonomy": "What each attack needs, and what MITRE ATLAS and NIST AI 100-2 call it.",
    }
    unattacked = ("taxonomy",)

    paper: ClassVar = PAPER

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return all of `captions`, where the run has attacks beyond the study."""
        if not rows.several:
            return {}
        return {made.__name__: made(rows.every) for made in _ANALYSES} | {"taxonomy": taxonomy(rows.frame)}

    def is_there(self, run: Reading) -> bool:
        """Whether the run has attacks beyond the study."""
        return "robust_accuracy" in run.firsts

    def page(self, run: Reading) -> Page:
        """Return what the attacks show, and the tables."""
        lowest = (
            ", and the lowest of them counts: so the worst case is taken image by image, never an average over attacks"
        )
        text = (
            "Every attack gives an upper bound of the accuracy that an attacker may leave"
            f"{lowest if has_worst_case(run.firsts) else ''}."
        )
        sentences = attack_sentences(run.firsts, run.first.meta)
        return Page(
            text=[text], sentences=sentences, tables=list(attack_tables(run.firsts, run.trials, run.first.meta))
        )

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield accuracy, harm, susceptibility, transfer and cost, where there is something to draw."""
        if "robust_accuracy" in panel.tables:
            yield from _figures(panel)

    def of_attack(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return role, effort, made_on, robust_accuracy at three doses, area and taxonomy.

        The doses are 0.001, 0.003 and 0.009, or those of the grid that are nearest.
        """
        if not self.is_there(run):
            return {}
        robust = of_keys(run.firsts["robust_accuracy"], keys)
        doses = reported_doses(run.firsts["robust_accuracy"]["epsilon"])
        kinds = records(of_keys(run.firsts["taxonomy"], {key: keys[key] for key in keys if key != "storage"}))
        areas = records(of_keys(run.firsts["area"], keys))
        first = records(robust)[0]
        return {
            "role": first["role"],
            "effort": first["effort"] or None,
            "made_on": first["made_on"] or None,
            "robust_accuracy": points(robust[robust["epsilon"].isin(doses)]),
            "area": [{"epsilon_max": row["epsilon_max"], **estimate(row, "area")} for row in areas],
            "taxonomy": {name: kinds[0][name] or None for name in _CATALOGUED} if kinds else None,
        }


def has_worst_case(tables: Tables) -> bool:
    """Whether a run has the worst case over several attacks."""
    return "robust_accuracy" in tables and WORST_CASE in set(tables["robust_accuracy"]["preset"])


def _figures(panel: Panel) -> Iterator[Drawing]:
    tables = panel.tables
    robust, flips, moved, half = (tables[name] for name in ("robust_accuracy", "class_flips", "transfer", "epsilon50"))
    own = (robust["storage"] == "float") & (robust["role"] != "transfer") & (robust["epsilon"] > 0)
    if own.any():
        draw = functools.partial(security_curves, robust)
        yield Drawing("security", "Accuracy under every attack", draw, captions.security(tables))
    few = len(panel.classes) <= MOST_CLASSES
    if few and ((flips["storage"] == "float") & flips["role"].isin(["attack", "worst case"])).any():
        draw = functools.partial(class_flip_curves, flips, panel.classes)
        yield Drawing("harm", "Images flipped, by class", draw, captions.harm(tables))
    worst, agreed = (
        table[(table["preset"] == WORST_CASE) & (table["storage"] == "float")]
        for table in (tables["susceptibility"], tables["rank_agreement"])
    )
    if few and len(worst["model"].unique()) > 1 and worst["flip_epsilon"].notna().any():
        draw = functools.partial(susceptibility_scatter, worst, agreed, panel.classes)
        yield Drawing("susceptibility", "Which images fall first", draw, captions.susceptibility(tables))
    if (moved["storage"] == "float").any():
        title, draw = "Images made on one model, answered by another", functools.partial(transfer_matrices, moved)
        yield Drawing("transfer", title, draw, captions.transfer(tables))
    if own.any() and (half["n"] > 0).any():
        draw = functools.partial(cost_against_strength, tables["cost"], half)
        yield Drawing("cost", "Cost against strength", draw, captions.cost(tables))


ENTRY: Section = Attacks()
