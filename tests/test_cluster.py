import logging
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_sweeps import cohort, true_labels
from tiny import SIZE_PX, convolutional_classifier, linear_classifier
from torch import Tensor, nn

import dosimeter.study
from dosimeter import responses
from dosimeter.attacks.fgsm import PRESETS
from dosimeter.cohorts.base import Cohort, Decoded
from dosimeter.cohorts.images import to_grid
from dosimeter.cohorts.split import split
from dosimeter.config import load_config
from dosimeter.engines.choose import EnginePlan
from dosimeter.errors import DosimeterError
from dosimeter.models.backbones import get_backbone
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.training import FitOptions
from dosimeter.models.weights import Weights, digest, expected_shapes
from dosimeter.parallel import torch_threads
from dosimeter.progress import Progress
from dosimeter.study import run_study
from dosimeter.sweeps import cluster
from dosimeter.sweeps.cluster import RayExecutor
from dosimeter.sweeps.execute import Row, execute_cell
from dosimeter.sweeps.executor import Executor, FitJob, LocalExecutor
from dosimeter.sweeps.plan import SHARD_SIZE, Cell, Setting, plan_cells, pseudonymise_patients
from dosimeter.sweeps.worker import portable_cell

PLAN = EnginePlan("torch", 4)
N_CPUS = 2


def unreadable() -> Decoded:
    raise OSError("/home/ana/patient-smith.png: gone")


def cases(n: int = 3 * SHARD_SIZE) -> Cohort:
    """Images larger than the classifier's grid, one of which cannot be read."""
    whole = cohort(n, size=SIZE_PX + 8)
    records = list(whole.records)
    records[1] = replace(records[1], read=unreadable)
    return replace(whole, records=tuple(records))


def plan(classifier: Classifier, n: int = 3 * SHARD_SIZE) -> list[Cell]:
    setting = Setting("paper", PRESETS["sound"], (0.0, 0.003, 0.02), 0, pseudonymise_patients(cases(n)))
    return list(plan_cells(cases(n), classifier, setting))


def rows_of(executor: Executor, cells: list[Cell], classifier: Classifier) -> list[Row]:
    """All rows but their times, in the order of cells; fails if a cell came twice or with another's rows."""
    done = {id(cell): rows for cell, rows, _ in executor.run(cells, classifier, PLAN)}
    assert set(done) == {id(cell) for cell in cells}
    return timeless(row for cell in cells for row in done[id(cell)])


def timeless(rows: Any) -> list[Row]:
    return [{key: value for key, value in row.items() if key != "duration_s"} for row in rows]


# --- what travels -------------------------------------------------------------------------------------------


def test_a_portable_cell_has_the_same_rows_and_names_nobody(caplog: pytest.LogCaptureFixture) -> None:
    classifier = convolutional_classifier()
    for cell in plan(classifier):
        travelled = pickle.loads(pickle.dumps(portable_cell(cell, size_px=classifier.size_px)))
        assert timeless(execute_cell(travelled, classifier)) == timeless(execute_cell(cell, classifier))
    assert b"name-0" in pickle.dumps(cell.setting)
    for private in (b"name-", b"smith", b"ana"):
        assert private not in pickle.dumps(portable_cell(cell, size_px=classifier.size_px))
    assert "smith" in caplog.text  # the driver's log tells what was wrong


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_an_image_on_its_grid_keeps_every_bit(bits: int) -> None:
    generator = np.random.default_rng(bits)
    image = generator.random((3, 50, 40)).astype(np.float32)
    once = to_grid(Decoded(image, bits), size_px=SIZE_PX)
    twice = to_grid(Decoded(pickle.loads(pickle.dumps(once)), bits), size_px=SIZE_PX)
    assert once.tobytes() == twice.tobytes()


# --- on a cluster -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one node on this machine, whose workers find this module."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([*sys.path, str(Path(__file__).parent)]))
        patch.setenv("DOSIMETER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setattr(logging.getLogger("ray"), "level", logging.CRITICAL)
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": N_CPUS, "include_dashboard": False})
        try:
            yield nodes.address
        finally:
            nodes.shutdown()


@pytest.fixture(scope="module")
def executor(address: str) -> Iterator[RayExecutor]:
    with RayExecutor(address) as executor:
        yield executor


class Fatal(nn.Module):
    """Passes images on, but the first process that makes `flag` dies."""

    def __init__(self, flag: Path) -> None:
        super().__init__()
        self._flag = flag

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 1:  # a batch of the sweep, after the gradients
            try:
                self._flag.mkdir()
            except FileExistsError:
                return images
            os.kill(os.getpid(), signal.SIGKILL)
        return images


def test_rows_are_those_of_the_local_executor(executor: RayExecutor, capfd: pytest.CaptureFixture[str]) -> None:
    classifier = convolutional_classifier()
    cells = plan(classifier)
    expected = rows_of(LocalExecutor(1), cells, classifier)
    assert rows_of(executor, cells, classifier) == expected
    assert sum(row["status"] == "error" for row in expected) == 1
    other = convolutional_classifier(seed=1)
    assert rows_of(executor, plan(other, 4), other) == rows_of(LocalExecutor(1), plan(other, 4), other)
    assert list(executor.run([], classifier, PLAN)) == []
    assert capfd.readouterr() == ("", "")


def test_a_killed_worker_loses_and_doubles_nothing(
    executor: RayExecutor, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    classifier = convolutional_classifier()
    expected = rows_of(LocalExecutor(1), plan(classifier), classifier)
    classifier.base = nn.Sequential(Fatal(tmp_path / "killed"), classifier.base)
    assert rows_of(executor, plan(classifier), classifier) == expected
    assert (tmp_path / "killed").is_dir()
    assert "was lost" in caplog.text
    assert capfd.readouterr().out == ""


def test_training_gives_the_classifier_that_local_training_gives(executor: RayExecutor) -> None:
    images = cohort(4)
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) / 30 for name, shape in expected_shapes("vgg16").items()}
    weights = Weights("vgg16", "random", "a test", "none", digest(state), state, PREPROCESSINGS["unit"], True, "")
    head, options = get_backbone("vgg16").head, FitOptions(epochs=2)
    halves = [split(images, "paper", seed=seed, test_share=0.5) for seed in (0, 1)]
    jobs = [FitJob("vgg16", half, seed, weights, head, options) for seed, half in enumerate(halves)]
    seen: list[int] = []
    remote = dict(executor.fit(jobs, device="cpu", advance=seen.append))
    assert seen == [4, 4]
    with torch_threads(1):  # as a worker has
        local = dict(LocalExecutor(1).fit(jobs, device="cpu", advance=lambda _: None))
    for place, classifier in local.items():
        assert remote[place].fingerprint == classifier.fingerprint
        assert {**remote[place].card, "duration_s": 0} == {**classifier.card, "duration_s": 0}


class Nudged(nn.Module):
    """The identity beside a 3 x 3 layer that says nothing; its copy, of which an engine is made, nudges images."""

    def __init__(self, nudge: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Conv2d(32, 32, 3, padding=1)
        self._nudge = nudge

    def __deepcopy__(self, memo: dict[int, Any]) -> "Nudged":
        return Nudged(4e-5)  # a logit moves by 8e-5, which is allowed, and a flip with it by four of its tolerances

    def forward(self, images: Tensor) -> Tensor:
        return images + self._nudge + 0 * self.layer(images.repeat(1, 11, 1, 1)[:, :32]).sum()


def test_a_worker_tells_that_torch_stood_in(executor: RayExecutor, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("numba")
    classifier = linear_classifier(torch.full((3, 8, 8), 0.01), bias=-1.0)
    images = true_labels(classifier, cohort(3, size=8))
    classifier.base = Nudged().requires_grad_(False)
    setting = Setting("paper", PRESETS["sound"], (0.0, 0.09), 0, {}, engine="winograd")
    cells = list(plan_cells(images, classifier, setting))
    (done,) = executor.run(cells, classifier, EnginePlan("winograd", 4))
    assert done.notes == (
        f"The winograd engine saw flips of {classifier.name} that torch does not: torch did those cells again.",
    )
    assert timeless(done.rows) == timeless(execute_cell(cells[0], classifier))
    assert f"cell {cells[0].cell_id}: The winograd engine" in caplog.text
    (local,) = LocalExecutor(1).run(cells, classifier, EnginePlan("winograd", 4))
    assert (local.notes, timeless(local.rows)) == (done.notes, timeless(done.rows))


def test_a_worker_with_another_version_of_the_engine_is_refused(
    executor: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = convolutional_classifier()
    monkeypatch.setattr(cluster, "engine_versions", lambda name: {"numba": "0.1"} if name == "winograd" else {})
    assert rows_of(executor, plan(classifier, 2), classifier)  # torch needs no numba
    with pytest.raises(DosimeterError, match=r"the driver's numba 0\.1, but node [\d.]+ has .*\. Install"):
        list(executor.run(plan(classifier, 2), classifier, EnginePlan("winograd", 4)))


def test_another_cluster_than_the_one_that_was_joined_is_refused(executor: RayExecutor, address: str) -> None:
    for same in ("auto", address):
        RayExecutor(same).close()
    with pytest.raises(DosimeterError, match=rf"must be 'auto' or '{address}', .* got '10\.0\.0\.1:6379'\. Call"):
        RayExecutor("10.0.0.1:6379")


class Stopping(Progress):
    """Stops a study at the beginning of its sweep, or when so many cases are swept."""

    def __init__(self, n_cases: int) -> None:
        self._n_left = n_cases
        self._sweeps = False

    def begin(self, stage: str, total: int) -> None:
        self._sweeps = "sweep" in stage
        self.advance(0)

    def advance(self, steps: int = 1) -> None:
        self._n_left -= steps if self._sweeps else 0
        if self._sweeps and self._n_left <= 0:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("tiny_networks")
def test_a_study_begun_on_a_cluster_is_finished_without_it(
    executor: RayExecutor, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workers in executor._crews.values():
        workers.dismiss()  # the study's own need the cores
    monkeypatch.setattr(dosimeter.study, "redraw", lambda folder: folder)
    usual = {"cohort": f"csv:{image_folder / 'cases.csv'}", "model": "vgg16", "epochs": 1, "epsilons": "0.003,0.08"}
    here = load_config(None, **usual, out=tmp_path / "run")
    there = load_config(None, **usual, out=tmp_path / "run", executor="ray")
    with pytest.raises(KeyboardInterrupt):  # the head is trained here: workers know the real networks only
        run_study(here, progress=Stopping(0))
    with pytest.raises(KeyboardInterrupt):
        run_study(there, progress=Stopping(2 * SHARD_SIZE))
    parts = {part.name: part.read_bytes() for part in (tmp_path / "run" / "parts").iterdir()}
    assert len(parts) == 2
    run_study(here)
    assert all((tmp_path / "run" / "parts" / name).read_bytes() == content for name, content in parts.items())
    run_study(load_config(None, **usual, out=tmp_path / "straight"))
    begun, straight = (responses.read(tmp_path / name / "responses.parquet") for name in ("run", "straight"))
    assert begun.frame.drop(columns="duration_s").equals(straight.frame.drop(columns="duration_s"))
    assert len(set(begun.frame.cell_id)) == 4


def test_an_engine_that_a_worker_lacks_is_an_error_and_frees_the_cluster(executor: RayExecutor) -> None:
    import ray

    classifier = convolutional_classifier()  # too small for the engine
    with pytest.raises(DosimeterError, match=r"winograd engine is not available on node .* --engine torch"):
        list(executor.run(plan(classifier), classifier, EnginePlan("winograd", 4)))
    patience = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < N_CPUS:
        assert time.monotonic() < patience
        time.sleep(0.1)


def test_unusual_devices_are_refused(executor: RayExecutor) -> None:
    with pytest.raises(DosimeterError, match="cpu or cuda, got 'mps'"):
        list(executor.fit([], device="mps", advance=lambda _: None))


# --- no cluster ---------------------------------------------------------------------------------------------


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DosimeterError, match=r"pip install 'dosimeter\[ray\]'"):
        RayExecutor()


def test_an_unreachable_cluster_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "import_ray", lambda: SimpleNamespace(is_initialized=lambda: False))
    with pytest.raises(DosimeterError, match=r"'nonsense' cannot be joined \(Invalid address format.*ray start --head"):
        RayExecutor("nonsense")
    monkeypatch.setattr(cluster, "ANSWER_S", 2.0)
    with pytest.raises(DosimeterError, match=r"no Ray cluster answered at '127.0.0.1:1' within 2 s\. Start one"):
        RayExecutor("127.0.0.1:1")
