"""The table of any number of classes, and of classifiers that share a name: what `compact` makes of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from response_factory import class_row, make_responses, response_row

from dosimeter.analysis.attacks import robust_accuracy, transfer
from dosimeter.analysis.clean import clean_metrics
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.flips import epsilon50
from dosimeter.analysis.paired import paired
from dosimeter.analysis.susceptibility import rank_agreement
from dosimeter.errors import DosimeterError
from dosimeter.record import table as responses
from dosimeter.record.compact import apart, compact
from dosimeter.record.schema import SCHEMA_3
from dosimeter.record.scores import class_probabilities, class_scores
from dosimeter.record.table import SCHEMA, to_frame
from dosimeter.report.build import build_tables


def test_three_classes_become_margin_truth_and_scores() -> None:
    rows = compact(to_frame([class_row([2.0, 1.0, 0.0], 0), class_row([2.0, 1.0, 0.0], 2, case_id="b")]))
    assert rows["margin"].tolist() == [1.0, -2.0]
    odds = np.exp([2.0, 1.0, 0.0])
    assert rows["truth"].tolist() == pytest.approx([odds[0] / odds.sum(), odds[2] / odds.sum()])
    expected = [2 - np.log(odds[1:].sum()), 1 - np.log(odds[0] + odds[2]), -np.log(odds[:2].sum())]
    assert class_scores(rows).tolist() == [pytest.approx(expected)] * 2
    assert class_probabilities(rows)[0].tolist() == pytest.approx((odds / odds.sum()).tolist())
    assert rows["positive"].tolist() == [-1, -1]
    assert rows[["score", "probability"]].isna().all(axis=None)


def test_a_declared_positive_class_has_score_and_probability() -> None:
    rows = compact(to_frame([class_row([2.0, 1.0, 0.0], 0, positive=1)]))
    odds = np.exp([2.0, 1.0, 0.0])
    assert float(rows["probability"][0]) == pytest.approx(odds[1] / odds.sum())
    assert float(rows["score"][0]) == pytest.approx(class_scores(rows)[0, 1])


def test_of_two_classes_the_second_is_positive() -> None:
    frame = to_frame([response_row(probability=0.8, label=0), response_row(probability=0.3, label=1, case_id="b")])
    rows = compact(frame)
    assert rows["positive"].tolist() == [1, 1]
    assert rows["truth"].tolist() == [1 - 0.8, 0.3]
    np.testing.assert_array_equal(class_scores(rows), np.stack([-rows["score"], rows["score"]], axis=1))
    assert class_probabilities(rows)[:, 1].tolist() == [0.8, 0.3]
    assert rows["margin"].to_numpy() == pytest.approx(np.where(rows["label"] == 1, 1, -1) * rows["score"])


def test_scores_stay_finite_where_probabilities_saturate() -> None:
    rows = compact(to_frame([class_row([900.0, 0.0, -900.0], 0)]))
    assert class_scores(rows)[0].tolist() == pytest.approx([900.0, -900.0, -1800.0])
    assert class_probabilities(rows)[0].tolist() == [1.0, 0.0, 0.0]


def test_a_hundred_and_thirty_classes_are_written_and_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        class_row(rng.normal(size=130).astype(np.float32).tolist(), label, case_id=f"{label:05d}", cell_id="c")
        for label in range(130)
    ]
    part = tmp_path / "c.parquet"
    responses.write_part(rows, part)
    assert responses.is_done(part)
    compacted = responses.read_parts([part])
    assert compacted["label"].tolist() == list(range(130))
    assert set(compacted["n_classes"]) == {130}
    assert class_scores(compacted).shape == (130, 130)
    assert compacted["predicted"].tolist() == [int(np.argmax(row["logits"])) for row in rows]


def test_tables_of_several_numbers_of_classes_stand_together() -> None:
    frame = to_frame([response_row(cohort="a"), class_row([1.0, 0.0, 2.0], 2, cohort="b")])
    rows = compact(frame)
    assert rows["n_classes"].tolist() == [2, 3]
    assert rows["scores"].isna().tolist() == [True, False]
    assert fgsm_accuracy(frame)["accuracy"].tolist() == [1.0, 1.0]


def _as_version_3(table: pa.Table) -> pa.Table:
    return table.select(SCHEMA_3.names).cast(SCHEMA_3)


def test_a_part_of_version_3_is_still_done_and_read(tmp_path: Path) -> None:
    new, old = tmp_path / "cell.parquet", tmp_path / "old" / "cell.parquet"
    old.parent.mkdir()
    responses.write_part([response_row(cell_id="cell")], new)
    table = _as_version_3(pq.read_table(new))
    pq.write_table(table.replace_schema_metadata({responses.DIGEST_KEY: responses._digest(table)}), old)
    assert responses.is_done(old)
    pd.testing.assert_frame_equal(responses.read_parts([old]), responses.read_parts([new]))


def test_a_table_of_version_3_is_still_read(tmp_path: Path) -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",), n_cases=12, presets=("sound",))
    table = _as_version_3(pa.Table.from_pandas(run.frame, schema=SCHEMA, preserve_index=False))
    file = tmp_path / "responses.parquet"
    payload = responses._payload({**run.meta, "schema_version": 3, "n_rows": len(table)}, file)
    pq.write_table(table.replace_schema_metadata({responses.METADATA_KEY: payload}), file)
    pd.testing.assert_frame_equal(responses.read_compact(file).frame, apart(compact(run.frame))[0])
    assert responses.read(file).frame["decision"].isna().all()


# --- one name, two classifiers


@pytest.fixture(scope="module")
def twice() -> pd.DataFrame:
    """Twelve images, answered by two classifiers that are both called vgg16."""
    options = {"cohorts": {"xray-268": "xray"}, "n_cases": 12, "presets": ("sound",), "attacks": ("pgd", "bim")}
    one = make_responses(**options, models=("vgg16",), refine=False, error_row=False).frame
    other = make_responses(**options, models=("inception_v3",), refine=False, error_row=False).frame
    return pd.concat([one.assign(classifier="vgg16-aaaa"), other.assign(model="vgg16", classifier="vgg16-bbbb")])


def test_two_classifiers_of_one_name_are_not_pooled(twice: pd.DataFrame) -> None:
    names = ["vgg16-aaaa", "vgg16-bbbb"]
    for analyse in (clean_metrics, fgsm_accuracy, epsilon50, robust_accuracy):
        table = analyse(twice)
        assert sorted(table["model"].unique()) == names
        assert table["n"].max() <= 12
    assert set(clean_metrics(twice)["n"]) == {12}
    assert set(paired(twice).query("compared == 'classifiers'")["against"]) == {"vgg16-bbbb"}
    assert set(rank_agreement(twice)["other"]) == {"vgg16-bbbb"}


def test_each_seed_may_have_its_own_classifier(twice: pd.DataFrame) -> None:
    seeds = twice.assign(seed=np.where(twice["classifier"] == "vgg16-aaaa", 0, 1))
    assert set(compact(seeds)["model"]) == {"vgg16"}


def test_images_made_on_one_of_two_follow_its_name(twice: pd.DataFrame) -> None:
    pgd = twice[twice["preset"] == "pgd"]
    moved = pgd[pgd["classifier"] == "vgg16-bbbb"].assign(made_on="vgg16", maker="vgg16-aaaa", preset="pgd from vgg16")
    table = transfer(pd.concat([twice, moved]))
    assert set(zip(table["made_on"], table["model"], strict=True)) == {
        ("vgg16-aaaa", "vgg16-bbbb"), ("vgg16-aaaa", "vgg16-aaaa"), ("vgg16-bbbb", "vgg16-bbbb"),
    }  # fmt: skip
    assert "pgd from vgg16-aaaa" in set(compact(pd.concat([twice, moved]))["preset"])


def test_a_defended_classifier_is_not_pooled_with_the_undefended(twice: pd.DataFrame) -> None:
    defended = twice.assign(model="vgg16", defence=np.where(twice["classifier"] == "vgg16-aaaa", "none", "blur"))
    table = clean_metrics(defended)
    assert table[["model", "defence", "n"]].to_numpy().tolist() == [["vgg16", "blur", 12], ["vgg16", "none", 12]]


@pytest.mark.slow  # all tables of two runs with attacks, one of two decisions
def test_decisions_are_not_pooled() -> None:
    run = make_responses(
        cohorts={"xray-268": "xray"}, presets=("sound",), attacks=("pgd", "random_sign"), n_cases=12,
        epsilons=(0.0, 1e-3, 3e-3, 9e-3), refine=False,
    )  # fmt: skip
    frame = pd.concat([run.frame.assign(decision="edema"), run.frame.assign(decision="nodule")])
    plain, found = build_tables(run), build_tables(replace(run, frame=frame))
    for name, table in plain.items():
        if "model" not in table or name in ("training", "taxonomy"):
            continue
        for finding in ("edema", "nodule"):
            mine = found[name][found[name]["decision"] == finding].drop(columns="decision")
            pd.testing.assert_frame_equal(mine.reset_index(drop=True), table, obj=name)


def test_logits_and_probabilities_must_go_together() -> None:
    with pytest.raises(DosimeterError, match="different lengths"):
        compact(to_frame([response_row(logits=[0.0, 1.0, 2.0])]))
