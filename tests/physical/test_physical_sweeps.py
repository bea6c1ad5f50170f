"""Physical changes through a sweep and a study: rows, engines, resume, what is refused; no attack's number moves."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from response_factory import response_row
from typer.testing import CliRunner

import dosimeter as dm
from dosimeter import registry
from dosimeter.analysis import names
from dosimeter.analysis.base import answered
from dosimeter.analysis.physical import physical_ranking
from dosimeter.cli.app import app
from dosimeter.cohorts.arrays import cohort_of
from dosimeter.cohorts.split import Split
from dosimeter.errors import DosimeterError
from dosimeter.physical.base import Change, Entry, changed
from dosimeter.physical.constants import Constants
from dosimeter.physical.registry import entry
from dosimeter.record import table as responses
from dosimeter.record.schema import SCHEMA_5
from dosimeter.record.table import SCHEMA, read_compact
from dosimeter.replay.replay import Replay
from dosimeter.study.config import load_config
from dosimeter.study.given import given
from dosimeter.study.presets import presets_of
from dosimeter.study.run import run_study
from dosimeter.study.workload import work_of
from dosimeter.visibility.measure import Reference


def cohort(n: int = 6, modality: str = "xray"):
    rng = np.random.default_rng(3)
    images = (rng.random((n, 1, tiny.SIZE_PX, tiny.SIZE_PX)) * 255).round().astype(np.float32) / 255
    return cohort_of(images, [0, 1] * (n // 2), classes=("clear", "opacity"), modality=modality)


QUICK = {"compute": dm.Compute(engine="torch", workers=1)}


def test_a_sweep_has_severities_instead_of_epsilons_and_measures_what_may_be_seen():
    classifier, images = tiny.convolutional_classifier(), cohort()
    found = dm.sweep(classifier, images, dm.change("dose_fraction", severities="0.5,0.25", quanta=500), **QUICK)
    rows = found.frame
    assert sorted(rows["severity"].unique()) == [0.25, 0.5, 1.0]
    assert set(rows["unit"]) == {"of the dose"}
    assert rows["epsilon"].isna().all()
    assert (rows["on_grid"] & (rows["status"] == "ok") & (rows["norm"] == "none")).all()
    assert rows[["linf", "l2", "ssim", "haarpsi", "jnd_p95"]].notna().all(axis=None)
    clean = rows[rows["severity"] == 1]
    assert (clean["linf"] == 0).all()
    assert clean["unchanged"].all()
    (kind,) = found.meta["kinds"]["changes"]
    assert kind["constants"]["quanta"] == 500
    assert kind["assumed"] == ["exposure_decades", "electronic", "detector_blur_px"]


def test_its_rows_are_those_of_the_images_themselves():
    classifier, images = tiny.convolutional_classifier(), cohort()
    less = dm.change("dose_fraction", severities=[0.25])
    rows = dm.sweep(classifier, images, less, storages=["float", "png8"], **QUICK).frame
    change = entry("dose_fraction").build(Constants())
    for case in images:
        image = classifier.prepare(case)
        made = changed(change, image[None], 0.25, identity=1.0)[0]  # alone: it was swept in a batch
        for storage, shown in (("float", made), ("png8", (made * 255).round() / 255)):
            row = rows[(rows["case_id"] == case.case_id) & (rows["storage"] == storage) & (rows["severity"] == 0.25)]
            np.testing.assert_allclose(row["logits"].iloc[0], classifier(shown[None])[0].detach(), atol=1e-3)
            assert row["linf"].iloc[0] == pytest.approx(float((shown - image).abs().max()), abs=1e-4)
            assert row["ssim"].iloc[0] == pytest.approx(Reference(image).seen(shown, costly=True)["ssim"], abs=1e-3)


def test_rows_without_an_epsilon_are_no_attack_s():
    classifier, images = tiny.convolutional_classifier(), cohort()
    attacked = dm.sweep(classifier, images, "random_sign", epsilons=[0.1], refine=False, **QUICK).frame
    both = pd.concat([attacked, dm.sweep(classifier, images, "rotation", **QUICK).frame], ignore_index=True)
    pd.testing.assert_frame_equal(dm.accuracy_table(responses.Responses(both, {})),
                                  dm.accuracy_table(responses.Responses(attacked, {})))  # fmt: skip
    assert len(answered(both)) == len(attacked)


@pytest.mark.parametrize(("change", "settings", "said"), [
    ("mas_fraction", {}, r"attack mas_fraction must be of ct images, got .* \(xray\). Leave it out"),
    ("dose_fraction", {"severities": [2.0]}, "must be from 0.02 to 1 of the dose"),
    ("dose_fraction", {"severities": ["2 mm"]}, "must be in of the dose, got '2 mm'"),
    ("dose_fraction", {"severities": ["a lot"]}, "must be a finite number"),
    ("motion", {"severities": ["2 mm"]}, "constant pixel_mm must be declared"),
    ("dose_fraction", {"quantum": 3}, "constant 'quantum' is not known"),
    ("pgd", {"severities": [0.5]}, "'pgd'"),
])  # fmt: skip
def test_what_is_refused(change, settings, said: str):
    with pytest.raises(DosimeterError, match=said):
        dm.sweep(tiny.convolutional_classifier(), cohort(), dm.change(change, **settings), **QUICK)


def test_millimetres_become_pixels_where_a_pixel_is_declared():
    found = dm.sweep(
        tiny.convolutional_classifier(), cohort(2), dm.change("motion", severities=["3 mm"], pixel_mm=1.5), **QUICK
    )
    assert sorted(found.frame["severity"].unique()) == [0.0, 2.0]


def test_a_cohort_of_no_modality_is_asked_for_it():
    with pytest.raises(DosimeterError, match=r"of no modality.*Say --modality xray if they are"):
        dm.sweep(tiny.convolutional_classifier(), cohort(modality=""), "dose_fraction", **QUICK)
    dm.sweep(tiny.convolutional_classifier(), cohort(2, modality=""), "rotation", **QUICK)


# --- a study ------------------------------------------------------------------------------------------------

ASKED = {
    "attack": "mas_fraction_quick,rotation", "severities": "mas_fraction_quick=0.25;rotation=5,10",
    "constants": {"ct_noise_hu": 30}, "modality": "ct", "storages": "png8", "model": "vgg16", "preset": "sound",
    "epsilons": "0.003,0.08",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("physical") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DOSIMETER_CACHE", str(folder.parent / "cache"))
        tiny.install(patched.setitem)
        run_study(tiny.settings(image_folder, folder, **ASKED))
    return folder


def test_a_study_keeps_its_attacks_as_they_are_without_physical_changes(
    run: Path, image_folder: Path, tmp_path: Path, tiny_networks: None
):
    bare = {"attack": "", "severities": {}, "constants": {}}
    run_study(tiny.settings(image_folder, tmp_path / "bare", **{**ASKED, **bare}))
    both, alone = read_compact(run / "responses.parquet"), read_compact(tmp_path / "bare" / "responses.parquet")
    columns = [name for name in alone.frame.columns if name != "duration_s"]
    pd.testing.assert_frame_equal(both.frame[columns], alone.frame[columns])
    assert alone.physical is not None
    assert alone.physical.empty
    for name in ("fgsm_accuracy", "epsilon50", "clean_metrics", "visibility", "evaluation"):
        written = [pd.read_csv(folder / "tables" / f"{name}.csv") for folder in (run, tmp_path / "bare")]
        pd.testing.assert_frame_equal(*written)


def test_its_physical_rows_stand_apart(run: Path):
    found = read_compact(run / "responses.parquet")
    assert "severity" not in found.frame
    assert set(found.frame["preset"]) == {"sound"}
    asked = found.physical.groupby(["preset", "storage", "severity"], observed=True).size()
    assert set(asked.index) == {
        (preset, storage, severity)
        for preset, severities in (("mas_fraction_quick", (1.0, 0.25)), ("rotation", (0.0, 5.0, 10.0)))
        for storage in ("float", "png8")
        for severity in severities
    }
    assert asked.min() == asked.max()
    assert found.physical[["haarpsi", "jnd_p95"]].notna().all(axis=None)
    assert [each["name"] for each in found.meta["kinds"]["changes"]] == ["mas_fraction_quick", "rotation"]
    assert found.meta["kinds"]["changes"][0]["assumed"] == ["window_width_hu"]
    assert [each["preset"] for each in found.meta["attacks"]] == ["sound"]


def test_a_study_that_lost_parts_makes_the_same_rows_again(
    run: Path, image_folder: Path, tmp_path: Path, tiny_networks: None
):
    shutil.copytree(run, tmp_path / "run")
    before = responses.read(run / "responses.parquet").frame
    parts = sorted((tmp_path / "run" / "parts").glob("*.parquet"))
    lost = [part for part in parts if pq.read_table(part)["unit"][0].as_py() is not None][::2]
    assert lost
    for part in lost:
        part.unlink()
    run_study(tiny.settings(image_folder, tmp_path / "run", **ASKED))
    after = responses.read(tmp_path / "run" / "responses.parquet").frame
    pd.testing.assert_frame_equal(before.drop(columns="duration_s"), after.drop(columns="duration_s"))


def test_parts_of_schema_5_are_still_done_and_read(tmp_path: Path):
    new, old = tmp_path / "cell.parquet", tmp_path / "old" / "cell.parquet"
    old.parent.mkdir()
    responses.write_part([response_row(cell_id="cell", epsilon=0.1)], new)
    table = pq.read_table(new).select(SCHEMA_5.names)
    pq.write_table(table.replace_schema_metadata({responses.DIGEST_KEY: responses._digest(table)}), old)
    assert responses.is_done(old)
    pd.testing.assert_frame_equal(responses.read_parts([old]), responses.read_parts([new]))
    assert SCHEMA.names[SCHEMA.names.index("epsilon") :][:3] == ["epsilon", "severity", "unit"]


@pytest.mark.parametrize(("row", "said"), [
    ({"epsilon": None}, "no epsilon"),
    ({"epsilon": None, "unit": "px"}, "no severity"),
])  # fmt: skip
def test_a_row_has_an_epsilon_or_a_severity(row, said: str):
    with pytest.raises(DosimeterError, match=said):
        responses.compact(responses.to_frame([response_row(**row)]))


@pytest.mark.parametrize(("settings", "said"), [
    ({"attack": "dose_fractions"}, "attack 'dose_fractions' is not known. Did you mean 'dose_fraction'"),
    ({"attack": "dose_fraction", "preset": "none"}, "must come with an attack that has epsilons"),
    ({"attack": "pgd", "severities": "1,0.5"}, "severities are of physical changes, and none is asked"),
    ({"constants": {"quanta": 3}}, "constants are of physical changes, and none is asked"),
    ({"attack": "motion", "severities": "motion=1;motion=2"}, "must name each change once"),
    ({"attack": "motion", "severities": "motion="}, "must name each change once"),
])  # fmt: skip
def test_settings_that_say_nothing_are_refused(settings, said: str):
    with pytest.raises(DosimeterError, match=said):
        load_config(**settings)


def test_severities_are_typed_in_both_ways_and_survive_a_file(tmp_path: Path):
    config = load_config(attack="motion,rotation", severities="motion=2 mm,8; rotation=5", constants={"pixel_mm": 1.4})
    assert config.severities == {"motion": ("2 mm", 8.0), "rotation": (5.0,)}
    (tmp_path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    assert load_config(tmp_path / "config.toml") == config
    one = load_config(attack="dose_fraction", severities="1,0.5")
    (tmp_path / "config.toml").write_text(one.to_toml(), encoding="utf-8")
    assert load_config(tmp_path / "config.toml").severities == {"": (1.0, 0.5)}
    assert load_config(attack="pgd").digest() == load_config(attack="pgd", severities={}, constants={}).digest()
    assert one.digest() != load_config(attack="dose_fraction").digest()


# --- found, not listed --------------------------------------------------------------------------------------


class Washed(Change):
    def change(self, images, severity, random):
        return images + severity * (0.5 - images)


def test_one_that_another_package_brings_is_listed_and_swept(monkeypatch: pytest.MonkeyPatch):
    washed = Entry(
        build=lambda constants: Washed(name="washed"), title="washed out", note="drawn to the middle grey",
        unit="of the contrast", severities=(0.0, 0.5), bounds=(0.0, 1.0), reason="no contrast is left", source="a test",
    )  # fmt: skip
    monkeypatch.setitem(registry.ADDED, ("physical", "washed"), washed)
    listed = CliRunner().invoke(app, ["list", "physical"]).stdout
    assert "washed" in listed
    assert "dose_fraction" in listed
    shown = " ".join(CliRunner().invoke(app, ["show", "change", "dose_fraction"]).stdout.split())
    assert "of the dose" in shown
    assert "quanta 300000" in shown
    assert "Veldkamp" in shown
    rows = dm.sweep(tiny.convolutional_classifier(), cohort(2), "washed", **QUICK).frame
    assert sorted(rows["severity"].unique()) == [0.0, 0.5]
    for broken, said in (
        ({"unit": " "}, "change 'washed' must declare the unit"),
        ({"severities": (0.0,)}, "must have two severities or more"),
        ({"modalities": ("mr",)}, "must be of images of the modality"),
        ({"severities": (0.0, 2.0)}, "must be from 0 to 1 of the contrast"),
    ):
        monkeypatch.setitem(registry.ADDED, ("physical", "washed"), Entry(**{**vars(washed), **broken}))
        with pytest.raises(DosimeterError, match=said):
            dm.sweep(tiny.convolutional_classifier(), cohort(2), "washed", **QUICK)


def test_a_foreign_change_that_leaves_the_range_ends_the_sweep(monkeypatch: pytest.MonkeyPatch):
    class Loud(Washed):
        def change(self, images, severity, random):
            return torch.full_like(images, 3.0)

    loud = Entry(lambda constants: Loud(name="loud"), "loud", "", "x", (0.0, 1.0), (0.0, 1.0), "", "a test")
    monkeypatch.setitem(registry.ADDED, ("physical", "loud"), loud)
    with pytest.raises(DosimeterError, match=r"the change loud must stay in \[0, 1\]"):
        dm.sweep(tiny.convolutional_classifier(), cohort(2), "loud", **QUICK)


def test_the_report_has_a_section_tables_figures_and_a_summary(run: Path):
    page = (run / "report.html").read_text(encoding="utf-8")
    for said in (
        "What everyday changes do", "The changes are simulated", "Declared of the apparatus: ct noise hu 30.",
        "Assumed of the apparatus, as nobody declared it: window width hu 1500.", "Which change breaks it first",
        "mAs fraction, quick form", "Everyday changes and attacks that may be seen as well",
    ):  # fmt: skip
        assert said in page, said
    written = pd.read_csv(run / "tables" / "physical_accuracy.csv")
    assert set(written["change"]) == {"mas_fraction_quick", "rotation"}
    rows = read_compact(run / "responses.parquet").physical
    mine = rows[(rows["preset"] == "rotation") & (rows["storage"] == "png8")].groupby("severity")["correct"].mean()
    shown = written[(written["change"] == "rotation") & (written["storage"] == "png8")].set_index("severity")
    np.testing.assert_allclose(shown["accuracy"], mine)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))["physical"]
    assert {each["change"] for each in summary["ranking"]} == {"mas_fraction_quick", "rotation"}
    assert summary["said"]
    assert {path.suffix for path in (run / "figures").glob("*severity*")} == {".svg", ".png"}
    for name in ("physical_accuracy", "physical_ranking", "equal_visibility", "attack_losses"):
        assert (run / "tables" / f"{name}.csv").is_file()
    assert "evaluation" not in written
    assert "evaluation" in pd.read_csv(run / "tables" / "equal_visibility.csv")


def test_a_study_without_physical_changes_says_nothing_of_them(run: Path, study_copy, tmp_path: Path):
    bare = study_copy(tmp_path / "bare", preset="sound", model="vgg16")
    assert "What everyday changes do" not in (bare / "report.html").read_text(encoding="utf-8")
    assert "physical" not in json.loads((bare / "summary.json").read_text(encoding="utf-8"))


def test_a_gate_tests_the_bound_of_an_accuracy_at_a_severity(run: Path):
    table = pd.read_csv(run / "tables" / "physical_accuracy.csv")
    row = table[(table["change"] == "rotation") & (table["severity"] == 5) & (table["storage"] == "png8")].iloc[0]
    for bound, code in ((row["accuracy_low"] - 0.01, 0), (row["accuracy_low"] + 0.01, 3)):
        rule = f"accuracy(rotation, 5, storage=png8) >= {bound:.4f}"
        assert CliRunner().invoke(app, ["gate", str(run), "--rule", rule]).exit_code == code
    for rule, said in (
        ("accuracy(rotations, 5) >= 0.5", "change must be in the run, got 'rotations'. Did you mean 'rotation'"),
        ("accuracy(rotation, 6) >= 0.5", "severity must be one that was asked, got 6. There are 0, 5, 10."),
        ("accuracy(rotation) >= 0.5", "accuracy takes"),
    ):
        told = CliRunner().invoke(app, ["gate", str(run), "--rule", rule])
        assert isinstance(told.exception, DosimeterError)
        assert said in str(told.exception)


def test_several_changes_and_tries_are_swept_by_name():
    classifier, images = tiny.convolutional_classifier(), cohort()
    rows = dm.sweep(classifier, images, dm.change("dose_fraction+motion", severities=[2]), **QUICK).frame
    assert set(rows["preset"]) == {"dose_fraction+motion"}
    assert sorted(rows["severity"].unique()) == [0.0, 2.0]
    assert load_config(attack="dose_fraction+motion,pgd", constants={"quanta": 5}).attack == (
        "dose_fraction+motion",
        "pgd",
    )
    with pytest.raises(DosimeterError, match="attack 'motions' is not known"):
        load_config(attack="dose_fraction+motions")
    tries = dm.sweep(classifier, images, "placement", **QUICK)
    with names.of(tries.meta):
        ranked = physical_ranking(responses.compact(tries.frame)).iloc[0]
    rows = tries.frame
    right = rows[(rows["severity"] == 0) & rows["correct"]]["case_id"]
    wrong = rows[rows["case_id"].isin(right) & ~rows["correct"]]["case_id"].nunique()
    assert ranked["lost_any"] == pytest.approx(wrong / len(right))


# --- a change, and then an attack ---------------------------------------------------------------------------


@pytest.mark.slow  # two studies with training
def test_what_is_attacked_is_the_changed_image_and_training_is_as_it_was(
    study_copy, image_folder: Path, tmp_path: Path, tiny_networks: None
):
    asked = {"preset": "sound", "model": "vgg16", "modality": "ct"}
    bare = study_copy(tmp_path / "bare", **{**asked, "modality": None})
    run_study(tiny.settings(image_folder, tmp_path / "noisy", **asked, given="gamma=2"))
    one, two = (read_compact(tmp_path / name / "responses.parquet") for name in ("bare", "noisy"))
    assert set(two.frame["protocol"]) == {"paper, gamma 2"}
    assert one.meta["classifiers"][0]["sha256"] == two.meta["classifiers"][0]["sha256"]
    keys = ["case_id", "storage", "epsilon", "on_grid"]
    clean = [found.frame[found.frame["epsilon"] == 0].set_index(["case_id", "storage"]) for found in (one, two)]
    assert clean[0].index.equals(clean[1].index)
    assert (clean[0]["margin"] != clean[1]["margin"]).any()
    assert not two.frame[keys].duplicated().any()
    page = (tmp_path / "noisy" / "report.html").read_text(encoding="utf-8")
    assert "every test image was changed before" in " ".join(page.split())
    assert (bare / "report.html").is_file()
    result = CliRunner().invoke(app, ["compare", str(bare), str(tmp_path / "noisy"), "--out", str(tmp_path / "both")])
    assert result.exit_code == 0, result.output  # image by image: does the change help the attacker?


def test_a_given_image_is_the_change_of_its_own_rounded_to_its_grey_levels():
    images = cohort()
    halves = given(Split(images, images, "whole", 3, 0), "dose_fraction=0.05", {"quanta": 2000})
    assert halves.test.sha256 != images.sha256
    assert halves.train.sha256 == images.sha256
    for before, after in zip(images, halves.test, strict=True):
        start = torch.from_numpy(before.image)[None]
        made = changed(entry("dose_fraction").build(Constants(quanta=2000)), start, 0.05, identity=1.0, seed=3)[0]
        levels = 2**before.bits - 1
        np.testing.assert_allclose(after.image, (made * levels).round() / levels, atol=1e-6)
        assert (after.case_id, after.label) == (before.case_id, before.label)
    for text, said in (
        ("dose_fraction", "given must name a change and its severity"),
        ("dose_fraction=3", "must be from 0.02 to 1"),
        ("cupping=50", "given cupping must be of ct images"),
        ("fog=1", "change 'fog' is not known"),
    ):
        with pytest.raises(DosimeterError, match=said):
            given(Split(images, images, "whole", 3, 0), text, {})


def test_a_replay_has_the_attacks_of_a_run_with_physical_changes(run: Path, tiny_networks: None):
    curves = Replay(run).curves
    assert {key.preset for key in curves} == {"sound"}


def test_a_study_that_is_only_planned_counts_the_answers_of_changes(image_folder: Path, tmp_path: Path):
    config = tiny.settings(image_folder, tmp_path / "run", **ASKED)
    work = {preset.name: work_of(preset, config) for preset in presets_of(config)}
    rotated = work["rotation"]
    assert (rotated.answers, rotated.rows, rotated.costly, rotated.passes) == (6, 6, 4, 6)  # 3 severities, 2 storages
    assert rotated.asked == {"float": 3, "png8": 3}


def test_responses_are_still_a_pair(run: Path):
    frame, meta = read_compact(run / "responses.parquet")
    assert meta["run_id"]
    assert set(frame["preset"]) == {"sound"}
    both = read_compact(run / "responses.parquet")
    assert len(both.physical) > 0
