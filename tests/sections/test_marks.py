"""The verdict on an evaluation stands beside each of its numbers: in tables, sentences, page, figures and summary."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from figure_captions import caption_of
from response_factory import make_responses

from dosimeter.analysis import marks
from dosimeter.analysis.evaluation import evaluation_name, overall
from dosimeter.analysis.verdict import verdict
from dosimeter.presentation.numbers import Cell, median
from dosimeter.presentation.views import View
from dosimeter.record.table import Responses
from dosimeter.report.build import build_tables, marked, write_tables
from dosimeter.report.html import render
from dosimeter.report.summary import summarise
from dosimeter.sections.attacks.figures import security_curves, transfer_matrices
from dosimeter.sections.figures.curves import accuracy_curves
from dosimeter.sections.tables.views import all_tables

SETTINGS: dict[str, Any] = {
    "cohorts": {"phantom-xray": "xray"}, "epsilons": (0.0, 1e-3, 3e-3, 9e-3), "n_cases": 8, "error_row": False,
    "refine": False,
}  # fmt: skip
Tables = dict[str, pd.DataFrame]


def judged(tables: Tables, verdicts: dict[tuple[str, str], str]) -> Tables:
    """Return tables whose evaluations, by model and family, have these verdicts; the others passed."""
    checks = tables["evaluation"].copy()
    keys = zip(checks["model"], checks["preset"], strict=True)
    checks["verdict"] = [verdicts.get(key, "PASS") for key in keys]
    return marked(tables | {"evaluation": checks})


@pytest.fixture(scope="module")
def run() -> Responses:
    return make_responses(**SETTINGS, attacks=("pgd", "random_sign"), transfers=("pgd",))


@pytest.fixture(scope="module")
def tables(run: Responses) -> Tables:
    """Inception-v3 under FGSM as published is UNRELIABLE, VGG16 under all other attacks CAUTION, the rest passed."""
    return judged(build_tables(run), {("inception_v3", "paper"): "UNRELIABLE", ("vgg16", "sound"): "CAUTION"})


def of(table: pd.DataFrame, **names: Any) -> set[str]:
    for name, value in names.items():
        table = table[table[name] == value]
    assert len(table)
    return set(table["evaluation"])


def test_every_number_under_attack_has_its_own_evaluation(tables: Tables) -> None:
    for name in ("fgsm_accuracy", "probability_drop", "epsilon50", "flip_epsilon", "robust_accuracy", "area"):
        assert of(tables[name], model="inception_v3", preset="paper") == {"UNRELIABLE"}, name
        assert of(tables[name], model="inception_v3", preset="sound") == {"PASS"}
        assert of(tables[name], model="vgg16", preset="paper") == {"PASS"}
        assert of(tables[name], model="vgg16", preset="sound") == {"CAUTION"}
    for preset in ("pgd", "worst case", "random_sign"):
        assert of(tables["robust_accuracy"], model="vgg16", preset=preset) == {"CAUTION"}
    assert not {"clean_metrics", "confusion", "training"} & {name for name in tables if "evaluation" in tables[name]}


def test_what_belongs_to_two_evaluations_has_the_worse(tables: Tables) -> None:
    assert of(tables["robust_accuracy"], model="inception_v3", preset="pgd from vgg16") == {"CAUTION"}
    assert of(tables["transfer"], made_on="vgg16", model="inception_v3") == {"CAUTION"}
    assert of(tables["transfer"], made_on="inception_v3", model="inception_v3") == {"PASS"}
    assert of(tables["rank_agreement"], preset="pgd") == {"CAUTION"}
    paired = tables["paired"]
    assert of(paired, compared="classifiers", preset="paper") == {"UNRELIABLE"}
    assert of(paired, compared="classifiers", preset="sound") == {"CAUTION"}
    presets = paired[(paired["compared"] == "presets") & (paired["model"] == "inception_v3")]
    with_paper = (presets["preset"] == "paper") | (presets["against"] == "paper")
    assert set(presets.loc[with_paper, "evaluation"]) == {"UNRELIABLE"}
    assert set(presets.loc[~with_paper, "evaluation"]) == {"PASS"}


def test_a_mean_over_seeds_has_the_worst_of_them() -> None:
    run = make_responses(**SETTINGS, models=("vgg16",), attacks=("pgd",), repeats=2)
    made = build_tables(run)
    checks = made["evaluation"]
    checks = checks.assign(verdict=["UNRELIABLE" if seed == 1 else "PASS" for seed in checks["seed"]])
    found = marked(made | {"evaluation": checks})
    assert of(found["fgsm_accuracy"], seed=0) == {"PASS"}
    assert of(found["fgsm_accuracy"], seed=1) == {"UNRELIABLE"}
    assert set(found["repeats"].loc[found["repeats"]["preset"].notna(), "evaluation"]) == {"UNRELIABLE"}
    assert set(found["repeats"].loc[found["repeats"]["preset"].isna(), "evaluation"]) == {""}
    first = " ".join(verdict(run, found))
    assert "[the same in all 2 splits; UNRELIABLE]" in first
    assert "n = 7) [UNRELIABLE]" not in first  # the first seed's own numbers passed


def test_without_a_verdict_nothing_is_marked() -> None:
    run = make_responses(**SETTINGS)
    made = build_tables(run)
    assert "evaluation" not in made
    assert set(made["fgsm_accuracy"]["evaluation"]) == {""}
    assert summarise(run, made)["results"][0]["attacks"][0]["evaluation"] is None


# --- sentences


def test_the_opening_verdict_names_them_first_and_marks_each_number(run: Responses, tables: Tables) -> None:
    sentences = verdict(run, tables)
    assert sentences[0].startswith(
        "Numbers under attack of these evaluations are marked wherever they stand. UNRELIABLE"
    )
    assert "must not be quoted: Inception-v3 on phantom-xray (paper protocol), FGSM as published (" in sentences[0]
    assert "CAUTION, to be read with care: VGG16 on phantom-xray (paper protocol), all other attacks (" in sentences[0]
    unattacked, breaking, worst, published = sentences[1:5]
    assert "[" not in unattacked
    for sentence in (breaking, worst):
        assert re.search(r"VGG16 [^:]*?\[CAUTION\]", sentence)
        assert not re.search(r"Inception-v3 [^:,]*?\[", sentence)
    assert re.search(r"Inception-v3 on [^;]*?n = 8\) \[UNRELIABLE\]", published)
    assert re.search(r"VGG16 on [^\[;]*, against [^;]*\[CAUTION\]", published)
    passed = judged(tables, {})
    assert len(verdict(run, passed)) == len(sentences) - 1
    assert not any(re.search("CAUTION|UNRELIABLE", sentence) for sentence in verdict(run, passed))


# --- the page


def test_the_page_marks_cells_and_tells_what_the_marks_mean(run: Responses, tables: Tables) -> None:
    views = list(all_tables(tables, [("phantom-xray", "paper")]))
    accuracy = next(view for view in views if view.caption.startswith("Accuracy against epsilon"))
    assert accuracy.flags == ["UNRELIABLE", "CAUTION"]
    heads = [(head.text, head.mark) for head in accuracy.head[1]]
    assert heads == [("paper preset, floats", ""), ("sound preset, floats", "CAUTION"), ("sound preset, 8-bit PNG",
                     "CAUTION"), ("paper preset, floats", "UNRELIABLE"), ("sound preset, floats", ""),
                     ("sound preset, 8-bit PNG", "")]  # fmt: skip
    without, attacked = accuracy.rows[1], accuracy.rows[2]
    assert {cell.mark for cell in without} == {""}
    assert [cell.mark for cell in attacked[2:]] == [mark for _, mark in heads]
    clean = next(view for view in views if view.caption.startswith("Without attack: metrics"))
    assert clean.flags == []
    html = render(run, tables, [])
    assert '<span class="flag unreliable" role="img" aria-label="UNRELIABLE" title="UNRELIABLE">✕</span>' in html
    assert "What is UNRELIABLE must not be quoted." in html
    assert 'class="flag' not in render(run, judged(tables, {}), [])


def test_a_view_without_marks_has_no_legend() -> None:
    assert View("", [], [[Cell("1")]]).flags == []
    assert View("", [], [[Cell("1", mark="CAUTION")]]).flags == ["CAUTION"]


# --- figures


def labels(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_legends_carry_the_verdict(tables: Tables) -> None:
    found = labels(accuracy_curves(tables["fgsm_accuracy"]))
    assert "paper preset, floats\n✕ UNRELIABLE: Inception-v3" in found
    assert "sound preset, floats\n▲ CAUTION: VGG16" in found
    figure = security_curves(tables["robust_accuracy"])
    assert "FGSM, paper preset ✕" in labels(figure)
    assert "PGD ▲" in labels(figure)
    titles = [ax.get_title(loc="left") for ax in figure.axes[:2]]
    assert titles == ["VGG16\n▲ CAUTION: all others", "Inception-v3\n✕ UNRELIABLE: FGSM, paper preset"]
    shares = [text.get_text() for ax in transfer_matrices(tables["transfer"]).axes for text in ax.texts]
    assert any("▲" in text for text in shares)
    assert not all("▲" in text for text in shares)
    passed = judged(tables, {})
    assert not any("✕" in label or "▲" in label for label in labels(accuracy_curves(passed["fgsm_accuracy"])))


def test_captions_explain_the_signs_that_are_there(tables: Tables) -> None:
    words = "✕ UNRELIABLE and ▲ CAUTION: the verdict on the evaluation that a number belongs to."
    assert caption_of("accuracy", tables).endswith(words)
    assert words not in caption_of("metrics", tables)
    assert "✕" not in caption_of("accuracy", judged(tables, {}))


# --- files


def test_the_summary_has_the_evaluation_beside_each_number(run: Responses, tables: Tables) -> None:
    summary = json.loads(json.dumps(summarise(run, tables), allow_nan=False))
    for result in summary["results"]:
        by_family = {each["preset"]: each["verdict"] for each in result["evaluations"]}
        for attack in result["attacks"]:
            family = "paper" if attack["preset"] == "paper" else "sound"
            expected = "CAUTION" if " from vgg16" in attack["preset"] else by_family[family]
            numbers = [attack, attack["epsilon50"], attack["grey_levels"], *attack["robust_accuracy"], *attack["area"]]
            assert {each["evaluation"] for each in numbers} == {expected}, attack["preset"]
        assert "evaluation" not in result["accuracy"]
        for stored in result["storage"]:
            assert {each["evaluation"] for each in (stored, stored["linf"], *stored["survival"])} == {
                by_family["sound"]
            }
    assert {row["evaluation"] for row in summary["paired"]} == {"UNRELIABLE", "CAUTION", "PASS"}


def test_csv_files_have_the_evaluation(tables: Tables, tmp_path: Path) -> None:
    write_tables(tables, tmp_path)
    for name in ("fgsm_accuracy", "epsilon50", "robust_accuracy", "transfer", "gain"):
        assert set(pd.read_csv(tmp_path / f"{name}.csv")["evaluation"]) <= {"PASS", "CAUTION", "UNRELIABLE"}


# --- a step of the grid


@pytest.mark.parametrize(
    ("low", "high", "is_step"),
    [
        (0.001, 0.003, True),  # neighbours
        (0.003, 0.003, True),  # the same: it lies between this one and the last
        (0.001, 0.009, False),
        (0.001, 0.0025, False),  # refined
        (0.0012, 0.0013, False),
        (float("nan"), float("nan"), False),
        (0.009, float("nan"), False),  # beyond what was asked
    ],
)
def test_an_interval_of_neighbouring_epsilons_is_known_to_a_step(
    low: float, high: float, is_step: bool, run: Responses, tables: Tables
) -> None:
    half = tables["epsilon50"].assign(epsilon50=low, epsilon50_low=low, epsilon50_high=high, censored=False)
    half = half.assign(high_censored=high != high)
    found = marked(tables | {"epsilon50": half})
    assert set(found["epsilon50"]["grid_step"]) == {is_step}
    row = found["epsilon50"].to_dict("records")[0]
    assert ("to a step of the grid" in median(row, "epsilon50").note) == is_step
    assert ("to a step of the grid, n = " in " ".join(verdict(run, found))) == is_step
    attacks = summarise(run, found)["results"][0]["attacks"]
    assert {attack["epsilon50"]["to_a_step_of_the_grid"] for attack in attacks} == {is_step}


def test_marks_are_made_anew(tables: Tables) -> None:
    again = marked(tables)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again[name], table)
    assert overall(tables["evaluation"])["verdict"].nunique() == 3
    assert marks.COLUMN == "evaluation"


def test_all_attacks_are_other_ones_only_beside_fgsm_as_published() -> None:
    assert evaluation_name("sound", ["paper", "sound"]) == "all other attacks"
    assert evaluation_name("sound", ["sound"]) == "all attacks"
    assert evaluation_name("paper", ["paper"]) == "FGSM as published"
