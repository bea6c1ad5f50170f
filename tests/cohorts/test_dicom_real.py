"""Real X-rays written as DICOM give a classifier the answers that their image files give."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
import torchvision
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from torch import Tensor

import dosimeter as dm
from dosimeter.cohorts.base import Case, Cohort

pytestmark = pytest.mark.real

N_IMAGES = 24


def classifier() -> dm.Classifier:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=2)
    return dm.classifier(network, size_px=224, classes=("other", "COVID-19"))


def written(case: Case, path: Path, *, bits: int) -> None:
    """Write a grey image of 8 bits as MONOCHROME2, without a window; of 16 bits each level is 257 times as large."""
    levels = np.rint(case.image[0] * 255).astype(np.uint16) * (1 if bits == 8 else 257)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Modality, file.PhotometricInterpretation, file.SamplesPerPixel = "DX", "MONOCHROME2", 1
    file.Rows, file.Columns = levels.shape
    file.BitsAllocated = file.BitsStored = bits
    file.HighBit, file.PixelRepresentation = bits - 1, 0
    pixels = levels.astype(np.uint8 if bits == 8 else "<u2").tobytes()
    file.PixelData = pixels + b"\0" * (len(pixels) % 2)
    file["PixelData"].VR = "OB" if bits == 8 else "OW"
    pydicom.dcmwrite(path, file, enforce_file_format=True)


def as_dicom(cases: list[Case], folder: Path, *, bits: int) -> Cohort:
    """Return the same images as a list of DICOM files, in their order."""
    lines = ["file,label"]
    for place, case in enumerate(cases):
        written(case, folder / f"{place:04d}.dcm", bits=bits)
        lines.append(f"{place:04d}.dcm,{'COVID-19' if case.label else 'other'}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return dm.load_cohort(f"csv:{folder / 'list.csv'}", positive="COVID-19")


def logits(images: list[Case]) -> Tensor:
    mine = classifier()
    with torch.inference_mode():
        return torch.cat([mine(mine.prepare(case)[None]) for case in images])


@pytest.mark.parametrize(("bits", "apart"), [(8, 0.0), (16, 0.01)])
def test_their_answers_are_the_image_files_own(bits: int, apart: float, real_data: Path, tmp_path: Path) -> None:
    """Of 16 bits a resized image is rounded to levels that lie 257 times as close: its answer moves by that."""
    films = dm.load_cohort("xray-268", data=real_data)
    asked = range(0, len(films), max(1, len(films) // (2 * N_IMAGES)))
    grey = [case for case in films.subset(asked) if len(case.image) == 1 and case.bits == 8]
    grey = grey[:: max(1, len(grey) // N_IMAGES)][:N_IMAGES]
    assert len(grey) == N_IMAGES
    found = as_dicom(grey, tmp_path, bits=bits)
    assert [case.label for case in found] == [case.label for case in grey]
    assert {case.bits for case in found} == {bits}
    for mine, theirs in zip(found, grey, strict=True):
        np.testing.assert_allclose(mine.image, theirs.image, rtol=0, atol=1e-7)
    before, after = logits(grey), logits(list(found))
    spread = float(before.std(dim=0).min())
    assert float((after - before).abs().max()) <= apart * spread
