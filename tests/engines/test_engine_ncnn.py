"""The ncnn engine: torch's answers, converted once, refused in one sentence where ncnn cannot follow."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

import dosimeter as dm
from dosimeter.engines import ncnn as engine_module
from dosimeter.engines.base import EngineUnavailable, TorchEngine
from dosimeter.engines.ncnn import BIN, DIGESTS, PARAM, NcnnEngine
from dosimeter.models import backbones
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.weights import WeightsUnavailable

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")

ODD_PX = 33  # rows that fill no vector, so padding would show


class Block(nn.Module):
    """What the paper's networks are made of: 3 x 3 convolutions, batch-norm, pooling, branches; then `end`."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.deep = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.end = end

    def forward(self, images: Tensor) -> Tensor:
        first = self.stem(images)
        joined = torch.cat([nn.functional.max_pool2d(first, 2), nn.functional.avg_pool2d(self.deep(first), 2)], dim=1)
        return self.end(joined)  # (batch, 32, 16, 16) -> (batch, n, H, W)


def as_it_is(feature_map: Tensor) -> Tensor:
    return feature_map


def block_classifier(
    end: Callable[[Tensor], Tensor] = as_it_is, *, preprocessing: str = "minus1to1", seed: int = 0
) -> Classifier:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))
    return classifier_of(Block(end), head, preprocessing=preprocessing, seed=seed)


def classifier_of(base: nn.Module, head: nn.Module, *, preprocessing: str = "unit", seed: int = 0) -> Classifier:
    generator = torch.Generator().manual_seed(seed)
    for tensor in [*base.state_dict().values(), *head.state_dict().values()]:
        if tensor.is_floating_point():
            tensor.uniform_(-0.3, 0.3, generator=generator)
    for name, tensor in base.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
    chosen = PREPROCESSINGS[preprocessing]
    return Classifier(base, head, preprocessing=chosen, size_px=ODD_PX, classes=("clear", "opacity"))


def images_for(classifier: Classifier, n: int, *, seed: int = 1) -> Tensor:
    size = classifier.size_px
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def assert_agrees(engine: NcnnEngine, classifier: Classifier, images: Tensor) -> None:
    expected = TorchEngine(classifier).logits(images)
    found = engine.logits(images)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert expected.std(dim=0).max() > 1e-3 * expected.abs().max()  # the images do differ
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def conversions(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the programs that were started."""
    started: list[str] = []
    run = subprocess.run

    def counted(command: list[str], **options: Any) -> Any:
        started.append(Path(command[0]).name)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    return started


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("preprocessing", ["minus1to1", "caffe"])
def test_agrees_with_torch(tmp_path: Path, preprocessing: str, threads: int) -> None:
    classifier = block_classifier(preprocessing=preprocessing)
    engine = NcnnEngine(classifier, threads=threads, folder=tmp_path)
    assert engine.name == "ncnn"
    images = images_for(classifier, 3)
    assert_agrees(engine, classifier, images)
    assert_agrees(engine, classifier, images.contiguous(memory_format=torch.channels_last))


def test_strided_layers_agree_and_the_cache_folder_is_the_default(tmp_path: Path) -> None:
    classifier = tiny.convolutional_classifier()
    assert_agrees(NcnnEngine(classifier, threads=1), classifier, images_for(classifier, 3))
    assert len(conversions(tmp_path / "cache" / "engines" / "ncnn")) == 1  # conftest puts the cache there


class Fixed(nn.Module):
    """Pooling whose window is the whole map, so its conversion holds the size of the image it was traced with."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, int(images.shape[-1]))  # (batch, C, 1, 1)


@pytest.mark.parametrize(("last", "n_conversions"), [(nn.ReLU(), 1), (Fixed(), 2)])
def test_a_large_base_is_converted_with_a_small_image_where_that_gives_the_same(
    last: nn.Module, n_conversions: int, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SMALL_PX", ODD_PX - 8)
    base = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), last)
    classifier = classifier_of(base, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)))
    assert_agrees(NcnnEngine(classifier, threads=1, folder=tmp_path), classifier, images_for(classifier, 3))
    assert calls.count("pnnx") == n_conversions


def test_a_batch_equals_its_images_one_by_one(tmp_path: Path) -> None:
    engine = NcnnEngine(block_classifier(), threads=1, folder=tmp_path)
    images = images_for(engine.network, 4)
    features = engine._features(images)
    assert torch.equal(features, torch.cat([engine._features(image[None]) for image in images]))


def test_threads_at_once_give_what_one_gives(tmp_path: Path) -> None:
    classifier = block_classifier()
    engine = NcnnEngine(classifier, threads=2, folder=tmp_path)
    batches = [images_for(classifier, 2, seed=seed) for seed in range(24)]
    alone = [engine.logits(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine.logits, batches))
    assert all(torch.equal(first, second) for first, second in zip(alone, together, strict=True))


def test_precision_is_single(tmp_path: Path) -> None:
    options = NcnnEngine(tiny.convolutional_classifier(), threads=1, folder=tmp_path)._net.opt
    halves = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed")
    assert not any(getattr(options, switch) for switch in (*halves, "use_vulkan_compute"))


def test_the_classifier_is_left_as_it_was(tmp_path: Path) -> None:
    classifier = block_classifier()
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in classifier.state_dict().items()}
    NcnnEngine(classifier, threads=1, folder=tmp_path).logits(images_for(classifier, 1))
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, before[name][0])
        assert tensor.stride() == before[name][1]
    assert not classifier.training


# --- the cache ----------------------------------------------------------------------------------------------


def test_a_conversion_is_kept(tmp_path: Path, calls: list[str]) -> None:
    classifier = block_classifier()
    images = images_for(classifier, 2)
    first = NcnnEngine(classifier, threads=1, folder=tmp_path).logits(images)
    assert "pnnx" in calls
    calls.clear()
    assert torch.equal(NcnnEngine(classifier, threads=1, folder=tmp_path).logits(images), first)
    assert calls == []
    assert {path.name for path in conversions(tmp_path)[0].iterdir()} == {PARAM, BIN, DIGESTS}


def test_another_head_needs_no_conversion(tmp_path: Path, calls: list[str]) -> None:
    classifier = block_classifier()
    NcnnEngine(classifier, threads=1, folder=tmp_path)
    calls.clear()
    head = nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32 * 4 * 4, 3))
    other = Classifier(
        classifier.base, head, preprocessing=classifier.preprocessing, size_px=ODD_PX, classes=("a", "b", "c")
    )
    assert_agrees(NcnnEngine(other, threads=1, folder=tmp_path), other, images_for(other, 2))
    assert calls == []


def times(stop: float, then: Callable[[Tensor], Tensor] = as_it_is) -> Callable[[Tensor], Tensor]:
    constant = torch.linspace(0, stop, 256).view(16, 16)  # a tensor that is no parameter
    return lambda feature_map: then(feature_map * constant)


OTHERS: dict[str, Callable[[], Classifier]] = {
    "other weights": lambda: block_classifier(times(1), seed=1),
    "the same layers, connected otherwise": lambda: block_classifier(times(1, torch.tanh)),
    "another constant": lambda: block_classifier(times(2)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_base_is_another_conversion(tmp_path: Path, other: str) -> None:
    NcnnEngine(block_classifier(times(1)), threads=1, folder=tmp_path)
    classifier = OTHERS[other]()
    assert_agrees(NcnnEngine(classifier, threads=1, folder=tmp_path), classifier, images_for(classifier, 2))
    assert len(conversions(tmp_path)) == 2


@pytest.mark.parametrize("name", [PARAM, BIN, DIGESTS])
@pytest.mark.parametrize(
    "damage",
    [*(pytest.param(each, marks=pytest.mark.slow) for each in ("cut", "empty")), "absent", "altered"],
)  # a conversion takes a second, and what is cut or empty is found as what is altered is: by its digest
def test_a_damaged_conversion_is_made_again(tmp_path: Path, calls: list[str], name: str, damage: str) -> None:
    classifier = tiny.convolutional_classifier()
    NcnnEngine(classifier, threads=1, folder=tmp_path)
    path = conversions(tmp_path)[0] / name
    whole = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:-9], "empty": b"", "altered": whole[:-9] + b"123456789"}[damage])
    calls.clear()
    assert_agrees(NcnnEngine(classifier, threads=1, folder=tmp_path), classifier, images_for(classifier, 2))
    assert calls.count("pnnx") == 1
    assert path.read_bytes() == whole


def test_two_at_once_convert_once(tmp_path: Path, calls: list[str]) -> None:
    classifier = tiny.convolutional_classifier()
    with ThreadPoolExecutor(2) as pool:
        pending = [pool.submit(NcnnEngine, classifier, threads=1, folder=tmp_path) for _ in range(2)]
        engines = [future.result() for future in pending]
    images = images_for(classifier, 2)
    assert torch.equal(engines[0].logits(images), engines[1].logits(images))
    assert calls.count("pnnx") == 1
    assert len(conversions(tmp_path)) == 1


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(EngineUnavailable, match=r"needs a cache folder that can be written.*Set DOSIMETER_CACHE"):
        NcnnEngine(tiny.convolutional_classifier(), threads=1, folder=tmp_path / "taken")


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["ncnn", "pnnx"])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineUnavailable) as raised:
        NcnnEngine(tiny.convolutional_classifier(), threads=1)
    assert str(raised.value) == "The ncnn engine needs ncnn and pnnx: pip install 'dosimeter[fast]'."


class Doubled(torch.autograd.Function):
    """An operation of a user's own, which torch can run and trace but not save."""

    @staticmethod
    def forward(ctx: Any, feature_map: Tensor) -> Tensor:
        return feature_map * 2


def raises(feature_map: Tensor) -> Tensor:
    if torch.jit.is_tracing():
        raise KeyError("not to be traced")
    return feature_map


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a layer of torch's alone": (lambda x: torch.fft.rfft2(x).real, r"no layer for torch\.fft\.rfft2, torch\.real"),
    "an operation of one's own": (Doubled.apply, "torch cannot save the trace of its base .*'Doubled'"),
    "a base that does not trace": (raises, "torch cannot trace its base .*not to be traced"),
    "pnnx gives up": (lambda x: torch.linalg.inv(x + 99 * torch.eye(16)), "pnnx could not convert its base .exit code"),
    "a swapped batch axis": (lambda x: x.permute(1, 0, 2, 3), r"gives shape \(32, 1, 16, 16\) in torch, \(1, 32, 16"),
    "wrong values": (lambda x: nn.functional.layer_norm(x, (32, 16, 16)) - x, "its base deviates by"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_ncnn_cannot_express_is_refused_silently(
    tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    end, reason = REFUSED[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EngineUnavailable, match=reason) as raised:
            NcnnEngine(block_classifier(end), threads=1, folder=tmp_path)
    assert str(raised.value).startswith("The ncnn engine cannot serve this network: ")
    assert str(raised.value).endswith(". Use the torch engine.")
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_network_that_kills_ncnn_kills_another_process(tmp_path: Path) -> None:
    """An identity converts to a network without output, whose result crashes ncnn's Python."""
    classifier = classifier_of(nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(3 * ODD_PX**2, 2)))
    with pytest.raises(EngineUnavailable, match=r"ncnn could not run its base \(exit code"):
        NcnnEngine(classifier, threads=1, folder=tmp_path)
    assert conversions(tmp_path) == []


def test_a_conversion_takes_no_longer_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CONVERSION_LIMIT_S", 0.001)
    with pytest.raises(EngineUnavailable, match=r"pnnx could not convert its base within 0\.001 s"):
        NcnnEngine(tiny.convolutional_classifier(), threads=1, folder=tmp_path)
    assert conversions(tmp_path) == []


@pytest.mark.parametrize(
    ("program", "reason"),
    [("no-such-program", r"pnnx could not convert its base \(No such file"), (sys.executable, r"\(exit code \d")],
)
def test_a_broken_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str) -> None:
    monkeypatch.setattr("pnnx.EXEC_PATH", program)
    with pytest.raises(EngineUnavailable, match=reason):
        NcnnEngine(tiny.convolutional_classifier(), threads=1, folder=tmp_path)
    assert conversions(tmp_path) == []


def test_a_converter_that_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, stdout="")

    monkeypatch.setattr(subprocess, "run", silent)
    with pytest.raises(EngineUnavailable, match="pnnx wrote no files for ncnn"):
        NcnnEngine(tiny.convolutional_classifier(), threads=1, folder=tmp_path)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    classifier = block_classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NcnnEngine(classifier, threads=1, folder=tmp_path).logits(images_for(classifier, 2))
    assert capfd.readouterr() == ("", "")


# --- real weights -------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("network", ["vgg16", "inception_v3"])
def test_real_networks_agree_with_torch(tmp_path: Path, network: str) -> None:
    try:
        weights = dm.load_weights(network)
    except WeightsUnavailable as error:
        pytest.skip(str(error))
    backbone = backbones.get_backbone(network)
    head = backbones.build_head(backbone, backbone.head, n_classes=2, generator=torch.Generator().manual_seed(0))
    classifier = Classifier(
        backbones.build_base(backbone, weights.state),
        head,
        preprocessing=weights.preprocessing,
        size_px=backbone.size_px,
        classes=("clear", "opacity"),
    )
    images = torch.stack([classifier.prepare(case) for case in dm.load_cohort("phantom-ct", limit=2)])
    assert_agrees(NcnnEngine(classifier, threads=1, folder=tmp_path), classifier, images)
