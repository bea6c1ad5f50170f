"""What a study will cost: its work counted beforehand against what its rows say was done, and units timed here."""

import os
import sys
from pathlib import Path

import pytest
from tiny import settings

from dosimeter.attacks.presets import choose
from dosimeter.cache import cache_dir, temporary_cache
from dosimeter.cli import main
from dosimeter.defences.base import pipeline
from dosimeter.record import table as responses
from dosimeter.study.config import StudyConfig
from dosimeter.study.estimate import _defended, estimate
from dosimeter.study.pace import Pace
from dosimeter.study.run import run_study
from dosimeter.study.trials import plan_trials
from dosimeter.study.workload import Work, passes_of, work_of

EPSILONS = "0.001,0.003,0.009,0.03,0.08"


def work(config: StudyConfig, name: str) -> Work:
    presets = choose(config.preset, config.attack, config.effort, config.storages)
    return next(work_of(preset, config) for preset in presets if preset.name == name)


@pytest.mark.usefixtures("tiny_networks", "no_report")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fill": True},
        pytest.param({"effort": "thorough"}, marks=pytest.mark.slow),  # as the others, with ten times their work
        pytest.param({"storages": "float,png8,jpeg90"}, marks=pytest.mark.slow),  # a study, as each
    ],
)
def test_the_work_counted_is_the_work_done(image_folder: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    """Gradients and questions on the grid, per image, against the rows of the study itself."""
    options = {"attack": "pgd,random_sign", "effort": "quick", "epsilons": EPSILONS, "model": "vgg16", "epochs": 1}
    config = settings(image_folder, tmp_path, **{**options, **changes}).resolved()
    run_study(config)
    rows = responses.read(tmp_path / "responses.parquet").frame
    for name in ("sound", "random_sign", "pgd"):
        mine = rows[rows["preset"] == name]
        counted = work(config, name)
        n = mine["case_id"].nunique()
        assert counted.rows == mine["on_grid"].sum() / n
        gradients = mine.groupby("case_id")["n_gradients"].first()
        right = mine[mine["epsilon"] == 0].groupby("case_id")["correct"].first()
        attacked = gradients[right] if name == "pgd" else gradients  # a search passes over what is wrong already
        said = counted.gradients + counted.climbs
        if len(attacked) and name != "pgd":
            assert (attacked == said).all()
        elif len(attacked):
            assert said / 2.5 <= attacked.max()
            assert attacked.mean() <= 1.2 * said
            if changes.get("fill") or "storages" in changes:  # every ball to its end, for each start
                assert attacked.mean() == pytest.approx(said, rel=0.25)


def test_filling_balls_is_counted() -> None:
    few = StudyConfig(attack=("pgd",), epsilons=(0.0, 0.001, 0.003))
    many = StudyConfig(attack=("pgd",), epsilons=(0.0, *(place / 1000 for place in range(1, 21))))
    stopping, filling = work(many, "pgd"), work(many.model_copy(update={"fill": True}), "pgd")
    assert stopping.climbs == work(few, "pgd").climbs  # bisection: two balls fail, whatever the grid
    assert filling.climbs == 10 * stopping.climbs  # all twenty
    presets = choose(many.preset, many.attack, many.effort)
    assert passes_of(presets, many.model_copy(update={"fill": True})) > 5 * passes_of(presets, many)


@pytest.mark.usefixtures("tiny_networks")
def test_every_stage_of_every_trial_has_its_time(image_folder: Path, tmp_path: Path) -> None:
    config = settings(image_folder, tmp_path, repeats=2, epochs=2).resolved()
    trials, _ = plan_trials(config)
    before = {path: path.stat().st_mtime_ns for path in cache_dir().rglob("*")}
    costs = list(estimate(config, trials))
    assert [(cost.model, cost.seed) for cost in costs] == [
        (model, seed) for model in ("vgg16", "inception_v3") for seed in (0, 1)
    ]
    for cost in costs:
        assert set(cost.stages) == {"features", "training", "defences", "engine", "sweep", "examinations", "report"}
        assert min(cost.stages.values()) >= 0
        assert cost.duration_s == pytest.approx(sum(cost.stages.values()))
        assert cost.engine == "torch"  # too short for another
    assert {path: path.stat().st_mtime_ns for path in cache_dir().rglob("*")} == before
    assert not tmp_path.joinpath("parts").exists()


@pytest.mark.usefixtures("tiny_networks")
def test_the_plan_says_engine_and_stages(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cohort", f"csv:{image_folder / 'cases.csv'}", "--model", "vgg16", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["dosimeter", "study", *options, "--dry-run"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr()
    assert "engine torch" in said.out
    assert "features 0 s" in said.out
    assert "timing a few passes" in said.err


def test_a_temporary_cache_leaves_no_trace(tmp_path: Path) -> None:
    before = os.environ.get("DOSIMETER_CACHE")
    with temporary_cache():
        inside = cache_dir()
        assert inside.is_dir()
        assert not list(inside.iterdir())
    assert not inside.exists()
    assert os.environ.get("DOSIMETER_CACHE") == before


def test_a_defended_classifier_takes_the_passes_of_its_defences() -> None:
    alone = Pace("ncnn", 1.0, 1.0, 4.0, 12.0, 6.0, 3.0, 9.0, {"float": 1.0}, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    smoothed = _defended(alone, pipeline("smoothing:draws=50,attack_draws=4"))
    assert (smoothed.engine, smoothed.answer_s, smoothed.confirm_s) == ("torch", 50 * 4.0, 50 * 4.0)  # no fast engine
    assert (smoothed.gradient_s, smoothed.climb_s, smoothed.alone_gradient_s) == (4 * 12.0, 4 * 12.0, 4 * 9.0)
    small = _defended(alone, pipeline("input_size:112+jpeg:75"))
    assert (small.engine, small.answer_s, small.gradient_s, small.climb_s) == ("ncnn", 0.25, 3.0, 1.5)
    assert (small.asked_s, small.seen_s, small.step_s) == (alone.asked_s, alone.seen_s, alone.step_s)
