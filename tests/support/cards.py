"""Model cards and images, written for a test."""

from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from PIL import Image

CLASSES = ["clear", "opacity"]


def write_card(folder: Path, **facts: Any) -> Path:
    """Write a card called `mine`, of two classes and pixels as they are unless `facts` say otherwise; None: no key."""
    usual: dict[str, Any] = {"name": "mine", "classes": CLASSES, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    path = folder / "mine.toml"
    path.write_text(tomli_w.dumps({key: value for key, value in (usual | facts).items() if value is not None}))
    return path


def write_image(path: Path, *, height: int = 40, width: int = 50, seed: int = 0, colour: bool = False) -> Path:
    """Write blocks of middle greys, or colours, as a PNG file."""
    shape = (height // 5, width // 5, 3) if colour else (height // 5, width // 5)
    levels = np.random.default_rng(seed).integers(80, 176, shape, dtype=np.uint8)
    Image.fromarray(levels.repeat(5, axis=0).repeat(5, axis=1)).save(path)
    return path
