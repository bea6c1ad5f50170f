"""Would anyone see it? How far perturbed images may be seen, in metrics."""

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import pandas as pd

from dosimeter.analysis.visibility import displays, reader_sentence, safe_magnitudes, visibility, was_measured
from dosimeter.presentation.section import Drawing, Keys, Page, Panel, Reading, Rows, Section
from dosimeter.presentation.values import finite, of_keys, plain
from dosimeter.sections.visibility.figures import visibility_caption, visibility_curves
from dosimeter.sections.visibility.for_paper import PAPER
from dosimeter.sections.visibility.page import visibility_sentences, visibility_tables


class Visibility(Section):
    """Would anyone see it?"""

    title = "Would anyone see it?"
    note = "distances, structural similarity, just-noticeable differences, safe magnitudes"
    rank = 80
    captions: ClassVar = {
        "visibility": "How far perturbed images may be seen: every metric, median and quartiles over images.",
        "displays": "Just-noticeable differences by display and window, 95th percentile over pixels.",
        "safe_magnitudes": "Epsilons that flip half of the images and keep a rule of visibility.",
    }
    paper: ClassVar = PAPER
    published: ClassVar = {"safe_magnitudes": ("paper_epsilon", "figures 6 and 11")}
    measures = True

    def tables(self, rows: Rows) -> dict[str, pd.DataFrame]:
        """Return all of `captions`, where the rows say how far images may be seen."""
        if not was_measured(rows.frame):
            return {}
        seen = visibility(rows.frame)
        return {"visibility": seen, "displays": displays(seen), "safe_magnitudes": safe_magnitudes(rows.frame)}

    def is_there(self, run: Reading) -> bool:
        """Whether it was measured."""
        return "visibility" in run.firsts

    def page(self, run: Reading) -> Page:
        """Return what is known of readers, the safe magnitudes, and the tables."""
        meta = run.first.meta
        return Page(sentences=visibility_sentences(run.firsts, meta), tables=list(visibility_tables(run.firsts, meta)))

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield accuracy and visibility on one axis."""
        curves = panel.tables["fgsm_accuracy"]
        if "visibility" not in panel.tables or panel.tables["visibility"].empty or curves.empty:
            return
        seen = panel.tables["visibility"]
        own = seen[(seen["storage"] == "float") & seen["preset"].isin(curves["preset"].unique())]
        presets = sorted(own["preset"].unique(), key=lambda name: (name != "sound", name))
        if presets:
            draw = functools.partial(visibility_curves, curves, own, presets[0])
            title = "Accuracy and visibility against epsilon"
            yield Drawing("visibility", title, draw, visibility_caption(curves))

    def summary(self, run: Reading) -> dict[str, Any]:
        """Return readers (a sentence), safe_magnitudes, rows of the table, and observer."""
        if not self.is_there(run):
            return {}
        return {
            "readers": reader_sentence(run.meta) or "measured",
            "safe_magnitudes": plain(run.firsts["safe_magnitudes"]),
            "observer": finite(run.meta.get("observer", [])),
        }

    def of_classifier(self, run: Reading, keys: Keys) -> dict[str, Any]:
        """Return visibility: the median, quartiles and n of every metric where SSIM was measured."""
        if not self.is_there(run):
            return {}
        mine = of_keys(run.firsts["visibility"], keys)
        doses = mine.loc[mine["metric"] == "ssim", "epsilon"].unique()
        names = ["preset", "storage", "epsilon", "metric", "n", "q1", "median", "q3", "evaluation"]
        return {"visibility": plain(mine.loc[mine["epsilon"].isin(doses), names])}


ENTRY: Section = Visibility()
