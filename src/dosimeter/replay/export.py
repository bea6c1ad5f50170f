"""Images of a finished run, attacked or physically changed, as files, for a viewer or a PACS test of one's own.

Every file says of itself that it is made for research. It carries no attribute of the source's: the header is made anew
from an allow-list, and what stands for a patient is the case's pseudonym.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from pydicom.uid import generate_uid

import dosimeter
from dosimeter.attacks.registry import parameters
from dosimeter.cohorts.base import FloatImage
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.files import filling, is_free, write_text
from dosimeter.progress import Progress
from dosimeter.replay.replay import Curve, CurveKey, Replay
from dosimeter.storage.base import Storage, get_storage, storages
from dosimeter.sweeps.answers import Target
from dosimeter.units import Epsilon

MARK = "RESEARCH ONLY, NOT FOR DIAGNOSIS"
BURNT = "RESEARCH"
"""What is drawn into the pixels where that is asked for."""


class Exported(NamedTuple):
    """What `export` wrote.

    Attributes:
        folder: where.
        n_images: adversarial, or physically changed, images.
        n_flipped: of the images whose original file is answered correctly, those whose adversarial file is answered
            otherwise, and not refused.
        n_correct: images whose original file is answered correctly.
    """

    folder: Path
    n_images: int
    n_flipped: int
    n_correct: int


def export(
    run: Path,
    folder: Path,
    *,
    storage: str,
    epsilon: Epsilon | None = None,
    severity: float | None = None,
    preset: str | None = None,
    model: str | None = None,
    cohort: str | None = None,
    limit: int | None = None,
    burn_in: bool = False,
    data: Path | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write the adversarial images of a run, or those of a physical change, as files, with originals and manifest.json.

    A curve (cohort, protocol, seed, model, preset) has a folder of its own with `original` and `adversarial`, or
    `changed`, in it; a file is named by its case. Images are as they were evaluated: on the classifier's grid, or, of a
    run with `native`, at the size of their source. The manifest has each file's SHA-256, what the classifier says of
    the file, read again, and how far it is from the original image.

    Args:
        run: folder of a finished run.
        folder: to write to; it must be empty or absent. After an error it is empty.
        epsilon: the dose of an attack; this or `severity`.
        severity: of a physical change, one of those that the run asked.
        storage: one of `dosimeter list storages` that makes files.
        preset, model, cohort: which curves; by default every model and cohort, and the sound preset if the run has it,
            else its first; with `severity` the run's first physical change.
        limit: images of each curve.
        burn_in: draw the mark into the pixels of adversarial files as well, which may undo the attack.
        data: folder of the real images, if it has moved since the run.
        trust: see `Replay`.
        progress: told of every image.

    Raises:
        DosimeterError: an argument names nothing, or the folder is not empty, or see `Replay`.
    """
    if (epsilon is None) == (severity is None):
        raise DosimeterError(
            "export must have an epsilon, of an attack, or a severity, of a physical change, got "
            f"{'neither' if epsilon is None else 'both'}. Give --epsilon 0.003, or --severity with --preset."
        )
    mode = get_storage(storage)
    if mode.encode is None:
        files = ", ".join(name for name, each in storages().items() if each.encode is not None)
        raise DosimeterError(f"storage must make files, got '{storage}'. Choose from: {files}.")
    if limit is not None and limit < 1:
        raise DosimeterError(f"limit must be at least 1 image, got {limit}.")
    if not is_free(folder):
        raise DosimeterError(f"the folder to export to must be empty or absent, {folder} is not. Name another.")
    replay = Replay(run, data=data, trust=trust)
    found, others = (replay.curves, replay.changes) if severity is None else (replay.changes, replay.curves)
    if preset in {key.preset for key in others} or not found:
        raise DosimeterError(_other_kind(preset, severity, others))
    curves = _chosen(list(found.values()), preset=preset, model=model, cohort=cohort)
    dose = _asked(curves, severity) if severity is not None else float(epsilon or 0)
    progress = progress or Progress()
    with filling(folder) as draft:
        progress.begin("exporting", sum(len(curve.case_ids[:limit]) for curve in curves))
        lines: list[dict[str, Any]] = []
        for curve in curves:
            into = draft / _slug("-".join(str(part) for part in curve.key))
            for case_id in curve.case_ids[:limit]:
                try:
                    target = replay.target(curve, case_id)
                except DosimeterError as error:
                    progress.note(f"left out: {error}")
                    continue
                lines.append(_case(curve, target, into, mode, dose, burn_in=burn_in))
                progress.advance(1)
        if not lines:
            raise DosimeterError(f"{run}: none of its images can be read. Name their folder with --data.")
        facts = {
            "mark": MARK,
            "dosimeter_version": dosimeter.__version__,
            "run_id": replay.meta["run_id"],
            "phantom": replay.meta["phantom"],
            **({"epsilon": dose} if severity is None else {"severity": dose, "unit": curves[0].setting.preset.unit}),
            "storage": storage,
            "burnt_in": burn_in,
            "attacks": {curve.key.preset: parameters(curve.setting.preset.attack) for curve in curves},
            "images": lines,
        }
        write_text(draft / "manifest.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    right = [line for line in lines if _given(line["original"]) == line["label"]]
    flipped = sum(_given(line[_kind(curves[0])]) not in (line["label"], None) for line in right)
    return Exported(folder, len(lines), flipped, len(right))


def _other_kind(preset: str | None, severity: float | None, others: Mapping[CurveKey, Curve]) -> str:
    """Return the sentence on an epsilon for a physical change, or on a severity for an attack."""
    if severity is None:
        name, curve = next((key.preset, curve) for key, curve in others.items() if preset in (None, key.preset))
        asked = ", ".join(f"{each:g}" for each in curve.setting.preset.severities)
        return f"{name} is a physical change, which has no epsilon: give --severity, one of {asked}."
    if preset is None:
        return "severity must be of a physical change, and this run asked about none. Give --epsilon in its place."
    return f"{preset} is an attack, which has no severity: give --epsilon in its place."


def _asked(curves: Sequence[Curve], severity: float) -> float:
    """Return a severity that every curve was asked about."""
    for curve in curves:
        asked = curve.setting.preset.severities
        if severity not in asked:
            raise DosimeterError(
                f"severity must be one of {', '.join(f'{each:g}' for each in asked)} {curve.setting.preset.unit}, "
                f"those that the run asked of {curve.key.preset}, got {severity:g}."
            )
    return severity


def _kind(curve: Curve) -> str:
    """Return what a curve's images are called beside their originals."""
    return "changed" if curve.setting.preset.is_physical else "adversarial"


def _chosen(curves: Sequence[Curve], **wanted: str | None) -> list[Curve]:
    """Return the curves that the arguments name."""
    presets = list(dict.fromkeys(curve.key.preset for curve in curves))
    if wanted["preset"] is None and presets:
        wanted["preset"] = "sound" if "sound" in presets else presets[0]
    for name, value in wanted.items():
        known = {getattr(curve.key, name) for curve in curves}
        if value is not None and value not in known:
            raise DosimeterError(f"{name} '{value}' is not in this run. {did_you_mean(value, known)}")
    chosen = [
        curve for curve in curves if all(value in (None, getattr(curve.key, name)) for name, value in wanted.items())
    ]
    if not chosen:
        raise DosimeterError(f"the run has no images of {', '.join(str(value) for value in wanted.values() if value)}.")
    return chosen


def _case(curve: Curve, target: Target, into: Path, mode: Storage, epsilon: float, *, burn_in: bool) -> dict[str, Any]:
    """Write the two files of one case and return the manifest's entry of it."""
    assert mode.encode is not None
    floats = target.path.at(target.image, epsilon)
    altered = burn(floats.numpy()) if burn_in else floats.numpy()
    native = curve.setting.threat.native
    header = _header(target.case_id, study=generate_uid(prefix=None), native=native)
    again = _header(target.case_id, study=header["StudyInstanceUID"], native=native)
    again |= _altered(curve, epsilon, burnt=burn_in)
    contents = {
        "original": mode.encode(target.image.numpy(), header=header),
        _kind(curve): mode.encode(altered, header=again),
    }
    said: dict[str, Any] = {"as_float": _answer(curve, floats, "float", target.bits)}
    for kind, content in contents.items():
        file = into / kind / f"{target.case_id}{mode.suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        content = file.read_bytes()
        read = torch.from_numpy(mode.read(content))
        said[kind] = {
            "file": file.relative_to(into.parent).as_posix(),
            "sha256": hashlib.sha256(content).hexdigest(),
            "linf": float((read - target.image).abs().amax()),
            **_answer(curve, read, mode.name, target.bits),
        }
    label = curve.classifier.classes[target.label]
    return {**curve.key._asdict(), "case": target.case_id, "label": label, **said}


def burn(image: FloatImage) -> FloatImage:
    """Return `image` (3, H, W) with `BURNT` in white on black along its lower edge."""
    height, width = image.shape[1:]
    label = Image.new("L", (width, height), 0)
    font = ImageFont.load_default()
    box = ImageDraw.Draw(label).textbbox((2, 0), BURNT, font=font)
    top = max(0, height - round(box[3]) - 2)
    ImageDraw.Draw(label).text((2, top), BURNT, fill=255, font=font)
    burnt = image.copy()
    strip = np.s_[:, top:, : min(width, round(box[2]) + 2)]
    burnt[strip] = (np.asarray(label, dtype=np.float32) / 255)[strip[1:]]
    return burnt


def _header(case_id: str, *, study: str, native: bool) -> dict[str, Any]:
    """Return the attributes of an original's file beside its pixels: the allow-list. A patient is a pseudonym.

    BurnedInAnnotation is not among them: what the source's pixels hold is not known, and nothing is claimed.
    """
    changed = "Written anew" if native else "Resized to the classifier's grid"
    return {
        "SOPInstanceUID": generate_uid(prefix=None),
        "StudyInstanceUID": study,
        "SeriesInstanceUID": generate_uid(prefix=None),
        "ImageType": ["DERIVED", "SECONDARY"],
        "Modality": "OT",
        "ConversionType": "WSD",
        "PatientName": f"RESEARCH^{case_id}",
        "PatientID": case_id,
        "PatientBirthDate": "",
        "PatientSex": "",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "header made anew; pixels are the source's" + ("" if native else ", resized"),
        "StudyDate": "",
        "StudyTime": "",
        "StudyID": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "PatientOrientation": "",
        "ContentQualification": "RESEARCH",
        "SeriesDescription": f"{MARK}: original",
        "ImageComments": MARK,
        "DerivationDescription": f"{changed}, not altered",
        "Manufacturer": "dosimeter",
        "SoftwareVersions": dosimeter.__version__,
    }


def _altered(curve: Curve, epsilon: float, *, burnt: bool) -> dict[str, Any]:
    """Return what an adversarial, or changed, file's header has other than an original's."""
    preset = curve.setting.preset
    made = (
        f"Physically changed, simulated: {preset.name}, severity {epsilon:g} {preset.unit}"
        if preset.is_physical
        else f"Adversarially perturbed: attack {preset.attack.name}, loss {preset.attack.loss}, epsilon {epsilon:g} of "
        f"the image range, against {curve.classifier.name}"
    )
    header = {"SeriesNumber": 2, "SeriesDescription": f"{MARK}: {_kind(curve)}", "DerivationDescription": made}
    return header | ({"BurnedInAnnotation": "YES"} if burnt else {})


def _answer(curve: Curve, image: torch.Tensor, storage: str, bits: int) -> dict[str, Any]:
    """Return what the classifier says of an image (3, H, W) that `storage` returned; see `Curve.said`."""
    classes, said = curve.classifier.classes, curve.said(image, storage, bits=bits)
    told = {"predicted": classes[said.predicted], "probabilities": dict(zip(classes, said.probabilities, strict=True))}
    return told | ({"refused": said.refused} if curve.classifier.rejects else {})


def _given(said: Mapping[str, Any]) -> str | None:
    """Return the class that was answered, None if the image was refused."""
    return None if said.get("refused") else str(said["predicted"])


def _slug(name: str) -> str:
    """Return a curve's name as a folder's: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)
