"""Whether this machine can run a study: versions, engines, weights, GPU, folders."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from dosimeter import __version__, registry
from dosimeter.cache import cache_dir
from dosimeter.cohorts import DATA_VARIABLE
from dosimeter.engines.choose import ENGINES, PACKAGES
from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.models.weights import cached_origin
from dosimeter.record.provenance import PACKAGES as NEEDED

EXTRAS = {
    "app": ("fastapi", "uvicorn"),
    "attacks": ("foolbox",),
    "fast": ("numba", "ncnn", "pnnx"),
    "ray": ("ray",),
    "timm": ("timm",),
}
"""What each extra brings, of those that commands ask for."""


class Finding(NamedTuple):
    """What was found.

    Attributes:
        part: of the machine or the installation.
        level: "ok"; "note", what a study can do without; "fault", what it cannot.
        said: one line.
    """

    part: str
    level: Literal["ok", "note", "fault"]
    said: str


def examine(out: Path) -> Iterator[Finding]:
    """Yield what is found on this machine; nothing is fetched, and nothing stays written.

    Args:
        out: the folder that runs are written to.
    """
    yield Finding("dosimeter", "ok", f"{__version__}, python {platform.python_version()}, {platform.system()}")
    yield from map(_needed, NEEDED)
    for extra, packages in EXTRAS.items():
        yield _extra(extra, packages)
    yield from map(_engine, ENGINES)
    yield _gpu()
    yield from map(_weights, registry.names("backbones"))
    yield _writable("cache", cache_dir(), "set DOSIMETER_CACHE to a folder that can be written")
    yield _writable("runs", out, "give another folder with --out")
    yield _data()
    yield Finding("cores", "ok", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _needed(package: str) -> Finding:
    version = _version(package)
    if version is None:
        return Finding(package, "fault", f"not installed: pip install {package}")
    return Finding(package, "ok", version)


def _extra(extra: str, packages: tuple[str, ...]) -> Finding:
    found = {package: _version(package) for package in packages}
    if missing := [package for package, version in found.items() if version is None]:
        return Finding(f"extra {extra}", "note", f"no {', '.join(missing)}: pip install 'dosimeter[{extra}]'")
    return Finding(f"extra {extra}", "ok", ", ".join(f"{package} {version}" for package, version in found.items()))


def _engine(name: str) -> Finding:
    """Say whether an engine's packages can be imported; a study checks its answers itself."""
    part = f"engine {name}"
    missing = [package for package in PACKAGES.get(name, ()) if _version(package) is None]
    if missing:
        return Finding(part, "note", f"needs {', '.join(missing)}: pip install 'dosimeter[fast]'")
    return Finding(part, "ok", ENGINES[name][1])


def _gpu() -> Finding:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
        return Finding("GPU", "ok", ", ".join(names))
    if torch.backends.mps.is_available():
        return Finding("GPU", "ok", "Apple MPS")
    return Finding("GPU", "note", "none that torch sees: the CPU computes")


def _weights(network: str) -> Finding:
    part = f"weights {network}"
    try:
        origin = cached_origin(network)
    except DosimeterError as error:
        return Finding(part, "fault", str(error))
    if origin is None:
        return Finding(part, "note", f"not here yet: a study gets them, or dosimeter weights fetch {network}")
    return Finding(part, "ok", origin)


def _writable(part: str, folder: Path, remedy: str) -> Finding:
    """Say whether files can be made in a folder, or in the nearest that is there if it is not yet."""
    there = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path("/"))
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            pass
        free_gib = _free_gib(there)
    except OSError as error:
        return Finding(part, "fault", f"{folder} cannot be written ({in_a_line(error)}): {remedy}")
    return Finding(part, "ok", f"{folder}{'' if there == folder else ' (not there yet)'}, {free_gib:.0f} GiB free")


def _free_gib(folder: Path) -> float:
    return shutil.disk_usage(folder).free / 2**30


def _data() -> Finding:
    data = os.environ.get(DATA_VARIABLE)
    if not data:
        return Finding("images", "note", f"{DATA_VARIABLE} is not set: a study without --cohort runs on phantoms")
    if not Path(data).is_dir():
        return Finding("images", "fault", f"{DATA_VARIABLE} names no folder: {data}")
    return Finding("images", "ok", f"{DATA_VARIABLE} is {data}")
