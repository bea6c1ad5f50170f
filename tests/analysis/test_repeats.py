"""Repeats over seeds: means and intervals counted by hand, seeds never mixed, one seed as if there were no repeats."""

import json
import re
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from response_factory import make_responses, response_row
from scipy import stats

from dosimeter.analysis.base import answered, clean_answers
from dosimeter.analysis.exemplars import choose_exemplar
from dosimeter.analysis.findings import findings
from dosimeter.analysis.intervals import proportion_interval
from dosimeter.analysis.repeats import first_repeat, in_words, interval_note, interval_over_splits, repeats, seeds
from dosimeter.analysis.verdict import verdict
from dosimeter.record.table import SCHEMA, Responses, to_frame
from dosimeter.report import redraw, summarise
from dosimeter.report.build import build_tables
from dosimeter.report.figures import write_figures
from dosimeter.report.html import render
from dosimeter.sections.repeats.figures import repeated_curves
from dosimeter.sections.repeats.page import repeat_tables

EPSILONS = (0.0, 1e-3, 3e-3, 9e-3, 0.08)
STORED = ("survival", "deployed_epsilon", "deployed_median")
SEEDED = ("clean_metrics", "confusion", "fgsm_accuracy", "probability_drop", "flip_epsilon", "epsilon50", "training")
Tables = dict[str, pd.DataFrame]

# Eight cases, right before and after the attack at epsilon 0.01, for the seeds 3, 4 and 5.
RIGHT = {3: (7, 4), 4: (6, 4), 5: (5, 4)}
N_TRAIN = 32
KEYS = {"cohort": "xray-268", "protocol": "paper", "model": "vgg16"}


def counted(*, protocol: str = "paper", right: dict[int, tuple[int, int]] = RIGHT) -> Responses:
    """A run whose accuracies are right/8: a case that is right stands on its label's side, so its answers are known."""
    rows = [
        response_row(case_id=f"{case:05d}-0", label=case % 2, epsilon=epsilon, seed=seed, protocol=protocol,
                     probability=0.9 if (case % 2 == 1) == (case < n_right) else 0.1, grad_zero=case < 2)
        for seed, counts in right.items()
        for epsilon, n_right in zip((0.0, 0.01), counts, strict=True)
        for case in range(8)
    ]  # fmt: skip
    cohorts = [{"cohort": "xray-268", "protocol": protocol, "seed": seed, "n_test": 8, "n_train": N_TRAIN}
               for seed in right]  # fmt: skip
    return Responses(to_frame(rows), {"cohorts": cohorts})


def found(table: pd.DataFrame, quantity: str, **attack: Any) -> dict[str, Any]:
    rows = table[table["quantity"] == quantity]
    for name in ("preset", "storage", "epsilon"):
        rows = rows[rows[name] == attack[name]] if name in attack else rows[rows[name].isna()]
    assert len(rows) == 1
    return {str(name): value for name, value in rows.iloc[0].items()}


@pytest.fixture(scope="module")
def run() -> Responses:
    return make_responses(cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=16, repeats=3)


@pytest.fixture(scope="module")
def tables(run: Responses) -> Tables:
    return build_tables(run)


@pytest.fixture(scope="module")
def single() -> Responses:
    return make_responses(cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=16)


# --- means and intervals


def test_means_and_intervals_counted_by_hand() -> None:
    table = build_tables(counted())["repeats"]
    row = found(table, "accuracy")
    half = 4.302653 * 0.125 * sqrt(1 / 3 + 8 / 32)  # t of 2 degrees of freedom; 7/8, 6/8, 5/8 have SD 1/8
    expected = {"n_repeats": 3, "n_censored": 0, "mean": 0.75, "sd": 0.125, "median": 0.75}
    expected |= {"low": 0.75 - half, "high": min(1, 0.75 + half), "minimum": 5 / 8, "maximum": 7 / 8}
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    attacked = found(table, "accuracy", preset="sound", storage="float", epsilon=0.01)
    assert (attacked["mean"], attacked["sd"], attacked["minimum"]) == (0.5, 0, 0.5)
    assert np.isnan([attacked["low"], attacked["high"]]).all()  # three equal scores tell nothing of their spread
    assert found(table, "grad_zero_share", preset="sound", storage="float")["mean"] == 0.25
    positives = [3 / 4, 3 / 4, 2 / 4]  # of the cases 1, 3, 5 and 7
    assert found(table, "sensitivity")["mean"] == pytest.approx(np.mean(positives))
    assert found(table, "auc")["n_repeats"] == 3


@pytest.mark.parametrize("ratio", [0.0, 0.25])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_is_the_t_interval_widened_for_shared_images(ratio: float, confidence: float) -> None:
    values = np.array([0.8, 0.9, 0.7, 0.85, 0.75])
    low, high = interval_over_splits(values, ratio, confidence)
    plain = stats.t.interval(confidence, 4, values.mean(), stats.sem(values))
    widening = sqrt((1 / 5 + ratio) / (1 / 5))
    assert float(high - low) == pytest.approx(widening * (plain[1] - plain[0]))
    assert float(high + low) / 2 == pytest.approx(0.8)


@pytest.mark.parametrize("values", [[], [0.8], [0.7, 0.7, 0.7]])
def test_an_interval_that_cannot_be_estimated_is_none(values: list[float]) -> None:
    assert np.isnan(interval_over_splits(np.array(values), 0.25)).all()


def test_a_given_split_has_the_usual_interval_over_trainings() -> None:
    table = build_tables(counted(protocol="official"))["repeats"]
    row = found(table, "accuracy")
    half = 4.302653 * 0.125 / sqrt(3)
    assert (row["low"], row["high"]) == pytest.approx((0.75 - half, 1.0))
    assert in_words(table[table["preset"].isna()], {**KEYS, "protocol": "official"}) == (
        " [mean of 3 trainings 75.0 %, 44 to 100 %]"
    )


def test_the_notes_say_that_the_sampling_of_images_is_not_in_an_interval_over_trainings() -> None:
    unsampled = "how the test images were sampled is not in it"
    assert unsampled in interval_note(["official"])
    assert "over splits" not in interval_note(["official"])
    assert unsampled not in interval_note(["paper", "patient"])
    both = interval_note(["paper", "official"])
    assert "over splits" in both
    assert f"under the official protocol over trainings on the one split that is given: {unsampled}" in both
    table = build_tables(counted(protocol="official"))["repeats"]
    views = list(repeat_tables(table, []))
    assert len(views) == 3
    for view in views:
        assert unsampled in view.note
        assert "over splits" not in view.note


def test_without_the_split_s_sizes_there_is_no_interval() -> None:
    run = counted()
    row = found(build_tables(Responses(run.frame, {}))["repeats"], "accuracy")
    assert row["mean"] == 0.75
    assert np.isnan([row["low"], row["high"]]).all()


@pytest.mark.parametrize(
    ("medians", "expected"),
    [
        ((0.002, 0.004, 0.003), {"n_censored": 0, "mean": 0.003, "median": 0.003, "minimum": 0.002, "maximum": 0.004}),
        ((0.002, None, 0.003), {"n_censored": 1, "mean": None, "median": 0.003, "minimum": 0.002, "maximum": None}),
        ((0.002, None, None), {"n_censored": 2, "mean": None, "median": None, "minimum": 0.002, "maximum": None}),
        ((None, None, None), {"n_censored": 3, "mean": None, "median": None, "minimum": None, "maximum": None}),
    ],
)
def test_a_median_beyond_the_largest_epsilon_counts_as_larger_than_any(
    medians: tuple[float | None, ...], expected: dict[str, Any], tables: Tables
) -> None:
    chosen = tables["epsilon50"].query("model == 'vgg16' and preset == 'sound' and storage == 'float'")
    values = pd.Series(medians, index=chosen.index, dtype=float)
    changed = {**tables, "epsilon50": chosen.assign(epsilon50=values, censored=values.isna())}
    meta = counted().meta
    table = repeats(changed, meta)
    row = found(table, "epsilon50", preset="sound", storage="float")
    assert row["n_repeats"] == 3
    got = {name: None if pd.isna(row[name]) else row[name] for name in expected}
    assert got == pytest.approx(expected)
    words = in_words(table[table["quantity"] == "epsilon50"], {**KEYS, "preset": "sound", "storage": "float"})
    if expected["n_censored"]:
        assert pd.isna(row["low"])
        assert words == f" [beyond the largest asked in {expected['n_censored']} of 3 splits]"
        (view,) = [view for view in repeat_tables(table, []) if view.caption.startswith("Under attack")]
        cells = next(cells for cells in view.rows if cells[-1].text == str(expected["n_censored"]))
        known = expected["median"] is not None
        assert cells[5].text == ("median 0.003" if known else "beyond the largest")
    else:
        assert words.startswith(" [mean of 3 splits 0.003, ")


# --- seeds are never mixed


def test_every_table_of_several_seeds_is_made_of_each_seed_s_own(run: Responses, tables: Tables) -> None:
    assert seeds(run) == [0, 1, 2]
    for seed in (0, 1, 2):
        frame = run.frame[run.frame["seed"] == seed]
        cards = [card for card in run.meta["classifiers"] if card["seed"] == seed]
        alone = build_tables(Responses(frame, {**run.meta, "classifiers": cards}))
        assert set(alone) == {*SEEDED, *STORED, "paired"}
        for name in SEEDED:
            table = tables[name]
            assert list(table.columns).index("seed") == list(table.columns).index("model") + 1
            own = table[table["seed"] == seed].drop(columns="seed").reset_index(drop=True)
            pd.testing.assert_frame_equal(own, alone[name], check_dtype=False)
    for name in ("clean_metrics", "fgsm_accuracy"):
        assert set(tables[name]["n"]) == {16}


def test_a_case_tested_under_several_seeds_has_an_answer_for_each(run: Responses) -> None:
    clean = clean_answers(answered(run.frame))
    assert set(clean.groupby(["model", "case_id"], observed=True).size()) == {3}
    exemplars = choose_exemplar(run.frame)
    assert exemplars.groupby(["model", "preset"]).size().eq(3).all()


def test_the_first_seed_of_a_run_is_the_run_of_that_seed(run: Responses, tables: Tables, single: Responses) -> None:
    first, own = first_repeat(run, tables)
    assert {name: first.meta[name] for name in ("cohorts", "classifiers", "exemplars")} == {
        name: single.meta[name] for name in ("cohorts", "classifiers", "exemplars")
    }
    expected = build_tables(single)
    for name in SEEDED:
        pd.testing.assert_frame_equal(own[name].reset_index(drop=True), expected[name], check_dtype=False)
    assert findings(run, tables) == findings(single, expected)
    summary, alone = summarise(run, tables), summarise(single, expected)
    assert summary["results"] == alone["results"]
    assert summary["n_failed"] == alone["n_failed"] == 1


def test_one_seed_is_as_if_there_were_no_repeats(single: Responses) -> None:
    for seed in (0, 7):
        run = Responses(single.frame.assign(seed=seed), single.meta)
        tables = build_tables(run)
        assert set(tables) == {*SEEDED, *STORED, "paired"}
        assert all("seed" not in table for table in tables.values())
        assert first_repeat(run, tables) == (run, tables)
        assert "repeats" not in summarise(run, tables)
        assert 'id="repeats"' not in render(run, tables, [])
        assert not any("seed" in sentence or "splits" in sentence for sentence in verdict(run, tables))


# --- words, figures, report


def test_the_verdict_states_the_interval_over_splits_beside_the_first_seed(run: Responses, tables: Tables) -> None:
    sentences = verdict(run, tables)
    row = found(tables["repeats"].query("model == 'vgg16'"), "epsilon50", preset="sound", storage="float")
    beside = f"[mean of 3 splits {row['mean']:.2g}, {row['low']:.2g} to {row['high']:.2g}]"
    first = tables["epsilon50"].query("seed == 0 and model == 'vgg16' and preset == 'sound' and storage == 'float'")
    assert re.search(rf"VGG16 {first['epsilon50'].iloc[0]:.2g}, [^\]]*{re.escape(beside)}", sentences[1])
    clean = tables["clean_metrics"].query("seed == 0 and model == 'vgg16'").iloc[0]
    low, high = proportion_interval(np.array([2.0] * 6 + [1.0] * 2), np.full(8, 2.0))  # 14 of the images of 8 patients
    assert (clean["accuracy_low"], clean["accuracy_high"]) == pytest.approx((float(low), float(high)))
    assert f"VGG16 87.5 % ({100 * low:.0f} to {100 * high:.0f} %, n = 16) [the same in all 3 splits]" in sentences[0]
    assert sentences[-1].startswith("Where nothing else is said, numbers are of seed 0, the first of 3.")


def test_the_figure_has_a_line_for_each_seed_and_their_mean(tables: Tables) -> None:
    ax = repeated_curves(tables["fgsm_accuracy"], tables["repeats"]).axes[0]  # VGG16
    thin = [line for line in ax.get_lines() if line.get_linewidth() == 0.6]
    assert len(thin) == 3 * 3  # seeds x (preset, storage)
    curves = tables["fgsm_accuracy"].query("model == 'vgg16' and preset == 'paper'")
    for line, (_, seed) in zip(thin[:3], curves.groupby("seed"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), seed["accuracy"])
    (mean,) = [line for line in ax.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(mean.get_ydata(), curves.groupby("epsilon")["accuracy"].mean())
    assert len(ax.collections) == 3  # bands


def test_figures_of_one_seed_say_so_and_one_shows_all(run: Responses, tables: Tables, tmp_path: Path) -> None:
    figures = write_figures(run, tables, tmp_path)
    (every,) = [figure for figure in figures if figure.section == "repeats"]
    assert every.name == "xray-268-paper-repeats"
    assert every.title == "Accuracy against epsilon over splits: xray-268, paper protocol"
    assert "its 95 % interval over splits" in every.caption
    assert "sampled" not in every.caption
    for figure in figures:
        assert figure.caption.endswith("This is seed 0, the first of 3.") == (figure.section != "repeats")


def test_the_report_of_several_seeds_has_a_section_and_stays_whole(run: Responses, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(run.frame, schema=SCHEMA, preserve_index=False)
    payload = json.dumps(run.meta).encode()
    pq.write_table(table.replace_schema_metadata({b"dosimeter": payload}), tmp_path / "responses.parquet")
    redraw(tmp_path)
    html = (tmp_path / "report.html").read_text()
    places = [html.index(f'<section id="{name}"') for name in ("figures", "repeats", "claims", "provenance", "limits")]
    assert places == sorted(places)
    section = html[places[1] : places[2]]
    assert '<a href="#repeats">' in html
    assert [int(number) for number in re.findall(r'-h">(\d)\. ', html)] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert section.count("<img") == 1
    assert section.count('<figure class="table"') == 4
    assert "official" not in section
    done = html[html.index('<section id="done"') : html.index('<section id="verdict"')]
    assert done.count("<td>paper</td>") == 1  # the split of the first seed
    assert "3 times, with seeds 0, 1, 2" in done
    written = pd.read_csv(tmp_path / "tables" / "repeats.csv")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [row["mean"] for row in summary["repeats"]] == pytest.approx(
        [None if pd.isna(mean) else mean for mean in written["mean"]]
    )


def test_seeds_in_which_every_image_failed_are_left_out_of_the_means(run: Responses) -> None:
    failed = run.frame["seed"] == 1
    frame = run.frame.assign(status=run.frame["status"].where(~failed, "error"))
    tables = build_tables(Responses(frame, run.meta))
    assert set(tables["repeats"]["n_repeats"]) == {2}
    nothing = build_tables(Responses(run.frame.assign(status="error"), run.meta))
    assert nothing["repeats"].empty
    assert list(nothing["repeats"].columns) == list(tables["repeats"].columns)
