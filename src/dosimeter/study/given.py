"""Test images that a physical change has met before anything is asked of them: does noise help an attacker?"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from dosimeter.attacks.registry import parameters
from dosimeter.cohorts.base import Cohort, Decoded
from dosimeter.cohorts.split import Split
from dosimeter.errors import DosimeterError
from dosimeter.physical.base import changed
from dosimeter.physical.constants import declared
from dosimeter.physical.registry import entry, fits, grid_of, in_unit
from dosimeter.plain import shown


def given(whole: Split, text: str, constants: Mapping[str, float]) -> Split:
    """Return a split whose test images are changed, in pixels of their files, and rounded to their own grey levels.

    Whatever looks at a test image then looks at the changed one. Training is as it was; the protocol names the change.

    Args:
        whole: the split.
        text: a change and its severity, as "dose_fraction=0.25".
        constants: those of an apparatus that are declared.

    Raises:
        DosimeterError: there is no such change or severity, or it is of another modality.
    """
    name, _, severity = (part.strip() for part in text.partition("="))
    found, apparatus = entry(name), declared(constants)
    if not severity:
        raise DosimeterError(f"given must name a change and its severity, got {shown(text)}. Write {name}=0.25, say.")
    number = in_unit(severity, name, found, apparatus)
    grid_of(name, found, (number,))
    if not fits(found, whole.test.modality):
        wanted, got = " or ".join(found.modalities), whole.test.modality or "no modality"
        raise DosimeterError(f"given {name} must be of {wanted} images, got {whole.test.name} of {got}. Name another.")
    identity = f"{parameters(found.build(apparatus))} {number!r} {whole.seed}"
    records = tuple(
        replace(
            record,
            sha256=hashlib.sha256(f"{record.sha256} {identity}".encode()).hexdigest(),
            pixels_sha256="",
            read=partial(_read, record.read, name, number, dict(constants), whole.seed),
        )
        for record in whole.test.records
    )
    test: Cohort = replace(whole.test, records=records)
    return replace(whole, test=test, protocol=f"{whole.protocol}, {name} {number:g}")


def _read(
    read: Callable[[], Decoded], name: str, severity: float, constants: Mapping[str, float], seed: int
) -> Decoded:
    decoded, found = read(), entry(name)
    image = torch.from_numpy(np.ascontiguousarray(decoded.image, np.float32))[None]
    made = changed(found.build(declared(constants)), image, severity, identity=found.identity, seed=seed)[0]
    levels = 2**decoded.bits - 1
    return decoded._replace(image=((made * levels).round() / levels).numpy().astype(np.float32))
