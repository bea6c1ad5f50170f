"""What a classifier is, so that no two which answer differently share a name: its state, its code, and its answers.

State and code are read (`models.reading`), and a few fixed images are asked. Reading tells apart what differs
somewhere else than on these images, or in its gradients alone; asking tells apart what no reading finds. What a network
writes into itself while it answers (a counter, its last feature map) counts in neither way.

Answers are rounded to three digits of the largest logit: far more than two machines differ by, which is some 1e-6 of
it. Where one lies at the edge of its step (with 8 logits for about one classifier in a hundred), another machine may
find another name. Nothing is wrong then, and everything is computed again.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from dosimeter.models.reading import HOOKS, MACHINERY, Reader
from dosimeter.surroundings import plain_torch

if TYPE_CHECKING:
    from dosimeter.models.base import Classifier

DIGITS = 3
"""Of the largest logit, to which answers are rounded."""

N_ASKED = 4
_NOT_READ = frozenset({"card", "identity", "token", "declared_for", "findings", "grid"})
# a classifier's own, that answer nothing, or are read apart
OUTSIDE = ("front", "rings")
"""Modules of a classifier that stand before and around its network."""

_OURS = ("torch.", "dosimeter.")  # whose settings no pass changes


class Identity(NamedTuple):
    """A digest, and the parts that could not be read, each with its place; none if the digest is certain."""

    sha256: str
    unknown: tuple[str, ...]


@plain_torch()
def identify(classifier: "Classifier") -> Identity:
    """Return the identity of everything that determines a classifier's answers.

    A declared one is taken at its word, beside tensors and settings, as long as the network's structure is what it was
    declared for. What stands before and around it (`Classifier.behind`, `Classifier.around`) is read in any case.
    """
    if classifier.identity is None:
        entries, unknown = _read_and_asked(classifier)
    else:
        reader = _declared(classifier)
        entries, unknown = reader.entries, reader.unknown
        if structure_of(classifier) != classifier.declared_for:
            found, more = _read_and_asked(classifier)
            entries, unknown = entries | {f"read {place}": digest for place, digest in found.items()}, unknown + more
        for place in OUTSIDE:
            if (part := classifier._modules.get(place)) is not None:
                found_there = _read_outside(part, place, classifier.token)
                entries, unknown = entries | found_there.entries, unknown + found_there.unknown
    if classifier.findings is not None:
        entries = entries | {"findings": repr(classifier.findings)}
    if not classifier.grid.is_plain:
        entries = entries | {"grid": repr(classifier.grid)}
    if unknown:
        entries = entries | {"unknown": classifier.token}
    return Identity(_digest(str(sorted(entries.items()))), tuple(unknown))


def structure_of(classifier: "Classifier") -> str:
    """Return a digest of a classifier's modules, their modes and hooks, and the settings of torch's layers and ours.

    What stands before and around its network is left out.
    """
    found: list[object] = []
    for name, part in classifier.named_modules():
        if name.partition(".")[0] in OUTSIDE:
            continue
        kind, own = type(part), {}
        if f"{kind.__module__}.".startswith(_OURS) and not isinstance(part, torch.jit.ScriptModule):
            plain = (bool, int, float, str, tuple, type(None))
            settings = (each for each in vars(part).items() if each[0] not in MACHINERY | _NOT_READ)
            own = {key: value for key, value in settings if isinstance(value, plain)}
        hooks = [len(getattr(part, hook, None) or ()) for hook in HOOKS]
        rebound = "forward" in vars(part)
        found.append((name, kind.__module__, kind.__qualname__, part.training, rebound, hooks, sorted(own.items())))
    return _digest(repr(found))


def _read_outside(part: nn.Module, where: str, token: str) -> Reader:
    reader = Reader(token)
    with torch.inference_mode(False), torch.no_grad():
        reader.read_module(part, without=frozenset())
    reader.entries = {f"{where} {place}": digest for place, digest in reader.entries.items()}
    return reader


def _declared(classifier: "Classifier") -> Reader:
    reader = Reader(classifier.token)
    reader.read(classifier.identity, "identity")
    for name in ("preprocessing", "size_px", "classes"):
        reader.read(getattr(classifier, name), name)
    for name, tensor in (*classifier.named_parameters(), *classifier.named_buffers()):
        reader.read(tensor, f"tensor {name}")
    return reader


def _read_and_asked(classifier: "Classifier") -> tuple[dict[str, str], list[str]]:
    """Return a digest of each part of the classifier that stays as it is while it answers, and what is unknown."""
    images = probes(*classifier.grid.shape)
    first = _asked(classifier, images[:1])  # what a first pass makes is made
    before = _read(classifier)
    answers = _asked(classifier, images)
    after = _read(classifier)
    entries = {place: digest for place, digest in before.entries.items() if after.entries.get(place) == digest}
    if answers[:1] != first:
        return entries, [*before.unknown, "its answers change between passes"]
    return entries | {"answers": _digest(str(answers))}, before.unknown


def _read(classifier: "Classifier") -> Reader:
    reader = Reader(classifier.token)
    with torch.inference_mode(False), torch.no_grad():
        reader.read_module(classifier, without=_NOT_READ)
        for kind in ("forward_pre", "forward", "forward_always_called", "backward_pre", "backward"):
            hooks = getattr(torch_modules, f"_global_{kind}_hooks", {})
            reader.read(list(hooks.values()) if isinstance(hooks, dict) else [], f"a {kind} hook of all modules")
    return reader


# --- answers ----------------------------------------------------------------------------------------------------------


def probes(height_px: int, width_px: int | None = None) -> Tensor:
    """Return the images that every classifier is asked about, (N_ASKED, 3, height_px, width_px) in [0, 1].

    They are square without a width. A ramp downwards, a pattern of stripes, noise of full and of little contrast; in
    colour, so that the order of channels matters.
    """
    sides = height_px, height_px if width_px is None else width_px
    rows, columns = np.meshgrid(*((np.arange(side) + 0.5) / side for side in sides), indexing="ij")
    noise = np.random.default_rng(0).random((3, *sides))
    tint = np.array([1.0, 0.8, 0.6])[:, None, None]
    found = (tint * rows, tint * (0.5 + 0.5 * np.sin(12 * columns + 5 * rows)), noise, 0.45 + 0.1 * noise)
    return torch.from_numpy(np.stack(found).astype(np.float32))


def _asked(classifier: "Classifier", images: Tensor) -> list[list[str]]:
    """Return the rounded answers about each image, asked one by one; "none" where the classifier fails."""
    found = []
    gpus = [classifier.device] if classifier.device.type == "cuda" else []
    exact = {"enabled": torch.backends.cudnn.enabled, "deterministic": True, "allow_tf32": False}
    with torch.random.fork_rng(gpus), torch.backends.cudnn.flags(**exact):
        for image in images:
            torch.default_generator.manual_seed(0)
            for gpu in gpus:
                with torch.cuda.device(gpu):
                    torch.cuda.manual_seed(0)
            try:
                with torch.inference_mode():
                    answer = classifier(image[None].to(classifier.device))
                found.append(list(_rounded(answer)))
            except torch.OutOfMemoryError:
                raise
            except Exception:  # a sweep says why; what it reads as is its identity
                found.append(["none"])
    return found


def _rounded(answer: object) -> Iterator[str]:
    """Yield the numbers of an answer, in steps of the last of `DIGITS` digits of the largest."""
    if not isinstance(answer, Tensor) or answer.is_complex():
        yield type(answer).__name__  # which a sweep refuses
        return
    values = answer.detach().double().flatten().cpu()
    finite = values[torch.isfinite(values)].abs()
    largest = float(finite.max()) if len(finite) else 0.0
    step = 10.0 ** (math.floor(math.log10(largest)) + 1 - DIGITS) if largest > 0 else 1.0
    yield f"{step:.0e}"
    for value in values.tolist():
        yield str(round(value / step)) if math.isfinite(value) else str(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
