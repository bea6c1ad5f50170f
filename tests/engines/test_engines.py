import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from greys import cohort, setting, true_labels
from tiny import convolutional_classifier, linear_classifier
from torch import Tensor, nn
from torch.nn.functional import conv2d

import dosimeter as dm
from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.fgsm import FGSM
from dosimeter.cache import cache_dir
from dosimeter.cohorts.base import Cohort, Decoded
from dosimeter.engines import batches, choose, remembered, winograd
from dosimeter.engines.base import Engine, EngineUnavailable, TorchEngine
from dosimeter.engines.batches import find_batch_size
from dosimeter.engines.choose import EnginePlan, build_engine, plan_engine
from dosimeter.engines.winograd import GradientConv2d, WinogradConv2d, WinogradEngine
from dosimeter.executors.local import LocalExecutor
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.study import settings
from dosimeter.sweeps.execute import execute_cell
from dosimeter.sweeps.plan import plan_cells

pytest.importorskip("numba")

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
    pytest.param("mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS device")),
]


def wide_classifier(seed: int = 0) -> Classifier:
    """A small network whose 3 x 3 layers gain from Winograd, with and without batch normalisation and ReLU."""
    generator = torch.Generator().manual_seed(seed)
    base = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 40, 3, padding=1, bias=False),
        nn.BatchNorm2d(40),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(40, 32, 3),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
    )
    head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 14 * 14, 2))
    for tensor in [*base.state_dict().values(), *head.state_dict().values()]:
        if tensor.is_floating_point():
            tensor.uniform_(-0.1, 0.12, generator=generator)
    base[3].running_var.fill_(0.9)  # type: ignore[union-attr,operator]
    return Classifier(
        base,
        head,
        preprocessing=PREPROCESSINGS["minus1to1"],
        size_px=32,
        classes=("clear", "opacity"),
        card={"model": "wide", "protocol": "paper"},
    )


# --- Winograd's convolution ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (16, 16), (13, 18), (7, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution_is_torch_s(pad: int, height: int, width: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(height)
    layer = nn.Conv2d(33, 47, 3, padding=pad, bias=bias).requires_grad_(False)
    images = torch.randn(3, 33, height, width, generator=generator)
    expected = conv2d(
        images.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double(), padding=pad
    )
    scale = float(expected.abs().max())
    for relu, reference in ((False, expected), (True, expected.relu())):
        result = WinogradConv2d(layer, relu=relu)(images)
        assert result.shape == reference.shape
        assert float((result - reference).abs().max()) < 1e-5 * scale


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = WinogradConv2d(nn.Conv2d(32, 32, 3, padding=1), relu=True)
    images = torch.randn(2, 32, 21, 10)
    whole = layer(images)
    monkeypatch.setattr(winograd, "CHUNK_VALUES", 1)
    # a matrix library may sum a short matrix in another order than a long one
    torch.testing.assert_close(layer(images), whole, rtol=1e-5, atol=1e-5)


def test_not_a_number_is_not_rectified_away() -> None:
    images = torch.zeros(1, 32, 8, 8)
    images[0, 0, 3, 3] = torch.nan
    assert WinogradConv2d(nn.Conv2d(32, 32, 3, padding=1), relu=True)(images).isnan().any()


@pytest.mark.parametrize("pad", [0, 1])
def test_gradient_is_torch_s_and_the_forward_pass_bit_for_bit(pad: int) -> None:
    torch.manual_seed(pad)
    layer = nn.Conv2d(32, 48, 3, padding=pad).requires_grad_(False)
    fast = GradientConv2d(layer)
    images = torch.randn(2, 32, 11, 14, requires_grad=True)
    upstream = torch.randn_like(layer(images))
    assert torch.equal(fast(images), layer(images))
    (expected,) = torch.autograd.grad(layer(images), images, upstream)
    (gradient,) = torch.autograd.grad(fast(images), images, upstream)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)


def test_engine_agrees_with_torch_and_leaves_the_classifier_alone() -> None:
    classifier = wide_classifier()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    engine = WinogradEngine(classifier)
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        expected = classifier(images)
    torch.testing.assert_close(engine.logits(images), expected, rtol=1e-5, atol=1e-5)
    labels = torch.tensor([0, 1, 0])
    ours, torch_s = (FGSM().direction(Problem(network, images, labels)) for network in (engine.network, classifier))
    assert torch.equal(ours.sign, torch_s.sign)
    assert ours.logits is not None
    assert torch_s.logits is not None
    assert torch.equal(ours.logits, torch_s.logits)  # forward, the gradient's network is torch's
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert not any(isinstance(layer, WinogradConv2d) for layer in classifier.modules())


def test_a_network_that_gains_nothing_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="3 x 3"):
        WinogradEngine(convolutional_classifier())


def test_without_numba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dosimeter.engines.kernels", None)
    monkeypatch.delattr("dosimeter.engines.kernels", raising=False)
    with pytest.raises(EngineUnavailable, match=r"pip install 'dosimeter\[fast\]'"):
        WinogradEngine(wide_classifier())


# --- choosing -----------------------------------------------------------------------------------------------


def test_short_sweeps_are_torch_s() -> None:
    plan = plan_engine("auto", wide_classifier(), cohort(4), n_passes=10, refine=True)
    assert plan.name == "torch"
    assert set(plan.image_s) == {"torch"}  # no other was tried
    assert not plan.refused


def test_images_without_finite_gradients_leave_torch_to_report_them() -> None:
    classifier = wide_classifier()
    classifier.head[1].weight.data.fill_(torch.nan)
    assert plan_engine("auto", classifier, cohort(4), n_passes=10**9, refine=True).name == "torch"
    assert (
        dm.sweep(classifier, cohort(4), epsilons=[0.01], compute=dm.Compute(engine="winograd")).frame.status == "error"
    ).all()


def test_an_engine_that_breaks_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Engine:
        raise RuntimeError("no folder to cache in: /home/ana")

    monkeypatch.setitem(choose.ENGINES, "winograd", (broken, ""))
    with pytest.raises(EngineUnavailable, match=r"cannot serve .* --engine torch") as caught:
        build_engine("winograd", wide_classifier(), threads=1)
    assert "/home" not in str(caught.value)


def stand_in(monkeypatch: pytest.MonkeyPatch, build: Callable[[Classifier], Engine]) -> None:
    """Put an engine in winograd's place, the only one that auto then compares with torch, and always prefers."""
    monkeypatch.setattr(choose, "AUTOMATIC", ("winograd",))
    monkeypatch.setattr(choose, "GAIN", 1e9)
    monkeypatch.setitem(choose.ENGINES, "winograd", (lambda classifier, threads: build(classifier), ""))


class Failing(TorchEngine):
    """Works for so many calls."""

    def __init__(self, classifier: Classifier, n_calls: int) -> None:
        super().__init__(classifier)
        self.n_left = n_calls

    def logits(self, images: Tensor) -> Tensor:
        self.n_left -= 1
        if self.n_left < 0:
            raise RuntimeError("cannot compile in /home/ana")
        return super().logits(images)


@pytest.mark.parametrize("n_calls", [0, 1])  # the first call compiles, the second is asked about the sample
def test_an_engine_that_breaks_when_it_is_asked_is_unavailable(monkeypatch: pytest.MonkeyPatch, n_calls: int) -> None:
    stand_in(monkeypatch, lambda classifier: Failing(classifier, n_calls))
    with pytest.raises(
        EngineUnavailable, match=r"winograd engine cannot serve .* \(RuntimeError\)\. Use --engine torch"
    ):
        plan_engine("winograd", wide_classifier(), cohort(2), n_passes=10**9, refine=True)
    plan = plan_engine("auto", wide_classifier(), cohort(2), n_passes=10**9, refine=True)
    assert plan.name == "torch"
    assert "RuntimeError" in plan.refused["winograd"]
    assert "/home" not in plan.refused["winograd"]


def test_every_engine_is_compared_with_torch_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = wide_classifier()
    for error, agrees in ((0.0, True), (1e-2, False)):
        stand_in(monkeypatch, lambda classifier, error=error: Trembling(classifier, error))  # type: ignore[misc]
        if agrees:
            assert build_engine("winograd", classifier, threads=1).name == "trembling"
        else:
            with pytest.raises(EngineUnavailable, match="winograd engine differs from torch by"):
                build_engine("winograd", classifier, threads=1)


@pytest.mark.parametrize("refine", [True, False])
def test_gradients_are_taken_through_the_engine_only_where_the_sweep_takes_them(
    monkeypatch: pytest.MonkeyPatch, refine: bool
) -> None:
    stand_in(monkeypatch, WinogradEngine)
    plan = plan_engine("auto", wide_classifier(), cohort(2), n_passes=10**9, refine=refine)
    assert isinstance(plan.engine, WinogradEngine)
    assert (plan.engine._gradients._network is None) is refine


def test_threads_at_once_share_one_network_of_gradients() -> None:
    engine = WinogradEngine(wide_classifier())
    with ThreadPoolExecutor(4) as pool:
        assert len({id(network) for network in pool.map(lambda _: engine.network, range(8))}) == 1


def test_what_speaks_against_an_engine_is_logged_by_sweep(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choose, "WORTH_CHOOSING_S", 0.0)
    stand_in(monkeypatch, lambda classifier: Failing(classifier, 0))
    dm.sweep(wide_classifier(), cohort(2), epsilons=[0.01])
    assert "winograd engine cannot serve this classifier" in caplog.text


def test_the_settings_know_the_engines() -> None:
    assert ("auto", *choose.ENGINES) == settings.ENGINES


def test_auto_takes_the_fastest_that_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "AUTOMATIC", ("winograd",))
    monkeypatch.setattr(choose, "GAIN", 1e9)
    plan = plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=True)
    assert plan.name == "winograd"
    assert 0 < plan.error < plan.tolerance
    assert set(plan.image_s) == {"torch", "winograd"}
    assert "numba" in plan.versions
    assert EnginePlan(**plan.to_dict()) == replace(plan, refused={})
    monkeypatch.setattr(choose, "GAIN", 0.0)
    monkeypatch.setattr(remembered, "RULE", 0)
    assert plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=True).name == "torch"


class Tally(TorchEngine):
    """Counts the images that it is asked."""

    n = 0

    def logits(self, images: Tensor) -> Tensor:
        Tally.n += len(images)
        return super().logits(images)


def test_a_choice_is_remembered_by_architecture_and_proved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, Tally)
    first = plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=True)
    Tally.n = 0
    again = plan_engine("auto", wide_classifier(seed=1), cohort(4), n_passes=10**9, refine=True)
    assert (again.name, again.image_s) == (first.name, first.image_s)
    assert Tally.n == choose.N_CHECKED
    assert again.tolerance > 0
    assert plan_engine("auto", wide_classifier(), cohort(4), n_passes=10, refine=True).name == "torch"  # too short
    Tally.n = 0
    plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=False)  # another question
    assert Tally.n > choose.N_CHECKED  # compared anew: one pass that compiles


def test_what_was_chosen_before_and_does_not_agree_now_is_compared_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, TorchEngine)
    assert plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=True).name == "winograd"
    stand_in(monkeypatch, lambda classifier: Trembling(classifier, 1e-2))
    plan = plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=True)
    assert plan.name == "torch"
    assert "differs from torch" in plan.refused["winograd"]


def test_a_damaged_memory_is_compared_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, TorchEngine)
    plan = plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=True)
    (kept,) = (cache_dir() / "engines" / "chosen").iterdir()
    kept.write_text('{"name": "winograd"}', encoding="utf-8")
    assert plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=True).name == plan.name
    assert kept.read_text(encoding="utf-8") != '{"name": "winograd"}'


def test_an_engine_that_disagrees_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "AUTOMATIC", ("winograd",))
    monkeypatch.setattr(choose, "LOGIT_TOLERANCE", 0.0)
    with pytest.raises(dm.DosimeterError, match="differs from torch by"):
        plan_engine("winograd", wide_classifier(), cohort(4), n_passes=10**9, refine=True)
    plan = plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=True)
    assert plan.name == "torch"
    assert "differs from torch" in plan.refused["winograd"]


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(dm.DosimeterError, match="winograd"):
        dm.sweep(wide_classifier(), cohort(2), compute=dm.Compute(engine="winogrand"))


def test_unreadable_images_are_no_sample() -> None:
    def fail() -> Decoded:
        raise OSError("gone")

    cases = cohort(2)
    broken = replace(cases, records=tuple(replace(record, read=fail) for record in cases.records))
    assert plan_engine("winograd", wide_classifier(), broken, n_passes=10**9, refine=True).name == "torch"


def test_batch_size_follows_the_largest_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 4 * 32 * 32 * (40 + 40)  # bytes into and out of the batch normalisation
    monkeypatch.setitem(batches.LAYER_BYTES, "cpu", 5 * largest + 1)
    assert find_batch_size(wide_classifier()) == 5
    monkeypatch.setitem(batches.LAYER_BYTES, "cpu", 1)
    assert find_batch_size(wide_classifier()) == 1


# --- torch decides what is not clear ------------------------------------------------------------------------


class Trembling:
    """Logits off by as much as an engine may be, each time otherwise."""

    name = "trembling"

    def __init__(self, classifier: Classifier, error: float) -> None:
        self.network = classifier
        self._torch = TorchEngine(classifier)
        self._error = error
        self._generator = torch.Generator().manual_seed(0)

    def logits(self, images: Tensor) -> Tensor:
        logits = self._torch.logits(images)
        return logits + self._error * (2 * torch.rand(logits.shape, generator=self._generator) - 1)


def rows_of(engine: Engine | None, classifier: Classifier, cases: Cohort, tolerance: float) -> list[dict[str, object]]:
    chosen = replace(setting("sound"), tolerance=tolerance, engine="torch" if engine is None else engine.name)
    return [row for cell in plan_cells(cases, classifier, chosen) for row in execute_cell(cell, classifier, engine)]


def test_predicted_classes_and_flips_are_torch_s_whatever_an_engine_trembles() -> None:
    weight = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(1)).expand(3, -1, -1) / 10
    classifier = linear_classifier(weight.contiguous(), bias=0.02)
    cases = true_labels(classifier, cohort(12, size=8))
    error = 1e-3
    ours = rows_of(Trembling(classifier, error), classifier, cases, 2 * error)
    torch_s = rows_of(None, classifier, cases, 0.0)

    def known(rows: list[dict[str, object]]) -> dict[tuple[object, ...], object]:
        return {(row["case_id"], row["storage"], row["epsilon"]): row["predicted"] for row in rows}

    assert known(ours) == known(torch_s)
    assert len(ours) == len(torch_s)
    assert any(row["logits"] != other["logits"] for row, other in zip(ours, torch_s, strict=True))
    assert {row["predicted"] for row in ours} == {0, 1}


def test_an_engine_found_wrong_is_replaced_by_torch(caplog: pytest.LogCaptureFixture) -> None:
    classifier = linear_classifier(torch.full((3, 8, 8), 0.01), bias=-1.0)
    cases = true_labels(classifier, cohort(3, size=8))

    class Lying(Trembling):
        def logits(self, images: Tensor) -> Tensor:
            return super().logits(images) + torch.tensor([0.0, 0.01])  # sure, and wrong about where it flips

    rows = rows_of(Lying(classifier, 0.0), classifier, cases, 1e-9)
    torch_s = rows_of(None, classifier, cases, 0.0)
    assert [row["logits"] for row in rows] == [row["logits"] for row in torch_s]
    assert "computed again with torch" in caplog.text


# --- threads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
def test_rows_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    cases, classifier = cohort(20), wide_classifier()
    threads = torch.get_num_threads()
    one = dm.sweep(classifier, cases, epsilons=[0.01], compute=dm.Compute(engine="winograd", workers=1)).frame
    many = dm.sweep(classifier, cases, epsilons=[0.01], compute=dm.Compute(engine="winograd", workers=workers)).frame
    assert one.drop(columns="duration_s").equals(many.drop(columns="duration_s"))
    assert torch.get_num_threads() == threads


class Counting(TorchEngine):
    """Counts its forward passes, each of which takes a while."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        self.n = 0

    def logits(self, images: Tensor) -> Tensor:
        self.n += 1
        time.sleep(0.01)
        return super().logits(images)


def test_leaving_the_loop_stops_the_workers_within_a_cell() -> None:
    classifier = wide_classifier()
    engine = Counting(classifier)
    cells = list(plan_cells(cohort(64), classifier, replace(setting(), batch_size=1)))
    execute_cell(cells[0], classifier, engine)
    a_cell, engine.n = engine.n, 0
    running = LocalExecutor(2).run(cells, classifier, EnginePlan("torch", 1, engine=engine))
    next(running)
    running.close()  # type: ignore[attr-defined]
    asked = engine.n
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dosimeter")]
    assert engine.n == asked
    assert asked < 2.9 * a_cell  # two were done or nearly so; the next two, just begun, were given up


def test_a_worker_s_error_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise dm.DosimeterError("out of luck.")

    monkeypatch.setattr("dosimeter.executors.local.execute_cell", fail)
    with pytest.raises(dm.DosimeterError, match="out of luck"):
        dm.sweep(wide_classifier(), cohort(3))


# --- devices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_gives_torch_s_answers_on_the_cpu(device: str) -> None:
    cases = cohort(9)
    expected = dm.sweep(wide_classifier(), cases, epsilons=[0.01, 0.03], compute=dm.Compute(engine="torch")).frame
    engine = "winograd" if device == "cpu" else "torch"
    moved = dm.sweep(
        wide_classifier().to(device), cases, epsilons=[0.01, 0.03], compute=dm.Compute(engine=engine)
    ).frame
    grid, other = (frame[frame.on_grid].sort_values(["case_id", "epsilon"]) for frame in (expected, moved))
    np.testing.assert_allclose(np.stack(other.logits), np.stack(grid.logits), atol=1e-3)
    assert (other.predicted.to_numpy() == grid.predicted.to_numpy()).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["torch", "winograd"])
def test_every_engine_serves_every_device_or_says_no(name: str, device: str) -> None:
    classifier = wide_classifier().to(device)
    images = torch.rand(2, 3, 32, 32)
    try:
        engine = build_engine(name, classifier, threads=1)
    except EngineUnavailable as refusal:
        assert device != "cpu" and name in str(refusal)  # noqa: PT017, PT018
        return
    logits = engine.logits(images)
    assert (logits.device.type, logits.dtype, logits.shape) == ("cpu", torch.float32, (2, 2))
    single = torch.cat([engine.logits(image[None]) for image in images])
    torch.testing.assert_close(logits, single, rtol=1e-4, atol=1e-5)


@pytest.mark.slow  # a C++ compiler takes a minute for it, and auto never chooses it
def test_compiled_networks_agree_with_torch() -> None:
    classifier = wide_classifier()
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        expected = classifier(images)
    torch.testing.assert_close(
        build_engine("compile", classifier, threads=1).logits(images), expected, rtol=1e-4, atol=1e-5
    )


def test_a_plan_read_from_a_table_has_the_identity_of_the_one_written() -> None:
    plan = EnginePlan("ncnn", 4, versions={"ncnn": "1", "pnnx": "2", "numba": "3"})
    read = json.loads(json.dumps(plan.to_dict(), sort_keys=True))
    assert EnginePlan(**read).identity == plan.identity
