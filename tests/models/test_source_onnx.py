"""ONNX files: two converters, each believed only where it answers as onnxruntime; and packages that are not there."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cards import write_card, write_image
from torch import nn

import dosimeter as dm
from dosimeter.errors import DosimeterError
from dosimeter.models.source import bring
from dosimeter.models.sources import onnx as source

for name in ("onnx", "onnxruntime", "onnx2pytorch", "onnx2torch", "onnxscript"):
    pytest.importorskip(name)


def network() -> nn.Module:
    """No convolution swallows its batch normalisation, over which onnx2pytorch stumbles in old exports."""
    torch.manual_seed(1)
    layers = nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 5, stride=4), nn.Flatten(), nn.Linear(4 * 3 * 4, 2)
    made = nn.Sequential(*layers)
    made.train()(torch.rand(8, 3, 16, 20))
    return made.eval()


def save(path: Path, *, dynamo: bool = True) -> nn.Module:
    made = network()
    how: dict[str, Any] = {"dynamo": True, "verbose": False} if dynamo else {"dynamo": False, "opset_version": 17}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(made, (torch.randn(1, 3, 16, 20),), path, **how)
    return made


def card(here: Path, **changes: Any) -> Path:
    return write_card(here, **({"source": "onnx", "weights": "net.onnx"} | changes))


@pytest.mark.parametrize(("dynamo", "converter"), [(True, "onnx2pytorch"), (False, "onnx2torch")])
def test_the_first_converter_that_answers_rightly_is_taken(tmp_path: Path, dynamo: bool, converter: str) -> None:
    made = save(tmp_path / "net.onnx", dynamo=dynamo)
    write_image(tmp_path / "a.png", colour=True)
    classifier = bring(card(tmp_path))
    images = torch.rand(3, 3, 16, 20, requires_grad=True)
    own = images.detach().clone().requires_grad_()
    logits, wanted = classifier(images), made(own)
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-4)
    (gradient,), (right,) = (torch.autograd.grad(each.sum(), x) for each, x in ((logits, images), (wanted, own)))
    torch.testing.assert_close(gradient, right, atol=1e-5, rtol=1e-4)
    assert classifier.card["built_by"].startswith(converter)
    assert classifier.size_px == (16, 20)


def test_tensors_that_share_a_name_in_an_old_export_are_found(tmp_path: Path) -> None:
    torch.manual_seed(1)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made = nn.Sequential(*made, nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    for part in (made[0], made[2], made[5]):
        nn.init.zeros_(part.bias)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(made, (torch.randn(1, 3, 16, 20),), tmp_path / "net.onnx", dynamo=False, opset_version=17)
    images = torch.rand(3, 3, 16, 20)
    torch.testing.assert_close(bring(card(tmp_path))(images), made(images), atol=1e-5, rtol=1e-4)


def test_a_converter_that_answers_otherwise_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "net.onnx")
    other = nn.Sequential(network(), nn.Hardtanh(-0.01, 0.01))

    def fails(path: Path) -> nn.Module:
        raise NotImplementedError("operator Mystery")

    monkeypatch.setattr(source, "CONVERTERS", {"onnx2pytorch": fails, "onnx2torch": lambda path: other})
    asked = bring(card(tmp_path))
    note = asked.card["weights"]["note"]
    assert "onnx2pytorch: NotImplementedError: operator Mystery; onnx2torch: off by" in note
    assert asked.access == "scores"  # onnxruntime answers, and there is no gradient
    images = torch.rand(3, 3, 16, 20)
    torch.testing.assert_close(asked(images), network()(images), atol=1e-5, rtol=1e-4)
    with pytest.raises(DosimeterError, match="gives scores and no gradient, which pgd cannot attack"):
        dm.sweep(asked, dm.cohort_of(images.numpy(), [0, 1, 0], ("clear", "opacity")), "pgd")
    monkeypatch.setattr(source, "CONVERTERS", {"onnx2pytorch": fails, "onnx2torch": lambda path: network()})
    assert bring(card(tmp_path)).card["built_by"].startswith("onnx2torch")


def test_references_are_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that answers otherwise about the reference alone is found."""
    made = save(tmp_path / "net.onnx")
    write_image(tmp_path / "a.png", colour=True)
    shapes = []

    class Seen(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shapes.append(len(images))
            outputs = made(images)
            outputs[4:] += 1
            return outputs

    monkeypatch.setattr(source, "CONVERTERS", {"onnx2pytorch": lambda path: Seen()})
    known = [{"image": "a.png", "scores": [0.0, 0.0], "tolerance": 100.0}]
    assert "onnx2pytorch: off by" in bring(card(tmp_path, reference=known)).card["weights"]["note"]
    assert shapes[0] == 5
    assert bring(card(tmp_path)).card["built_by"].startswith("onnx2pytorch")


@pytest.mark.parametrize(
    ("changes", "missing", "extra"),
    [
        ({"source": "onnx"}, "onnxruntime", "onnx"),
        ({"source": "keras"}, "keras", "keras"),
        ({"source": "timm", "architecture": "resnet18"}, "timm", "timm"),
        ({"source": "huggingface", "weights": "net"}, "transformers", "huggingface"),
        ({"source": "monai", "architecture": "DenseNet121"}, "monai.networks.nets", "monai"),
        ({"source": "torchxrayvision", "architecture": "all"}, "torchxrayvision", "xrv"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], missing: str, extra: str
) -> None:
    for each in [name for name in sys.modules if name == missing or name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text("{}")
    (tmp_path / "net.keras").write_bytes(b"")
    (tmp_path / "net.onnx").write_bytes(b"")
    weights = "net.keras" if extra == "keras" else "net.onnx"
    with pytest.raises(DosimeterError, match=rf"needs .*: pip install 'dosimeter\[{extra}\]'"):
        bring(card(tmp_path, **({"weights": weights} | changes)))


def test_neither_converter_installed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "net.onnx")
    for each in ("onnx2pytorch", "onnx2torch"):
        monkeypatch.setitem(sys.modules, each, None)
    with pytest.raises(DosimeterError, match=r"needs onnx2pytorch: pip install 'dosimeter\[onnx\]'"):
        bring(card(tmp_path))


def save_linear(
    path: Path,
    *,
    seed: int = 1,
    shape: tuple[int | str, ...] = ("n", 3, 4, 4),
    dtype: str = "float32",
    also: str = "",
    beside: bool = False,
) -> torch.Tensor:
    """Write a linear network of images 3 x 4 x 4; with `beside` its tensors are in a file of their own.

    Args:
        shape, dtype: of its input.
        also: a tensor of the graph that is given too.

    Returns:
        Its weights, (48, 2).
    """
    import onnx
    from onnx import helper, numpy_helper

    weights = np.random.default_rng(seed).normal(size=(48, 2)).astype(dtype)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    image = helper.make_tensor_value_info("x", kind, shape)
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in ("y", also) if name]
    graph = helper.make_graph(nodes, "linear", [image], outputs, [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    Path(f"{path}.data").unlink(missing_ok=True)
    stored = {"save_as_external_data": True, "location": f"{path.name}.data", "size_threshold": 0} if beside else {}
    onnx.save_model(model, path, **stored)
    return torch.from_numpy(weights)


def without_converters(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> nn.Module:
        raise NotImplementedError

    monkeypatch.setattr(source, "CONVERTERS", {"onnx2torch": fails})


@pytest.mark.parametrize("converts", [True, False])
def test_tensors_beside_the_file_are_part_of_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converts: bool
) -> None:
    if not converts:
        without_converters(monkeypatch)
    images, found = torch.rand(2, 3, 4, 4), []
    for seed in (1, 2, 2):
        weights = save_linear(tmp_path / "net.onnx", seed=seed, beside=True)
        made = bring(card(tmp_path))
        torch.testing.assert_close(made(images), images.flatten(1) @ weights)
        found.append((made.fingerprint, made.identity, made.card["weights"]["sha256"]))
    assert found[1] == found[2]
    assert all(first != second for first, second in zip(*found[:2], strict=True))


def test_tensors_beside_the_file_are_found_wherever_they_stand(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    def stored(name: str, file: str) -> TensorProto:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=file)
        (tmp_path / file).write_bytes(b"0000")
        return tensor

    constant = helper.make_node("Constant", [], ["c"], value=stored("", "attribute.bin"))
    branch = helper.make_graph([], "branch", [], [], [stored("w", "branch.bin")])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([constant, choice], "g", [], [], [stored("v", "graph.bin")])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    before = source.digest_with_tensors(tmp_path / "net.onnx")
    for file in ("attribute.bin", "branch.bin", "graph.bin"):
        (tmp_path / file).write_bytes(b"1111")
        assert source.digest_with_tensors(tmp_path / "net.onnx") != before
        (tmp_path / file).write_bytes(b"0000")
    assert source.digest_with_tensors(tmp_path / "net.onnx") == before
    (tmp_path / "branch.bin").unlink()
    with pytest.raises(DosimeterError, match=r"must have its tensors beside it, but branch\.bin is not there"):
        source.digest_with_tensors(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shape": (4, 3, 4, 4)}, "one at a time or any number of them, got a batch of 4. Export it again"),
        ({"dtype": "float16"}, r"must take images of 32-bit floats, got tensor\(float16\)"),
        ({"dtype": "float64"}, r"must take images of 32-bit floats, got tensor\(double\)"),
        ({"also": "f"}, "must give one output, got y, f. Export it again with the scores alone"),
        ({"shape": ("n", 48)}, r"must take one input \(n, channels, height, width\) or .*, got \[\['n', 48\]\]"),
        ({"shape": ("n", 3, "h", "w")}, "net.onnx fails on an image of 5 x 5, channels 3 .* size_px and channels"),
    ],
)
def test_a_file_that_takes_or_gives_something_else_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    save_linear(tmp_path / "net.onnx", **changes)
    with pytest.raises(DosimeterError, match=said) as caught:
        bring(card(tmp_path, size_px=5 if "h" in changes.get("shape", ()) else None))
    assert "\n" not in str(caught.value)


def test_a_batch_of_one_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_converters(monkeypatch)
    weights = save_linear(tmp_path / "net.onnx", shape=(1, 3, 4, 4))
    images = torch.rand(3, 3, 4, 4)
    torch.testing.assert_close(bring(card(tmp_path))(images), images.flatten(1) @ weights)


class Last(nn.Module):
    """The network of these tests as TensorFlow has them: channels come last."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images.permute(0, 3, 1, 2))
        return logits


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("converted", [True, False])
def test_channels_that_come_last_are_found_and_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dynamic: bool, converted: bool
) -> None:
    made = Last().eval()
    how: dict[str, Any] = {"dynamo": False, "opset_version": 17, "input_names": ["x"]}
    how |= {"dynamic_axes": {"x": {0: "n", 1: "h", 2: "w"}}} if dynamic else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(made, (torch.randn(1, 16, 20, 3),), tmp_path / "net.onnx", **how)
    if not converted:
        without_converters(monkeypatch)
    classifier = bring(card(tmp_path, size_px=[16, 20] if dynamic else None))
    assert classifier.access == ("gradients" if converted else "scores")
    images = torch.rand(3, 3, 16, 20)
    torch.testing.assert_close(classifier(images).detach(), network()(images), atol=1e-5, rtol=1e-4)
    assert classifier.size_px == (16, 20)


def test_a_file_that_tells_labels_alone_is_asked_for_decisions(tmp_path: Path) -> None:
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images).argmax(dim=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Deciding().eval(), (torch.randn(1, 3, 16, 20),), tmp_path / "net.onnx", dynamo=False, opset_version=17
        )
    classifier = bring(card(tmp_path, outputs="labels"))
    assert classifier.access == "decisions"
    images = torch.rand(5, 3, 16, 20) * torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0])[:, None, None, None]
    assert classifier(images).argmax(dim=1).equal(network()(images).argmax(dim=1))
    with pytest.raises(DosimeterError, match="says 2 outputs"):
        bring(card(tmp_path))
