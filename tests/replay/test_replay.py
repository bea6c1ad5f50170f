"""A finished run's images can be had again, and are those that were evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import settings

from dosimeter.errors import DosimeterError
from dosimeter.record import table as responses
from dosimeter.replay.replay import Replay
from dosimeter.study.run import run_study

pytestmark = pytest.mark.usefixtures("tiny_networks", "no_report")


def test_replayed_images_are_those_that_were_evaluated(image_folder: Path, tmp_path: Path) -> None:
    run_study(settings(image_folder, tmp_path, attack="pgd,fmn,universal", effort="quick", transfer=True))
    rows, _ = responses.read(tmp_path / "responses.parquet")
    rows = rows[(rows["storage"] == "float") & rows["made_on"].isna() & (rows["status"] == "ok")]
    replay = Replay(tmp_path)
    names = ["cohort", "protocol", "seed", "model", "preset"]
    assert set(replay.curves) == set(rows[names].itertuples(index=False, name=None))
    for key, curve in replay.curves.items():
        mine = rows[(rows["model"] == key.model) & (rows["preset"] == key.preset)]
        assert set(curve.case_ids) == set(mine["case_id"])
        for row in mine[::4].to_dict("records"):
            target = replay.target(curve, row["case_id"])
            image = target.path.at(target.image, row["epsilon"])
            assert float((image - target.image).abs().amax()) == row["linf"]
            logits = curve.classifier(image[None])[0]
            np.testing.assert_allclose(logits.numpy(), row["logits"], atol=1e-4)
            assert torch.isfinite(logits).all()


def test_a_run_without_its_images_its_classifiers_or_its_versions_is_refused(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run_study(settings(image_folder, out, preset="sound"))
    replay = Replay(out)
    with pytest.raises(DosimeterError, match="is not among the test cases"):
        replay.target(next(iter(replay.curves.values())), "nobody")
    with monkeypatch.context() as patched:
        patched.setattr("dosimeter.sweeps.plan.SWEEP_VERSION", 0)
        with pytest.raises(DosimeterError, match="another version now"):
            Replay(out)
    config = (out / "config.toml").read_text()
    (out / "config.toml").write_text(f"limit = 20\n{config}")
    with pytest.raises(DosimeterError, match="are not those that the run was made with"):
        Replay(out)
    (out / "config.toml").write_text(config)
    for card in (out / "classifiers").glob("*/card.json"):
        card.write_text(json.dumps({**json.loads(card.read_text()), "sha256": "0"}))
    with pytest.raises(DosimeterError, match="lacks the classifier"):
        Replay(out)
    with pytest.raises(DosimeterError, match=r"has no responses\.parquet"):
        Replay(tmp_path / "nothing")
