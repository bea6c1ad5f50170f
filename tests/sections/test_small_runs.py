"""What is said of very small runs: an interval is spoken of where there is one, and its limits are the code's own."""

import html as entities
import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from figure_captions import caption_of
from response_factory import make_responses

from dosimeter.analysis import held
from dosimeter.analysis.clusters import FEWEST, per_patient
from dosimeter.analysis.intervals import (
    FEWEST_OF_A_MEDIAN,
    FEWEST_OF_SEVERAL,
    FEWEST_TO_RESAMPLE,
    Interval,
    bootstrap_by_group,
    median_interval,
    proportion_interval,
)
from dosimeter.analysis.susceptibility import weighted_spearman
from dosimeter.presentation.paired import paired_tables
from dosimeter.presentation.ranges import has_interval
from dosimeter.presentation.views import Head, View
from dosimeter.record.table import Responses, compact
from dosimeter.report.build import build_tables, write_tables
from dosimeter.report.html import render
from dosimeter.sections.attacks.page import attack_tables
from dosimeter.sections.limits.sentences import simulations, untested
from dosimeter.sections.readers.figures import has_threshold_band, psychometric_curves
from dosimeter.sections.repeats.page import repeat_tables
from dosimeter.sections.storage.page import storage_tables
from dosimeter.sections.tables.views import all_tables
from dosimeter.sections.visibility.page import visibility_tables

Tables = dict[str, pd.DataFrame]
EPSILONS = (0.0, 1e-3, 3e-3, 9e-3, 0.08)


class Small:
    """A run of n images with attacks, its tables and the words of its page."""

    def __init__(self, n: int, *, patients: bool, **settings: Any) -> None:
        self.run = make_responses(
            cohorts={"phantom-xray": "xray"}, phantom=True, n_cases=n, patients=patients, error_row=False,
            epsilons=EPSILONS, attacks=("pgd", "random_sign"), transfers=("pgd",), **settings,
        )  # fmt: skip
        self.tables = build_tables(self.run)

    @cached_property
    def text(self) -> str:
        page = re.sub(r"<(style|title)>.*?</\1>", " ", render(self.run, self.tables, []), flags=re.DOTALL)
        return " ".join(entities.unescape(re.sub(r"<[^>]*>", " ", page)).split())

    def views(self) -> list[View]:
        return list(views_of(self.run, self.tables))

    def caption(self, subject: str) -> str:
        return caption_of(subject, self.tables, cohort="phantom-xray")


@cache
def small_run(n: int, *, patients: bool) -> Small:
    """The same for all tests, which change nothing of it."""
    return Small(n, patients=patients)


def views_of(run: Responses, tables: Tables) -> Iterator[View]:
    """Every table of the page but those of readers."""
    order = [("phantom-xray", "paper")]
    yield from all_tables(tables, order)
    yield from paired_tables(tables["paired"], order)
    yield from storage_tables(tables, order)
    yield from attack_tables(tables, order, run.meta)
    if "visibility" in tables:
        yield from visibility_tables(tables, run.meta)


SMALLEST = [(n, patients) for n in (1, 2, 3, 5, 8) for patients in (False, True)]
QUICK = [(2, False), (8, True)]
"""Below every limit, and at the last of them; a report of each of the others takes ten seconds, so they are slow."""


@pytest.fixture(
    scope="module",
    params=[each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in SMALLEST],
)
def small(request: pytest.FixtureRequest) -> Small:
    n, patients = request.param
    return small_run(n, patients=patients)


def test_no_note_ends_in_nothing(small: Small) -> None:
    for view in small.views():
        for cell in (cell for row in view.rows for cell in row):
            assert not re.search(r"(^|;)\s*(;|$)", cell.note) or not cell.note, (view.caption, cell)
    assert not re.search(r"\bnan\b", small.text)
    assert "1 test images" not in small.text


KINDS = (
    ("Accuracy against epsilon", "Wilson", "fgsm_accuracy", ("ci",)),
    ("Accuracy against epsilon", "simultaneous band", "fgsm_accuracy", ("band",)),
    ("Without attack: metrics", "interval", "clean_metrics",
     ("accuracy", "sensitivity", "specificity", "precision", "auc")),
    ("Epsilon at which half", "interval", "epsilon50", ("epsilon50",)),
    ("Flips that survive", "Wilson", "survival", ("share",)),
    ("Deployed epsilon", "interval", "deployed_median", ("deployed_epsilon", "linf")),
    ("Accuracy left by", "Wilson", "robust_accuracy", ("ci",)),
    ("Gain over random", "Newcombe", "gain", ("gain",)),
    ("Do the same images", "interval", "rank_agreement", ("spearman",)),
    ("Images made on one", "Wilson", "transfer", ("share",)),
    ("Compared image by", "95 % interval", "paired", ("difference",)),
)  # fmt: skip


def test_an_interval_is_named_under_a_table_that_has_one(small: Small) -> None:
    views = small.views()
    for title, words, name, columns in KINDS:
        for view in (view for view in views if view.caption.startswith(title)):
            assert (words in f"{view.caption} {view.note}") == has_interval(small.tables[name], *columns), view


def test_captions_name_bands_that_are_drawn(small: Small) -> None:
    robust, survival = small.tables["robust_accuracy"], small.tables["survival"]
    banded = robust[robust["preset"].isin(["worst case", "sound"])]
    assert ("Wilson" in small.caption("security")) == has_interval(banded, "ci")
    assert ("Pale bands" in small.caption("security")) == has_interval(banded, "band")
    assert ("Wilson" in small.caption("survival")) == has_interval(survival[survival["n"] > 0], "share")
    assert ("Wilson" in small.caption("transfer")) == has_interval(small.tables["transfer"], "share")


def test_files_say_that_no_row_has_an_interval(tmp_path: Path) -> None:
    for n, there in ((2, True), (8, False)):
        write_tables(small_run(n, patients=False).tables, tmp_path / str(n))
        assert ("Too few images for intervals" in (tmp_path / str(n) / "fgsm_accuracy.tex").read_text()) == there


def known(interval: Interval) -> bool:
    return bool(np.isfinite(interval.low))


@pytest.mark.parametrize("each", [1, 2])
def test_the_limits_of_intervals_are_those_that_the_page_names(each: int) -> None:
    """The fewest images, `each` of a patient, that have an interval."""
    shares, medians, ranks = [], [], []
    for n in range(each, 22, each):
        patient, values = np.arange(n) // each, np.random.default_rng(n).normal(size=n)
        shares += [n] * known(proportion_interval(per_patient(values > 0, patient), per_patient(np.ones(n), patient)))
        medians += [n] * known(median_interval(values, patient))
        ranks += [n] * known(bootstrap_by_group(weighted_spearman(values, values + values**2), patient))
    assert min(shares) == FEWEST * each
    assert min(ranks) == FEWEST_TO_RESAMPLE * each
    assert min(medians) == (FEWEST_OF_A_MEDIAN if each == 1 else FEWEST_OF_SEVERAL * each)
    text = small_run(8, patients=each > 1).text
    assert f"Fewer than {FEWEST} images{' or patients' if each > 1 else ''} have no interval" in text
    assert f"a median (epsilon50) has none with fewer than {FEWEST_OF_A_MEDIAN} images" in text
    assert (f"fewer than {FEWEST_OF_SEVERAL} patients" in text) == (each > 1)
    assert re.search(f"a rank correlation has none with [a-z ]*fewer than {FEWEST_TO_RESAMPLE} ", text)


# --- how often intervals hold the truth


def test_the_report_quotes_the_table_of_coverage(small: Small) -> None:
    said = simulations(small.tables, several="of one patient" in small.text)
    kinds = [
        kind for kind, (name, columns) in _there(small.tables).items() if has_interval(small.tables[name], *columns)
    ]
    few = held.ranges(kinds, "few")
    if not kinds:
        assert said == []
        return
    low, high = (f"{100 * value:.1f}" for value in (few["lowest"].min(), few["highest"].max()))
    assert any(
        f"fewer than {held.FEW_IMAGES} images" in each and f"{low} to {high} % of studies" in each for each in said
    )
    for row in few[few["lowest"] < 0.9295].to_dict("records"):
        named = f"{held.KINDS[row['interval']]} in as few as {100 * row['lowest']:.1f} %"
        assert any(named in each for each in said), "what holds the truth less often than 93 % is named"


def _there(tables: Tables) -> dict[str, tuple[str, tuple[str, ...]]]:
    known = {
        "share of images": ("fgsm_accuracy", ("ci",)),
        "accuracy, whole curve (band)": ("fgsm_accuracy", ("band",)),
        "AUC": ("clean_metrics", ("auc",)),
        "epsilon50 (ranks)": ("epsilon50", ("epsilon50",)),
        "probability drop (t)": ("probability_drop", ("decrease",)),
        "area under a curve": ("area", ("area",)),
        "gain over random signs": ("gain", ("gain",)),
        "paired comparison": ("paired", ("difference",)),
        "rank agreement (bootstrap)": ("rank_agreement", ("spearman",)),
    }
    return {kind: place for kind, place in known.items() if place[0] in tables}


def test_every_kind_of_interval_that_was_simulated_has_a_name() -> None:
    every = pd.read_csv(Path(held.__file__).parent / "simulated" / "coverage.csv")
    assert set(every["interval"]) == set(held.KINDS)
    shared = every[every["sample"] == "several"].set_index("interval")["lowest"]
    assert shared["share of images"] >= 0.93, "also where a few patients have most of the images"


def test_patients_with_several_images_are_simulated_where_there_are_some() -> None:
    words = "where patients have several images"
    assert words in Small(24, patients=True, models=("vgg16",)).text
    alone = Small(24, patients=False, models=("vgg16",)).text
    assert words not in alone
    assert "with 10 images and more, each of another patient" in alone


# --- no number without its mark

FREE = {
    *(
        "n",
        "image",
        "images",
        "images right on both",
        "test images",
        "seeds",
        "epsilon",
        "grey levels",
        "place",
        "patches",
    ),
    *("n still right", "true positive", "false negative", "false positive", "true negative"),
}
"""Heads of columns that hold counts and doses, which no attack made."""


def columns(view: View) -> list[tuple[str, bool]]:
    """The head over each column, and whether it or one above it is marked."""
    top: list[Head] = [head for head in view.head[0] for _ in range(head.span)]
    below = iter(view.head[1] if len(view.head) > 1 else ())
    found = []
    for head in top:
        own = head if len(view.head) == 1 or head.rows > 1 else next(below)
        found.append((own.text, bool(head.mark or own.mark)))
    return found


@pytest.mark.parametrize("repeats", [1, 2])
def test_no_number_under_attack_is_without_its_mark(repeats: int) -> None:
    models = ("vgg16", "inception_v3")[: 3 - repeats]  # the table of repeats has no pairs of models
    run = Small(10, patients=True, visibility=True, repeats=repeats, models=models)
    tables = {
        name: table.assign(evaluation="UNRELIABLE") if "evaluation" in table else table
        for name, table in run.tables.items()
    }
    order = [("phantom-xray", "paper")]
    shown = repeat_tables(tables["repeats"], order) if repeats > 1 else views_of(run.run, tables)
    for view in shown:
        if view.caption.startswith("Without attack"):
            continue
        heads = columns(view)
        for row in view.rows:
            clean = row[0].text == "0" or row[0].text == "zero gradient"
            for (head, marked), cell in zip(heads, row, strict=True):
                number = cell.kind == "" and re.search(r"\d", cell.text)
                if number and not clean and not (cell.mark or marked or head in FREE):
                    without = view.caption.startswith("Compared") and head in ("difference", "p")
                    assert without, (view.caption, head, cell)


# --- readers


def reader_study(low: float | None, *, beyond: str = "", share_low: float | None = 0.4) -> dict[str, Any]:
    bound = {"epsilon": low, "beyond": beyond, "words": "0.01" if low else "not known"}
    levels = [
        {"epsilon": epsilon, "n": 4, "share": 0.75, "low": share_low, "high": share_low and 0.95}
        for epsilon in (0.005, 0.02)
    ]
    curve = {
        "kind": "adversarial", "reader": None, "levels": levels, "low": bound, "high": bound, "centre": -2.0,
        "width": 0.6, "lapse": 0.0, "threshold": {"epsilon": 0.01, "words": "0.01"},
    }  # fmt: skip
    return {"curves": [curve], "simulated": False, "epsilons": [0.005, 0.02]}


def test_the_figure_of_readers_names_the_intervals_that_it_draws() -> None:
    half = pd.DataFrame({"epsilon50": [0.01], "evaluation": ["PASS"], "model": ["vgg16"], "preset": ["sound"]})
    for study, shares, threshold in (
        (reader_study(0.01), True, True),
        (reader_study(None, beyond="below"), True, True),
        (reader_study(None, share_low=None), False, False),
    ):
        legend = [text.get_text() for text in psychometric_curves(study, half).legends[0].get_texts()]
        assert any("Wilson" in label for label in legend) == shares
        assert any("75 % threshold" in label for label in legend) == threshold == has_threshold_band(study["curves"])
        said = caption_of("readers", {"fgsm_accuracy": half}, study=study)
        assert ("Wilson" in said) == shares
        assert ("the 95 % interval of that epsilon" in said) == threshold


def test_what_no_attacker_did_is_said() -> None:
    alone = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",), presets=("sound",), n_cases=3)
    said = untested(compact(alone.frame))
    assert "attackers who can only ask" in said
    assert "made on another network" in said
    assert "saved as files" not in said  # the sound preset is stored as PNG
    more = make_responses(cohorts={"xray-268": "xray"}, attacks=("square",), transfers=("square",), n_cases=3)
    assert untested(compact(more.frame)).startswith("Not tested here, so nothing follows about it: changes that no")
