"""What stands between an image and a network: its values, and how a gradient comes back through it."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Transform(nn.Module):
    """Images (batch, 3, H, W) in [0, 1] to images in [0, 1], differentiable once.

    A subclass gives the values in `value`, by whatever means, and says in `pull_back` how a gradient comes back; unless
    it does, the gradient passes as it is ("straight-through"). What torch can differentiate overrides `forward` itself.

    Attributes:
        exact: whether `pull_back` is the derivative of `value`. A subclass whose gradient is only an approximation says
            so with `exact = False`; whether that one leads anywhere, attacks show that need none.
    """

    exact: ClassVar[bool] = True

    def forward(self, images: Tensor) -> Tensor:
        """Return `value` of images, with the gradient of `pull_back`."""
        transformed: Tensor = _Transformed.apply(images, self)
        return transformed

    @abstractmethod
    def value(self, images: Tensor) -> Tensor:
        """Return what becomes of images; no gradient is asked of it."""

    def pull_back(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient for `images` of a loss whose gradient for `value(images)` is given.

        Source: Athalye et al. 2018 (arXiv 1802.00420), section 4.1, backward pass differentiable approximation.
        """
        del images
        return gradient


class _Transformed(torch.autograd.Function):
    """A transform's values with its own gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, transform: Transform) -> Tensor:
        ctx.transform = transform
        ctx.save_for_backward(images)
        return transform.value(images.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (images,) = ctx.saved_tensors
        return ctx.transform.pull_back(images, gradient), None
