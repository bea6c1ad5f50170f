"""The base runs once per image: its feature maps, cached on disk."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dosimeter.cache import cache_dir
from dosimeter.cohorts.base import Case, Cohort
from dosimeter.files import replacing
from dosimeter.models.base import Classifier
from dosimeter.parallel import default_workers, in_threads

DIGEST_BYTES = hashlib.sha256().digest_size
"""Behind a map in its file stands its digest; NumPy reads the map and does not look farther."""


class FeatureStore:
    """Feature maps of a cohort under one base, one file each, keyed by what determines them.

    A file's folder is the digest of the base's weights, its preprocessing and torch's version (another version may
    round differently); its name is the digest of the prepared pixels. Nothing is held in memory but the names.

    Args:
        classifier: only its base and preprocessing matter, any head does.
        base_sha256: digest of the base's weights.
        map_shape: (C, H, W) that a map has; None: not known.
        folder: where the cache lives; by default the user's cache folder.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        base_sha256: str,
        map_shape: tuple[int, ...] | None = None,
        folder: Path | None = None,
    ) -> None:
        key = f"{base_sha256}|{classifier.preprocessing}|{classifier.size_px}|{torch.__version__}"
        key += f"|{classifier.device.type}"
        self._classifier = classifier
        self._shape = map_shape
        self._folder = (folder or cache_dir() / "features") / hashlib.sha256(key.encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)

    def compute(self, cohort: Cohort, *, advance: Callable[[int], None] = lambda _: None) -> list[Path]:
        """Return the file of each case's feature map, running the base for those that are not there yet.

        The base is fed one image at a time, so that a map's last bit does not depend on what was cached before; as many
        images at once as there are cores. Each set of images begins at a place of its own, by its digest: processes
        that train on parts of one cohort at the same time then fill the cache together, instead of each computing all.

        Args:
            cohort: n cases.
            advance: called with 1 after each case.
        """
        paths: dict[int, Path] = {}
        workers = default_workers(self._classifier.device)
        first = int(cohort.sha256[:8], 16) % max(len(cohort), 1)
        order = [*range(first, len(cohort)), *range(first)]
        computed = in_threads(lambda index: self._compute_one(cohort[index]), order, workers=workers)
        for index, path in zip(order, computed, strict=True):
            paths[index] = path
            advance(1)
        return [paths[index] for index in range(len(cohort))]

    def _compute_one(self, case: Case) -> Path:
        image = self._classifier.prepare(case)  # (3, size, size)
        path = self._folder / f"{hashlib.sha256(image.numpy().tobytes()).hexdigest()}.npy"
        if not _is_whole(path, self._shape):
            with torch.inference_mode():
                feature_map = self._classifier.features(image[None].to(self._classifier.device))[0]
            _save(feature_map.cpu().numpy(), path)
        return path


def load_batch(paths: Sequence[Path]) -> Tensor:
    """Return the feature maps in `paths` as one tensor (batch, C, H, W)."""
    return torch.from_numpy(np.stack([np.load(path, allow_pickle=False) for path in paths]))


def _is_whole(path: Path, shape: tuple[int, ...] | None) -> bool:
    """Whether the map is there as it was written: of this shape, and with the digest that stands behind it."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[:-DIGEST_BYTES]).digest() != content[-DIGEST_BYTES:]:
            return False
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return False
    return found.dtype == np.float32 and shape in (None, found.shape)


def _save(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]], path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    content = buffer.getvalue()
    with replacing(path) as temporary:
        temporary.write_bytes(content + hashlib.sha256(content).digest())
