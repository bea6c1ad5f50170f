"""Repeats: what the study says after several seeds."""

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.repeats import repeats, what_varies
from dosimeter.presentation.paired import seed_tables
from dosimeter.presentation.section import Drawing, Page, Panel, Reading, Rows, Section, fill
from dosimeter.presentation.values import plain
from dosimeter.sections.repeats.figures import repeated_curves, repeats_caption
from dosimeter.sections.repeats.for_paper import PAPER
from dosimeter.sections.repeats.page import repeat_tables


class Repeats(Section):
    """Repeats."""

    title = "Repeats"
    note = "means over the seeds, with intervals over splits"
    rank = 90
    captions: ClassVar = {
        "repeats": "Means over the seeds, with 95 % intervals over splits (corrected resampled t), under the official "
        "protocol over trainings on one split (t), in which the sampling of the test images is not.",
    }
    paper: ClassVar = PAPER

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return repeats, where the run has several seeds."""
        return {"repeats": repeats(rows.made, rows.meta)} if "seed" in rows.made["clean_metrics"] else {}

    def is_there(self, run: Reading) -> bool:
        """Whether the run has several seeds."""
        return len(run.seeds) > 1

    def page(self, run: Reading) -> Page:
        """Return what an interval over splits is, and the tables."""
        protocols = list(dict.fromkeys(card["protocol"] for card in run.meta["cohorts"]))
        body = fill(__name__, seeds=run.seeds, protocols=protocols)
        views = [*repeat_tables(run.tables["repeats"], run.trials), *seed_tables(run.tables["paired"], run.trials)]
        return Page(body, tables=views)

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield the curves of all seeds."""
        if "repeats" in panel.every and (panel.tables["fgsm_accuracy"]["epsilon"] > 0).any():
            means = panel.every["repeats"]
            draw = functools.partial(repeated_curves, panel.every["fgsm_accuracy"], means)
            title = f"Accuracy against epsilon over {what_varies(panel.protocol)}"
            yield Drawing("repeats", title, draw, repeats_caption(means, panel.protocol), of_seed=False)

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return repeats, the rows of the table."""
        return {"repeats": plain(run.tables["repeats"])} if "repeats" in run.tables else {}


ENTRY: Section = Repeats()
