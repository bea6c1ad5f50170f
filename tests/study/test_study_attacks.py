"""Studies with further attacks: transfer, learning, masks, resume."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import settings

from dosimeter.cli.plan import print_plan
from dosimeter.errors import DosimeterError
from dosimeter.record import table as responses
from dosimeter.study.config import load_config
from dosimeter.study.run import run_study

pytestmark = pytest.mark.usefixtures("tiny_networks", "no_report")


def test_attacks_are_swept_beside_the_presets_and_resumed(image_folder: Path, tmp_path: Path) -> None:
    config = settings(image_folder, tmp_path, attack="pgd,universal,random_sign,fmn", effort="quick")
    assert not run_study(config).incomplete
    frame, meta = responses.read(tmp_path / "responses.parquet")
    assert set(frame["preset"]) == {"paper", "sound", "pgd", "universal", "random_sign", "fmn"}
    assert set(frame.loc[frame["preset"].isin(["paper", "sound"]), "effort"].isna()) == {True}
    by_preset = {each["preset"]: each for each in meta["attacks"]}
    assert by_preset["pgd"]["steps"] == 10
    assert by_preset["pgd"]["effort"] == "quick"
    learned = list((tmp_path / "learned").iterdir())
    assert len(learned) == 2  # one for each model
    assert run_study(config).reused


def test_a_figure_declared_later_is_judged_without_attacking_again(image_folder: Path, tmp_path: Path) -> None:
    run_study(settings(image_folder, tmp_path, model="vgg16"))
    parts = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    outcome = run_study(settings(image_folder, tmp_path, model="vgg16", declared_accuracy={"vgg16": 0.01}))
    assert not outcome.reused
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()} == parts
    _, meta = responses.read(tmp_path / "responses.parquet")
    assert {facts["accuracy"]["declared"] for facts in meta["preflights"]} == {0.01}


def test_runs_with_other_masks_have_other_names(tmp_path: Path) -> None:
    names = []
    for place in (0, 1):
        mask = np.zeros((32, 32), np.uint8)
        mask[place] = 255
        Image.fromarray(mask).save(tmp_path / f"{place}.png")
        names.append(load_config(mask=tmp_path / f"{place}.png").default_name())
    assert len({*names, load_config().default_name()}) == 3


def test_transfer_asks_every_other_model_about_the_same_images(image_folder: Path, tmp_path: Path) -> None:
    config = settings(image_folder, tmp_path, attack="pgd", effort="quick", transfer=True, preset="sound")
    run_study(config)
    frame, _ = responses.read(tmp_path / "responses.parquet")
    for source, target in (("vgg16", "inception_v3"), ("inception_v3", "vgg16")):
        for preset in ("sound", "pgd"):
            own = frame[(frame["preset"] == preset) & (frame["model"] == source) & frame["on_grid"]]
            heard = frame[(frame["preset"] == f"{preset} from {source}") & (frame["model"] == target)]
            keys = ["case_id", "storage", "epsilon"]
            pairs = own.merge(heard, on=keys, suffixes=("", "_heard"))
            assert len(pairs) == len(own) == len(heard)
            np.testing.assert_allclose(pairs["linf"], pairs["linf_heard"])
            np.testing.assert_allclose(pairs["l2"], pairs["l2_heard"])
            assert set(heard["made_on"]) == {source}
            if preset == "pgd":  # another network meets the whole ball, not what just crossed this one's boundary
                doses = own[own["epsilon"] > 0].groupby("epsilon")["linf"].max()
                np.testing.assert_allclose(doses, doses.index, rtol=1e-3)
        clean = frame[(frame["epsilon"] == 0) & (frame["storage"] == "float")]
        for _, rows in clean.groupby(["model", "case_id"]):
            logits = np.stack(rows["logits"])
            np.testing.assert_allclose(logits, logits[:1].repeat(len(logits), axis=0), atol=1e-5)


def test_a_mask_of_another_size_and_a_class_that_is_not_there_are_refused(image_folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "mask.png")
    for changes, message in (
        ({"mask": tmp_path / "mask.png"}, "32 x 32, got 8 x 8"),
        ({"target": "pneumonia"}, "target 'pneumonia' is no class"),
        ({"bits": 32}, "bits must be from 2 to 16"),
    ):
        with pytest.raises(DosimeterError, match=message):
            run_study(settings(image_folder, tmp_path / "run", **changes))
        with pytest.raises(DosimeterError, match=message):
            print_plan(settings(image_folder, tmp_path / "run", **changes))
    assert not list((tmp_path / "run" / "classifiers").glob("*"))  # nothing was trained in vain
    assert not (tmp_path / "run" / "config.toml").exists()  # a mistake replaces no settings
