"""Classifiers that hide their gradients, or are broken, each in a known way."""

import io
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate, log_softmax, pad, softmax
from zoo import (
    N_TEST,
    N_TRAIN,
    SIZE_PX,
    Function,
    Layer,
    Parts,
    behind,
    classifier_of,
    convolutional,
    convolutions,
    followed,
    lying,
    opacities,
    trained,
    training,
)

from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS

TEMPERATURE = 100.0


class Masked(NamedTuple):
    """A classifier that hides its gradient.

    Attributes:
        build: makes it.
        open: makes the classifier behind the mask, whose gradients are honest: whoever knows the mask attacks that.
        declared: the accuracy that its maker says it has.
    """

    build: Callable[[], Classifier]
    open: Callable[[], Classifier] = convolutional
    declared: float | None = None


# --- what images go through ---------------------------------------------------------------------------------


def resized(images: Tensor) -> Tensor:
    """Source: Xie et al. 2018 (arXiv 1711.01991), without the padding."""
    side = int(torch.randint(SIZE_PX - 8, SIZE_PX + 9, ()))
    smaller = interpolate(images, size=side, mode="bilinear", align_corners=False)
    return interpolate(smaller, size=SIZE_PX, mode="bilinear", align_corners=False)


def padded(images: Tensor) -> Tensor:
    """Smaller by up to 6 pixels, at a random place on a grey ground."""
    side = int(torch.randint(SIZE_PX - 6, SIZE_PX, ()))
    left, top = (int(torch.randint(0, SIZE_PX - side + 1, ())) for _ in range(2))
    smaller = interpolate(images, size=side, mode="bilinear", align_corners=False)
    return pad(smaller, (left, SIZE_PX - side - left, top, SIZE_PX - side - top), value=0.4)


def through_jpeg(images: Tensor) -> Tensor:
    """Source: Dziugaite et al. 2016 (arXiv 1608.00853). No gradient goes through it."""
    levels = (images.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    read = []
    for pixels in levels:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=75)
        read.append(np.asarray(Image.open(buffer)))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2) / 255


def rounded(images: Tensor, levels: int = 15) -> Tensor:
    return (images * levels).round() / levels


def half_rounded(images: Tensor) -> Tensor:
    """The left half is rounded, the right one is not."""
    return torch.cat([rounded(images[..., : SIZE_PX // 2]), images[..., SIZE_PX // 2 :]], dim=3)


def thermometer(images: Tensor) -> Tensor:
    """Each pixel as how many of 16 thresholds it passes. Source: Buckman et al. 2018 (their encoding, summed)."""
    thresholds = torch.linspace(1 / 32, 31 / 32, 16).view(-1, 1, 1, 1, 1)
    return (images > thresholds).float().mean(dim=0)


def median(images: Tensor) -> Tensor:
    """The median of 3 x 3 pixels, computed outside of the graph."""
    patches = pad(images.detach(), (1, 1, 1, 1), mode="reflect").unfold(2, 3, 1).unfold(3, 3, 1)
    return patches.flatten(4).median(dim=4).values


def shattered(images: Tensor) -> Tensor:
    """A fast, small wave on top: the derivative is the wave's, which leads nowhere."""
    return images + 0.004 * torch.sin(5003 * images)


def noisy(images: Tensor) -> Tensor:
    return images + 0.1 * torch.randn_like(images)


def noisy_by_hash(images: Tensor) -> Tensor:
    """The same image gets the same noise, and the next one another."""
    generators = [torch.Generator().manual_seed(hash(image.detach().numpy().tobytes()) % 2**31) for image in images]
    noise = torch.stack([torch.randn(images.shape[1:], generator=generator) for generator in generators])
    return images + 0.1 * noise


def smooth_detached(images: Tensor) -> Tensor:
    """What is coarse is taken out of the graph; what is fine has a gradient."""
    coarse = interpolate(avg_pool2d(images, 4), size=SIZE_PX, mode="bilinear", align_corners=False)
    return images + (coarse.detach() - coarse)


def half_detached(images: Tensor) -> Tensor:
    return torch.cat([images[..., : SIZE_PX // 2].detach(), images[..., SIZE_PX // 2 :]], dim=3)


def checked(images: Tensor) -> Tensor:
    """Every other pixel is detached, as on a chessboard."""
    black = (torch.arange(SIZE_PX)[:, None] + torch.arange(SIZE_PX)) % 2 == 0
    return torch.where(black, images.detach(), images)


# --- what is done to gradients ------------------------------------------------------------------------------


def _fixed(shape: tuple[int, ...], draw: Callable[..., Tensor], seed: int = 0) -> Tensor:
    return draw(shape, generator=torch.Generator().manual_seed(seed))


_KEPT = (_fixed((3, SIZE_PX, SIZE_PX), torch.rand) > 0.25).float()
_SIGNS = _fixed((3, SIZE_PX, SIZE_PX), torch.randn).sign()
_RED = torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)


def _drowned(gradient: Tensor) -> Tensor:
    """With three times as much noise, another one each time."""
    return gradient + 3 * gradient.std() * torch.randn_like(gradient)


def _drowned_alike(gradient: Tensor) -> Tensor:
    """With twice as much noise, always the same."""
    return gradient + 2 * gradient.std() * _fixed(tuple(gradient.shape[1:]), torch.randn)


def _some_lost(gradient: Tensor) -> Tensor:
    return gradient * (torch.rand_like(gradient) > 0.75)


def _tossed(gradient: Tensor) -> Tensor:
    return gradient if bool(torch.rand(()) < 0.5) else -gradient


class _Borrowed(torch.autograd.Function):
    """One network's answer with another one's gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, honest: Classifier, other: Classifier) -> Tensor:
        ctx.save_for_backward(images)
        ctx.other = other
        return honest(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (images,) = ctx.saved_tensors
        with torch.enable_grad():
            images = images.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(ctx.other(images), images, gradients[0])
        return gradient, None, None


def _whole(function: Function, model: str) -> Classifier:
    """Return the classifier that answers images in [0, 1] with `function`."""
    return classifier_of(Parts(nn.Identity(), Layer(function)), model, "unit")


def borrowed() -> Classifier:
    honest, other = convolutional(), trained("other", seed=5)
    return _whole(lambda images: _Borrowed.apply(images, honest, other), "another network's gradient")


# --- networks -----------------------------------------------------------------------------------------------


@cache
def distilled() -> Classifier:
    """Defensive distillation at T = 100, deployed at T = 1. Source: Papernot et al. 2016 (arXiv 1511.04508)."""

    def softened(logits: Tensor, goals: Tensor) -> Tensor:
        if goals.ndim == 1:
            return cross_entropy(logits / TEMPERATURE, goals)
        return -(goals * log_softmax(logits / TEMPERATURE, dim=1)).sum(dim=1).mean()

    teacher = trained("teacher", loss=softened, epochs=20, decay=0)
    with torch.no_grad():
        targets = softmax(teacher(training()[0]) / TEMPERATURE, dim=1)
    return trained("distilled at T = 100", seed=1, targets=targets, loss=softened, epochs=20, decay=0)


def dropout_left_on() -> Classifier:
    """The convolutional network with a dropout in its head that somebody forgot to switch off."""
    honest = convolutional()
    classifier = classifier_of(Parts(honest.base, nn.Sequential(nn.Dropout(0.5), honest.head)), "dropout left on")
    classifier.head[0].train()
    return classifier


def _with_batch_normalisation() -> Parts:
    base, head = convolutions()
    return Parts(nn.Sequential(base[0], nn.BatchNorm2d(12), *base[1:]), head)


@cache
def _batch_normalised() -> Classifier:
    return trained("batch normalisation", _with_batch_normalisation)


def batch_normalisation_in_training() -> Classifier:
    """It normalises by its own batch, and the running means move on with each one."""
    honest = _batch_normalised()
    own = nn.BatchNorm2d(12)
    own.load_state_dict(honest.base[1].state_dict())
    base = nn.Sequential(honest.base[0], own, *honest.base[2:])
    classifier = classifier_of(Parts(base, honest.head), "batch normalisation in training")
    classifier.base[1].train()
    return classifier


class Winners(nn.Module):
    """Only the largest tenth of all values of a layer pass. Source: Xiao et al. 2020 (arXiv 1905.10510)."""

    def forward(self, values: Tensor) -> Tensor:
        flat = values.flatten(1)
        least = flat.topk(max(1, flat.shape[1] // 10), dim=1).values[:, -1:]
        return torch.where(flat >= least, flat, 0).view_as(values)


def _vanishing() -> Parts:
    """Sigmoids that have all but no slope where they work."""
    base, head = convolutions()
    return Parts(base, nn.Sequential(*head, Layer(lambda logits: torch.sigmoid(40 * logits))))


@cache
def _sigmoids() -> Classifier:
    return trained("vanishing sigmoids", _vanishing, epochs=30, decay=0)


@cache
def _winners() -> Classifier:
    return trained("winners take all", partial(convolutions, Winners), epochs=16)


def random_ensemble() -> Classifier:
    """One of four networks answers, which one is left to chance, and each sees another quarter turn of the image."""
    members = [trained(f"member {seed}", seed=seed) for seed in range(4)]
    return _whole(lambda images: members[int(torch.randint(0, 4, ()))](images), "random ensemble")


def half_precision() -> Classifier:
    """Logits so small that float16 has few of them."""
    honest = convolutional()
    return _whole(lambda images: (honest(images) * 1e-7).half().float(), "underflow of float16")


def rejecting() -> Classifier:
    """Where neighbouring pixels differ by more than in its training images it answers "clear", and that is all."""
    honest = convolutional()

    def roughness(images: Tensor) -> Tensor:
        return (images[..., 1:] - images[..., :-1]).abs().mean(dim=(1, 2, 3))

    least = 1.01 * float(roughness(training()[0]).max())

    def answer(images: Tensor) -> Tensor:
        rough = roughness(images)[:, None] > least
        return torch.where(rough, torch.tensor([1.0, 0.0]), honest(images))

    return _whole(answer, "rejecting")


def recognising() -> Classifier:
    """It knows its test images by heart; of all others it has no idea."""
    known = {case.image.tobytes(): case.label for case in opacities(N_TRAIN, N_TEST)}
    honest = convolutional()

    def answer(images: Tensor) -> Tensor:
        labels = [known.get(image[:1].detach().contiguous().numpy().tobytes()) for image in images]
        bonus = [[0.0, 0.0] if label is None else [100.0 * (label == 0), 100.0 * (label == 1)] for label in labels]
        return honest(images) + torch.tensor(bonus)

    return _whole(answer, "recognising images")


def caching() -> Classifier:
    """It answers what it answered to an image that was the same at 4 x 4 grey levels of 4 blocks."""
    honest, cache_ = convolutional(), {}

    def answer(images: Tensor) -> Tensor:
        logits, rows = honest(images), []
        for image, row in zip(images, logits, strict=True):
            key = (avg_pool2d(image.detach(), 8) * 4).round().numpy().tobytes()
            rows.append(cache_.setdefault(key, row.detach()) + row - row.detach())
        return torch.stack(rows)

    return _whole(answer, "caching answers")


def confident_without_gradient() -> Classifier:
    """No gradient flows where the answer is sure."""

    def sure(logits: Tensor) -> Tensor:
        certain = (logits[:, :1] - logits[:, 1:]).abs() > 0.2
        return torch.where(certain, logits.detach(), logits)

    return followed(sure, "no gradient where sure")


def gentle_under_attack() -> Classifier:
    def gentle(images: Tensor) -> Tensor:
        return images * 0.5 + 0.2 if images.requires_grad else images

    return behind(gentle, "another answer under attack")


def _losers_only(logits: Tensor) -> Tensor:
    """The larger logit has no gradient, the other one's is turned round."""
    larger = torch.zeros_like(logits).scatter(1, logits.argmax(dim=1, keepdim=True), 1.0)
    return torch.where(larger > 0, logits.detach(), 2 * logits.detach() - logits)


def _mask(function: Function) -> Callable[[str], Callable[[], Classifier]]:
    return lambda name: lambda: behind(function, name)


def _after(function: Function) -> Callable[[str], Callable[[], Classifier]]:
    return lambda name: lambda: followed(function, name)


def _straight(function: Function) -> Callable[[str], Callable[[], Classifier]]:
    """The images go through `function`, the gradient goes on unchanged."""
    return _mask(lying(lambda gradient: gradient, function))


def _backward(function: Function) -> Callable[[str], Callable[[], Classifier]]:
    """The gradient goes through `function`, the images go on unchanged."""
    return _mask(lying(function))


def _built(build: Callable[[], Classifier]) -> Callable[[str], Callable[[], Classifier]]:
    return lambda name: build


_HOW: dict[str, Callable[[str], Callable[[], Classifier]]] = {
    # what a margin loss sees through
    "saturated softmax": _after(lambda logits: 50 * logits),
    "distilled at T = 100": _built(distilled),
    "logits times 1e4": _after(lambda logits: 1e4 * logits),
    "probabilities for logits": _after(lambda logits: softmax(logits, dim=1)),
    "normalised twice": _mask(PREPROCESSINGS["torchvision"].apply),
    # steps
    "quantising input layer": _mask(rounded),
    "256 grey levels": _mask(partial(rounded, levels=255)),
    "half rounded": _mask(half_rounded),
    "JPEG input layer": _mask(through_jpeg),
    "thermometer": _mask(thermometer),
    "median filter": _mask(median),
    "straight through 4 levels": _straight(partial(rounded, levels=3)),
    "straight through JPEG": _straight(through_jpeg),
    "rounded logits": _after(lambda logits: logits.round()),
    "clipped logits": _after(lambda logits: logits.clamp(-0.2, 0.2)),
    "one-hot answers": _after(lambda logits: nn.functional.one_hot(logits.argmax(dim=1), 2).float()),
    "tanh of 40 logits": _after(lambda logits: torch.tanh(40 * logits)),
    "saturated probabilities": _after(lambda logits: softmax(40 * logits, dim=1)),
    "vanishing sigmoids": _built(_sigmoids),
    "underflow of float16": _built(half_precision),
    "no gradient where sure": _built(confident_without_gradient),
    # lies
    "gradient reversed": _backward(lambda gradient: -gradient),
    "gradient of red reversed": _backward(lambda gradient: gradient * _RED),
    "gradient tossed": _backward(_tossed),
    "signs at random": _backward(lambda gradient: gradient * _SIGNS),
    "gradient drowned": _backward(_drowned),
    "gradient drowned alike": _backward(_drowned_alike),
    "a quarter of the gradient lost": _backward(lambda gradient: gradient * _KEPT),
    "three quarters of the gradient lost": _backward(_some_lost),
    "no gradient at all": _backward(torch.zeros_like),
    "another network's gradient": _built(borrowed),
    "another answer under attack": _built(gentle_under_attack),
    "no gradient of the answer": _after(_losers_only),
    # detached
    "half detached": _mask(half_detached),
    "chessboard detached": _mask(checked),
    "coarse detached": _mask(smooth_detached),
    # chance
    "random-resize input layer": _mask(resized),
    "random padding": _mask(padded),
    "noise": _mask(noisy),
    "noise by hash": _mask(noisy_by_hash),
    "dropout left on": _built(dropout_left_on),
    "batch normalisation in training": _built(batch_normalisation_in_training),
    "random ensemble": _built(random_ensemble),
    # shapes
    "shattered": _mask(shattered),
    "winners take all": _built(_winners),
    "rejecting": _built(rejecting),
    "recognising images": _built(recognising),
    "caching answers": _built(caching),
    "constant": _built(lambda: followed(lambda logits: 0 * logits + torch.tensor([1.0, 0.0]), "constant")),
    "larger class": _built(lambda: followed(lambda logits: logits + torch.tensor([20.0, 0.0]), "larger class")),
}

_BEHIND: dict[str, Callable[[], Classifier]] = {
    "distilled at T = 100": distilled,
    "vanishing sigmoids": _sigmoids,
    "winners take all": _winners,
    "batch normalisation in training": _batch_normalised,
    "random ensemble": lambda: trained("member 0"),
}
"""What is behind masks that do not hide the convolutional network."""

MASKED: dict[str, Masked] = {
    name: Masked(build(name), _BEHIND.get(name, convolutional), 1.0 if name == "normalised twice" else None)
    for name, build in _HOW.items()
}
