"""Analyses of more than two classes, against tables worked out by hand and scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from response_factory import class_row, make_responses
from sklearn.metrics import roc_auc_score, top_k_accuracy_score

from dosimeter.analysis.attacks import class_flips, robust_accuracy
from dosimeter.analysis.auc import auc_interval, macro_auc_interval
from dosimeter.analysis.base import answered
from dosimeter.analysis.classes import (
    MACRO_LABEL,
    class_auc,
    class_recall,
    confusion_by_class,
    flips_by_class,
    macro_recall,
    top_k,
)
from dosimeter.analysis.clean import clean_metrics, confusion, expected_calibration_error
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.drops import probability_drop
from dosimeter.analysis.exemplars import choose_exemplar
from dosimeter.analysis.intervals import wilson
from dosimeter.analysis.worst_case import with_worst_case
from dosimeter.record.compact import compact
from dosimeter.record.table import Responses, to_frame
from dosimeter.report.build import build_tables

# By image: its class, and what is answered at epsilon 0 and 0.1 by one attack, and at 0.1 by another.
IMAGES = [
    (0, 0, 0, 0),
    (0, 0, 1, 0),
    (0, 0, 2, 1),
    (0, 1, 1, 1),
    (1, 1, 1, 2),
    (1, 1, 2, 1),
    (2, 2, 2, 2),
    (2, 0, 0, 0),
]


def _logits(predicted: int, image: int) -> list[float]:
    logits = [0.1 * image, 0.05, -0.2]
    logits[predicted] = 2.0 + 0.25 * image
    return logits


def _rows(attack: str, at: int, **columns: object) -> list[dict[str, object]]:
    return [
        class_row(
            _logits(answers[0] if epsilon == 0 else answers[at], image), label, case_id=f"{image:05d}",
            epsilon=epsilon, preset=attack, attack=attack, **columns,
        )
        for image, (label, *answers) in enumerate(IMAGES)
        for epsilon in (0.0, 0.1)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return to_frame([*_rows("pgd", 1), *_rows("square", 2)])


def test_who_is_taken_for_whom(frame: pd.DataFrame) -> None:
    table = confusion_by_class(frame).pivot_table(index="label", columns="predicted", values="images")
    assert table.to_numpy().tolist() == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert confusion(frame).empty  # which needs a positive class


def test_recall_of_each_class_and_their_mean(frame: pd.DataFrame) -> None:
    pgd = class_recall(frame).query("preset == 'pgd' and epsilon == 0.1").set_index("label")
    assert pgd["n"].tolist() == [4, 2, 2]
    assert pgd["recall"].tolist() == [0.25, 0.5, 0.5]
    assert (pgd.loc[0, "recall_low"], pgd.loc[0, "recall_high"]) == pytest.approx(tuple(map(float, wilson(1, 4))))
    macro = macro_recall(frame).set_index(["preset", "epsilon"])
    assert macro.loc[("pgd", 0.1), "macro_recall"] == pytest.approx((0.25 + 0.5 + 0.5) / 3)
    assert macro.loc[("pgd", 0.0), "macro_recall"] == pytest.approx((0.75 + 1 + 0.5) / 3)
    assert macro.loc[("pgd", 0.1), ["lowest_recall", "lowest_label"]].tolist() == [0.25, 0]
    assert set(macro["n_classes"]) == {3}


def test_the_worst_case_answers_what_the_breaking_attack_leads_to(frame: pd.DataFrame) -> None:
    flips = flips_by_class(frame).query("preset == 'worst case'")
    found = {(row.label, row.predicted): (row.flipped, row.n) for row in flips.itertuples()}
    assert found == {(0, 1): (1, 3), (0, 2): (1, 3), (1, 2): (2, 2)}
    worst = robust_accuracy(frame).query("preset == 'worst case' and epsilon == 0.1").iloc[0]
    assert (worst["correct"], worst["n"]) == (2, 8)
    assert macro_recall(frame).query("preset == 'worst case'")["macro_auc"].isna().all()


def test_flips_by_class_add_up_to_those_of_the_class(frame: pd.DataFrame) -> None:
    by_class = flips_by_class(frame).groupby(["preset", "label"])["flipped"].sum()
    together = class_flips(frame).set_index(["preset", "label"])["flipped"]
    assert by_class.to_dict() == together[together > 0].to_dict()
    assert set(class_flips(frame)["direction"]) == {""}


def test_of_two_classes_the_worst_case_answers_the_other() -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, attacks=("pgd", "bim", "square"), n_cases=24)
    rows = with_worst_case(answered(run.frame)).query("preset == 'worst case'")
    assert not rows["correct"].all()
    expected = np.where(rows["correct"], rows["label"], 1 - rows["label"])
    np.testing.assert_array_equal(rows["predicted"], expected)


def test_areas_are_those_of_scikit_learn(frame: pd.DataFrame) -> None:
    clean = compact(frame).query("epsilon == 0 and preset == 'pgd'")
    probabilities = np.exp([_logits(answers[1], image) for image, answers in enumerate(IMAGES)])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    table = class_auc(frame).set_index("label")
    for place in range(3):
        assert table.loc[place, "auc"] == pytest.approx(roc_auc_score(clean["label"] == place, probabilities[:, place]))
    expected = roc_auc_score(clean["label"], probabilities, multi_class="ovr", average="macro")
    assert table.loc[MACRO_LABEL, "auc"] == pytest.approx(expected)
    assert macro_recall(frame).query("preset == 'pgd' and epsilon == 0")["macro_auc"].iloc[0] == pytest.approx(expected)


def test_the_mean_of_one_area_has_the_interval_of_that_area() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2
    score = label + rng.normal(size=60)
    both = macro_auc_interval(label, np.stack([-score, score], axis=1), np.arange(60))
    one = auc_interval(label, score, np.arange(60))
    assert both.auc == pytest.approx(one.auc)
    assert (both.low, both.high) == pytest.approx((one.low, one.high), abs=0.01)  # t's quantile, and 60 for 30 patients


def test_the_mean_area_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    large = np.arange(30_000) % 3
    truth = macro_auc_interval(large, rng.normal(size=(len(large), 3)) + np.eye(3)[large], large).auc
    label, inside = np.arange(90) % 3, 0
    for _ in range(200):
        found = macro_auc_interval(label, rng.normal(size=(90, 3)) + np.eye(3)[label], np.arange(90))
        inside += found.low <= truth <= found.high
    assert 180 <= inside <= 199


def test_top_k_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    label = np.arange(40) % 7
    logits = rng.normal(size=(40, 7)).astype(np.float32)
    rows = [class_row(each.tolist(), int(one), case_id=f"{place:05d}") for place, (each, one) in
            enumerate(zip(logits, label, strict=True))]  # fmt: skip
    table = top_k(to_frame(rows))
    assert table["k"].tolist() == [1, 2, 3, 4, 5]
    expected = [top_k_accuracy_score(label, logits, k=k, labels=range(7)) for k in table["k"]]
    assert table["accuracy"].tolist() == pytest.approx(expected)


def test_top_k_stops_below_the_number_of_classes(frame: pd.DataFrame) -> None:
    assert top_k(frame)["k"].tolist() == [1, 2]


def test_clean_metrics_by_their_definitions(frame: pd.DataFrame) -> None:
    logits = np.array([_logits(answers[1], image) for image, answers in enumerate(IMAGES)])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = np.array([answers[0] for answers in IMAGES])
    row = clean_metrics(frame).iloc[0]
    assert (row["n"], row["accuracy"]) == (8, 0.75)
    assert row["brier"] == pytest.approx(float(((probabilities - np.eye(3)[label]) ** 2).sum(axis=1).mean()), rel=1e-5)
    right = (probabilities.argmax(axis=1) == label).astype(float)
    assert row["ece"] == pytest.approx(expected_calibration_error(probabilities, right), rel=1e-5)
    assert row[["n_positive", "sensitivity", "specificity", "precision", "f1", "auc"]].isna().all()


def test_a_declared_positive_class_stands_against_all_others(frame: pd.DataFrame) -> None:
    declared = frame.assign(positive=1)
    row = clean_metrics(declared).iloc[0]
    assert row[["n_positive", "sensitivity", "specificity"]].tolist() == [2, 1.0, 5 / 6]
    counts = confusion(declared).iloc[0]
    assert counts[["tn", "fp", "fn", "tp"]].tolist() == [5, 1, 0, 2]
    curve = fgsm_accuracy(declared).query("preset == 'pgd' and epsilon == 0.1").iloc[0]
    assert (curve["sensitivity"], curve["specificity"]) == (0.5, 4 / 6)
    directions = class_flips(declared).drop_duplicates("label").set_index("label")["direction"]
    assert directions.to_dict() == {0: "", 1: "from positive", 2: ""}
    assert set(choose_exemplar(declared)["label"]) == {1}


def test_the_drop_is_of_the_true_class(frame: pd.DataFrame) -> None:
    fgsm = to_frame(_rows("fgsm", 1))
    drop = probability_drop(fgsm).iloc[0]
    probabilities = [
        (np.exp(_logits(answers[at], image)) / np.exp(_logits(answers[at], image)).sum())[answers[0]]
        for at in (1, 2)
        for image, answers in enumerate(IMAGES)
    ]
    assert (drop["n_all"], drop["original_all"], drop["adversarial_all"]) == pytest.approx(
        (8, np.mean(probabilities[:8]), np.mean(probabilities[8:]))
    )


def test_every_table_of_three_classes_is_built(frame: pd.DataFrame) -> None:
    study = to_frame(
        [
            *_rows(
                "sound",
                1,
            ),
            *_rows("pgd", 1),
            *_rows("square", 2),
        ]
    )
    tables = build_tables(Responses(study, {}))
    assert {"confusion_by_class", "class_auc", "top_k", "class_recall", "macro_recall", "flips_by_class"} <= set(tables)
    assert tables["fgsm_accuracy"]["auc"].isna().all()
    assert "evaluation" in tables["class_recall"]
    assert "evaluation" not in tables["top_k"]


def test_tables_of_two_classes_have_none_of_it() -> None:
    tables = build_tables(make_responses(cohorts={"xray-268": "xray"}, n_cases=12))
    assert not {"confusion_by_class", "class_recall", "flips_by_class"} & set(tables)


def test_patients_widen_the_interval_of_a_class(frame: pd.DataFrame) -> None:
    many = pd.concat([frame.assign(case_id=frame["case_id"] + f"-{copy}") for copy in range(6)])
    clustered = many.assign(patient_id=many["case_id"].str[:5])
    query = "preset == 'pgd' and epsilon == 0.1"
    wide, narrow = (macro_recall(each).query(query).iloc[0] for each in (clustered, many))
    assert wide["macro_recall"] == pytest.approx(narrow["macro_recall"])
    spread = [each["macro_recall_high"] - each["macro_recall_low"] for each in (wide, narrow)]
    assert spread[0] > spread[1] or np.isnan(spread[0])
