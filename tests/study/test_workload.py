"""What the plan of a study counts and times, against numbers worked out by hand."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import settings, tiny_backbone

from dosimeter.attacks.presets import choose
from dosimeter.attacks.registry import EFFORTS, build, entries
from dosimeter.defences.base import pipeline
from dosimeter.engines.base import TorchEngine
from dosimeter.engines.choose import EnginePlan
from dosimeter.errors import DosimeterError
from dosimeter.study import estimate, pace
from dosimeter.study.config import StudyConfig
from dosimeter.study.pace import Pace
from dosimeter.study.trials import plan_trials
from dosimeter.study.workload import Work, passes_of, work_of
from dosimeter.sweeps.answers import Target
from dosimeter.sweeps.flips import Bracket
from dosimeter.sweeps.paths import Still

GRID = (0.0, 0.002, 0.004, 0.01)
BALLS = 20
MANY = (0.0, *(place / 1000 for place in range(1, BALLS + 1)))


def works(**options: Any) -> dict[str, Work]:
    config = StudyConfig(**{"epsilons": GRID, "visibility": "none", **options})
    presets = choose(config.preset, config.attack, config.effort, config.storages)
    return {preset.name: work_of(preset, config) for preset in presets}


# --- counting ------------------------------------------------------------------------------------------------------


def test_fgsm_is_one_gradient_one_question_an_epsilon_and_a_bisection() -> None:
    """Half of the steps are 0.002 wide: 8 halvings reach 1e-5, and 2 a quarter of one of 255 levels.

    In 8 bits the three doses are 1, 1 and 3 levels: two images.
    """
    found = works()
    assert found["paper"] == Work(1, 0, 3 + 8, 2, {"float": 4 + 8}, rows=4, costly=0, learned=0)
    assert found["sound"] == Work(1, 0, 3 + 8 + 2 + 2, 4, {"float": 12, "png8": 4 + 2}, rows=8, costly=0, learned=0)
    assert found["sound"].passes == 15 + 2.5
    assert works(native=True)["sound"].asked == {"float": 4, "png8": 4}  # no flip is refined there


def test_passes_of_a_plan_are_those_of_its_presets() -> None:
    config = StudyConfig(epsilons=GRID, attack=("pgd", "square"))
    presets = choose(config.preset, config.attack, config.effort)
    assert passes_of(presets, config) == sum(work_of(preset, config).passes for preset in presets)
    twice = choose(("paper", "paper"), (), "standard")
    assert passes_of(twice, config) == 2 * passes_of(twice[:1], config)


@pytest.mark.parametrize("storage", ["float", "png8", "png16", "dicom12"])
@pytest.mark.parametrize("step", [0.0005, 0.001, 0.004, 0.03])
def test_bisections_are_those_that_a_flip_takes(step: float, storage: str) -> None:
    grid = tuple(step * place for place in range(4))
    steps = 0
    bracket = Bracket(Target("", 0, torch.zeros(1), Still()), storage, 0, step, 2 * step)
    while bracket.open:
        bracket.low, steps = bracket.middle, steps + 1
    asked = works(preset=("paper",), epsilons=grid, storages=(storage,))["paper"].asked[storage]
    assert asked == len(grid) + steps


STEPS_OF = {  # (steps of all starts, whether they are gradients), at quick and standard effort
    "pgd": (10, 20, True),
    "bim": (10, 10, True),
    "mi_fgsm": (10, 10, True),
    "apgd": (20, 50, True),
    "square": (100, 300, False),
    "fmn": (40, 50, True),
    "ddn": (20, 50, True),
    "deepfool": (10, 30, True),
    "carlini_wagner": (40, 150, True),
}


@pytest.mark.parametrize("effort", ["quick", "standard"])
@pytest.mark.parametrize("name", STEPS_OF)
def test_balls_that_are_searched_are_counted(name: str, effort: str) -> None:
    """A search that stops takes all its steps in two balls, one that fills in each; the nearest image knows no ball.

    What it shows: six images or one a ball, 20 balls or the 5 levels of 8 bits among them, and 7 and 1 halvings.
    """
    quick, standard, gradient = STEPS_OF[name]
    steps = quick if effort == "quick" else standard
    nearest = entries()[name].searches == "minimum"
    both = {"storages": ("float", "png8")}
    for options, balls, shown in (
        ({"storages": ("float",)}, 2, (BALLS if nearest else 6) + 7),
        ({"storages": ("float",), "fill": True}, BALLS, BALLS + 7),
        (both, BALLS, BALLS + 7 + 5 + 1),  # files are to be fooled too
        ({**both, "fill": False}, 2, (BALLS if nearest else 6) + 7 + 5 + 1),
    ):
        how: dict[str, Any] = {"attack": (name,), "effort": effort, "epsilons": MANY, **options}
        work = works(**how)[name]
        taken = steps * (1 if nearest else balls)
        assert (work.gradients, work.climbs) == ((taken, 0) if gradient and nearest else (0, taken if gradient else 0))
        assert work.answers == (0 if gradient else taken) + shown
    assert works(attack=(name,), effort=effort, epsilons=GRID[:2])[name].climbs in (0, steps)  # of one ball, one


def test_transfer_fills_balls_too() -> None:
    alone, heard = (works(attack=("pgd",), epsilons=MANY, transfer=transfer)["pgd"] for transfer in (False, True))
    assert heard.climbs == BALLS / 2 * alone.climbs


def test_thorough_searches_look_into_every_ball_and_stop_early_in_some() -> None:
    work = works(attack=("pgd",), effort="thorough", epsilons=MANY)["pgd"]
    assert work.climbs == pytest.approx(0.7 * BALLS * 100 * 5)
    filled = works(attack=("pgd",), effort="thorough", epsilons=MANY, fill=True)["pgd"]
    assert filled.climbs == BALLS * 100 * 5


@pytest.mark.parametrize("effort", EFFORTS)
def test_what_an_attack_learns_and_what_it_says_of_itself(effort: str) -> None:
    found = works(attack=("universal", "hopskipjump", "random_sign"), effort=effort)
    universal = build("universal", effort)
    assert found["universal"].learned == universal.batches * universal.batch_size  # type: ignore[attr-defined]
    assert found["universal"].gradients == found["random_sign"].gradients == 0
    own = build("hopskipjump", effort).passes  # type: ignore[attr-defined]
    assert found["hopskipjump"].answers - own == pytest.approx(found["universal"].answers - 1)
    assert found["hopskipjump"].climbs == found["hopskipjump"].gradients == 0


def test_costly_measures_are_counted_on_the_grid_for_each_storage() -> None:
    found = works(visibility=(0.004, 0.01, 0.5))["sound"]
    assert (found.rows, found.costly) == (2 * len(GRID), 2 * 2)  # 0.5 is not on the grid
    assert works(visibility="all")["sound"].costly in (2 * len(GRID), 2 * (len(GRID) - 1))


# --- adding up -----------------------------------------------------------------------------------------------------

UNITS = Pace(
    engine="torch",
    feature_s=1.0,
    answer_s=2.0,
    confirm_s=100.0,
    gradient_s=3.0,
    climb_s=5.0,
    alone_s=7.0,
    alone_gradient_s=11.0,
    asked_s={"float": 0.1, "png8": 0.2},
    seen_s=0.01,
    costly_s=0.02,
    step_s=13.0,
    head_s=17.0,
    choosing_s=19.0,
    again_s=23.0,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `measure` was asked, in place of timing."""
    found: list[dict[str, Any]] = []

    def measure(config: Any, backbone: Any, trial: Any, **options: Any) -> Pace:
        found.append({"model": backbone.name, **options})
        return UNITS

    monkeypatch.setattr(estimate, "measure", measure)
    return found


@pytest.mark.usefixtures("tiny_networks")
def test_seconds_are_units_times_counts(image_folder: Path, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    options = {"model": "vgg16", "epsilons": GRID, "visibility": "none", "repeats": 2, "epochs": 3, "batch_size": 5}
    config = settings(image_folder, tmp_path, **options, preset="sound", workers=3).resolved()
    trials, _ = plan_trials(config)
    costs = list(estimate.estimate(config, trials))
    n_train, n_test = len(trials[0].split.train), len(trials[0].split.test)
    assert asked == [{"model": "vgg16", "n_passes": round(n_test * 17.5), "batch_size": 5, "device": "cpu"}]
    image_s = 3.0 + 15 * 2.0 + 12 * 0.1 + 6 * 0.2 + 8 * 0.01
    n_cells = math.ceil(n_test / 4)
    idle = math.ceil(n_cells / 3) * 3 / n_cells
    for place, cost in enumerate(costs):
        assert (cost.n_train, cost.n_test, cost.engine) == (n_train, n_test, "torch")
        assert cost.stages["features"] == n_train + n_test
        assert cost.stages["training"] == 3 * (math.ceil(n_train / 5) * 13 + (n_train + n_test) * 17)
        assert cost.stages["engine"] == (23.0 if place else 19.0)
        assert cost.stages["sweep"] == pytest.approx(n_test * image_s * idle)
        assert cost.stages["defences"] == 0
        assert cost.n_forward == round(n_train + n_test * 18.5)


@pytest.mark.usefixtures("tiny_networks", "asked")
def test_what_defences_learn_is_counted(image_folder: Path, tmp_path: Path) -> None:
    texts = ("jpeg:75", "median:3+mahalanobis:0.2", "trades:epsilon=0.01,part=head")
    config = settings(image_folder, tmp_path, model="vgg16", defence=texts).resolved()
    trials, _ = plan_trials(config)
    cost = next(iter(estimate.estimate(config, trials)))
    passes = sum(defence.passes(cost.n_train) for text in texts for _, _, defence in pipeline(text))
    assert passes > 2 * cost.n_train  # mahalanobis one pass each, trades many
    assert cost.stages["defences"] == pytest.approx(passes * UNITS.alone_gradient_s / 2)
    wrong = config.model_copy(update={"defence": ("mahalanobis+jpeg:75",)})
    with pytest.raises(DosimeterError, match="order"):
        next(iter(estimate.estimate(wrong, trials)))


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("engine", ["torch", "winograd"])
def test_another_engine_is_confirmed_by_torch(
    engine: str, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "measure", lambda *_, **__: UNITS._replace(engine=engine))
    config = settings(image_folder, tmp_path, model="vgg16", epsilons=GRID, preset="paper", workers=1).resolved()
    trials, _ = plan_trials(config)
    cost = next(iter(estimate.estimate(config, trials)))
    image_s = 3.0 + 11 * 2.0 + 12 * 0.1 + 4 * 0.01 + (2 * 100.0 if engine == "winograd" else 0)
    costly = work_of(choose(("paper",), (), "quick")[0], config).costly
    assert cost.engine == engine
    assert cost.stages["sweep"] == pytest.approx(cost.n_test * (image_s + costly * 0.02))


def test_an_attack_that_a_preset_is_already_has_no_cells_of_its_own() -> None:
    config = StudyConfig(preset=("paper", "sound"), attack=("fgsm",), workers=4)
    presets = choose(config.preset, config.attack, config.effort)
    assert len(presets) == 2
    assert estimate._idle(config, len(presets), 6, "cpu") == 1  # two presets of two cells each, four workers
    assert estimate._idle(config, 1, 6, "cpu") == 2
    assert estimate._idle(config, 1, 6, "cuda") == 4


# --- timing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "time_s"),
    [
        ((0.29, 0.1, 0.2), 0.2),
        ((0.5, 0.3), 0.3),  # that is long enough: no third
        ((4.0,), 4.0),  # what takes long needs no warming up
    ],
)
def test_a_time_is_the_median_of_a_few(
    taken: tuple[float, ...], time_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call takes as long as the next of these; one that warms up, or that others disturbed, does not count."""
    durations = iter(taken)
    now = 0.0

    def work() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(pace.time, "perf_counter", lambda: now)
    assert pace._alone(work) == pytest.approx(time_s)
    assert next(durations, None) is None


@pytest.mark.parametrize("workers", [1, 3])
def test_calls_side_by_side_share_their_time(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    clock: Iterator[float] = iter(range(0, 1000, 6))  # six seconds between two looks at it
    monkeypatch.setattr(pace.time, "perf_counter", lambda: float(next(clock)))
    assert pace._seconds(lambda: calls.append(torch.get_num_threads()), workers) == 6.0 / workers
    assert calls == [1] * workers


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("name", ["torch", "winograd"])
def test_the_engine_that_would_be_chosen_is_the_one_that_is_timed(
    name: str, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in engine answers in no time; only the units that it computes are its own."""
    config = settings(image_folder, tmp_path, model="vgg16", epsilons=GRID, workers=1).resolved()
    trials, _ = plan_trials(config)
    chosen: list[dict[str, Any]] = []
    timed: list[str] = []

    class Fast(TorchEngine):
        def logits(self, images: torch.Tensor) -> torch.Tensor:
            timed.append(self.name)
            return torch.zeros(len(images), 2)

    def plan(asked: str, classifier: Any, cohort: Any, **options: Any) -> EnginePlan:
        chosen.append({"asked": asked, **options})
        engine = Fast(classifier)
        engine.name = name  # type: ignore[misc]
        return EnginePlan(name, 2, image_s={"torch": 1.0, "winograd": 0.5}, engine=engine)

    monkeypatch.setattr(pace, "plan_engine", plan)
    how: dict[str, Any] = {"n_passes": 1234, "batch_size": 4, "device": "cpu"}
    found = pace.measure(config, tiny_backbone("vgg16"), trials[0], **how)
    assert {repr(each) for each in chosen} == {repr({"asked": "auto", "n_passes": 1234, "refine": True})}
    assert len(chosen) == 1
    assert found.engine == name
    assert timed == [name] * pace.ROUNDS
    assert (found.confirm_s == found.answer_s) == (name == "torch")
    assert set(found.asked_s) == {"float", "png8"}
    assert found.alone_s <= pace.ALONE * found.confirm_s
    assert min(value for value in found if isinstance(value, float)) >= 0
