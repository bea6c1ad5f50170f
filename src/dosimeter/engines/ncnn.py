"""The ncnn engine: a classifier's frozen base, converted once by pnnx and run by ncnn in single precision on the CPU.

ncnn has Winograd convolutions for every 3 x 3 layer, so networks like VGG16 run below the cost of direct convolution.
Preprocessing and head stay in torch: they are cheap. A converted base is kept in the cache folder. ncnn has no
gradients: those are the winograd engine's, or torch's.

Two things shape this file. A network that ncnn misreads can make it read outside its memory, so a new conversion is
first run in a process that may die of it. And a conversion may be wrong without an error (pnnx drops the batch axis by
guessing), so an engine compares itself with torch on one image before it serves.
"""

import copy
import hashlib
import importlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from dosimeter.cache import cache_dir
from dosimeter.engines.base import EngineUnavailable
from dosimeter.engines.winograd import Gradients
from dosimeter.files import json_in
from dosimeter.models.base import Classifier

log = logging.getLogger(__name__)

CONVERSION_LIMIT_S = 300
"""After so long pnnx is stopped; it takes 6 s for VGG16 at 224 x 224, 1 s at 96 x 96."""

SMALL_PX = 96
"""Sides of the image that a base is first converted with: pnnx computes with it to learn the layers' shapes.

A convolution or pooling is converted to the same bytes whatever the size. What is not is found by the comparison at
full size, and converted with an image of that.
"""

CONVERSION_TOLERANCE = 1e-3
"""Largest deviation from torch's feature map, as a part of its largest value, that is taken for rounding.

Only a wrong conversion exceeds it: VGG16 and Inception-v3 deviate by 2e-6, a dropped axis by about 1. How close an
engine must be to serve a study is decided by whoever chooses the engine.
"""

PARAM, BIN, DIGESTS = "base.ncnn.param", "base.ncnn.bin", "sha256.json"

_tracing = threading.Lock()  # warning filters belong to the whole process


class NcnnEngine:
    """Answers from ncnn: single precision, one image at a time, so a feature map does not depend on its batch.

    Safe to call from several threads at once: they share the network, and each call has its own extractor. Calls
    release Python's lock while ncnn computes.

    Args:
        classifier: its base is converted, its preprocessing and head are used as they are.
        threads: of ncnn, for each call, at least 1.
        folder: where conversions are kept; by default in the user's cache folder.

    Raises:
        EngineUnavailable: ncnn or pnnx is not installed, the base cannot be converted, its conversion does not
            give torch's feature map, or the cache folder cannot be written.

    Source: https://github.com/Tencent/ncnn; its Winograd convolutions follow Lavin and Gray 2016 (arXiv 1509.09308).
    """

    name = "ncnn"

    def __init__(self, classifier: Classifier, *, threads: int, folder: Path | None = None) -> None:
        assert threads >= 1, threads
        tools = _find_tools()
        self._gradients = _gradients(classifier)
        self._classifier = classifier
        self._ncnn = tools.ncnn
        image = torch.rand(1, 3, *classifier.grid.shape, generator=torch.Generator().manual_seed(0))
        ready = classifier.preprocessing.apply(image)  # (1, 3, H, W)
        small = ready[:, :, :SMALL_PX, :SMALL_PX].contiguous()
        root = folder or cache_dir() / "engines" / "ncnn"
        try:
            self._net = _load(tools.ncnn, _converted(classifier.base, small, ready, tools, root), threads=threads)
            self._compare(image)
        except EngineUnavailable:
            if small.shape == ready.shape:
                raise
            self._net = _load(tools.ncnn, _converted(classifier.base, ready, ready, tools, root), threads=threads)
            self._compare(image)

    @property
    def network(self) -> Classifier:
        """What attacks differentiate."""
        return self._classifier if self._gradients is None else self._gradients.network

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (batch, n_classes), float32 on the CPU, for `images` (batch, 3, H, W) in [0, 1] on the CPU."""
        with torch.inference_mode():
            feature_maps = self._features(images).to(self._classifier.device)
            logits: Tensor = self._classifier.head(feature_maps)
            return logits.float().cpu()

    def _features(self, images: Tensor) -> Tensor:
        """Return what the base makes of images (batch, 3, H, W) in [0, 1]: (batch, C, H', W') for feature maps."""
        ready = self._classifier.preprocessing.apply(images).float().contiguous()
        return torch.from_numpy(np.stack([self._run(image) for image in ready.numpy()]))

    def _run(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Run the base on one image (3, H, W) after preprocessing."""
        extractor = self._net.create_extractor()
        mat = self._ncnn.Mat(image).clone()  # a Mat borrows the array's memory without keeping it alive; a clone owns
        code = extractor.input("in0", mat)
        if code == 0:
            code, output = extractor.extract("out0")
        if code != 0:
            raise _refusal(f"ncnn stopped with code {code} (-100 is too little memory)")
        return np.array(output)  # the extractor's memory goes with it

    def _compare(self, image: Tensor) -> None:
        """Refuse a conversion that does not give torch's feature map for image (1, 3, size, size)."""
        with torch.inference_mode():
            expected = self._classifier.features(image.to(self._classifier.device)).float().cpu()
            found = self._features(image)
        if found.shape != expected.shape:
            raise _refusal(f"its base gives shape {tuple(expected.shape)} in torch, {tuple(found.shape)} in ncnn")
        deviation, largest = float((found - expected).abs().max()), float(expected.abs().max())
        if not deviation <= CONVERSION_TOLERANCE * largest:  # written so that NaN is refused
            raise _refusal(f"its base deviates by {deviation:.2g} from torch, whose largest value is {largest:.2g}")
        log.info("ncnn's base deviates by %.2g from torch, whose largest value is %.2g", deviation, largest)


def _gradients(classifier: Classifier) -> Gradients | None:
    """Return what gives the classifier's gradients sooner than torch, None if nothing does."""
    try:
        return Gradients(classifier)
    except EngineUnavailable as refusal:
        log.info("ncnn's gradients are torch's: %s", refusal)
        return None


class _Tools(NamedTuple):
    ncnn: ModuleType
    converter: str  # pnnx's executable
    versions: str


def _find_tools() -> _Tools:
    try:
        ncnn, pnnx = importlib.import_module("ncnn"), importlib.import_module("pnnx")
        versions = [f"{name} {importlib.metadata.version(name)}" for name in ("ncnn", "pnnx", "torch")]
    except ImportError as error:
        raise EngineUnavailable("The ncnn engine needs ncnn and pnnx: pip install 'dosimeter[fast]'.") from error
    return _Tools(ncnn, pnnx.EXEC_PATH, ", ".join(versions))


def _refusal(reason: str) -> EngineUnavailable:
    return EngineUnavailable(f"The ncnn engine cannot serve this network: {reason}. Use the torch engine.")


# --- what is converted --------------------------------------------------------------------------------------


class _Wrapped(nn.Module):
    """The base as a part of something: pnnx recognises layers by their place in a module that contains them."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, ready: Tensor) -> Any:
        return self.base(ready)


def _trace(base: nn.Module, sample: Tensor) -> Any:
    """Return torch's trace of a copy of `base`, in plain layout on the CPU, for the input `sample` (1, 3, H, W)."""
    try:
        with _tracing, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that tracing is deprecated, and what it cannot follow: _compare sees that
            plain = copy.deepcopy(base).cpu().to(memory_format=torch.contiguous_format)
            return torch.jit.trace(_Wrapped(plain).eval(), sample, check_trace=False)
    except Exception as error:  # a user's own network may raise anything
        raise _refusal(f"torch cannot trace its base ({_first_line(error)})") from error


def _digest(traced: Any, sample: Tensor, tools: _Tools) -> str:
    """Return the SHA-256 of all that determines a conversion.

    The traced graph stands for the architecture: printed layers do not say how they are connected.
    """
    graph = traced.inlined_graph
    text = re.sub(r"__torch__[\w.]+", "", graph.str(False))  # torch numbers its names of classes in each process
    result = hashlib.sha256(f"{text}|{tuple(sample.shape)}|{tools.versions}".encode())
    constants = [
        (str(number), node.t("value"))  # tensors that are no parameters; the text leaves out their values
        for number, node in enumerate(graph.findAllNodes("prim::Constant"))
        if node.hasAttribute("value") and node.kindOf("value") == "t"
    ]
    for name, tensor in sorted(traced.state_dict().items()) + constants:
        result.update(name.encode())
        result.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return result.hexdigest()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


# --- conversion and its cache -------------------------------------------------------------------------------


def _converted(base: nn.Module, sample: Tensor, ready: Tensor, tools: _Tools, root: Path) -> Path:
    """Return the folder in `root` with the base as converted by `sample`; it is made if it is absent or damaged.

    A new conversion is tried on `ready`, an image of the size that it will answer.
    """
    traced = _trace(base, sample)
    folder = root / _digest(traced, sample, tools)
    if _is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_whole(folder):  # another process may just have made it
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix="converting-") as work:
                    made = _convert(traced, sample, ready, tools, Path(work))
                    shutil.rmtree(folder, ignore_errors=True)
                    made.rename(folder)
    except OSError as error:
        raise EngineUnavailable(
            f"The ncnn engine needs a cache folder that can be written, got {folder.parent} "
            f"({error.strerror or error}). Set DOSIMETER_CACHE to one that can."
        ) from error
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether the conversion is there with the very bytes that were written."""
    try:
        expected = json_in(folder / DIGESTS)
        return bool(expected == _file_digests(folder))
    except (OSError, ValueError):
        return False


def _file_digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (PARAM, BIN)}


def _convert(traced: Any, sample: Tensor, ready: Tensor, tools: _Tools, work: Path) -> Path:
    """Convert in the folder `work` and return a folder in it that holds just what is kept."""
    try:
        traced.save(str(work / "base.pt"))
    except RuntimeError as error:
        raise _refusal(f"torch cannot save the trace of its base ({_first_line(error)})") from error
    shape = ",".join(str(length) for length in sample.shape)
    unread = [f"{file}={os.devnull}" for file in ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")]
    command = [tools.converter, "base.pt", f"inputshape=[{shape}]f32", "fp16=0", *unread]
    _call(command, work, failure="pnnx could not convert its base")
    if not ((work / PARAM).is_file() and (work / BIN).is_file()):
        raise _refusal("pnnx wrote no files for ncnn")
    # After two lines of counts, each line of the text begins with the type of a layer.
    types = [line.split()[0] for line in (work / PARAM).read_text("utf-8", "replace").splitlines()[2:] if line.strip()]
    if foreign := sorted({name for name in types if tools.ncnn.layer_to_index(name) < 0}):
        raise _refusal(f"ncnn has no layer for {', '.join(foreign)}")
    np.save(work / "input.npy", ready[0].numpy())
    _call([sys.executable, "-c", _TRIAL, PARAM, BIN, "input.npy"], work, failure="ncnn could not run its base")
    made = work / "made"
    made.mkdir()
    for name in (PARAM, BIN):
        (work / name).rename(made / name)
    (made / DIGESTS).write_text(json.dumps(_file_digests(made)), encoding="utf-8")
    return made


def _call(command: Sequence[str], folder: Path, *, failure: str) -> None:
    """Run a command in `folder`, what it says going to the log."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=CONVERSION_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refusal(f"{failure} within {CONVERSION_LIMIT_S} s") from None
    except OSError as error:
        raise _refusal(f"{failure} ({error.strerror or error})") from error
    log.info("%s said: %s", Path(command[0]).name, done.stdout.strip())
    if done.returncode != 0:
        raise _refusal(f"{failure} (exit code {done.returncode}, see the log)")


# --- ncnn's network -----------------------------------------------------------------------------------------

_TRIAL = """
import sys
import ncnn, numpy

net = ncnn.Net()
for switch in dir(net.opt):
    if switch.startswith("use_") and ("16" in switch or "vulkan" in switch):
        setattr(net.opt, switch, False)
net.opt.num_threads = 1
code = net.load_param(sys.argv[1]) or net.load_model(sys.argv[2])
if code == 0:
    extractor = net.create_extractor()
    code = extractor.input("in0", ncnn.Mat(numpy.load(sys.argv[3])).clone())
if code == 0:
    code, output = extractor.extract("out0")
if code == 0:
    numpy.array(output)
sys.exit(code and 1)
"""
"""Loads a network as `_load` does and runs it once, in a process of its own, which may die of it."""


def _load(ncnn: ModuleType, folder: Path, *, threads: int) -> Any:
    net = ncnn.Net()
    for switch in dir(net.opt):  # half precision in storage, layout and arithmetic, whatever this version offers
        if switch.startswith("use_") and ("16" in switch or "vulkan" in switch):
            setattr(net.opt, switch, False)
    net.opt.num_threads = threads
    code = net.load_param(str(folder / PARAM)) or net.load_model(str(folder / BIN))
    if code != 0:
        raise _refusal(f"ncnn could not load its conversion in {folder} (code {code})")
    return net
