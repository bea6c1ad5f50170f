"""Paired comparisons: closed forms, brute force, and what the tables, the report and `accuracy_table` make of them."""

import itertools
import json
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from response_factory import make_responses, response_row
from scipy.stats import binomtest

import dosimeter as dm
from dosimeter.analysis.attacks import paired_difference
from dosimeter.analysis.paired import BY_IMAGE, BY_PATIENT, BY_WORTH, compare, holm, mcnemar, paired, sign_flips
from dosimeter.errors import DosimeterError
from dosimeter.presentation.paired import paired_tables, seed_tables
from dosimeter.record.table import Responses, to_frame
from dosimeter.report import summarise
from dosimeter.report.build import build_tables, write_tables
from dosimeter.report.html import render

EPSILONS = (0.0, 1e-3, 3e-3, 9e-3)


@pytest.fixture(scope="module")
def run() -> Responses:
    return make_responses(cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=20)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


# --- the tests


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (0, 6, 2 / 64), (1, 7, 2 * (1 + 8) / 256), (10, 2, 2 * (1 + 12 + 66) / 4096), (5, 5, 1)],
)
def test_mcnemar_in_closed_form(b: int, c: int, p: float) -> None:
    assert float(mcnemar(b, c)) == pytest.approx(p)
    assert float(mcnemar(c, b)) == pytest.approx(p)


def test_mcnemar_is_the_two_sided_binomial_test() -> None:
    for b, c in itertools.product(range(0, 40, 3), range(1, 40, 4)):
        assert float(mcnemar(b, c)) == pytest.approx(binomtest(b, b + c, 0.5).pvalue)


@pytest.mark.parametrize("sums", [[1, 1, -1], [2, -1, 3, 0, 1], [4, 4, 4], [0, 0], [], [-3, 2, 2, 1, -1, 5]])
def test_sign_flips_are_those_of_every_choice_of_signs(sums: list[int]) -> None:
    found = abs(sum(sums))
    flipped = [abs(sum(s * d for s, d in zip(signs, sums, strict=True)))
               for signs in itertools.product((-1, 1), repeat=len(sums))]  # fmt: skip
    assert sign_flips(sums) == pytest.approx(np.mean([each >= found for each in flipped]))


def test_sign_flips_of_single_images_are_mcnemar() -> None:
    for b, c in ((0, 0), (3, 9), (12, 1), (40, 25)):
        assert sign_flips([1] * b + [-1] * c + [0] * 7) == pytest.approx(float(mcnemar(b, c)))


def test_images_of_one_patient_do_not_count_as_many() -> None:
    """Six images differ: as six patients McNemar's p is 2 / 2^6, as two patients it can only be 2 / 2^2."""
    first, other = column(1, 1, 1, 1, 1, 1), column(0, 0, 0, 0, 0, 0)
    alone, together = compare(first, other, np.arange(6)), compare(first, other, np.repeat([0, 1], 3))
    assert (float(alone.p_patient[0]), float(together.p_patient[0])) == pytest.approx((2 / 64, 0.5))
    assert float(together.p_mcnemar[0]) == pytest.approx(2 / 64)
    assert (alone.method[0], together.method[0]) == (BY_IMAGE, BY_WORTH)


def test_sign_flips_keep_their_level_where_patients_have_several_images() -> None:
    """Of two equal classifiers McNemar rejects far more than 5 % where images of a patient fall together."""
    rng = np.random.default_rng(0)
    flips, images = [], []
    for _ in range(400):
        sums = rng.integers(-4, 5, 30) * (rng.random(30) < 0.6)
        flips.append(sign_flips(sums))
        images.append(float(mcnemar(sums[sums > 0].sum(), -sums[sums < 0].sum())))
    assert 0.02 <= np.mean(np.array(flips) <= 0.05) <= 0.075
    assert np.mean(np.array(images) <= 0.05) > 0.12


def test_holm_in_closed_form() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == pytest.approx([1.0, 1.0])
    np.testing.assert_allclose(holm([np.nan, 0.02, 0.02]), [np.nan, 0.04, 0.04])
    assert holm([]).size == 0


# --- intervals


def test_images_of_their_own_patients_have_newcombe_s_interval() -> None:
    first, other = column(1, 1, 1, 1, 0, 0, 1, 1), column(1, 0, 0, 1, 0, 1, 1, np.nan)
    found = compare(first, other, np.arange(8))
    assert (found.n[0], found.first_only[0], found.other_only[0]) == (7, 2, 1)
    assert (found.right[0], found.right_other[0]) == pytest.approx((5 / 7, 4 / 7))
    low, high = paired_difference(3, 2, 1, 7)
    assert (found.low[0], found.high[0]) == pytest.approx((float(low), float(high)))


def test_an_interval_keeps_its_width_where_no_image_differs() -> None:
    right = column(*[1] * 10, *[0] * 2)
    patients = np.repeat(np.arange(6), 2)
    clustered, alone = compare(right, right, patients), compare(right, right, np.arange(12))
    assert clustered.method[0] == BY_WORTH
    assert clustered.high[0] - clustered.low[0] > 1.1 * (alone.high[0] - alone.low[0]) > 0
    assert (clustered.p_mcnemar[0], clustered.p_patient[0]) == (1, 1)


def test_with_few_patients_the_interval_is_wide_and_not_resampled() -> None:
    first, other = column(*[1] * 24), column(*[1, 1, 1, 0] * 6)
    few, more = compare(first, other, np.arange(24) % 4), compare(first, other, np.arange(24) % 23)
    unlike = compare(first, other, np.minimum(np.arange(24), 20))  # of 21 patients one has four images
    assert unlike.method[0] == BY_WORTH
    assert (few.method[0], more.method[0]) == (BY_WORTH, BY_PATIENT)
    assert few.low[0] < 0.25 < few.high[0]
    assert np.isnan(compare(first, other, np.repeat([0, 1], 12)).low[0])


def test_nothing_in_common_is_no_comparison() -> None:
    found = compare(column(1, np.nan), column(np.nan, 0), np.array([0, 1]))
    assert found.n[0] == 0
    assert np.isnan([found.low[0], found.high[0], found.p_mcnemar[0], found.p_patient[0], found.right[0]]).all()


@pytest.mark.parametrize("per_patient", [1, 4])
def test_the_interval_covers_the_true_difference(per_patient: int) -> None:
    """Two classifiers, 80 and 70 % right; images of a patient fall together."""
    rng = np.random.default_rng(1)
    n_patients, hits = 60, 0
    for _ in range(200):
        shared = np.repeat(rng.normal(size=(2, n_patients)), per_patient, axis=1)
        own = rng.normal(size=(2, n_patients * per_patient))
        level = (shared + own) / np.sqrt(2)
        right = (level < np.array([[0.8416], [0.5244]])).astype(float)
        found = compare(right[0][:, None], right[1][:, None], np.repeat(np.arange(n_patients), per_patient))
        hits += found.low[0] <= 0.1 <= found.high[0]
    assert 0.9 <= hits / 200 <= 0.99


# --- tables


def test_the_pairs_of_a_study(run: Responses) -> None:
    table = paired(run.frame)
    pairs = table[["compared", "model", "preset", "storage", "against"]].drop_duplicates()
    assert pairs.to_records(index=False).tolist() == [
        ("classifiers", "inception_v3", "paper", "float", "vgg16"),
        ("classifiers", "inception_v3", "sound", "float", "vgg16"),
        ("classifiers", "inception_v3", "sound", "png8", "vgg16"),
        ("presets", "inception_v3", "paper", "float", "sound"),
        ("presets", "vgg16", "paper", "float", "sound"),
        ("storages", "inception_v3", "sound", "png8", "float"),
        ("storages", "vgg16", "sound", "png8", "float"),
    ]
    assert table.groupby(list(pairs)).size().eq(len(EPSILONS)).all()


def test_the_numbers_of_a_pair_counted_from_the_rows(run: Responses) -> None:
    table = paired(run.frame).query("compared == 'classifiers' and preset == 'sound' and storage == 'float'")
    frame = run.frame[(run.frame["status"] == "ok") & run.frame["on_grid"].eq(True)]
    frame = frame.query("preset == 'sound' and storage == 'float'")
    for row in table.to_dict("records"):
        answers = frame[frame["epsilon"] == row["epsilon"]].set_index(["model", "case_id"])["correct"].astype(bool)
        one, two = answers["inception_v3"].align(answers["vgg16"])
        assert row["n_common"] == len(one) == 20
        assert (row["right_alone"], row["right_alone_against"]) == ((one & ~two).sum(), (two & ~one).sum())
        assert row["difference"] == pytest.approx(one.mean() - two.mean())
        assert row["accuracy"] - row["accuracy_against"] == pytest.approx(row["difference"])
        p = (
            binomtest(row["right_alone"], row["right_alone"] + row["right_alone_against"]).pvalue
            if any(one != two)
            else 1
        )
        assert row["p_mcnemar"] == pytest.approx(p)
    np.testing.assert_allclose(table["p_holm"], holm(table["p_patient"]))


def test_attacks_are_compared_with_the_sound_preset_and_controls_are_not() -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=12, attacks=["pgd", "random_sign"],
                         transfers=["pgd"])  # fmt: skip
    presets = paired(run.frame).query("compared == 'presets'")
    assert set(presets["preset"]) == {"paper", "pgd", "worst case"}
    assert set(presets["against"]) == {"sound"}
    assert "worst case" in set(paired(run.frame).query("compared == 'classifiers'")["preset"])


def test_seeds_are_compared_on_the_images_that_they_share() -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=12, repeats=3)
    frame = run.frame[~((run.frame["seed"] == 2) & (run.frame["case_id"] < "00006"))]
    table = paired(frame)
    seeds = table[table["compared"] == "seeds"]
    assert set(zip(seeds["seed"], seeds["against"], strict=True)) == {(0, "seed 1"), (0, "seed 2")}
    assert seeds.groupby("against")["n_common"].max().to_dict() == {"seed 1": 12, "seed 2": 6}
    assert set(table["seed"]) == {0, 1, 2}
    assert {view.caption for view in seed_tables(table, [])} == {
        "Seeds compared on the test images that they share: xray-268, paper protocol"
    }


def test_one_curve_has_nothing_beside_it(run: Responses) -> None:
    alone = run.frame.query("model == 'vgg16' and preset == 'sound' and storage == 'float'")
    table = paired(alone)
    assert table.empty
    assert list(table.columns) == list(paired(run.frame).columns)
    assert not list(paired_tables(table, []))
    one = Responses(alone, run.meta)
    assert "paired" not in summarise(one, build_tables(one))


def test_files_summary_and_report_hold_the_comparisons(run: Responses, tmp_path: Path) -> None:
    tables = build_tables(run)
    write_tables({"paired": tables["paired"]}, tmp_path)
    assert "sign flips by patient" in (tmp_path / "paired.tex").read_text()
    assert len(pd.read_csv(tmp_path / "paired.csv")) == len(tables["paired"])
    rows = json.loads(json.dumps(summarise(run, tables)["paired"], allow_nan=False))
    assert len(rows) == len(tables["paired"])  # here every epsilon is a reported one
    assert rows[0]["p_patient"] == pytest.approx(tables["paired"]["p_patient"].iloc[0])
    (view,) = paired_tables(tables["paired"], [("xray-268", "paper")])
    assert view.caption in render(run, tables, [])
    assert len(view.rows) == 7 - 1  # of png8 only against floats
    assert "the interval is Newcombe's of as many images" in view.note  # 10 patients are few
    many = make_responses(cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=40)
    assert "the interval is a bootstrap by patient" in next(paired_tables(paired(many.frame), [])).note
    alone = make_responses(cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=20, patients=False)
    assert "p is that of the exact McNemar test" in next(paired_tables(paired(alone.frame), [])).note
    row = tables["paired"].query("compared == 'presets' and model == 'vgg16'")
    most = row.loc[row["difference"].abs().idxmax()]
    cells = next(cells for cells in view.rows if cells[0].text == "VGG16" and cells[2].text == "FGSM, paper preset")
    assert cells[8].text == f"{100 * most['difference']:+.1f}"
    assert cells[9].note == f"{most['right_alone']} and {most['right_alone_against']}"


# --- accuracy_table(..., against=)


@pytest.mark.parametrize(("name", "n"), [("vgg16", 3 * 4), ("sound", 2 * 4), ("float", 2 * 4)])
def test_accuracy_against_a_name_is_the_table_of_pairs(run: Responses, name: str, n: int) -> None:
    table = dm.accuracy_table(run, against=name)
    pd.testing.assert_frame_equal(table[list(dm.accuracy_table(run).columns)], dm.accuracy_table(run))
    there = table.dropna(subset=["difference"])
    assert len(there) == n
    assert set(there["against"]) == {name}
    assert name not in set(there["model"]) | set(there["preset"]) | set(there["storage"])
    keys = ["model", "preset", "storage", "against", "epsilon"]
    own = paired(run.frame).merge(there[keys], on=keys)
    both = there.merge(own, on=keys, suffixes=("", "_paired"))
    assert len(both) == n
    for number in ("n_common", "difference", "difference_low", "difference_high", "p_mcnemar", "p_patient", "p_holm"):
        np.testing.assert_allclose(both[number].astype(float), both[f"{number}_paired"].astype(float))


def test_accuracy_against_a_second_table_is_as_against_the_name(run: Responses) -> None:
    one, two = (Responses(run.frame[run.frame["model"] == model], run.meta) for model in ("inception_v3", "vgg16"))
    named = dm.accuracy_table(run, against="vgg16").query("model == 'inception_v3'").reset_index(drop=True)
    for other in (two, two.frame):
        found = dm.accuracy_table(one, against=other)
        pd.testing.assert_frame_equal(found, named)


def test_accuracy_against_another_attack_of_the_same_sweep(run: Responses) -> None:
    """Tables of one preset each are compared whatever the presets are called."""
    mine = run.frame.query("model == 'vgg16' and storage == 'float'")
    paper, sound = (Responses(mine[mine["preset"] == preset], run.meta) for preset in ("paper", "sound"))
    table = dm.accuracy_table(paper, against=sound)
    assert table["difference"].notna().all()
    assert set(table["against"]) == {"sound"}


@pytest.mark.parametrize(
    ("against", "words"),
    [
        ("vgg61", "against 'vgg61' is no model, preset or storage here. Did you mean 'vgg16'?"),
        (16, "against must be a name of these responses or a second table of responses, got 16."),
        ("xray-268", "is no model, preset or storage here"),
    ],
)
def test_what_nothing_can_be_compared_with_is_a_sentence(run: Responses, against: object, words: str) -> None:
    with pytest.raises(DosimeterError) as caught:
        dm.accuracy_table(run, against=against)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_a_table_without_a_counterpart_is_a_sentence(run: Responses) -> None:
    alone = Responses(run.frame[run.frame["model"] == "vgg16"], run.meta)
    with pytest.raises(DosimeterError, match="against 'vgg16' is the only model of these responses"):
        dm.accuracy_table(alone, against="vgg16")
    with pytest.raises(DosimeterError, match=r"shares none\. Sweep the same cohort"):
        dm.accuracy_table(alone, against=run.frame.assign(case_id="other"))
    renamed = Responses(alone.frame.assign(model="mine"), run.meta)
    with pytest.raises(DosimeterError, match="against must have the model mine, or one model alone"):
        dm.accuracy_table(renamed, against=run)


def test_several_seeds_are_compared_each_with_its_own() -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, epsilons=EPSILONS, n_cases=12, repeats=2)
    table = dm.accuracy_table(run, against="vgg16").dropna(subset=["difference"])
    assert set(table["seed"]) == {0, 1}
    for seed in (0, 1):
        alone = Responses(run.frame[run.frame["seed"] == seed], run.meta)
        own = dm.accuracy_table(alone, against="vgg16").dropna(subset=["difference"])
        np.testing.assert_allclose(table.query(f"seed == {seed}")["difference"], own["difference"])
    assert set(dm.accuracy_table(run, against="seed 0").dropna(subset=["difference"])["seed"]) == {1}


def test_an_image_that_one_series_lacks_is_not_counted() -> None:
    rows = [
        response_row(case_id=f"{case:05d}-0", patient_id=f"p{case}", label=1, epsilon=0.0, model=model,
                     probability=0.9 if right else 0.1)
        for model, answers in {"vgg16": (1, 1, 0, 1), "inception_v3": (1, 0, 0)}.items()
        for case, right in enumerate(answers)
    ]  # fmt: skip
    (row,) = paired(to_frame(rows)).to_dict("records")
    assert (row["n_common"], row["accuracy"], row["accuracy_against"]) == (
        3,
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    )
    assert (row["right_alone"], row["right_alone_against"], row["method"]) == (0, 1, BY_IMAGE)
    assert row["p_mcnemar"] == min(1, 2 * comb(1, 0) / 2)
