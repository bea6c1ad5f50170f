"""An ONNX file, made a torch network again, and checked against what onnxruntime answers."""

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import digest_of_file
from dosimeter.models.source import Brought, Source
from dosimeter.record.model_card import ModelCard

TOLERANCE = 1e-3
"""Largest difference from onnxruntime's outputs, as a share of their spread, on images of random pixels."""


def load(card: ModelCard) -> Brought:
    """Return the network in `card.weights`, with gradients.

    Raises:
        DosimeterError: packages are missing, the file has several inputs, cannot be converted or answers otherwise.
    """
    try:
        import onnx
        import onnxruntime
        from onnx2pytorch import ConvertModel
    except ImportError as error:
        raise DosimeterError(f"the source onnx needs {error.name}: pip install 'dosimeter[onnx]'.") from error
    if card.weights is None or not card.weights.is_file():
        raise DosimeterError(f"the model card of {card.name} must name its weights, an .onnx file beside it.")
    try:
        graph = onnx.load(card.weights)
        session = onnxruntime.InferenceSession(str(card.weights), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DosimeterError(f"{card.weights.name} cannot be read as ONNX ({in_a_line(error)[:200]}).") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise DosimeterError(
            f"{card.weights.name} must take one input (n, channels, height, width), got "
            f"{[each.shape for each in inputs]}."
        )
    sides = [side for side in inputs[0].shape[2:] if isinstance(side, int)]
    if len(set(sides)) > 1:
        raise DosimeterError(f"{card.weights.name} must take square images, got {sides[0]} x {sides[1]}.")
    size_px = sides[0] if sides else card.size_px
    if size_px is None:
        raise DosimeterError(f"the model card of {card.name} must say size_px: {card.weights.name} takes any.")
    channels = inputs[0].shape[1]
    if isinstance(channels, int) and channels != card.channels:
        raise DosimeterError(f"the model card of {card.name} says channels {card.channels}, its file {channels}.")
    try:
        network: nn.Module = ConvertModel(graph, experimental=True).eval()
        off = _off(network, session, inputs[0].name, (card.channels, size_px, size_px))
        if off is None:  # its batch is fixed
            network = OneByOne(network)
            off = _off(network, session, inputs[0].name, (card.channels, size_px, size_px))
    except Exception as error:
        raise DosimeterError(
            f"{card.weights.name} cannot be made a torch network ({in_a_line(error)[:200]}). Export it again with "
            "torch.onnx.export(network, (images,), FILE, dynamo=True)."
        ) from error
    if off is None or not off <= TOLERANCE:
        raise DosimeterError(
            f"{card.name} as a torch network answers otherwise than onnxruntime, by {off} of its outputs' spread (at "
            f"most {TOLERANCE:g}): its gradients would be another network's. Export it again."
        )
    built_by = f"onnx2pytorch {version('onnx2pytorch')}"
    return Brought(
        network, size_px=size_px, built_by=built_by, identity=f"{digest_of_file(card.weights)} by {built_by}"
    )


class OneByOne(nn.Module):
    """A network whose batch is fixed at one image, asked image by image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return outputs (n, n_outputs) for images (n, channels, H, W)."""
        return torch.cat([self.network(image[None]) for image in images])


def _off(network: nn.Module, session: Any, name: str, shape: tuple[int, ...]) -> float | None:
    """Return the largest difference from onnxruntime on two images, as a share of the outputs' spread.

    None if the network does not take two images at once.
    """
    images = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    wanted = np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
    try:
        with torch.inference_mode():
            found = network(torch.from_numpy(images)).numpy()
    except RuntimeError:
        return None
    spread = float(np.ptp(wanted)) or 1.0
    return float(np.abs(found - wanted).max()) / spread if found.shape == wanted.shape else None


ENTRY = Source("an ONNX file (weights), verified against onnxruntime", load)
