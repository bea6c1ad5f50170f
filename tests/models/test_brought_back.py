"""The study's VGG16, written as ONNX by both of torch's exporters and as Keras, and brought back by model cards."""

import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from cards import write_card
from pandas.testing import assert_frame_equal
from torch import nn

import dosimeter as dm
from dosimeter.models.backbones import build_head, get_backbone
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.source import bring

os.environ.setdefault("KERAS_BACKEND", "torch")
for name in ("onnx", "onnxruntime", "onnx2pytorch", "onnxscript", "h5py", "keras"):
    pytest.importorskip(name)
pytestmark = pytest.mark.slow  # exports and attacks a VGG16 at its own size, a minute a file


@cache
def own() -> dm.Classifier:
    """VGG16 with the paper's head, untrained: what counts is whether others answer as it does."""
    torch.manual_seed(0)
    backbone = get_backbone("vgg16")
    base = backbone.build()
    for part in base.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.normal_(part.bias, std=0.01)
    head = build_head(backbone, backbone.head, n_classes=2, generator=torch.Generator().manual_seed(0))
    made = {"preprocessing": PREPROCESSINGS["caffe"], "size_px": 224, "classes": ("clear", "opacity"), "adopt": True}
    return dm.Classifier(base, head, card={"model": "vgg16"}, **made)


@cache
def images() -> Any:
    return dm.load_cohort("phantom-xray", limit=4)


@cache
def wanted() -> Any:
    return table(own())


def table(classifier: dm.Classifier) -> Any:
    epsilons = ["1/255", "4/255"]
    how: dict[str, Any] = {
        "epsilons": epsilons,
        "visibility": "none",
        "compute": dm.Compute(engine="torch", workers=1),
        "refine": False,
    }
    asked = dm.sweep(classifier, images(), "fgsm", **how)
    return dm.accuracy_table(asked).drop(columns="model")


def exported(path: Path, **how: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = nn.Sequential(own().base, own().head).eval()
        torch.onnx.export(network, (torch.randn(1, 3, 224, 224),), path, **how)


def in_keras(path: Path) -> None:
    import keras

    layers, tensors = [keras.Input((224, 224, 3))], []
    for part in own().base.modules():
        if isinstance(part, nn.Conv2d):
            layers.append(keras.layers.Conv2D(part.out_channels, 3, padding="same", activation="relu"))
            tensors.append((layers[-1], [part.weight.permute(2, 3, 1, 0), part.bias]))
        elif isinstance(part, nn.MaxPool2d):
            layers.append(keras.layers.MaxPooling2D())
    layers.append(keras.layers.GlobalAveragePooling2D())
    dense = [part for part in own().head.modules() if isinstance(part, nn.Linear)]
    for part, activation in zip(dense, ("relu", "softmax"), strict=True):
        layers.append(keras.layers.Dense(part.out_features, activation=activation))
        tensors.append((layers[-1], [part.weight.T, part.bias]))
    model = keras.Sequential(layers)
    for layer, values in tensors:
        layer.set_weights([value.detach().numpy() for value in values])
    model.save(path)


@pytest.mark.parametrize(
    ("file", "write", "outputs"),
    [
        ("net.onnx", lambda path: exported(path, dynamo=True, verbose=False), "logits"),
        ("net.onnx", lambda path: exported(path, dynamo=False, opset_version=17), "logits"),
        ("net.keras", in_keras, "probabilities"),
        ("net.h5", in_keras, "probabilities"),
    ],
    ids=["onnx", "older onnx", "keras", "h5"],
)
def test_it_answers_and_breaks_as_before(
    tmp_path: Path, file: str, write: Callable[[Path], None], outputs: str
) -> None:
    write(tmp_path / file)
    facts = PREPROCESSINGS["caffe"]
    affine = {"scale": facts.scale, "mean": facts.mean, "std": facts.std, "channel_order": facts.channel_order}
    source = {"source": "onnx" if file.endswith(".onnx") else "keras", "weights": file, "outputs": outputs}
    back = bring(write_card(tmp_path, **source, **affine))
    ready = torch.stack([own().prepare(case) for case in images()])
    with torch.inference_mode():
        torch.testing.assert_close(back(ready), own()(ready), atol=1e-4, rtol=1e-4)
    assert_frame_equal(table(back), wanted())
