"""Studies computed by an engine other than torch: stopped, continued, and where the engine fails them."""

from collections import OrderedDict
from pathlib import Path

import pytest
import sketches
import torch
from noting import Notes
from tiny import settings
from torch import nn

import dosimeter.study.run
from dosimeter import registry
from dosimeter.engines import choose
from dosimeter.engines.base import Engine, EngineUnavailable
from dosimeter.executors import local as executor
from dosimeter.models import backbones
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.weights import Weights, digest
from dosimeter.record import table as responses
from dosimeter.record.table import Responses
from dosimeter.study.config import StudyConfig
from dosimeter.study.run import run_study

pytest.importorskip("numba")


def build() -> nn.Module:
    layers = OrderedDict(first=nn.Conv2d(3, 32, 3, padding=1), relu=nn.ReLU(), second=nn.Conv2d(32, 32, 3, padding=1))
    return nn.Sequential(layers | {"last": nn.ReLU(), "pool": nn.MaxPool2d(4)})


def weights(network: str, **_: object) -> Weights:
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(value.shape, generator=generator) / 5 for name, value in build().state_dict().items()}
    return Weights(network, "wide", "a test", "none", digest(state), state, PREPROCESSINGS["minus1to1"], True, "")


@pytest.fixture(autouse=True)
def _wide_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG16 becomes a small network that gains from Winograd, which auto always takes; no report is drawn."""
    head = backbones.HeadSpec("whole", 8, 0.5)
    backbone = backbones.Backbone("vgg16", 32, (32, 8, 8), build, head, "wide", load=weights)
    monkeypatch.setitem(registry.ADDED, ("backbones", "vgg16"), backbone)
    monkeypatch.setattr(choose, "WORTH_CHOOSING_S", 0.0)
    monkeypatch.setattr(choose, "AUTOMATIC", ("winograd",))
    monkeypatch.setattr(choose, "GAIN", 1e9)
    monkeypatch.setattr(dosimeter.study.run, "redraw", sketches.unreported)


class Stopped(Notes):
    """Stops a study after the first cell of its sweep."""

    def advance(self, steps: int = 1) -> None:
        if "sweep" in self.stages[-1]:
            raise KeyboardInterrupt


def stop(config: StudyConfig) -> dict[str, bytes]:
    """Run a study up to its first cell, and return its parts."""
    with pytest.raises(KeyboardInterrupt):
        run_study(config, progress=Stopped())
    assert config.out is not None
    parts = {part.name: part.read_bytes() for part in (config.out / "parts").iterdir()}
    assert len(parts) == 1
    return parts


def table(folder: Path) -> Responses:
    return responses.read(folder / "responses.parquet")


def unavailable(*_: object) -> Engine:
    raise EngineUnavailable("The winograd engine needs numba: pip install 'dosimeter[fast]'.")


@pytest.mark.parametrize("engine", ["auto", "winograd"])
def test_a_run_goes_on_with_the_engine_it_began_with(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    usual = {"model": "vgg16", "epochs": 1, "engine": engine}
    run_study(settings(image_folder, tmp_path / "straight", **usual))
    config = settings(image_folder, tmp_path / "run", **usual)
    parts = stop(config)
    built: list[str] = []

    def counted(classifier: Classifier, threads: int) -> Engine:
        built.append("winograd")
        return choose.WinogradEngine(classifier)

    monkeypatch.setitem(choose.ENGINES, "winograd", (counted, ""))
    monkeypatch.setattr(dosimeter.study.run, "plan_engine", None)  # it is not asked again
    run_study(config)
    assert built == ["winograd"]
    assert all((tmp_path / "run" / "parts" / name).read_bytes() == content for name, content in parts.items())
    begun, straight = (table(tmp_path / name) for name in ("run", "straight"))
    assert begun.frame.drop(columns="duration_s").equals(straight.frame.drop(columns="duration_s"))
    assert begun.meta["engines"][0]["name"] == "winograd"
    assert begun.meta["engines"][0]["n_recomputed"] == 0
    monkeypatch.setitem(choose.ENGINES, "winograd", (unavailable, ""))
    assert run_study(config).reused  # what is finished needs no engine


@pytest.mark.parametrize("engine", ["auto", "winograd"])
def test_a_run_whose_engine_is_gone_chooses_again_or_says_so(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    config = settings(image_folder, tmp_path, model="vgg16", epochs=1, engine=engine)
    stop(config)
    monkeypatch.setitem(choose.ENGINES, "winograd", (unavailable, ""))
    notes = Notes()
    if engine == "winograd":
        with pytest.raises(EngineUnavailable, match="needs numba"):
            run_study(config, progress=notes)
        return
    run_study(config, progress=notes)
    assert any("needs numba" in note and note.endswith("is chosen again.") for note in notes.notes)
    (used,) = table(tmp_path).meta["engines"]
    assert used["name"] == "torch"
    run_study(config.model_copy(update={"out": tmp_path / "torch", "engine": "torch"}))
    found, expected = (table(folder).frame for folder in (tmp_path, tmp_path / "torch"))
    assert found.logits.map(list).equals(expected.logits.map(list))


def test_torch_standing_in_is_said_once_and_counted_over_all_attempts(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = executor.execute_cell

    def doubting(cell, *rest, note, **options):  # type: ignore[no-untyped-def]
        note("The winograd engine was wrong.")
        return original(cell, *rest, note=note, **options)

    config = settings(image_folder, tmp_path, model="vgg16", epochs=1)
    monkeypatch.setattr(executor, "execute_cell", doubting)
    stop(config)
    notes = Notes()
    run_study(config, progress=notes)
    assert notes.notes == ["The winograd engine was wrong."]
    (used,) = table(tmp_path).meta["engines"]
    assert used["n_recomputed"] == len(list((tmp_path / "parts").iterdir())) == 4
