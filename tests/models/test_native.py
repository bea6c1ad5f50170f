"""Attacks on images of their own size: what the loader and the classifier make of their files is what is answered."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from greys import cohort, true_labels
from PIL import Image
from tiny import convolutional_classifier, linear_classifier, settings

import dosimeter as dm
from dosimeter.attacks.known.pgd import PGD
from dosimeter.attacks.known.universal import Universal
from dosimeter.attacks.presets import PRESETS, Preset
from dosimeter.attacks.registry import build
from dosimeter.attacks.threat import Threat
from dosimeter.cohorts.base import Cohort, Decoded, Record, pseudonymise
from dosimeter.cohorts.grids import Grid
from dosimeter.cohorts.images import decode_image, grid_weights, to_grid
from dosimeter.errors import TOO_LARGE, DosimeterError
from dosimeter.examinations.convergence import examine_convergence
from dosimeter.executors.worker import portable_cell
from dosimeter.models.native import Shrinking, shrink
from dosimeter.record import table as responses
from dosimeter.replay.export import export
from dosimeter.replay.replay import Replay
from dosimeter.storage.base import get_storage, storages
from dosimeter.study.config import load_config
from dosimeter.study.run import run_study
from dosimeter.sweeps.execute import aim_cell, execute_cell
from dosimeter.sweeps.flips import FLIP_TOLERANCE
from dosimeter.sweeps.plan import Setting, plan_cells
from dosimeter.units import Epsilon

SIZES = [(37, 53), (64, 41), (20, 90)]
NATIVE = dm.ThreatModel(native=True)
FILES = [name for name, storage in storages().items() if storage.encode is not None]


def odd(n: int = 3, *, bits: int = 8) -> Cohort:
    """Grey images in [0.3, 0.7], each of another size."""

    def record(index: int) -> Record:
        def read() -> Decoded:
            top = 2**bits - 1
            shape = (1, *SIZES[index % len(SIZES)])
            levels = np.random.default_rng(index).integers(round(0.3 * top), round(0.7 * top), shape)
            return Decoded((levels / top).astype(np.float32), bits)

        return Record(pseudonymise(index, f"{index:064x}"), index % 2, f"{index:064x}", read)

    return Cohort("odd", ("clear", "opacity"), tuple(record(index) for index in range(n)))


def plain(rows: Any) -> pd.DataFrame:
    """Return rows in one order, without what depends on where and when they were made."""
    frame = pd.DataFrame(rows).drop(columns=["cell_id", "duration_s"], errors="ignore")
    return frame.sort_values(["case_id", "storage", "epsilon"], ignore_index=True)


# --- the resize -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "size_px"), [(37, 53, 16), (300, 201, 32), (9, 40, 16), (16, 70, 16)])
def test_the_weights_are_those_of_the_loader(height: int, width: int, size_px: int) -> None:
    image = np.random.default_rng(0).random((1, height, width), dtype=np.float32)
    down, across = (grid_weights(n, size_px=size_px).astype(float) for n in (height, width))
    np.testing.assert_allclose(down.sum(axis=1), 1, atol=1e-6)
    rounding = 0.5 / (2**16 - 1)
    by_weights = down @ image[0] @ across.T
    np.testing.assert_allclose(by_weights, to_grid(Decoded(image, 16), size_px=size_px)[0], atol=rounding + 1e-6)
    pillow = Image.fromarray(image[0]).resize((size_px, size_px), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(by_weights, np.asarray(pillow), atol=5e-7)


def test_blocks_of_weights_fit_together() -> None:
    weights = grid_weights(700, size_px=32)
    whole = Image.fromarray(np.eye(700, dtype=np.float32)).resize((700, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(weights, np.asarray(whole))


@pytest.mark.parametrize("bits", [8, 16])
def test_the_network_behind_the_resize_is_the_loader_and_the_network(bits: int) -> None:
    classifier = convolutional_classifier()
    images = torch.rand(2, 3, 61, 47, generator=torch.Generator().manual_seed(0))
    loaded = [torch.from_numpy(to_grid(Decoded(image.numpy(), bits), size_px=32)) for image in images]
    network = Shrinking(classifier, grid=Grid(32, 32), bits=bits)
    assert torch.equal(network(images.requires_grad_(True)), classifier(torch.stack(loaded)))
    assert torch.equal(shrink(images, grid=Grid(32, 32), bits=bits), torch.stack(loaded))


@pytest.mark.parametrize(("height", "width"), [(37, 53), (12, 53), (16, 16), (16, 40)])
def test_its_gradient_is_what_finite_differences_are(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 16, 16, generator=generator)
    network = Shrinking(linear_classifier(weight), grid=Grid(16, 16), bits=16)
    images = 0.3 + 0.4 * torch.rand(1, 3, height, width, generator=generator)
    images.requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(images)[0, 1], images)
    assert gradient.shape == images.shape
    for _ in range(5):
        moved = torch.randint(2, images.shape, generator=generator) * 0.4 - 0.2
        with torch.no_grad():
            risen = network(images + moved)[0, 1] - network(images - moved)[0, 1]
        expected = 2 * float((gradient * moved).sum())
        assert float(risen) == pytest.approx(expected, abs=float(weight.abs().sum()) / (2**16 - 1) + 1e-4)


# --- the sweep ------------------------------------------------------------------------------------------------


def test_a_linear_classifier_flips_where_the_closed_form_says() -> None:
    weight = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1)).expand(3, -1, -1) / 10
    classifier = linear_classifier(weight.contiguous())
    cases = true_labels(classifier, odd(6, bits=16))
    frame = dm.sweep(
        classifier, cases, threat=NATIVE, epsilons=[0.001, 0.01, 0.1], compute=dm.Compute(engine="torch")
    ).frame
    assert (frame.status == "ok").all()
    flipped = 0
    for case in cases:
        rows = frame[frame.case_id == case.case_id]
        down, across = (torch.from_numpy(grid_weights(n, size_px=16).copy()) for n in case.image.shape[1:])
        spread = down.T @ weight.sum(dim=0) @ across  # the weight of every native pixel
        expected = float(classifier(classifier.prepare(case)[None])[0, 1].abs() / spread.abs().sum())
        moved = rows[rows.epsilon.between(0.0005, 0.2)]
        np.testing.assert_allclose(moved.linf, moved.epsilon, atol=1e-6)
        np.testing.assert_allclose(moved.l2, moved.epsilon * (3 * case.image.size) ** 0.5, rtol=1e-4)
        flips = rows[~rows.correct].epsilon
        if expected < 0.1:
            flipped += 1
            assert flips.min() == pytest.approx(expected, rel=0.01, abs=FLIP_TOLERANCE)
    assert flipped >= 2


def test_images_on_the_grid_already_are_attacked_as_ever() -> None:
    classifier, cases = convolutional_classifier(scale=20), cohort(3)
    once, native = (
        dm.sweep(
            classifier,
            cases,
            epsilons=[0.003, 0.03],
            storages=["float", "png8"],
            threat=dm.ThreatModel(native=native),
            compute=dm.Compute(batch_size=1),
        )
        for native in (False, True)
    )
    pd.testing.assert_frame_equal(plain(once.frame), plain(native.frame))


@pytest.mark.parametrize("attack", ["pgd", "fmn", "square", "stored_pgd"])
def test_answers_are_those_of_the_files(attack: str) -> None:
    classifier = convolutional_classifier(scale=20)
    cases = true_labels(classifier, odd())
    preset = Preset(attack, build(attack, "quick"), tuple(storages()), "")
    setting = Setting(
        "paper", preset, (0.0, 0.004, 0.03), seed=0, patients={}, threat=Threat(native=True), refine=False
    )
    cells = list(plan_cells(cases, classifier, setting))
    assert [len(cell.shard) for cell in cells] == [1] * len(cases)
    for cell in cells:
        (target,) = aim_cell(cell, classifier)
        assert target.image.shape[1:] == cell.shard[0].image.shape[1:]
        for row in execute_cell(cell, classifier):
            image = target.path.at(target.image, row["epsilon"])
            assert float((image - target.image).abs().max()) <= row["epsilon"] + 1e-6
            encode = get_storage(row["storage"]).encode
            read = Decoded(image.numpy(), 8) if encode is None else decode_image(encode(image.numpy()), name="")
            shown = torch.from_numpy(to_grid(read, size_px=32)).expand(3, -1, -1)
            np.testing.assert_allclose(row["logits"], classifier(shown[None])[0].numpy(), atol=1e-4)
            assert row["linf"] == pytest.approx(float(np.abs(read.image - target.image.numpy()).max()), abs=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_a_mode_knows_how_deep_the_loader_reads_its_files(name: str) -> None:
    storage = get_storage(name)
    assert storage.encode is not None
    for image in (np.full((3, 8, 8), 0.5, np.float32), np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)):
        assert decode_image(storage.encode(image), name="made").bits == storage.bits


def test_a_file_holds_what_its_levels_let_it_hold() -> None:
    classifier = convolutional_classifier(scale=20)
    epsilons = [0.0015, 1.3 / 255]
    frame = dm.sweep(classifier, odd(), threat=NATIVE, epsilons=epsilons, storages=["float", "png8", "dicom12"]).frame
    grid = frame[frame.on_grid].set_index(["storage", "epsilon"])
    assert grid.loc[("png8", 0.0015)].unchanged.all()  # less than half a grey level
    np.testing.assert_allclose(grid.loc[("png8", 1.3 / 255)].linf, 1 / 255, atol=1e-6)
    for epsilon in epsilons:
        np.testing.assert_allclose(grid.loc[("dicom12", epsilon)].linf, epsilon, atol=0.5 / 4095 + 0.5 / 4095)
    assert not grid.loc[("dicom12", 0.0015)].unchanged.any()


def test_native_belongs_to_a_cell_s_identity() -> None:
    classifier = convolutional_classifier()
    settings = [
        Setting("paper", PRESETS["sound"], (0.0,), 0, {}, threat=Threat(native=native)) for native in (False, True)
    ]
    once, native = (next(plan_cells(cohort(1), classifier, setting)).cell_id for setting in settings)
    assert once != native


def test_a_portable_cell_carries_images_of_their_own_size() -> None:
    classifier = convolutional_classifier()
    setting = Setting("paper", PRESETS["sound"], (0.0, 0.003, 0.02), 0, {}, threat=Threat(native=True))
    for cell in plan_cells(odd(), classifier, setting):
        travelled = pickle.loads(pickle.dumps(portable_cell(cell, grid=classifier.grid)))
        assert travelled.shard[0].image.shape == cell.shard[0].image.shape
        rows = [execute_cell(each, classifier) for each in (travelled, cell)]
        pd.testing.assert_frame_equal(plain(rows[0]), plain(rows[1]))


def test_more_of_pgd_is_tried_on_images_of_their_own_size() -> None:
    classifier = convolutional_classifier()
    cases = true_labels(classifier, odd(5))
    frame = dm.sweep(classifier, cases, PGD(steps=2), threat=NATIVE, epsilons=[0.0001, 0.001]).frame
    setting = Setting("paper", PRESETS["sound"], (0.0,), 0, {}, threat=Threat(native=True))
    found = examine_convergence(PGD(steps=2), classifier, cases, frame, setting)
    assert found is not None
    assert found["n_examined"] == found["n_survivors"] > 0


def test_foolbox_attacks_images_of_their_own_size() -> None:
    foolbox = pytest.importorskip("foolbox")
    classifier = convolutional_classifier(scale=20)
    cases = true_labels(classifier, odd())
    frame = dm.sweep(classifier, cases, foolbox.attacks.LinfPGD(steps=5), threat=NATIVE, epsilons=[0.05]).frame
    assert (frame.status == "ok").all()
    moved = frame[frame.epsilon == 0.05]
    assert not moved.correct.all()
    np.testing.assert_allclose(moved.linf, 0.05, atol=1e-6)


# --- a study --------------------------------------------------------------------------------------------------


@pytest.mark.slow  # a study, its report, replay and export
@pytest.mark.usefixtures("tiny_networks")
def test_a_native_run_is_reported_replayed_and_exported(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    chosen = settings(
        image_folder,
        out,
        native=True,
        preset="sound",
        attack="pgd",
        effort="quick",
        storages="png8",
        transfer=True,
        epsilons="0.003,0.08",
    )
    assert not run_study(chosen).incomplete
    assert run_study(chosen).reused
    assert "attacked at their own size" in (out / "report.html").read_text()
    rows, _ = responses.read(out / "responses.parquet")
    assert (rows["status"] == "ok").all()
    replay = Replay(out)
    for key, curve in replay.curves.items():
        mine = rows[(rows["model"] == key.model) & (rows["preset"] == key.preset) & rows["made_on"].isna()]
        assert set(curve.case_ids) == set(mine["case_id"])
        for row in mine[mine["on_grid"]].to_dict("records")[:8]:
            target = replay.target(curve, row["case_id"])
            assert target.image.shape == (3, 64, 64)
            stored = get_storage(row["storage"]).store(target.path.at(target.image, row["epsilon"]).numpy())
            assert np.abs(stored - target.image.numpy()).max() == pytest.approx(row["linf"], abs=1e-7)
            said = curve.said(torch.from_numpy(stored), row["storage"], bits=target.bits).probabilities
            np.testing.assert_allclose(said, row["probabilities"], atol=1e-4)
    export(out, tmp_path / "files", epsilon=Epsilon("4/255"), storage="png8", limit=2)
    facts = json.loads((tmp_path / "files" / "manifest.json").read_text())
    for line in facts["images"]:
        row = rows[(rows["case_id"] == line["case"]) & (rows["model"] == line["model"]) & (rows["epsilon"] == 0)]
        for kind in ("original", "adversarial"):
            with Image.open(tmp_path / "files" / line[kind]["file"]) as file:
                assert file.size == (64, 64)
                assert "grid" not in str(file.info)
        said = list(line["original"]["probabilities"].values())
        np.testing.assert_allclose(said, row.iloc[0].probabilities, atol=1e-4)


def test_an_image_too_large_is_one_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dosimeter.models.native.MAX_NATIVE_PIXELS", 37 * 53)
    frame = dm.sweep(convolutional_classifier(), odd(), threat=NATIVE, epsilons=[0.01]).frame
    errors = frame[frame.status == "error"]
    assert len(errors) == 1  # 64 x 41
    assert errors.error.tolist() == [TOO_LARGE]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threat": dm.ThreatModel(native=True, mask=np.ones((32, 32)))}, "native takes no mask"),
        ({"attack": "universal", "training": odd()}, "native takes no attack 'universal'"),
        ({"attack": Universal(torch.zeros(3, 32, 32), n_learned=8)}, "native takes no attack 'universal'"),
    ],
)
def test_what_needs_one_size_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        dm.sweep(convolutional_classifier(), odd(), **{"threat": NATIVE, **changes})


@pytest.mark.parametrize("changes", [{"mask": Path("mask.png")}, {"attack": "all"}, {"attack": "pgd,universal"}])
def test_settings_refuse_it_too(changes: dict[str, Any]) -> None:
    with pytest.raises(DosimeterError, match="native takes no"):
        load_config(None, native=True, **changes)
    assert load_config(None, **changes).native is False
