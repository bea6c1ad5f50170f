"""A user's network stays the user's: what answers is a copy, frozen and in evaluation mode."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dosimeter.errors import DosimeterError, in_a_line


def private_copy(base: nn.Module, head: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return a frozen copy of both in evaluation mode; neither flags, mode nor layout of the originals change.

    Raises:
        DosimeterError: one of them cannot be copied.
    """
    memo = {id(tensor): tensor.detach().clone() for tensor in (*_computed(base), *_computed(head))}
    try:
        with torch.no_grad():  # or the tensors of a scripted copy have a history
            own_base, own_head = copy.deepcopy((base, head), dict(memo))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a lock, a session, an open file
        raise _cannot_be_copied(in_a_line(error)) from error
    if _shares((base, head), (own_base, own_head)):
        raise _cannot_be_copied("a copy of it shares modules or tensors with it")
    return freeze(own_base), freeze(own_head)


def check_parts(base: object, head: object) -> None:
    """Raise DosimeterError unless both are networks whose sizes are known."""
    for name, network in (("base", base), ("head", head)):
        if not isinstance(network, nn.Module):
            raise DosimeterError(
                f"{name} must be a torch.nn.Module, got {type(network).__name__}. Call it in the `forward` of one; "
                "nn.Identity() is a part that does nothing."
            )
        tensors = (*network.parameters(), *network.buffers())
        if any(tensor.is_meta for tensor in tensors if not is_lazy(tensor)):
            raise DosimeterError(f"{name} must hold numbers, but its tensors are on the meta device. Load its weights.")
        if any(is_lazy(tensor) for tensor in tensors):
            raise DosimeterError(
                f"{name} must know the sizes of its layers, but has lazy ones that were never called. Call it on an "
                "image, and train it or load its weights."
            )


def _cannot_be_copied(reason: str) -> DosimeterError:
    return DosimeterError(
        f"base and head must be networks that can be copied, so that yours stay as they are, got one that cannot "
        f"({reason}). Give its class a `__deepcopy__`, or hand the network itself over with adopt=True: it then loses "
        "its gradients and stays in evaluation mode."
    )


def _shares(originals: tuple[nn.Module, nn.Module], copies: tuple[nn.Module, nn.Module]) -> bool:
    """Whether what is done to a copy would be done to its original as well."""

    def held(networks: tuple[nn.Module, nn.Module]) -> dict[int, object]:  # kept, or their ids would be given away
        parts = [part for network in networks for part in network.modules()]
        tensors = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
        return {id(each): each for each in (*parts, *tensors)}

    theirs, ours = held(originals), held(copies)
    return not theirs.keys().isdisjoint(ours)


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
