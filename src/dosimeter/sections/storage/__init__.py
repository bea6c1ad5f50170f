"""What survives storage: whether a file keeps what an attack did."""

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.attacks import reported_doses
from dosimeter.analysis.names import storage_kind
from dosimeter.analysis.storage import deployed_epsilon, deployed_median, is_stored, survival
from dosimeter.analysis.wording import records
from dosimeter.presentation.section import Drawing, Keys, Page, Panel, Reading, Rows, Section, Tables
from dosimeter.presentation.values import estimate, of_keys
from dosimeter.sections.storage.figures import survival_caption, survival_curves
from dosimeter.sections.storage.for_paper import PAPER
from dosimeter.sections.storage.page import storage_sentences, storage_tables

_HOW = (
    "Who hands over a file needs an attack that survives being saved. Here each image was encoded as a file, decoded "
    "by the loader that reads the cohorts, and classified."
)
_GREY = " A grey file holds the mean of the three planes, so a perturbation of colour alone cannot survive in it."


class Storage(Section):
    """What survives storage."""

    title = "What survives storage"
    note = "flips that a file keeps, and the smallest epsilon whose file flips an image"
    rank = 60
    captions: ClassVar = {
        "survival": "Of the images that an attack flips as floats, those whose file flips too, with Wilson's interval "
        "by patient.",
        "deployed_epsilon": "The smallest epsilon whose file changes each image's answer, and what that file really "
        "moved.",
        "deployed_median": "Medians over images of the smallest epsilon whose file changes the answer.",
    }

    paper: ClassVar = PAPER

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return all of `captions`, where images were stored."""
        if not is_stored(rows.frame):
            return {}
        return {made.__name__: made(rows.attackable) for made in (survival, deployed_epsilon, deployed_median)}

    def is_there(self, run: Reading) -> bool:
        """Whether images were stored."""
        return "survival" in run.firsts

    def page(self, run: Reading) -> Page:
        """Return how the attack that looks for a file compares with rounding, and the tables."""
        text = f"{_HOW}{_GREY if grey_files(run.firsts) else ''}"
        sentences = storage_sentences(run.firsts, run.first.meta)
        return Page(text=[text], sentences=sentences, tables=list(storage_tables(run.firsts, run.trials)))

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield the share of flips that survive, against epsilon."""
        if "survival" in panel.tables and (panel.tables["survival"]["n"] > 0).any():
            table = panel.tables["survival"]
            draw = functools.partial(survival_curves, table)
            yield Drawing("survival", self.title, draw, survival_caption(table))

    def of_classifier(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return storage: by preset and way to store, medians of deployed_epsilon and linf over images, and survival.

        `survival` has three doses; `censored` is True where half of the files had not flipped at the largest epsilon.
        """
        if "survival" not in run.firsts:
            return {}
        doses = reported_doses(run.firsts["survival"]["epsilon"])
        curves = of_keys(run.firsts["survival"], keys)
        curves = curves[curves["epsilon"].isin(doses)]
        medians = records(of_keys(run.firsts["deployed_median"], keys))
        return {"storage": [_stored(row, curves) for row in medians]}


def _stored(row: dict[str, Any], curves: pd.DataFrame) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("preset", "storage", "aware", "n", "n_censored", "censored")},
        "evaluation": row["evaluation"] or None,
        "deployed_epsilon": {**estimate(row, "deployed_epsilon"), "to_a_step_of_the_grid": bool(row["grid_step"])},
        "linf": estimate(row, "linf"),
        "survival": [
            {**{name: point[name] for name in ("epsilon", "n", "survived")}, **estimate(point, "share")}
            for point in records(of_keys(curves, {name: row[name] for name in ("preset", "storage")}))
        ],
    }


def grey_files(tables: Tables) -> bool:
    """Whether a run stored images in files that hold one plane alone."""
    return "survival" in tables and any(storage_kind(each).one_plane for each in tables["survival"]["storage"].unique())


ENTRY: Section = Storage()
