"""A small reader study without a run: made-up grey images, in the folder that `dosimeter readers new` would make."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dosimeter.readers.design import Design, Pair, write_design
from dosimeter.readers.store import Store

EPSILONS = (0.004, 0.02, 0.1)


def make_study_folder(
    folder: Path, *, n_images: int = 4, epsilons: tuple[float, ...] = EPSILONS, **changes: Any
) -> Design:
    """Write a study of `n_images` images of 32 x 32 pixels, two trials for practice, and return its design."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    digests: list[str] = []

    def put(levels: Any) -> int:
        path = folder / "images" / f"{len(digests):04d}.png"
        Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).save(path, compress_level=0)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
        return len(digests) - 1

    practice: list[Pair] = []
    pairs: list[Pair] = []
    for case in range(n_images + 1):
        image = np.linspace(20, 200, 32 * 32).reshape(32, 32)
        plain, name = put(image), f"{case:05d}-0123abcd"
        for epsilon in epsilons if case < n_images else (0.2,):
            for kind in ("adversarial", "random"):
                altered = put(image + np.rint(255 * epsilon) * rng.choice([-1, 1], image.shape))
                (pairs if case < n_images else practice).append(Pair(kind, epsilon, name, plain, altered, 1.0))
        if case < n_images:
            pairs.append(Pair("catch", 0.0, name, plain, plain, 0.0))
    facts: dict[str, Any] = {
        "study_id": "5eed0001",
        "created": "2026-01-31T12:00:00+00:00",
        "run_id": "0123456789ab",
        "phantom": True,
        "curve": {"cohort": "xray-268", "protocol": "paper", "seed": 7, "model": "vgg16", "preset": "sound"},
        "epsilons": epsilons,
        "seed": 3,
        "window": "locked",
        "break_every": 10,
    }
    design = Design(**{**facts, **changes}, practice=tuple(practice), pairs=tuple(pairs), images=tuple(digests))
    write_design(design, folder)
    Store(folder, design).close()
    return design
