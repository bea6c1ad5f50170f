"""A classifier whose network is in one piece as one of a base and a head: its last linear layer."""

import copy
import itertools

import torch
from torch import nn

from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.identity import probes

TOLERANCE = 1e-4
"""Of the largest logit: what the parts may answer otherwise than the whole."""


def parted(classifier: Classifier, *, why: str) -> Classifier:
    """Return a classifier with feature maps: itself, or if its head learned nothing, with its base's last layer there.

    All tensors are shared with the classifier given.

    Args:
        why: what asks for feature maps, to begin the error's sentence.

    Raises:
        DosimeterError: its network does not end in a linear layer, or can only be asked.
    """
    if any(True for _ in classifier.head.parameters()):
        return classifier
    bring = "Bring base and head apart, dm.Classifier(base, head, ...), or take feature_squeezing"
    if classifier.access != "gradients":
        raise DosimeterError(
            f"{why} looks into the network, got one that can only be asked for {classifier.access}. Take "
            "feature_squeezing, which looks at scores alone."
        )
    tensors = itertools.chain(classifier.base.parameters(), classifier.base.buffers())
    try:
        base = copy.deepcopy(classifier.base, {id(tensor): tensor for tensor in tensors})
    except Exception as error:  # a user's network may hold anything
        raise DosimeterError(f"{why} needs a copy of the network, which cannot be made. {bring}.") from error
    found = [(name, part) for name, part in base.named_modules() if isinstance(part, nn.Linear) and name]
    if not found:
        raise DosimeterError(f"{why} looks at feature maps, and the network has no linear layer behind any. {bring}.")
    name, last = found[-1]
    base.set_submodule(name, nn.Identity())
    made = classifier.with_base(base).with_head(nn.Sequential(last, classifier.head))
    images = probes(*classifier.grid.shape).to(classifier.device)
    with torch.no_grad():
        whole, parts = (each.seen(images, depth=0).outputs for each in (classifier, made))
    if whole.shape != parts.shape or float((whole - parts).abs().max()) > TOLERANCE * float(whole.abs().max()):
        raise DosimeterError(f"{why} looks at feature maps, and the network does not end in a linear layer. {bring}.")
    return made
