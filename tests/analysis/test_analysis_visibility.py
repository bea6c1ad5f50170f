"""What the rows say of visibility, and what the report makes of it; on synthetic rows with closed forms."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from response_factory import EPSILONS, make_responses, response_row

from dosimeter.analysis.visibility import (
    METRICS,
    NOT_MEASURED,
    displays,
    reader_sentence,
    safe_magnitudes,
    statements,
    visibility,
)
from dosimeter.record.table import Responses, read_compact, to_frame
from dosimeter.report.build import build_tables
from dosimeter.report.figures import write_figures
from dosimeter.report.html import render
from dosimeter.report.summary import summarise
from dosimeter.visibility.gsdf import DISPLAYS, REFERENCE, jnd_span


@pytest.fixture(scope="module")
def run() -> Responses:
    return make_responses(cohorts={"xray-268": "xray"}, visibility=True)


def rows_of(doses: dict[float, tuple[float, float, float]]) -> pd.DataFrame:
    """Rows of four cases, by epsilon: share answered wrongly, jnd_p95 and noise_ratio."""
    rows = []
    for epsilon, (wrong, jnd, noise) in {0.0: (0.0, 0.0, 0.0), **doses}.items():
        for case in range(4):
            seen = {"linf": epsilon, "rms": epsilon, "jnd_p95": jnd, "noise_ratio": noise}
            probability = 0.1 if case < 4 * wrong else 0.9
            row = response_row(case_id=f"{case}", epsilon=epsilon, probability=probability, **seen)
            rows.append(row)
    return to_frame(rows)


def test_medians_and_quartiles_are_those_of_the_images(run: Responses) -> None:
    table = visibility(run.frame)
    assert set(table["metric"]) == set(METRICS)
    assert 0 not in set(table["epsilon"])
    frame = run.frame
    mine = frame[(frame.model == "vgg16") & (frame.preset == "sound") & (frame.storage == "float") & frame.on_grid]
    names = {"model": "vgg16", "preset": "sound", "storage": "float", "epsilon": 0.009}
    found = table[np.logical_and.reduce([table[key] == value for key, value in names.items()])].set_index("metric")
    at = mine[(mine.epsilon == 0.009) & (mine.status == "ok")]
    for metric in METRICS:
        assert found.loc[metric, "n"] == at[metric].notna().sum() == 24
        assert found.loc[metric, "median"] == pytest.approx(np.median(at[metric]), rel=1e-6)
        assert found.loc[metric, "q1"] == pytest.approx(np.quantile(at[metric], 0.25), rel=1e-6)
    assert set(table.loc[table["metric"] == "ssim", "epsilon"]) == {0.0007, 0.003, 0.009, 0.08}


def test_displays_and_windows_scale_the_jnds_of_the_reference() -> None:
    table = displays(visibility(rows_of({0.01: (0.0, 6.0, 1.0)})))
    assert len(table) == 9
    found = table.set_index(["display", "window"])
    assert found.loc[(REFERENCE, 1), "amplitude"] == pytest.approx(6)
    assert found.loc[(REFERENCE, 4), "amplitude"] == pytest.approx(24)
    expected = 2 * 6 * jnd_span(DISPLAYS["0.5-500"]) / jnd_span(DISPLAYS[REFERENCE])
    assert found.loc[("0.5-500", 2), "amplitude"] == pytest.approx(expected)
    assert found.loc[("0.5-500", 2), "peak_to_peak"] == pytest.approx(2 * expected)


def test_the_safe_band_is_what_flips_half_and_keeps_the_rule() -> None:
    doses = {0.001: (0.25, 0.2, 0.1), 0.003: (0.5, 0.4, 0.4), 0.005: (0.5, 0.5, 0.6), 0.009: (1.0, 3.0, 2.0)}
    table = safe_magnitudes(rows_of(doses)).set_index("rule")
    assert table.loc["jnd", "epsilons"] == "0.003, 0.005"  # p95 of 0.5 is 1 JND peak to peak: still kept
    assert table.loc["noise", "epsilons"] == "0.003"
    assert table.loc["jnd", "largest_unseen"] == 0.005
    assert table.loc["noise", "smallest_flipping"] == 0.003
    assert not table["empty"].any()
    assert (table["n"] == 4).all()
    assert table.loc["jnd", "paper_epsilon"] == 0.009
    assert table.loc["jnd", "paper_flip_share"] == 1
    assert table.loc["jnd", "paper_measure"] == pytest.approx(6)
    assert not table["paper_stands"].any()


def test_an_empty_band_is_said_to_be_empty() -> None:
    table = safe_magnitudes(rows_of({0.001: (0.25, 0.2, 0.1), 0.02: (1.0, 9.0, 3.0)}))
    assert table["empty"].all()
    assert (table["epsilons"] == "").all()
    assert table["paper_epsilon"].isna().all()  # not on the grid
    assert table["paper_stands"].isna().all()
    assert all("no epsilon of the grid flips at least half of the 4 images" in each for each in statements(table))


def test_a_dose_that_is_not_used_is_not_called_unseen() -> None:
    frame = rows_of({0.003: (0.5, 0.4, 0.4), 0.009: (1.0, 0.4, 0.4), 0.08: (1.0, 0.4, 0.4)})
    frame.loc[frame["epsilon"] > 0.003, "linf"] = 0.004  # the search ended there
    table = safe_magnitudes(frame).set_index("rule")
    assert table.loc["jnd", "epsilons"] == "0.003"
    assert not table["paper_stands"].any()
    assert table["paper_measure"].isna().all()
    assert "the images do not use so much" in statements(table.reset_index())[0]


def test_images_that_were_wrong_from_the_start_do_not_count_as_flipped() -> None:
    frame = rows_of({0.001: (0.5, 0.1, 0.1)})
    wrong = frame["case_id"].isin(["0", "1"])
    frame.loc[wrong, "correct"] = False
    table = safe_magnitudes(frame)
    assert (table["n"] == 2).all()
    assert table["empty"].all()


def test_a_table_without_visibility_has_none_of_it() -> None:
    assert "visibility" not in build_tables(make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",)))


def test_repeats_are_told_apart() -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",), repeats=2, visibility=True, n_cases=8)
    tables = build_tables(run)
    for name in ("visibility", "displays", "safe_magnitudes"):
        assert set(tables[name]["seed"]) == {0, 1}, name


def test_readers_are_not_claimed_until_they_were_asked() -> None:
    assert reader_sentence({}) == NOT_MEASURED == "not measured with readers"
    assert reader_sentence({"readers": None}) == NOT_MEASURED
    assert reader_sentence({"readers": [{"simulated": False}]}) == ""
    assert reader_sentence({"readers": [{"simulated": True}]}) == NOT_MEASURED


def test_the_report_has_a_section_a_figure_and_the_summary_the_same_numbers(run: Responses, tmp_path: Path) -> None:
    observed = {"cohort": "xray-268", "protocol": "paper", "model": "vgg16", "seed": 0, "preset": "sound"}
    observed |= {"epsilon": 0.003, "channels": "laguerre_gauss", "n_images": 16, "n_patches": 784, "patch_px": 32}
    observed |= {"d_holdout": 1.25, "d_resubstitution": 1.5, "auc": 0.812, "d_image": 8.75, "auc_image": 1.0}
    run = Responses(run.frame, {**run.meta, "observer": [observed]})
    tables = build_tables(run)
    figures = write_figures(run, tables, tmp_path)
    assert [figure.section for figure in figures].count("visibility") == 1
    page = render(run, tables, figures)
    for text in ("Would anyone see it?", NOT_MEASURED, "Magnitudes that are safe for the attacker", "1.25", "0.812"):
        assert text in page
    assert "imperceptible" not in page.lower()
    summary = json.loads(json.dumps(summarise(run, tables), allow_nan=False))
    assert summary["readers"] == NOT_MEASURED
    assert len(summary["safe_magnitudes"]) == len(tables["safe_magnitudes"])
    assert summary["observer"] == [observed]
    seen = {row["metric"]: row for row in summary["results"][0]["visibility"] if row["epsilon"] == 0.08}
    assert seen["jnd_p95"]["median"] == pytest.approx(48, abs=2)  # 600 JND times 0.08, a file's levels apart


def test_older_tables_are_read_without_visibility(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from dosimeter.record.table import METADATA_KEY, SCHEMA, VISIBILITY, merge_parts, read, write_part

    part, path = tmp_path / "cell.parquet", tmp_path / "responses.parquet"
    write_part([response_row(epsilon=epsilon) for epsilon in EPSILONS], part)
    meta = {**make_responses().meta, "schema_version": 2}
    merge_parts([part], path, meta)
    old = pq.read_table(path, schema=SCHEMA).drop_columns(list(VISIBILITY))
    pq.write_table(old.replace_schema_metadata({METADATA_KEY: json.dumps(meta).encode()}), path)
    assert read(path).frame[list(VISIBILITY)].isna().all().all()
    compact = read_compact(path).frame
    assert compact[list(VISIBILITY)].isna().all().all()
    assert visibility(compact).empty or set(visibility(compact)["metric"]) <= {"linf", "l2"}
