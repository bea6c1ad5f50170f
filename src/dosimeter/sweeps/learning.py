"""What an attack learns on the training images before it is swept over the test images."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dosimeter.attacks.base import Attack
from dosimeter.attacks.learner import Learner
from dosimeter.attacks.threat import Threat
from dosimeter.cohorts.base import Case, Cohort
from dosimeter.errors import DosimeterError
from dosimeter.files import replacing
from dosimeter.models.base import Classifier


def learn(
    attack: Attack | Learner,
    classifier: Classifier,
    training: Cohort,
    *,
    seed: int,
    threat: Threat,
    file: Path | None = None,
) -> Attack:
    """Return `attack`, or what it becomes by learning on `training`.

    Args:
        threat: what the attacker may do.
        file: where what is learned is kept, and taken from if it is there and whole.

    Raises:
        DosimeterError: no training image can be read.
    """
    if not isinstance(attack, Learner):
        return attack
    learned = None if file is None else _kept(file)
    if learned is not None:
        return attack.knowing(learned)

    def batch_of(places: list[int]) -> tuple[Tensor, Tensor]:
        cases = [_readable(training, place) for place in places]
        images = torch.stack([classifier.prepare(case) for case in cases]).to(classifier.device)
        return images, torch.tensor([case.label for case in cases], device=classifier.device)

    learned = attack.learn(classifier, batch_of, n_images=len(training), seed=seed, threat=threat)
    if file is not None:
        file.parent.mkdir(exist_ok=True)
        with replacing(file) as temporary:
            learned = learned.contiguous()
            temporary.write_bytes(save({"learned": learned}, metadata={"sha256": _digest(learned)}))
    return attack.knowing(learned)


def _kept(file: Path) -> Tensor | None:
    """Return the tensor in `file`; None if it is not there, or is not what was written."""
    try:
        with safe_open(file, framework="pt") as content:
            learned: Tensor = content.get_tensor("learned")
            digest = (content.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return learned if learned.dtype == torch.float32 and digest == _digest(learned) else None


def _digest(learned: Tensor) -> str:
    content = f"{tuple(learned.shape)}".encode() + learned.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def _readable(cohort: Cohort, place: int) -> Case:
    """Return the case at `place`, or the next one whose image can be read."""
    for step in range(len(cohort)):
        try:
            return cohort[(place + step) % len(cohort)]
        except (DosimeterError, OSError, ValueError):
            continue  # the study named it when it trained
    raise DosimeterError(f"no training image of {cohort.name} can be read, so no attack can learn on it.")
