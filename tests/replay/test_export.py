"""What is exported can be read again, says what it is, and names nobody."""

import errno
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from tiny import settings

from dosimeter.cli import main
from dosimeter.cohorts.images import read_image
from dosimeter.errors import DosimeterError
from dosimeter.replay.export import MARK, burn, export
from dosimeter.replay.replay import Replay
from dosimeter.storage.base import get_storage
from dosimeter.study.run import run_study
from dosimeter.units import Epsilon

pytestmark = pytest.mark.usefixtures("tiny_networks", "no_report")

ALLOWED = {
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "ImageType", "Modality"),
    *("ConversionType", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientIdentityRemoved"),
    *("DeidentificationMethod", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("SeriesNumber", "InstanceNumber", "PatientOrientation", "ContentQualification", "SeriesDescription"),
    *("ImageComments", "DerivationDescription", "Manufacturer", "SoftwareVersions", "SamplesPerPixel"),
    *("PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PixelData", "BurnedInAnnotation"),
}


@pytest.fixture
def finished(study_copy: Callable[..., Path], tmp_path: Path) -> Path:
    return study_copy(tmp_path / "run", preset="sound", model="vgg16")


def written(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return facts, sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")


@pytest.mark.parametrize("storage", ["png8", "jpeg90", "dicom12", "dicom-mono1", "ct-hu"])
def test_files_are_the_images_that_were_evaluated(finished: Path, tmp_path: Path, storage: str) -> None:
    folder = tmp_path / "out"
    done = export(finished, folder, epsilon=Epsilon("4/255"), storage=storage, limit=3)
    facts, files = written(folder)
    assert done.n_images == len(facts["images"]) == 3
    assert {path.suffix for path in files} == {get_storage(storage).suffix}
    assert len(files) == 6
    replay = Replay(finished)
    (curve,) = replay.curves.values()
    for line in facts["images"]:
        target = replay.target(curve, line["case"])
        images = {"original": target.image, "adversarial": target.path.at(target.image, 4 / 255)}
        for kind, image in images.items():
            path = folder / line[kind]["file"]
            stored = get_storage(storage).store(image.numpy())
            np.testing.assert_array_equal(np.broadcast_to(read_image(path).image, stored.shape), stored)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == line[kind]["sha256"]
            assert line[kind]["linf"] == pytest.approx(float(np.abs(stored - target.image.numpy()).max()))
            assert sum(line[kind]["probabilities"].values()) == pytest.approx(1)
    right = [line for line in facts["images"] if line["original"]["predicted"] == line["label"]]
    assert done.n_correct == len(right)
    assert done.n_flipped == sum(line["adversarial"]["predicted"] != line["label"] for line in right)


def test_a_dicom_header_says_what_it_is_and_names_nobody(finished: Path, tmp_path: Path) -> None:
    export(finished, tmp_path / "out", epsilon=Epsilon("4/255"), storage="dicom12", limit=2, burn_in=True)
    facts, files = written(tmp_path / "out")
    seen = set()
    for path in files:
        dataset = pydicom.dcmread(path)
        assert {element.keyword for element in dataset} <= ALLOWED
        uids = (dataset.SOPInstanceUID, dataset.SeriesInstanceUID)
        assert all(uid.startswith("2.25.") and uid.is_valid for uid in (*uids, dataset.StudyInstanceUID))
        seen |= set(uids)
        assert list(dataset.ImageType) == ["DERIVED", "SECONDARY"]
        assert dataset.ImageComments == MARK
        assert dataset.PatientID == path.stem
        altered = path.parent.name == "adversarial"
        assert ("epsilon 0.0156863" in dataset.DerivationDescription) == altered
        assert dataset.get("BurnedInAnnotation") == ("YES" if altered else None)
    assert len(seen) == 2 * len(files)
    everything = b"".join(path.read_bytes() for path in files) + json.dumps(facts).encode()
    for secret in (b"SMITH", b"MRN", str(tmp_path).encode()):
        assert secret not in everything


@pytest.mark.parametrize("storage", ["png8", "png16", "jpeg75"])
def test_a_picture_s_comment_changes_no_pixel(finished: Path, tmp_path: Path, storage: str) -> None:
    export(finished, tmp_path / "out", epsilon=Epsilon(0.01), storage=storage, limit=1)
    for path in written(tmp_path / "out")[1]:
        with Image.open(path) as picture:
            comment = picture.info.get("comment", picture.info.get("Comment"))
        text = comment.decode() if isinstance(comment, bytes) else comment
        assert MARK in text


def test_the_burnt_in_mark_stays_at_the_lower_edge() -> None:
    image = np.full((3, 64, 80), 0.5, np.float32)
    burnt = burn(image)
    changed = (burnt != image).any(axis=0)
    assert changed.any()
    assert not changed[:40].any()
    assert burnt.max() > 0.9
    assert (burnt[0] == burnt[1]).all()
    assert (burn(image[:, :8, :8]) != 0.5).any()  # smaller than its text: still marked


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"storage": "float"}, "must make files.*png8"),
        ({"storage": "dicom-12"}, "Did you mean 'dicom12'"),
        ({"preset": "pgd"}, "preset 'pgd' is not in this run"),
        ({"model": "vgg61"}, "Did you mean 'vgg16'"),
        ({"cohort": "ct"}, "cohort 'ct' is not in this run"),
        ({"limit": 0}, "at least 1 image"),
    ],
)
def test_what_is_not_there_is_refused(finished: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        export(finished, tmp_path / "out", **{"epsilon": Epsilon(0.01), "storage": "png8", **changes})
    assert not (tmp_path / "out").exists()


def test_the_command_line_and_a_folder_that_is_not_empty(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "dosimeter",
        "export",
        str(finished),
        str(tmp_path / "out"),
        "--epsilon",
        "4/255",
        "--storage",
        "dicom12",
    ]
    monkeypatch.setattr(sys, "argv", [*command, "--limit", "1"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert "1 adversarial images and their originals" in capsys.readouterr().out
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "must be empty or absent" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_an_empty_folder_and_the_same_command_works_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.parent.name == "adversarial":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            export(finished, tmp_path / "out", epsilon=Epsilon(0.01), storage="png8", limit=1)
    assert not list((tmp_path / "out").iterdir())
    export(finished, tmp_path / "out", epsilon=Epsilon(0.01), storage="png8", limit=1)
    facts, files = written(tmp_path / "out")
    assert len(files) == 2 * len(facts["images"]) == 2


# --- physical changes


def test_images_of_a_physical_change_are_those_that_were_evaluated(image_folder: Path, tmp_path: Path) -> None:
    run_study(settings(image_folder, tmp_path / "run", model="vgg16", attack="rotation", severities="rotation=-5,-15"))
    done = export(tmp_path / "run", tmp_path / "out", severity=-15.0, storage="dicom12", limit=2)
    facts, files = written(tmp_path / "out")
    assert (facts["severity"], facts["unit"], "epsilon" in facts) == (-15.0, "degrees", False)
    assert done.n_images == 2
    assert {path.parent.name for path in files} == {"original", "changed"}
    with pytest.raises(DosimeterError, match="rotation is a physical change, which has no epsilon: give --severity"):
        export(tmp_path / "run", tmp_path / "no", epsilon=Epsilon(0.003), storage="png8", preset="rotation")
    with pytest.raises(DosimeterError, match="severity must be one of 0, -5, -15 degrees"):
        export(tmp_path / "run", tmp_path / "no", severity=3.0, storage="png8")
    (curve,) = Replay(tmp_path / "run").changes.values()
    for line in facts["images"]:
        file = tmp_path / "out" / line["changed"]["file"]
        target = Replay(tmp_path / "run").target(curve, line["case"])
        mode = get_storage("dicom12")
        assert mode.encode is not None
        expected = mode.read(mode.encode(target.path.at(target.image, -15.0).numpy()))
        np.testing.assert_array_equal(mode.read(file.read_bytes()), expected)
        assert "rotation, severity -15 degrees" in pydicom.dcmread(file).DerivationDescription


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "got neither. Give --epsilon"),
        ({"epsilon": Epsilon(0.003), "severity": -5.0}, "got both. Give --epsilon"),
        ({"severity": -5.0}, "this run asked about none. Give --epsilon"),
        ({"severity": -5.0, "preset": "sound"}, "sound is an attack, which has no severity"),
    ],
)
def test_a_severity_stands_in_place_of_an_epsilon(
    finished: Path, tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(DosimeterError, match=message):
        export(finished, tmp_path / "out", storage="png8", **asked)
