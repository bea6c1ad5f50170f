"""Every table against tables counted by hand, against scikit-learn, and on runs with something missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from response_factory import make_responses, response_row
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from dosimeter.analysis import paper
from dosimeter.analysis.against import accuracy_table
from dosimeter.analysis.base import answered, clean_answers
from dosimeter.analysis.clean import clean_metrics, confusion, expected_calibration_error, training
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.drops import probability_drop
from dosimeter.analysis.exemplars import choose_exemplar
from dosimeter.analysis.flips import epsilon50, flip_epsilon
from dosimeter.analysis.intervals import wilson
from dosimeter.errors import DosimeterError
from dosimeter.record.table import Responses, to_frame
from dosimeter.report.build import build_tables, write_tables
from dosimeter.report.sections import in_order
from dosimeter.sections.classes import Classes
from dosimeter.sections.data_audit import DataAuditSection
from dosimeter.sections.defences import Defences
from dosimeter.sections.evidence import Evidence
from dosimeter.sections.findings import SeveralFindings
from dosimeter.sections.physical import Physical
from dosimeter.sections.subgroups import Subgroups

SMALL: dict[str, Any] = {"cohorts": {"xray-268": "xray"}, "epsilons": (0.0, 1e-3, 9e-3), "n_cases": 8}
ANSWERS = {  # case: label, probability of class 1 at epsilon 0, 0.003 and 0.009
    "a": (1, (0.9, 0.7, 0.4)),
    "b": (1, (0.8, 0.3, 0.6)),  # wrong, then right again
    "c": (0, (0.1, 0.1, 0.1)),  # its gradient is zero
    "d": (0, (0.6, 0.9, 0.4)),  # wrong without attack, right in the end
}
REFINED = (("a", 0.0045, 0.55), ("a", 0.006, 0.45), ("b", 0.0015, 0.6), ("b", 0.00225, 0.4))
GRID = (0.0, 0.003, 0.009)


CAPTIONS = {name: said for _, section in in_order() for name, said in section.captions.items()}


def counted(*, refined: bool = True) -> list[dict[str, Any]]:
    """Four cases whose every number can be counted."""
    rows = [
        response_row(case_id=case, label=label, epsilon=epsilon, probability=probability,
                     unchanged=epsilon == 0 or case == "c", grad_zero=case == "c")
        for case, (label, probabilities) in ANSWERS.items()
        for epsilon, probability in zip(GRID, probabilities, strict=True)
    ]  # fmt: skip
    for case, epsilon, probability in REFINED if refined else ():
        rows.append(response_row(case_id=case, epsilon=epsilon, probability=probability, on_grid=False))
    return rows


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return to_frame(counted())


@pytest.fixture(scope="module")
def small() -> Responses:
    return make_responses(**SMALL)


@pytest.fixture(scope="module")
def small_tables(small: Responses) -> dict[str, pd.DataFrame]:
    return build_tables(small)


@pytest.fixture(scope="module")
def run() -> Responses:
    return make_responses(cohorts={"xray-268": "xray"}, epsilons=(0.0, 1e-3, 3e-3, 9e-3, 0.08), n_cases=30)


def only(table: pd.DataFrame) -> dict[str, Any]:
    assert len(table) == 1
    return {str(name): value for name, value in table.iloc[0].items()}


# --- without attack


def test_clean_metrics_of_the_counted_frame(frame: pd.DataFrame) -> None:
    row = only(clean_metrics(frame))
    assert (row["n"], row["n_positive"], row["n_errors"]) == (4, 2, 0)
    assert pd.isna(row["n_patients"])
    expected = {"accuracy": 3 / 4, "sensitivity": 1, "specificity": 1 / 2, "precision": 2 / 3, "f1": 4 / 5, "auc": 1}
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["brier"] == pytest.approx((0.1**2 + 0.2**2 + 0.1**2 + 0.6**2) / 4)
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(tuple(map(float, wilson(3, 4))))
    assert (row["precision_low"], row["precision_high"]) == pytest.approx(tuple(map(float, wilson(2, 3))))
    assert np.isnan([row["sensitivity_low"], row["specificity_high"], row["auc_low"]]).all()  # of two images
    assert row["auc_method"] is None


def test_clean_metrics_and_confusion_equal_scikit_learn(run: Responses) -> None:
    clean = run.frame[
        (run.frame["epsilon"] == 0) & (run.frame["preset"] == "sound") & (run.frame["storage"] == "float")
    ]
    matrices = confusion(run.frame).set_index("model")
    for row in clean_metrics(run.frame).to_dict("records"):
        cases = clean[clean["model"] == row["model"]]
        label, predicted = cases["label"].to_numpy(int), cases["predicted"].to_numpy(int)
        logits = np.stack(cases["logits"].to_list()).astype(float)
        expected = {
            "n": 30,
            "n_patients": 15,
            "accuracy": accuracy_score(label, predicted),
            "sensitivity": recall_score(label, predicted),
            "specificity": recall_score(label, predicted, pos_label=0),
            "precision": precision_score(label, predicted),
            "f1": f1_score(label, predicted),
            "auc": roc_auc_score(label, logits[:, 1] - logits[:, 0]),
            "brier": brier_score_loss(label, np.stack(cases["probabilities"].to_list())[:, 1]),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected)
        assert row["auc_method"] == "Obuchowski, logit"
        assert row["auc_low"] < row["auc"] < row["auc_high"]
        cells = matrices.loc[row["model"], ["tn", "fp", "fn", "tp"]].to_list()
        assert cells == confusion_matrix(label, predicted).ravel().tolist()


def test_confusion_stands_beside_the_papers() -> None:
    rows = [{**row, "cohort": cohort, "modality": modality} for row in counted()
            for cohort, modality in (("xray-268", "xray"), ("covid-ct", "ct"))]  # fmt: skip
    table = confusion(to_frame(rows)).set_index("modality")
    assert table.loc["xray", ["tn", "fp", "fn", "tp"]].to_list() == [1, 1, 0, 2]
    assert table.loc["xray", ["paper_tn", "paper_fp", "paper_fn", "paper_tp"]].to_list() == [25, 1, 0, 28]
    assert table.loc["ct", ["paper_tn", "paper_tp"]].isna().all()  # not in its text


def test_the_sound_float_answer_speaks_for_a_case() -> None:
    kinds = [("paper", "float", 0.2), ("sound", "png8", 0.3), ("sound", "float", 0.9)]
    rows = [response_row(preset=preset, storage=storage, probability=value) for preset, storage, value in kinds]
    for kept, expected in ((3, 0.9), (2, 0.2), (1, 0.2)):
        for order in (rows[3 - kept :] if kept == 3 else rows[:kept], rows[:kept][::-1]):
            clean = clean_answers(answered(to_frame(order)))
            assert clean["probability"].to_list() == pytest.approx([expected])


def test_a_failed_case_is_counted_once_and_is_in_no_other_number(frame: pd.DataFrame) -> None:
    blank = ("epsilon", "on_grid", "logits", "probabilities", "predicted", "correct", "unchanged", "grad_zero")
    failed = [{**response_row(case_id="e", preset=preset, status="error", error="truncated"), **dict.fromkeys(blank)}
              for preset in ("paper", "sound")]  # fmt: skip
    with_error = to_frame(counted() + failed)
    assert only(clean_metrics(with_error))["n_errors"] == 1
    for table in (fgsm_accuracy, probability_drop, flip_epsilon, epsilon50, confusion, choose_exemplar):
        pd.testing.assert_frame_equal(table(with_error), table(frame))


def test_calibration_error_counted_by_hand() -> None:
    probability = np.array([0.95, 0.95, 0.6, 0.3])  # confidence 0.95, 0.95 (one bin), 0.6, 0.7
    gap = abs(1.9 - 1) + 0.4 + 0.3
    assert expected_calibration_error(probability, np.array([1.0, 0.0, 1.0, 1.0])) == pytest.approx(gap / 4)
    assert expected_calibration_error(np.array([0.0, 1.0]), np.ones(2)) == 0
    assert np.isnan(expected_calibration_error(np.empty(0), np.empty(0)))


def test_training_has_one_row_an_epoch(run: Responses) -> None:
    table = training(run.meta)
    for model in ("inception_v3", "vgg16"):
        assert table.loc[table["model"] == model, "epoch"].to_list() == list(range(1, 26))
    assert table["test_accuracy"].iloc[11] == pytest.approx(0.88 - 0.3 / 12 + 0.05)
    assert training({}).empty


# --- under attack


def test_accuracy_table_counted_by_hand(frame: pd.DataFrame) -> None:
    table = fgsm_accuracy(frame)
    expected = {
        "epsilon": [0, 0.003, 0.009], "n": [4, 4, 4], "correct": [3, 2, 3], "incorrect": [1, 2, 1],
        "accuracy": [0.75, 0.5, 0.75], "accuracy_envelope": [0.75, 0.5, 0.25], "unchanged_share": [1, 0.25, 0.25],
        "grad_zero_share": [0.25] * 3, "auc": [1, 0.5, 3.5 / 4], "sensitivity": [1, 0.5, 0.5],
        "specificity": [0.5, 0.5, 1],
    }  # fmt: skip
    for name, values in expected.items():
        assert table[name].to_list() == pytest.approx(values), name
    low, high = wilson([3, 2, 3], 4)
    assert table["ci_low"].to_list() == pytest.approx(low.tolist())
    assert table["ci_high"].to_list() == pytest.approx(high.tolist())
    assert table["paper_accuracy"].to_list() == pytest.approx([np.nan, 0.7407, 0.1667], nan_ok=True)


def test_curves_of_a_whole_run(run: Responses) -> None:
    table = accuracy_table(run)
    ok = run.frame[(run.frame["status"] == "ok") & run.frame["on_grid"].eq(True)]
    groups = dict(iter(ok.groupby(["model", "preset", "storage", "epsilon"])))
    assert len(table) == len(groups) == 2 * 3 * 5
    for row in table.to_dict("records"):
        cases = groups[row["model"], row["preset"], row["storage"], row["epsilon"]]
        logits = np.stack(cases["logits"].to_list()).astype(float)
        assert row["auc"] == pytest.approx(roc_auc_score(cases["label"].to_numpy(int), logits[:, 1] - logits[:, 0]))
        assert row["accuracy"] == pytest.approx(cases["correct"].astype(bool).mean())
        assert row["accuracy_envelope"] <= row["accuracy"] + 1e-12
    for _, curve in table.groupby(["model", "preset", "storage"]):
        assert (curve["accuracy_envelope"].diff().dropna() <= 0).all()


def test_probability_drop_counted_by_hand(frame: pd.DataFrame) -> None:
    table = probability_drop(frame)
    expected = {
        "epsilon": [0.003, 0.009], "n": [2, 2], "n_fixed": [3, 3], "n_all": [4, 4],
        "original": [0.9, 0.85], "adversarial": [0.8, 0.75], "decrease": [0.1, 0.1],  # a and c; b and c
        "original_fixed": [2.6 / 3] * 2, "adversarial_fixed": [1.9 / 3] * 2, "decrease_fixed": [0.7 / 3] * 2,
        "original_all": [0.75] * 2, "adversarial_all": [0.5, 0.625], "decrease_all": [0.25, 0.125],
    }  # fmt: skip
    for name, values in expected.items():
        assert table[name].to_list() == pytest.approx(values), name
    assert table[["decrease_low", "decrease_high"]].isna().all(axis=None)  # of two images
    by_case = {
        "_fixed": ([0.2, 0.5, 0], [0.5, 0.2, 0]),
        "_all": ([0.2, 0.5, 0, 0.3], [0.5, 0.2, 0, -0.2]),
    }  # a, b, c, d
    for suffix, decreases in by_case.items():
        for (_, row), values in zip(table.iterrows(), decreases, strict=True):
            expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
            bounds = row[f"decrease_low{suffix}"], row[f"decrease_high{suffix}"]
            assert bounds == pytest.approx((expected.low, expected.high))


def test_probability_drop_stands_beside_the_papers_and_survives_no_survivor() -> None:
    rows = [response_row(epsilon=0.0), response_row(epsilon=0.002, probability=0.1)]
    row = only(probability_drop(to_frame(rows)))
    assert (row["n"], row["n_fixed"], row["n_all"]) == (0, 1, 1)
    assert np.isnan([row["original"], row["adversarial"], row["decrease"], row["decrease_low"]]).all()
    assert row["decrease_fixed"] == pytest.approx(0.8)
    published = (row["paper_original"], row["paper_adversarial"], row["paper_decrease"])
    assert published == (0.984782, 0.867197, 0.117585)


def test_a_case_that_failed_at_one_epsilon_is_missing_there_only() -> None:
    rows = [row for row in counted() if (row["case_id"], row["epsilon"]) != ("b", 0.009)]
    table = probability_drop(to_frame(rows))
    assert table["n_all"].to_list() == [4, 3]
    assert table["decrease_fixed"].to_list() == pytest.approx([0.7 / 3, 0.5 / 2])


def test_flip_epsilon_from_grid_and_refinement(frame: pd.DataFrame) -> None:
    table = flip_epsilon(frame)
    assert table["case_id"].to_list() == list("abcd")
    assert table["correct_at_zero"].to_list() == [True, True, True, False]
    assert table["flip_epsilon"].to_list() == pytest.approx([0.006, 0.00225, np.nan, np.nan], nan_ok=True)
    assert table["uncertainty"].to_list() == pytest.approx([0.0015, 0.00075, np.nan, np.nan], nan_ok=True)
    assert table["censored"].to_list() == [False, False, True, False]
    coarse = flip_epsilon(to_frame(counted(refined=False)))
    assert coarse["flip_epsilon"].to_list() == pytest.approx([0.009, 0.003, np.nan, np.nan], nan_ok=True)
    assert coarse["uncertainty"].to_list()[:2] == pytest.approx([0.006, 0.003])


def test_flip_epsilons_of_a_whole_run_are_refined(small: Responses) -> None:
    table = flip_epsilon(small.frame)
    flipped = table[table["flip_epsilon"].notna() & (table["storage"] == "float")]
    assert len(flipped) > 10
    assert (flipped["uncertainty"] <= 1.01e-5).all()
    assert not (table["censored"] & ~table["correct_at_zero"]).any()


def test_epsilon50_counts_a_censored_image_as_infinite(frame: pd.DataFrame) -> None:
    row = only(epsilon50(frame))
    assert (row["n"], row["n_censored"], row["epsilon_max"]) == (3, 1, 0.009)
    assert row["epsilon50"] == pytest.approx(0.006)
    assert row["grey_levels"] == pytest.approx(0.006 * 255)
    assert np.isnan([row["epsilon50_low"], row["epsilon50_high"]]).all()  # of three images
    assert (row["censored"], row["low_censored"], row["high_censored"]) == (False, False, False)
    rows = counted() + [{**row, "case_id": f"{row['case_id']}2"} for row in counted() if row["case_id"] == "c"] * 1
    assert only(epsilon50(to_frame(rows)))["epsilon50"] == pytest.approx(0.006)  # the lower of the middle two
    rows += [{**row, "case_id": f"{row['case_id']}3"} for row in counted() if row["case_id"] == "c"]
    row = only(epsilon50(to_frame(rows)))
    assert row["censored"]
    assert np.isnan([row["epsilon50"], row["grey_levels"]]).all()


def test_the_exemplar_is_the_lower_median_of_the_positives(frame: pd.DataFrame) -> None:
    row = only(choose_exemplar(frame))
    assert (row["case_id"], row["flip_epsilon"], row["n_flipped"]) == ("b", 0.00225, 2)
    assert row["visible_epsilon"] == 0.009  # the paper's 0.08 is not on this grid
    swapped = [
        {**row, "label": 1 - row["label"], "predicted": 1 - row["predicted"]} for row in counted()
    ]  # then only negatives flip
    row = only(choose_exemplar(to_frame(swapped)))
    assert (row["case_id"], row["label"]) == ("b", 0)
    for none in (to_frame([row for row in counted() if row["case_id"] == "c"]), to_frame([])):
        assert choose_exemplar(none).empty
        assert list(choose_exemplar(none).columns) == list(choose_exemplar(frame).columns)


def test_exemplars_of_a_run_equal_the_factorys(run: Responses) -> None:
    table = choose_exemplar(run.frame)
    chosen = {(row["model"], row["preset"]): row["case_id"] for row in table.to_dict("records")}
    assert chosen == {(each["model"], each["preset"]): each["case_id"] for each in run.meta["exemplars"]}
    assert set(table["visible_epsilon"]) == {0.08}
    assert set(table["label"]) == {1}


# --- the paper's numbers


def test_published_numbers_are_those_printed() -> None:
    accuracy = paper.fgsm_accuracy().set_index(["modality", "model", "epsilon"])
    assert accuracy.loc[("xray", "vgg16", 0.003)].to_list() == [40, 14, 74.07]
    assert accuracy.loc[("xray", "inception_v3", 0.01)].to_list() == [30, 24, 55.56]
    assert accuracy.loc[("ct", "vgg16", 0.0)].to_list() == [126, 24, 84.00]
    assert accuracy.loc[("ct", "inception_v3", 0.0009)].to_list() == [52, 98, 34.67]
    drop = paper.probability_drop().set_index(["modality", "model", "epsilon"])
    assert drop.loc[("xray", "vgg16", 0.008)].to_list() == [0.997023, 0.753577, 0.243445]
    assert drop.loc[("ct", "inception_v3", 0.004)].to_list() == [0.99249, 0.973294, 0.019196]
    assert paper.cohorts().set_index("modality").loc["ct"].to_list() == [349, 397, 746]
    assert paper.confusion().set_index("model").loc["inception_v3"].to_list() == ["xray", 25, 0, 0, 28]
    assert paper.pictures().set_index(["modality", "model"]).loc[("ct", "inception_v3")].to_list() == [0.0007, 0.09]


def test_published_numbers_agree_with_each_other() -> None:
    accuracy = paper.fgsm_accuracy()
    assert len(accuracy) == 46
    total = accuracy["correct"] + accuracy["incorrect"]
    assert (total == accuracy["modality"].map({"xray": 54, "ct": 150})).all()
    assert (accuracy["accuracy_pct"] - 100 * accuracy["correct"] / total).abs().max() < 0.01
    drop = paper.probability_drop()
    assert len(drop) == 36
    assert (drop["original"] - drop["adversarial"] - drop["decrease"]).abs().max() < 2e-6


def test_published_numbers_cannot_be_changed_by_a_caller() -> None:
    table = paper.fgsm_accuracy()
    table["correct"] = 0
    assert paper.fgsm_accuracy()["correct"].max() == 126


def test_doses_match_in_spite_of_rounding() -> None:
    table = pd.DataFrame({"modality": ["xray"] * 2, "model": ["vgg16"] * 2, "epsilon": [0.1 * 0.03, 0.0031]})
    beside = paper.beside(table, paper.fgsm_accuracy())
    assert beside["accuracy_pct"].to_list() == pytest.approx([74.07, np.nan], nan_ok=True)
    assert beside["epsilon"].to_list() == table["epsilon"].to_list()


# --- files


def test_files_hold_the_tables_and_are_the_same_every_time(
    small: Responses, small_tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    tables = small_tables
    assert tables.keys() < CAPTIONS.keys()
    write_tables(tables, tmp_path / "one")
    write_tables(build_tables(small), tmp_path / "two")
    written = {file.name for file in (tmp_path / "one").iterdir()}
    assert {f"{name}.csv" for name in tables} | {"fgsm_accuracy.tex", "epsilon50.tex"} <= written
    for file in written:
        one, two = ((tmp_path / folder / file).read_bytes() for folder in ("one", "two"))
        assert one == two
        assert b"\r" not in one
    for name, table in tables.items():
        read = pd.read_csv(tmp_path / "one" / f"{name}.csv")
        assert list(read.columns) == list(table.columns)
        for column in table.select_dtypes("number"):
            assert read[column].to_list() == pytest.approx(table[column].astype(float).to_list(), rel=1e-9, nan_ok=True)


@pytest.mark.slow  # all tables of runs with attacks and seeds
def test_a_run_with_attacks_and_seeds_has_every_table(tmp_path: Path) -> None:
    """With the same bytes each time: see `test_a_redrawn_run_with_attacks_gives_the_same_bytes`."""
    run = make_responses(**SMALL, attacks=("pgd", "random_sign"), transfers=("pgd",), repeats=2, visibility=True)
    tables = build_tables(run)
    assert tables.keys() == CAPTIONS.keys() - {
        *Classes.captions,
        *SeveralFindings.captions,
        *DataAuditSection.captions,
        *Defences.captions,
        *Physical.captions,
        *Evidence.captions,
        *Subgroups.captions,
    }
    write_tables(tables, tmp_path)
    for name, table in tables.items():
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) == len(table) > 0


# --- something missing


def test_one_class_leaves_its_metrics_null(run: Responses) -> None:
    for label, absent in ((0, ["sensitivity", "auc"]), (1, ["specificity", "auc"])):
        frame = run.frame[run.frame["label"] == label]
        assert clean_metrics(frame)[[*absent, "auc_low"]].isna().all(axis=None)
        assert fgsm_accuracy(frame)[absent].isna().all(axis=None)


def test_a_label_that_is_no_class_is_refused_in_one_sentence() -> None:
    row = response_row(logits=[0.0, 1.0, 2.0], probabilities=[0.1, 0.2, 0.7], label=3, predicted=2)
    with pytest.raises(DosimeterError, match="1 of its values are wrong: a label that is no class of 3"):
        answered(to_frame([row]))
