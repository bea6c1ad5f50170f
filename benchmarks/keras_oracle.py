"""Is the base the network that its weights belong to? Compare it with Keras's own on the same weights.

    pip install keras h5py && python benchmarks/keras_oracle.py [IMAGE ...]

Prints how far the feature maps are apart (relative L2), in all and at their corners, for images given or for phantoms.
"""

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"  # before the first import of Keras

import keras
import numpy as np
import torch

import dosimeter as dm
from dosimeter.cohorts.base import Decoded
from dosimeter.cohorts.images import read_image, to_grid
from dosimeter.models.backbones import build_base, get_backbone
from dosimeter.models.weights import Weights, load_weights


def keras_network(weights: Weights, size_px: int) -> keras.Model:
    """Return Keras's Inception-v3 without its top, holding `weights`, which stand in torchvision's order."""
    network = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(size_px, size_px, 3))
    state = weights.state
    names = [name.removesuffix(".conv.weight") for name in state if name.endswith(".conv.weight")]
    numbered = {  # Keras numbers its layers in the order of their making, which is that of torchvision's definitions
        kind: sorted((layer for layer in network.layers if isinstance(layer, kind)), key=_number)
        for kind in (keras.layers.Conv2D, keras.layers.BatchNormalization)
    }
    for place, name in enumerate(names):
        kernel = state[f"{name}.conv.weight"].permute(2, 3, 1, 0).numpy()  # (H, W, in, out)
        numbered[keras.layers.Conv2D][place].set_weights([kernel])
        norm = [state[f"{name}.bn.{part}"].numpy() for part in ("bias", "running_mean", "running_var")]
        numbered[keras.layers.BatchNormalization][place].set_weights(norm)  # without gamma: all ones
    assert all(bool((state[f"{name}.bn.weight"] == 1).all()) for name in names)
    return network


def _number(layer: keras.Layer) -> int:
    digits = layer.name.rpartition("_")[2]
    return int(digits) if digits.isdigit() else 0


def images(paths: list[str], size_px: int) -> np.ndarray:
    """Return images (n, 3, size_px, size_px) in [0, 1]."""
    if paths:
        grids = [to_grid(read_image(Path(path)), size_px=size_px) for path in paths]
    else:
        cases = dm.load_cohort("phantom-xray", limit=8)
        grids = [to_grid(Decoded(case.image, case.bits), size_px=size_px) for case in cases]
    return np.stack([np.broadcast_to(grid, (3, size_px, size_px)) for grid in grids])


def main(paths: list[str]) -> None:
    backbone = get_backbone("inception_v3")
    weights = load_weights("inception_v3")
    batch = torch.from_numpy(images(paths, backbone.size_px))
    ready = weights.preprocessing.apply(batch)
    with torch.no_grad():
        wanted = np.asarray(keras_network(weights, backbone.size_px)(ready.permute(0, 2, 3, 1), training=False).cpu())
        wanted = wanted.transpose(0, 3, 1, 2)  # (n, 2048, 5, 5)
        print(
            f"{weights.name}, {len(batch)} images, maps of {wanted.shape[1:]}; relative L2 to Keras {keras.__version__}"
        )
        for layers in ("torchvision", "keras"):
            maps = build_base(backbone, weights.state, layers)(ready).numpy()
            print(f"  layers of {layers:12} whole {apart(maps, wanted):.2g}, corners {corners(maps, wanted)}")


def apart(maps: np.ndarray, wanted: np.ndarray) -> float:
    """Return the relative L2 distance."""
    return float(np.linalg.norm(maps - wanted) / np.linalg.norm(wanted))


def corners(maps: np.ndarray, wanted: np.ndarray) -> str:
    """Return the distances at the four corners of the map."""
    here = [(row, column) for row in (0, -1) for column in (0, -1)]
    return ", ".join(f"{apart(maps[..., r, c], wanted[..., r, c]):.2g}" for r, c in here)


if __name__ == "__main__":
    main(sys.argv[1:])
