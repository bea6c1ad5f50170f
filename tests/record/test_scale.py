"""Large tables: read leanly with the same values, merged into few row groups, reported in little space."""

import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sketches
from response_factory import make_responses, write_large_run

from dosimeter.analysis.base import answered, groups, places
from dosimeter.analysis.clean import clean_metrics
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.evaluation import evaluate
from dosimeter.analysis.flips import flip_epsilon
from dosimeter.analysis.storage import deployed_epsilon, survival
from dosimeter.analysis.visibility import safe_magnitudes, visibility
from dosimeter.errors import DosimeterError
from dosimeter.presentation.style import save
from dosimeter.record import table as responses
from dosimeter.record.compact import apart
from dosimeter.report import redraw
from dosimeter.report.build import build_tables
from dosimeter.sections.figures.training import roc_curves

EPSILONS = (0.0, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3, 9e-3)
N_CASES = 6_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 60,000 rows, drawn."""
    folder = tmp_path_factory.mktemp("large") / "run"
    write_large_run(folder, n_cases=N_CASES, epsilons=EPSILONS)
    with sketches.drawn():
        redraw(folder)
    return folder


def test_a_report_of_thousands_of_images_stays_small(folder: Path) -> None:
    assert (folder / "report.html").stat().st_size < 1_000_000
    assert max(path.stat().st_size for path in (folder / "figures").iterdir()) < 200_000
    assert not (folder / "tables" / "flip_epsilon.tex").exists()  # a row an image is too long for a paper
    assert max(path.stat().st_size for path in (folder / "tables").glob("*.tex")) < 50_000
    assert len(pd.read_csv(folder / "tables" / "flip_epsilon.csv")) == N_CASES


def test_its_numbers_are_those_of_the_rows(folder: Path) -> None:
    frame = responses.read(folder / "responses.parquet").frame
    curves = pd.read_csv(folder / "tables" / "fgsm_accuracy.csv").set_index("epsilon")
    np.testing.assert_allclose(curves["accuracy"], frame.groupby("epsilon")["correct"].mean())
    right = frame.loc[(frame["epsilon"] == 0) & frame["correct"], "case_id"]
    wrong = frame[~frame["correct"] & frame["case_id"].isin(right)].groupby("case_id")["epsilon"].min()
    flips = pd.read_csv(folder / "tables" / "flip_epsilon.csv").dropna(subset="flip_epsilon").set_index("case_id")
    assert flips["flip_epsilon"].to_dict() == pytest.approx(wrong.to_dict())
    median = pd.read_csv(folder / "tables" / "epsilon50.csv").iloc[0]
    assert median["epsilon50"] == np.sort(wrong.reindex(right).fillna(np.inf))[(len(right) - 1) // 2]


LEAN = pytest.mark.skipif(pd.__version__ < "3", reason="pandas 2 keeps an index of numbers beside every table")


@LEAN
def test_a_table_is_read_leanly_and_with_the_same_values(folder: Path) -> None:
    file = folder / "responses.parquet"
    whole, lean = responses.read(file), responses.read_compact(file)
    assert lean.meta == whole.meta == responses.read_meta(file)
    assert lean.frame.memory_usage().sum() / len(lean.frame) < 172  # bytes a row, of which 48 are visibility and doses
    assert lean.frame.equals(apart(responses.compact(whole.frame))[0])
    logits, probabilities = (np.stack(whole.frame[name].to_list()) for name in ("logits", "probabilities"))
    np.testing.assert_array_equal(lean.frame["score"], logits[:, 1].astype(float) - logits[:, 0])
    np.testing.assert_array_equal(lean.frame["probability"], probabilities[:, 1])
    for name in ("case_id", "patient_id", "label", "epsilon", "correct", "predicted", "seed"):
        assert lean.frame[name].to_list() == whole.frame[name].to_list()
    parts = sorted((folder / "parts").iterdir())
    assert apart(responses.read_parts(parts))[0].equals(lean.frame)


ANALYSES = (
    *(clean_metrics, fgsm_accuracy, flip_epsilon, survival, deployed_epsilon),
    *(visibility, safe_magnitudes, evaluate),
)


@pytest.fixture(scope="module")
def curves(folder: Path) -> pd.DataFrame:
    """The rows of the run as three curves of one classifier."""
    rows = responses.read_compact(folder / "responses.parquet").frame
    rows = rows.assign(rms=rows["linf"], jnd_p95=600 * rows["linf"])
    names = [("paper", "float"), ("sound", "float"), ("sound", "png8")]
    frame = pd.concat([rows.assign(preset=preset, storage=storage) for preset, storage in names])
    return frame.astype({"preset": "category", "storage": "category"})


@LEAN
@pytest.mark.parametrize("analyse", ANALYSES, ids=lambda analyse: analyse.__name__)
def test_an_analysis_takes_less_memory_than_the_table(
    analyse: Callable[[pd.DataFrame], pd.DataFrame], curves: pd.DataFrame
) -> None:
    tracemalloc.start()
    try:
        table = analyse(curves)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(table)
    assert peak < curves.memory_usage().sum()


@pytest.mark.parametrize("patients", ["all", "some", "none"])
def test_compact_rows_of_a_run_with_gaps(patients: str) -> None:
    frame = make_responses(cohorts={"b": "", "a": "ct"}, models=("vgg16",), epsilons=(0.0, 0.01), n_cases=6).frame
    known = {"all": frame["label"] >= 0, "some": frame["label"] == 1, "none": frame["label"] < 0}[patients]
    frame = frame.assign(
        modality=frame["modality"].where(frame["cohort"] == "a"),
        patient_id=frame["patient_id"].where(known),
    )
    rows = responses.compact(frame)
    assert rows["cohort"].to_list() == frame["cohort"].to_list()
    assert rows["cohort"].cat.categories.to_list() == ["a", "b"]
    assert set(rows.loc[rows["cohort"] == "b", "modality"]) == {""}
    assert rows["cluster"].to_list() == frame["patient_id"].fillna(frame["case_id"]).to_list()
    failed = rows[rows["status"] != "ok"].iloc[0]
    assert (failed["predicted"], failed["correct"], failed["on_grid"]) == (-1, False, False)
    assert np.isnan(failed[["epsilon", "score", "probability", "unchanged"]].to_numpy(float)).all()
    assert responses.compact(rows) is rows
    assert len(answered(rows)) == len(answered(frame)) == len(frame) - 1


def test_groups_come_in_order_and_lack_nothing() -> None:
    rows = answered(make_responses(epsilons=(0.0, 0.01), n_cases=6).frame.sample(frac=1, random_state=0))
    keys = ["cohort", "preset", "storage"]
    found = [(tuple(names.values()), len(group)) for names, group in groups(rows, keys)]
    expected = rows[keys].astype(str).value_counts().sort_index()
    assert found == list(expected.items())
    clean = rows[rows["epsilon"] == 0].drop_duplicates("case_id").iloc[1:]
    place = places(rows["case_id"], clean["case_id"])
    assert (place == -1).sum() > 0
    known = clean["case_id"].to_list()
    assert [known.index(case) if case in known else -1 for case in rows["case_id"]] == place.tolist()


def test_many_small_parts_become_few_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "ROW_GROUP", 100)
    write_large_run(tmp_path / "run", n_cases=48, epsilons=EPSILONS[:4], part=4)  # 12 parts of 16 rows
    parts = sorted((tmp_path / "run" / "parts").iterdir())
    merged = tmp_path / "merged.parquet"
    meta = responses.read_meta(tmp_path / "run" / "responses.parquet")
    responses.merge_parts(parts, merged, {**meta, "run_id": "r"})
    metadata = pq.read_metadata(merged)
    assert [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)] == [112, 80]
    frame = responses.read(merged).frame
    expected = pd.concat([responses.read_part(part) for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(frame, expected.assign(run_id="r").astype(frame.dtypes))
    pd.testing.assert_frame_equal(responses.read_compact(merged).frame, apart(responses.compact(expected))[0])
    assert [part.stem for part in parts] == sorted(part.stem for part in parts)
    assert all(one <= other for one, other in pairwise(frame["case_id"]))


@pytest.mark.parametrize("read", [responses.read, responses.read_compact])
def test_a_table_cut_short_is_refused(read, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    cut = tmp_path / "cut.parquet"
    content = (folder / "responses.parquet").read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(DosimeterError, match="is damaged"):
        read(cut)
    cut.write_bytes(content[:4] + bytes(1000) + content[1004:])  # the footer is whole, the rows are not
    with pytest.raises(DosimeterError, match="is damaged"):
        read(cut)


def test_a_roc_curve_of_fifty_thousand_images_is_a_small_drawing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 50_000)
    answers = pd.DataFrame({"model": "vgg16", "label": label, "positive": 1, "score": rng.normal(label, 1.0)})
    clean = pd.DataFrame({"model": ["vgg16"], "auc": [0.76], "auc_low": [0.75], "auc_high": [0.77]})
    svg, _ = save(roc_curves(answers, clean), tmp_path / "roc")
    assert svg.stat().st_size < 200_000


def test_tables_are_the_same_from_whole_and_from_compact_rows() -> None:
    run = make_responses(
        cohorts={"covid-ct": "ct"}, protocols=("paper", "official"), epsilons=(0.0, 1e-3, 9e-3, 0.08), n_cases=10
    )
    lean = responses.Responses(responses.compact(run.frame), run.meta)
    expected = build_tables(run)
    for name, table in build_tables(lean).items():
        pd.testing.assert_frame_equal(table, expected[name])
