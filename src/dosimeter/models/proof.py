"""What a model card says of a network, held against what the network answers, before anything is asked of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from dosimeter.cohorts.base import Decoded
from dosimeter.cohorts.grids import FILTERS, Grid
from dosimeter.cohorts.images import read_image
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier, answer
from dosimeter.models.identity import probes
from dosimeter.plain import named, shown
from dosimeter.record.model_card import ModelCard, Reference
from dosimeter.record.resizing import Resize

FAR = (1e3, 1e8)
"""Pixels far outside the image range: logits leave [0, 1] there, probabilities do not."""

SATURATED = 1e-6
UNIT_TOLERANCE = 1e-5
TOLERANCE = {"probabilities": 0.01, "logits": 0.1}


class _Miscounted(DosimeterError):
    """A network gives more answers than it is shown images, or fewer."""


def check_answers(classifier: Classifier, card: ModelCard) -> None:
    """Ask a network about a few fixed images.

    Raises:
        DosimeterError: it fails, gives as many outputs as the card has not, numbers that are not finite, or
            probabilities for logits or logits for probabilities.
    """
    images = probes(*classifier.grid.shape)[:3].to(classifier.device)
    with torch.inference_mode():
        outputs = _outputs(classifier, card, images)
        try:
            beyond = _outputs(classifier, card, torch.cat([pixel * images[:1] for pixel in FAR]))
            beyond = beyond[torch.isfinite(beyond).all(dim=1)]  # of less precision, pixels so far away overflow
        except _Miscounted:
            raise
        except DosimeterError:  # it refuses what is no image
            beyond = outputs[:0]
    if not torch.isfinite(outputs).all():
        raise DosimeterError(f"{card.name} must answer with finite numbers, got {_range(outputs)} for plain patterns.")
    if card.outputs == "labels":
        return  # places of classes, of which their own head has said already if one is none
    both = torch.cat([outputs, beyond])
    within = bool(((both >= 0) & (both <= 1)).all())
    declared = str(classifier.card["head"]["outputs"])
    if "probabilit" in declared:
        if not within:
            raise DosimeterError(
                f"the model card of {card.name} says outputs '{declared}', but its network gives {_range(both)}. "
                "Are they logits?"
            )
        sums = outputs.sum(dim=1)
        if declared == "probabilities" and not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
            raise DosimeterError(
                f"the model card of {card.name} says outputs 'probabilities', which sum to 1, but its network's sum to "
                f"{_range(sums)}. Several findings are outputs = 'findings', and take the logits before the sigmoid."
            )
    elif within and not card.random_weights and (activation := activation_of(outputs, beyond)):
        raise DosimeterError(
            f"the model card of {card.name} says outputs '{declared}', but its network gives {_range(both)} also for "
            f"pixels far outside an image: probabilities, behind a {activation}. Leave the {activation} out"
            f"{'.' if declared == 'findings' else ', or say so in the card.'}"
        )


def _outputs(classifier: Classifier, card: ModelCard, images: Tensor) -> Tensor:
    """Return the network's own outputs (n, n_outputs)."""
    try:
        outputs: Any = classifier.features(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the user's network may raise anything
        reason = " ".join(str(error).split())[:200]
        raise DosimeterError(
            f"{card.name} fails on images of {classifier.grid.words}, {card.channels} "
            f"channel{'' if card.channels == 1 else 's'} ({reason}). {_remedy(reason)}"
        ) from error
    if not isinstance(outputs, Tensor):
        keys = list(outputs) if isinstance(outputs, Mapping) else []
        keys = list(range(len(outputs))) if isinstance(outputs, list | tuple) else keys
        which = f", KEY being {' or '.join(map(shown, keys))}" if keys else ""
        raise DosimeterError(
            f"{card.name} must answer with one tensor, got {type(outputs).__name__}. Put dosimeter.Output(KEY) "
            f"behind it{which}."
        )
    if outputs.ndim == 1 and card.n_outputs == 1:
        outputs = outputs[:, None]
    if outputs.ndim != 2 or outputs.shape[1] != card.n_outputs:
        raise DosimeterError(
            f"the model card of {card.name} says {card.n_outputs} outputs ('{card.outputs}' of {len(card.classes)} "
            f"classes), its network gives {' x '.join(map(str, outputs.shape[1:])) or 'a number'} an image. Name "
            "in the card the classes of its outputs, in their order."
        )
    if len(outputs) != len(images):
        raise _Miscounted(
            f"{card.name} must give an answer for each image, got {len(outputs)} for {len(images)}. A network that was "
            "traced or exported may keep the number of images of that time: export it for any number."
        )
    logits: Tensor = outputs.float()
    return logits


def _remedy(reason: str) -> str:
    """Return what may mend a network that fails."""
    if any(word in reason for word in ("CUDA", "NVIDIA", "cuda")):
        return (
            "It needs a GPU: audit it on a machine with one, with --device cuda, or let it keep its tensors on the "
            "device of its images."
        )
    return "Does its card say the size_px and channels that it was trained with?"


def activation_of(outputs: Tensor, beyond: Tensor) -> str:
    """Return "softmax" or "sigmoid" if that is what numbers in [0, 1] show, else ""."""
    if float(outputs.amax() - outputs.amin()) < 1e-4:
        return ""  # of a network that was not trained
    sums = torch.cat([outputs, beyond]).sum(dim=1)
    if outputs.shape[1] > 1 and bool(((sums - 1).abs() < UNIT_TOLERANCE).all()):
        return "softmax"
    at_ends = (beyond < SATURATED) | (beyond > 1 - SATURATED)
    return "sigmoid" if bool(at_ends.any()) else ""


def _range(values: Tensor) -> str:
    return f"{float(values.min()):.3g} to {float(values.max()):.3g}"


# --- references -------------------------------------------------------------------------------------------------------


def check_references(classifier: Classifier, card: ModelCard) -> None:
    """Ask about the card's references.

    Raises:
        DosimeterError: an image cannot be read, or is answered otherwise: how far, and what would mend it if one change
            of the card does.
    """
    if not card.reference:
        return
    images = [read_image(each.image) for each in card.reference]
    wanted = [_wanted(each, card) for each in card.reference]
    off = _off(classifier, card, images, wanted)
    differing = [place for place, each in enumerate(off) if not each[0] <= 0]
    if not differing:
        return
    worst = max(differing, key=lambda place: off[place][0])
    _, output, found = off[worst]
    names = card.classes if len(wanted[worst]) > 1 else card.classes[1:]
    mended = [words for words, other in _variants(classifier)
              if all(each[0] <= 0 for each in _off(other, card, images, wanted))]  # fmt: skip
    remedy = (
        f"All would agree with {' or with '.join(mended)}."
        if mended
        else "Usual causes: resize and interpolation, scale, mean and std, channel_order, the order of the classes, "
        "probabilities given as scores."
    )
    raise DosimeterError(
        f"{card.name} does not answer its card's references: about {named(card.reference[worst].image.name)} it gives "
        f"{found:.4g} for {named(names[output])}, where the card says {wanted[worst][output]:.4g}; {len(differing)} of "
        f"{len(off)} are off by more than {_tolerance(card.reference[worst], card):g}. {remedy}"
    )


def _wanted(reference: Reference, card: ModelCard) -> tuple[float, ...]:
    numbers = reference.scores or reference.probabilities or ()
    n_wanted = card.n_outputs if reference.scores else len(card.classes)
    if len(numbers) != n_wanted:
        raise DosimeterError(
            f"the reference {named(reference.image.name)} of {card.name} must have {n_wanted} numbers, one for each "
            f"{'output' if reference.scores else 'class'}, got {len(numbers)}."
        )
    return numbers


def _tolerance(reference: Reference, card: ModelCard) -> float:
    shares = reference.scores is None or "probabilit" in card.outputs
    return reference.tolerance or TOLERANCE["probabilities" if shares else "logits"]


def _off(
    classifier: Classifier, card: ModelCard, images: Sequence[Decoded], wanted: Sequence[tuple[float, ...]]
) -> list[tuple[float, int, float]]:
    """Return of each reference by how much its worst number is off beyond its tolerance, which, and the number."""
    rows = []
    for reference, decoded, numbers in zip(card.reference, images, wanted, strict=True):
        image = torch.from_numpy(classifier.grid.put(decoded)).expand(3, -1, -1)
        logits = answer(classifier, image[None])[0].double()
        found = _scores(logits, card) if reference.scores else _probabilities(logits, card)
        away = (found - torch.tensor(numbers, dtype=torch.float64)).abs().nan_to_num(torch.inf)
        place = int(away.argmax())
        rows.append((float(away[place]) - _tolerance(reference, card), place, float(found[place])))
    return rows


def _probabilities(logits: Tensor, card: ModelCard) -> Tensor:
    return logits.sigmoid() if card.outputs == "findings" else logits.softmax(dim=0)


def _scores(logits: Tensor, card: ModelCard) -> Tensor:
    """Return what the network itself gives, as the card's `outputs` says, from the classifier's logits."""
    kinds = {
        "probabilities": lambda: logits.softmax(dim=0),
        "one probability": lambda: logits.softmax(dim=0)[1:],
        "one logit": lambda: logits[1:] - logits[0],
    }
    return kinds.get(card.outputs, lambda: logits)()


def _variants(classifier: Classifier) -> Iterator[tuple[str, Classifier]]:
    """Yield the classifiers that one change of the card would make, with that change."""
    grid = classifier.grid
    for interpolation in FILTERS:
        if interpolation != grid.interpolation:
            other = replace(grid, interpolation=interpolation, antialias=True)
            yield f"interpolation = '{interpolation}'", classifier.on(other)
    if grid.interpolation in ("bilinear", "bicubic"):
        said = "false" if grid.antialias else "true"
        yield f"antialias = {said}", classifier.on(replace(grid, antialias=not grid.antialias))
    for resize in get_args(Resize):
        if resize != grid.resize:
            changed = Grid(*grid.shape, resize, grid.interpolation, grid.antialias)
            yield f"resize = '{resize}'", classifier.on(changed)
    own = classifier.preprocessing
    order: Literal["rgb", "bgr"] = "rgb" if own.channel_order == "bgr" else "bgr"
    yield f"channel_order = '{order}'", classifier.normalised(replace(own, channel_order=order))
    scale = 1.0 if own.scale == 255 else 255.0
    yield f"scale = {scale:g}", classifier.normalised(replace(own, scale=scale))
