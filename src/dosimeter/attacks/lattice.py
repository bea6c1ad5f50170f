"""The grey levels of a file, on which an attack may have to keep its images."""

import torch
from torch import Tensor

_SLACK = 1e-4  # of a grey level: what float32 loses between a level and its multiple


def on_lattice(wanted: Tensor, image: Tensor, low: Tensor, high: Tensor, levels: int) -> Tensor:
    """Return the grey levels between `low` and `high` nearest to `wanted`, and `image` where there is none between."""
    first, last = (low * levels - _SLACK).ceil(), (high * levels + _SLACK).floor()
    return torch.where(first <= last, (wanted * levels).round().clamp(first, last) / levels, image)
