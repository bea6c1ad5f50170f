"""The images of the cases that the figures show, small enough to travel in the table's metadata."""

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dosimeter.attacks.base import DirectionAttack
from dosimeter.cohorts.base import Cohort
from dosimeter.models.base import Classifier
from dosimeter.sweeps.plan import Setting


def picture(cohort: Cohort, case_id: str, classifier: Classifier, setting: Setting) -> dict[str, str]:
    """Return a case's image and the direction of the setting's attack as base64 PNGs, grey where all planes agree.

    Returns:
        `original_png` (8 bit) and `direction_png` (0 for -1, 128 for 0, 255 for +1).
    """
    index = next(index for index, record in enumerate(cohort.records) if record.case_id == case_id)
    case = cohort[index]
    image = classifier.prepare(case)
    labels = torch.tensor([case.label], device=classifier.device)
    attack = setting.preset.attack
    assert isinstance(attack, DirectionAttack)
    problem = setting.problem(classifier, image[None].to(classifier.device), labels)
    sign = attack.direction(problem).sign[0].cpu()
    levels = {"original_png": image * 255, "direction_png": sign * 127.5 + 127.5}
    return {name: base64.b64encode(png(each)).decode() for name, each in levels.items()}


def png(levels: Tensor) -> bytes:
    """Return grey levels (3, H, W) from 0 to 255, rounded, as an 8-bit PNG file, grey where all planes agree."""
    planes = np.rint(levels.numpy()).astype(np.uint8)  # 127.5, a pixel left alone, becomes 128
    if (planes == planes[0]).all():
        image = Image.fromarray(planes[0])
    else:
        image = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
