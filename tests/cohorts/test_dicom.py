"""The loader of DICOM files against pydicom's own functions, and its refusals."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.images import ImageError, decode_image, to_grid

RNG = np.random.default_rng(1)


def dataset(bits: int = 12, *, signed: bool = False, shape: tuple[int, int] = (6, 7), **attributes: Any) -> Any:
    """A DICOM data set of random grey pixels."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    numbers = RNG.integers(low, high, shape)
    numbers.flat[:2] = low, high - 1
    made = pydicom.Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "2.25.1"
    made.PatientName, made.PatientID = "Muster^Erika", "MRN-4711"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = shape
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, bits, bits - 1
    made.PixelRepresentation = int(signed)
    made.PixelData = (numbers & 0xFFFF).astype("<u2").tobytes()
    made["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def written(made: Any, syntax: str = ExplicitVRLittleEndian) -> bytes:
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue().replace(ExplicitVRLittleEndian.encode() + b"\0", str(syntax).encode().ljust(20, b"\0"))


def read(made: Any) -> Any:
    return decode_image(written(made), name="a.dcm")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_without_a_window_the_range_is_what_the_header_declares(bits: int, signed: bool) -> None:
    made = dataset(bits, signed=signed)
    image, depth = read(made)
    numbers = pydicom.dcmread(io.BytesIO(written(made))).pixel_array.astype(float)
    low = numbers.min()
    assert depth == bits
    np.testing.assert_allclose(image[0], (numbers - low) / (2**bits - 1), atol=1e-7)
    assert image.min() == 0
    assert image.max() == 1


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("window", [(40, 400), (-600, 1500), ([50, -600], [350, 1500])])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_windows_are_pydicom_s(function: str | None, window: Any, photometric: str) -> None:
    made = dataset(12, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=window[0], WindowWidth=window[1])
    made.PhotometricInterpretation = photometric
    if function:
        made.VOILUTFunction = function
    again = pydicom.dcmread(io.BytesIO(written(made)))
    shown = apply_windowing(apply_modality_lut(again.pixel_array, again), again)
    # pydicom's output spans the range that the rescaled numbers can have
    low, high = -1024, 2 * 4095 - 1024
    expected = (shown - low) / (high - low)
    image, depth = read(made)
    assert depth == 16
    np.testing.assert_allclose(image[0], 1 - expected if photometric == "MONOCHROME1" else expected, atol=1e-6)


def test_a_voi_table_is_pydicom_s_and_comes_before_a_window() -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.add_new(0x00283006, "OW", np.sort(RNG.integers(0, 65536, 4096)).astype("<u2").tobytes())
    made = dataset(12, VOILUTSequence=Sequence([table]), WindowCenter=40, WindowWidth=400)
    again = pydicom.dcmread(io.BytesIO(written(made)))
    expected = apply_voi_lut(again.pixel_array, again) / 65535
    np.testing.assert_allclose(read(made).image[0], expected, atol=1e-7)


def test_a_modality_table_is_pydicom_s() -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [256, 0, 16], "US"
    table.add_new(0x00283006, "OW", RNG.integers(0, 65536, 256).astype("<u2").tobytes())
    made = dataset(8, ModalityLUTSequence=Sequence([table]))
    again = pydicom.dcmread(io.BytesIO(written(made)))
    np.testing.assert_allclose(read(made).image[0], apply_modality_lut(again.pixel_array, again) / 65535, atol=1e-7)


@pytest.mark.parametrize(
    "attributes",
    [{"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}, {"RescaleSlope": -1}],
    ids=str,
)
def test_what_inverts(attributes: dict[str, Any]) -> None:
    made = dataset(12)
    upright = read(made).image
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    if "RescaleSlope" in attributes:
        made.RescaleIntercept = 4095
    np.testing.assert_allclose(read(made).image, 1 - upright, atol=1e-7)


def test_overlays_above_the_stored_bits_are_no_pixels() -> None:
    made = dataset(12)
    plain = read(made).image
    made.PixelData = (np.frombuffer(made.PixelData, "<u2") | 0x8000).astype("<u2").tobytes()
    np.testing.assert_array_equal(read(made).image, plain)


def _without(*keywords: str) -> Any:
    made = dataset()
    for keyword in keywords:
        delattr(made, keyword)
    return made


BAD = {
    "no pixel data": (lambda: written(_without("PixelData")), "no pixel data"),
    "colour": (lambda: written(dataset(PhotometricInterpretation="RGB", SamplesPerPixel=3)), "colour DICOM image"),
    "frames": (lambda: written(dataset(NumberOfFrames=2)), "2 frames"),
    "unknown syntax": (lambda: written(dataset(), "1.2.3.4"), "transfer syntax .* cannot be decoded"),
    "truncated": (lambda: written(dataset())[:-40], "44 bytes of 84: it is truncated"),
    "no rows": (lambda: written(_without("Rows")), "lacks Rows"),
    "too large": (lambda: written(dataset(Rows=60000, Columns=60000)), "60000 x 60000 pixels"),
    "slope 0": (lambda: written(dataset(RescaleSlope=0, RescaleIntercept=0)), "RescaleSlope is 0"),
    "window": (lambda: written(dataset(WindowCenter=1, WindowWidth=0)), "width 0 is not defined"),
    "32 bit": (lambda: written(dataset(BitsAllocated=32, BitsStored=32)), "stores 32 of 32 bits"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_refused_in_one_sentence_without_the_patient(kind: str) -> None:
    make, message = BAD[kind]
    with pytest.raises(ImageError, match=message) as caught:
        decode_image(make(), name="a.dcm")
    assert "Muster" not in str(caught.value)
    assert "4711" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("little", [True, False])
def test_a_byte_order_that_contradicts_the_meta_header_is_said(little: bool) -> None:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset(), implicit_vr=False, little_endian=little, force_encoding=True)
    whole = written(dataset(), ExplicitVRBigEndian if little else ExplicitVRLittleEndian)
    meta = whole[: whole.index(b"\x08\x00\x16\x00")]  # up to the data set
    said, there = ("big", "little") if little else ("little", "big")
    with pytest.raises(ImageError, match=f"meta header says {said} endian and its data set is {there} endian"):
        decode_image(meta + buffer.getvalue(), name="a.dcm")


def test_compressed_pixels_are_decoded_where_a_decoder_is_there() -> None:
    made = dataset(16)
    plain = read(made).image
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.compress(RLELossless)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    np.testing.assert_array_equal(decode_image(buffer.getvalue(), name="a.dcm").image, plain)


def test_a_folder_of_dicom_files_is_a_cohort(tmp_path: Path) -> None:
    for label in ("0", "1"):
        (tmp_path / label).mkdir()
        for index in range(2):
            (tmp_path / label / f"Muster-{index}.dcm").write_bytes(written(dataset(12, shape=(16, 16))))
        (tmp_path / label / "report.dcm").write_bytes(written(_without("PixelData")))
    cohort = load_cohort(f"folder:{tmp_path}")
    assert len(cohort) == 4
    assert [skipped.reason for skipped in cohort.skipped] == [
        "the DICOM file holds no pixel data; choose the file of the image itself."
    ] * 2
    case = cohort[0]
    assert case.bits == 12
    assert "Muster" not in case.case_id
    resized = to_grid(cohort.records[0].read(), size_px=8) * 4095
    np.testing.assert_allclose(resized, resized.round(), atol=1e-3)
