"""What an attack learns on the training images before it is swept over the test images."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dosimeter.atomic import replacing
from dosimeter.attacks.base import Attack
from dosimeter.attacks.universal import Universal, UniversalPerturbation
from dosimeter.cohorts.base import Case, Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier


def learn(
    attack: Attack,
    classifier: Classifier,
    training: Cohort,
    *,
    seed: int,
    target: int | None = None,
    mask: Tensor | None = None,
    file: Path | None = None,
) -> Attack:
    """Return `attack`, or what it becomes by learning on `training`.

    Args:
        target, mask: as `UniversalPerturbation.learn` takes them.
        file: where a learned perturbation is kept, and taken from if it is there and whole.

    Raises:
        DosimeterError: no training image can be read.
    """
    if not isinstance(attack, UniversalPerturbation):
        return attack
    n_learned = attack.batches * attack.batch_size
    plane = None if file is None else _kept(file, size_px=classifier.size_px)
    if plane is not None:
        return Universal(plane, n_learned=n_learned, channels=attack.channels, loss=attack.loss)

    def batch_of(places: list[int]) -> tuple[Tensor, Tensor]:
        cases = [_readable(training, place) for place in places]
        images = torch.stack([classifier.prepare(case) for case in cases]).to(classifier.device)
        return images, torch.tensor([case.label for case in cases], device=classifier.device)

    learned = attack.learn(classifier, batch_of, n_images=len(training), seed=seed, target=target, mask=mask)
    if file is not None:
        file.parent.mkdir(exist_ok=True)
        with replacing(file) as temporary:
            plane = learned.plane.contiguous()
            temporary.write_bytes(save({"plane": plane}, metadata={"sha256": _digest(plane)}))
    return learned


def _kept(file: Path, *, size_px: int) -> Tensor | None:
    """Return the perturbation (3, H, W) in `file`; None if it is not there, or is not what was written."""
    try:
        with safe_open(file, framework="pt") as content:
            plane: Tensor = content.get_tensor("plane")
            digest = (content.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    whole = plane.dtype == torch.float32 and plane.shape == (3, size_px, size_px) and digest == _digest(plane)
    return plane if whole else None


def _digest(plane: Tensor) -> str:
    return hashlib.sha256(plane.numpy().tobytes()).hexdigest()


def _readable(cohort: Cohort, place: int) -> Case:
    """Return the case at `place`, or the next one whose image can be read."""
    for step in range(len(cohort)):
        try:
            return cohort[(place + step) % len(cohort)]
        except (DosimeterError, OSError, ValueError):
            continue  # the study named it when it trained
    raise DosimeterError(f"no training image of {cohort.name} can be read, so the universal attack cannot learn.")
