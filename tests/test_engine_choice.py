"""Which engine computes a sweep: what `auto` takes, and what is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from test_engines import Trembling, wide_classifier
from test_sweeps import cohort
from torch import Tensor

import dosimeter as dm
from dosimeter import config
from dosimeter.cohorts.base import Decoded
from dosimeter.engines import choose
from dosimeter.engines.base import Engine, EngineUnavailable, TorchEngine
from dosimeter.engines.choose import EnginePlan, build_engine, find_batch_size, plan_engine
from dosimeter.engines.winograd import WinogradEngine
from dosimeter.models.base import Classifier

pytest.importorskip("numba")


def test_short_sweeps_are_torch_s() -> None:
    plan = plan_engine("auto", wide_classifier(), cohort(4), n_passes=10, refine=True)
    assert plan.name == "torch"
    assert set(plan.image_s) == {"torch"}  # no other was tried
    assert not plan.refused


def test_images_without_finite_gradients_leave_torch_to_report_them() -> None:
    classifier = wide_classifier()
    classifier.head[1].weight.data.fill_(torch.nan)
    assert plan_engine("auto", classifier, cohort(4), n_passes=10**9, refine=True).name == "torch"
    assert (dm.sweep(classifier, cohort(4), epsilons=[0.01], engine="winograd").frame.status == "error").all()


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


@pytest.mark.parametrize("n_calls", [0, 1, 2])
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
    assert ("auto", *choose.ENGINES) == config.ENGINES


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
    assert plan_engine("auto", wide_classifier(), cohort(4), n_passes=10**9, refine=True).name == "torch"


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
        dm.sweep(wide_classifier(), cohort(2), engine="winogrand")


def test_unreadable_images_are_no_sample() -> None:
    def fail() -> Decoded:
        raise OSError("gone")

    cases = cohort(2)
    broken = replace(cases, records=tuple(replace(record, read=fail) for record in cases.records))
    assert plan_engine("winograd", wide_classifier(), broken, n_passes=10**9, refine=True).name == "torch"


def test_batch_size_follows_the_largest_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 4 * 32 * 32 * (40 + 40)  # bytes into and out of the batch normalisation
    monkeypatch.setitem(choose.LAYER_BYTES, "cpu", 5 * largest + 1)
    assert find_batch_size(wide_classifier()) == 5
    monkeypatch.setitem(choose.LAYER_BYTES, "cpu", 1)
    assert find_batch_size(wide_classifier()) == 1
