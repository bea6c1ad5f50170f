"""Winograd's fast convolution for frozen 3 x 3 layers: F(4 x 4, 3 x 3), four times fewer multiplications.

Torch convolves directly, at the machine's matrix-multiplication rate, so only fewer multiplications are faster. A tile
of 6 x 6 inputs is transformed (B^T d B), multiplied with the transformed weights (G g G^T) and transformed back
(A^T m A) to 4 x 4 outputs. The multiplications are torch's batched ones; the transforms are compiled (`kernels`), read
and write each value once, and add the bias and the ReLU on the way. The gradient for the images is a convolution with
the weights turned round, so it is as fast.

Source: Lavin and Gray 2016 (arXiv 1509.09308), section 4.3 and its equation 15.
"""

import copy
import logging
import math
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from dosimeter.engines.base import EngineUnavailable
from dosimeter.models.base import Classifier

log = logging.getLogger(__name__)

TILE = 4  # outputs of a tile, a side
N_POINTS = 36  # its inputs, and its multiplications for each pair of channels

CHUNK_VALUES = 1 << 20
"""Transformed values worked on at once: they stay in a core's second-level cache."""

MIN_CHANNELS = 32
MIN_GAIN = 2.0
"""Least gain in a layer's multiplications, 4 less the outputs that tiles waste at the borders."""

_G = (
    torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
)  # (6, 3)


class _Scratch(threading.local):
    """Each thread's working memory, kept between layers: fresh pages cost as much as the transforms."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return uninitialised float32 memory of that shape, valid until the same name is taken again."""
        n_values = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < n_values:
            with torch.inference_mode(False):  # so that gradients may write it too
                buffer = self._buffers[name] = torch.empty(n_values)
        return buffer[:n_values].view(shape)


_scratch = _Scratch()


def load_kernels() -> ModuleType:
    """Return the compiled transforms, or raise EngineUnavailable without numba."""
    try:
        from dosimeter.engines import kernels
    except ImportError as error:
        raise EngineUnavailable("The winograd engine needs numba: pip install 'dosimeter[fast]'.") from error
    return kernels


def transform_weights(weight: Tensor) -> Tensor:
    """Return G g G^T for weights (out, in, 3, 3) as (36, in, out), computed in float64."""
    n_out, n_in = weight.shape[:2]
    taps = weight.detach().double().permute(2, 3, 1, 0).reshape(9, n_in * n_out)
    return (torch.kron(_G, _G) @ taps).float().view(N_POINTS, n_in, n_out)


def convolve(images: Tensor, points: Tensor, bias: Tensor, *, pad: int, relu: bool) -> Tensor:
    """Return the 3 x 3 convolution of `images` (N, C, H, W), with its bias and ReLU, in channels-last layout.

    Args:
        points: transformed weights (36, C, out).
        bias: (out,).
        pad: zeros around each image.
    """
    kernels = load_kernels()
    source = images.permute(0, 2, 3, 1).contiguous()  # (N, H, W, C), a view of a channels-last tensor
    n_images, height, width, n_in = source.shape
    n_out = points.shape[2]
    sides = height + 2 * pad - 2, width + 2 * pad - 2
    result = torch.empty(n_images, n_out, *sides, memory_format=torch.channels_last)
    target = result.permute(0, 2, 3, 1).numpy()
    n_rows, n_columns = (-(-side // TILE) for side in sides)
    step = max(1, CHUNK_VALUES // (N_POINTS * n_columns * max(n_in, n_out)))
    floor = np.float32(0 if relu else -np.inf)
    for first in range(0, n_images * n_rows, step):
        last = min(first + step, n_images * n_rows)
        n_tiles = (last - first) * n_columns
        inputs = _scratch.take("inputs", N_POINTS, n_tiles, n_in)
        outputs = _scratch.take("outputs", N_POINTS, n_tiles, n_out)
        kernels.transform_inputs(source.numpy(), pad, n_rows, n_columns, first, last, inputs.numpy())
        torch.bmm(inputs, points, out=outputs)
        kernels.transform_outputs(outputs.numpy(), bias.numpy(), floor, n_rows, n_columns, first, last, target)
    return result


class WinogradConv2d(nn.Module):
    """A frozen 3 x 3 convolution of stride 1, with the ReLU after it if `relu`; it has no gradient."""

    def __init__(self, layer: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self.pad = int(layer.padding[0])
        self.relu = relu
        self.points = transform_weights(layer.weight)
        self.bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach().contiguous()

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, out, H', W') for images (N, in, H, W)."""
        return convolve(images, self.points, self.bias, pad=self.pad, relu=self.relu)


class _Convolution(torch.autograd.Function):
    """Torch's own convolution forward, Winograd's backward."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, layer: "GradientConv2d") -> Tensor:
        ctx.layer = layer
        return layer.original(images)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        layer = ctx.layer
        return convolve(gradients[0], layer.points, layer.bias, pad=2 - layer.pad, relu=False), None


class GradientConv2d(nn.Module):
    """A frozen 3 x 3 convolution whose gradient for the images is Winograd's.

    Forward it is torch's, bit for bit: a ReLU or a maximum that tips over changes gradients by finite amounts, and up
    to 2 % of FGSM's signs with them. Backward everything is linear, so rounding stays rounding.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.original = layer
        self.pad = int(layer.padding[0])
        self.points = transform_weights(layer.weight.flip(2, 3).transpose(0, 1))
        self.bias = torch.zeros(layer.in_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, out, H', W') for images (N, in, H, W)."""
        result: Tensor = _Convolution.apply(images, self)
        return result


class WinogradEngine:
    """A classifier whose 3 x 3 convolutions are Winograd's, its batch normalisation folded into the convolutions.

    Raises:
        EngineUnavailable: the classifier is not on a CPU, numba is missing, or no layer gains.
    """

    name = "winograd"

    def __init__(self, classifier: Classifier) -> None:
        self._gradients = Gradients(classifier)
        self._answering = classifier.with_base(answering(fold_batch_norm(classifier.base), self._gradients.layers))

    @property
    def network(self) -> Classifier:
        """What attacks differentiate."""
        return self._gradients.network

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (batch, n_classes), float32."""
        with torch.inference_mode():
            logits: Tensor = self._answering(images)
        return logits


class Gradients:
    """A classifier with the same answers, bit for bit, whose gradients come sooner (see `GradientConv2d`).

    Attributes:
        layers: names of the base's layers that gain.

    Raises:
        EngineUnavailable: as `WinogradEngine`.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.layers = _chosen(classifier)
        self._classifier = classifier
        self._network: Classifier | None = None
        self._making = threading.Lock()

    @property
    def network(self) -> Classifier:
        """The classifier, made when it is first asked for: a sweep that refines flips takes torch's gradients."""
        with self._making:
            if self._network is None:
                base = self._classifier.base
                self._network = self._classifier.with_base(differentiable(base, self.layers))
            return self._network


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a frozen network whose batch normalisations are part of the convolutions before them.

    One that torch.fx cannot trace is returned as it is.
    """
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()):
        return network
    try:
        return fuse(network).requires_grad_(False).eval().to(memory_format=torch.channels_last)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError, NotImplementedError) as error:
        log.info("batch normalisation stays unfolded: %s", error)
        return network


def answering(network: nn.Module, layers: Sequence[str]) -> nn.Module:
    """Return a copy of a frozen network with `WinogradConv2d` at `layers`; the other layers' weights are shared."""
    fast = _copy(network)
    for name in layers:
        parent, child, layer = _find(fast, name)
        follower = _follower(parent, child)
        if follower is not None:
            setattr(parent, follower, nn.Identity())
        setattr(parent, child, WinogradConv2d(layer, relu=follower is not None))
    return fast


def differentiable(network: nn.Module, layers: Sequence[str]) -> nn.Module:
    """Return a copy of a frozen network with `GradientConv2d` at `layers`; all weights are shared."""
    fast = _copy(network)
    for name in layers:
        parent, child, layer = _find(fast, name)
        setattr(parent, child, GradientConv2d(layer))
    return fast


def _copy(network: nn.Module) -> nn.Module:
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, memo=dict(shared))


def _find(network: nn.Module, name: str) -> tuple[nn.Module, str, nn.Conv2d]:
    parent_name, _, child = name.rpartition(".")
    parent = network.get_submodule(parent_name)
    layer = parent.get_submodule(child)
    assert isinstance(layer, nn.Conv2d)
    return parent, child, layer


def _chosen(classifier: Classifier) -> list[str]:
    """Return the names of the base's layers that gain here, or raise EngineUnavailable if there is none."""
    if classifier.device.type != "cpu":
        raise EngineUnavailable("The winograd engine runs on a CPU only. Use --engine torch.")
    load_kernels()
    sample = classifier.preprocessing.apply(torch.zeros(1, 3, *classifier.grid.shape))
    chosen = [name for name, gain in _gains(classifier.base, sample).items() if gain >= MIN_GAIN]
    if not chosen:
        raise EngineUnavailable(
            "The winograd engine needs 3 x 3 convolutions of stride 1 with many channels, and the network has none. "
            "Use --engine torch."
        )
    return chosen


def _gains(network: nn.Module, sample: Tensor) -> dict[str, float]:
    """Return how many times fewer multiplications each layer that can be replaced would take."""
    gains: dict[str, float] = {}

    def watch(name: str) -> Any:
        def note(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            height, width = output.shape[2:]
            covered = math.prod(-(-side // TILE) * TILE for side in (height, width))
            gains[name] = 9 * TILE * TILE / N_POINTS * height * width / covered

        return note

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in network.named_modules() if _replaceable(layer)]
    try:
        with torch.inference_mode():
            network(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return gains


def _replaceable(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and (layer.kernel_size, layer.stride, layer.dilation, layer.groups) == ((3, 3), (1, 1), (1, 1), 1)
        and layer.padding in ((0, 0), (1, 1))
        and layer.padding_mode == "zeros"
        and min(layer.in_channels, layer.out_channels) >= MIN_CHANNELS
    )


def _follower(parent: nn.Module, child: str) -> str | None:
    """Return the name of the ReLU that alone reads the layer `child`: the next in a sequence."""
    names = [name for name, _ in parent.named_children()]
    following = names[names.index(child) + 1 :][:1]
    if type(parent) is nn.Sequential and following and isinstance(parent.get_submodule(following[0]), nn.ReLU):
        return following[0]
    return None
