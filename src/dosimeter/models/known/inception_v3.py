"""Inception-v3: torchvision's file, or a TensorFlow.js model in an npm tarball."""

import base64
import io
import math
import re
import tarfile
from collections import OrderedDict
from functools import partial

import numpy as np
import torchvision
from torch import nn

from dosimeter.models.backbones import Backbone, HeadSpec
from dosimeter.models.inception import KERAS_BLOCKS
from dosimeter.models.registries import Arrays, Official, Origin, Package, Shapes, torchvision_origin

FOLDER = "package/dist/models/inception_v3"
SHARDS = 6
MANIFEST_ENTRY = re.compile(
    r'\{name:"(?P<name>[^"]+)",shape:\[(?P<shape>[\d,]*)\],dtype:"float32",'
    r'quantization:\{min:(?P<min>[-+.\de]+),scale:(?P<scale>[-+.\de]+),dtype:"uint8"\}\}'
)
BASE64_LITERAL = re.compile(r'"([A-Za-z0-9+/]{100,}={0,2})"')


def read(tarball: bytes, shapes: Shapes) -> Arrays:
    """Return the 94 convolutions and batch normalisations of the quantised Keras model in `tarball`.

    Keras numbers them in the order in which torchvision defines its modules. Kernels turn from HWIO to OIHW;
    the batch normalisations have no gamma, which is a gamma of one.
    """
    tensors = _dequantise(*_manifest_and_bytes(tarball))
    targets = [key.removesuffix(".conv.weight") for key in shapes if key.endswith(".conv.weight")]
    arrays: Arrays = {}
    for number, target in enumerate(targets, start=1):
        normalisation = f"batch_normalization_{number}"
        beta = tensors[f"{normalisation}/beta"]
        kernel = tensors[f"conv2d_{number}/kernel"].transpose(3, 2, 0, 1)
        arrays[f"{target}.conv.weight"] = np.ascontiguousarray(kernel)
        arrays[f"{target}.bn.weight"] = np.ones_like(beta)
        arrays[f"{target}.bn.bias"] = beta
        arrays[f"{target}.bn.running_mean"] = tensors[f"{normalisation}/moving_mean"]
        arrays[f"{target}.bn.running_var"] = tensors[f"{normalisation}/moving_variance"]
    return arrays


def _manifest_and_bytes(tarball: bytes) -> tuple[str, bytes]:
    """Return the weights manifest (JavaScript, as text) and the bytes of all shards."""
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:

        def text(name: str) -> str:
            member = archive.extractfile(f"{FOLDER}/{name}.min.js")
            assert member is not None
            return member.read().decode()

        _, _, manifest = text("model").partition("weightsManifest:")
        scripts = [text(f"group1-shard{n}of{SHARDS}") for n in range(1, SHARDS + 1)]
    literals = [literal for script in scripts for literal in BASE64_LITERAL.findall(script)]
    assert len(literals) == SHARDS, len(literals)
    return manifest, b"".join(base64.b64decode(literal, validate=True) for literal in literals)


def _dequantise(manifest: str, content: bytes) -> Arrays:
    """Return each tensor of `manifest` as scale * value + min in float32; the tensors follow one another."""
    tensors: Arrays = {}
    offset = 0
    for entry in MANIFEST_ENTRY.finditer(manifest):
        shape = tuple(int(size) for size in entry["shape"].split(","))
        values = np.frombuffer(content, np.uint8, math.prod(shape), offset).astype(np.float32)
        scaled = values * np.float32(entry["scale"]) + np.float32(entry["min"])
        tensors[entry["name"]] = scaled.reshape(shape)
        offset += values.size
    assert offset == len(content), (offset, len(content))
    return tensors


def _inception_v3(blocks: list[type[nn.Module]] | None = None) -> nn.Module:
    network = torchvision.models.inception_v3(
        weights=None, init_weights=False, aux_logits=False, transform_input=False, inception_blocks=blocks
    )
    after_the_base = {"avgpool", "dropout", "fc"}
    layers = ((name, layer) for name, layer in network.named_children() if name not in after_the_base)
    return nn.Sequential(OrderedDict(layers))


ENTRY = Backbone(
    name="inception_v3",
    title="Inception-v3",
    size_px=224,
    map_shape=(2048, 5, 5),
    build=_inception_v3,
    build_keras=partial(_inception_v3, KERAS_BLOCKS),
    head=HeadSpec(pool="none", hidden=1024, dropout=0.4),
    note="Inception-v3 base fed 224 x 224; flatten, dense 1024, dropout 0.4, two logits",
    official=Official(
        build=lambda: torchvision.models.inception_v3(init_weights=False),
        unused=("AuxLogits.", "fc."),
        url=torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.url,
        file_sha256="0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef",
        origin=torchvision_origin("minus1to1"),
    ),
    package=Package(
        tool="npm",
        requirement="nsfwjs@4.4.0",
        file_sha256="585cd178f3b994337c4d10a87b080d342fc52f8b9bf0085c4d1f345a3a1c5382",
        sha256="4eda9d8781c92a60cb328784942a69427fec8fd70d9559f2080f0edcdcd80a49",
        origin=Origin(
            name="nsfwjs Inception-v3",
            source="npm package nsfwjs 4.4.0",
            licence="MIT",
            preprocessing="minus1to1",
            layers="keras",
            stand_in=True,
            note="Not the ImageNet weights but a stand-in: initialised from ImageNet, layers after the 51st "
            "convolution fine-tuned on another image task, every tensor quantised to 8 bits.",
        ),
        convert=read,
    ),
)
