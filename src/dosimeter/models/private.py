"""A user's network stays the user's: what answers is a copy, frozen and in evaluation mode."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dosimeter.errors import DosimeterError, in_a_line


def private_copy(base: nn.Module, head: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return a frozen copy of both in evaluation mode; neither flags, mode nor layout of the originals change.

    A network that cannot be copied is returned itself, and must be in evaluation mode already.

    Raises:
        DosimeterError: it cannot be copied and is in training mode, or has layers whose size is not known yet.
    """
    for name, network in (("base", base), ("head", head)):
        if not isinstance(network, nn.Module):
            raise DosimeterError(
                f"{name} must be a torch.nn.Module, got {type(network).__name__}. Call it in the `forward` of one; "
                "nn.Identity() is a part that does nothing."
            )
        if any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
            raise DosimeterError(
                f"{name} must know the sizes of its layers, but has lazy ones that were never called. Call it on an "
                "image, and train it or load its weights."
            )
    memo = {id(tensor): tensor.detach().clone() for tensor in (*_computed(base), *_computed(head))}
    try:
        with torch.no_grad():  # or the tensors of a scripted copy have a history
            own_base, own_head = copy.deepcopy((base, head), dict(memo))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a lock, a session, an open file: of one of them
        return _copied_or_itself("base", base, memo), _copied_or_itself("head", head, memo)
    return freeze(own_base), freeze(own_head)


def _copied_or_itself(name: str, network: nn.Module, memo: Mapping[int, Tensor]) -> nn.Module:
    try:
        with torch.no_grad():
            return freeze(copy.deepcopy(network, dict(memo)))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if any(module.training for module in network.modules()):
            raise DosimeterError(
                f"{name} must be in evaluation mode, since it cannot be copied ({in_a_line(error)}). Call eval() on it "
                "first."
            ) from error
        return network


def _computed(network: nn.Module) -> list[Tensor]:
    """Return tensors that a network keeps of its last pass: torch does not copy what has a gradient's history."""
    parts = network.modules()
    return [value for part in parts for value in vars(part).values() if isinstance(value, Tensor) and not value.is_leaf]


def freeze(network: nn.Module) -> nn.Module:
    """Return `network` itself, its parameters without gradients, in evaluation mode."""
    for parameter in network.parameters():  # scripted modules know no requires_grad_ of their own
        parameter.requires_grad_(False)
    set_mode(network, training=False)
    return network


def set_mode(network: nn.Module, *, training: bool) -> None:
    """Call `train(training)`; an exported program, which refuses, has one mode: that in which it was exported."""
    try:
        network.train(training)
    except NotImplementedError:
        network.training = training
        for part in network.children():
            set_mode(part, training=training)
