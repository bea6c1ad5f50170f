"""Padding of DICOM images: black whatever the rest of the header says, and no part of what is measured."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from test_dicom import dataset, written

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.audit import audit
from dosimeter.cohorts.contrast import flat, used_range
from dosimeter.cohorts.images import decode_image, decode_with_padding

SIDE = 32
CORNERS = np.hypot(*np.mgrid[-15.5:16, -15.5:16]) > 15.5  # around the circle that a scanner reconstructs
NUMBERS = 100 + np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 1000  # no padding among them


def padded(pad: int, *, bits: int = 12, numbers: Any = NUMBERS, signed: bool = False, **attributes: Any) -> Any:
    """An image whose corners hold `pad`, and whose header says what `attributes` do."""
    made = dataset(bits, shape=(SIDE, SIDE), signed=signed)
    made.PixelData = (np.where(CORNERS, pad, numbers) & 0xFFFF).astype("<u2").tobytes()
    vr = "SS" if signed else "US"
    for tag, keyword in ((0x00280120, "PixelPaddingValue"), (0x00280121, "PixelPaddingRangeLimit")):
        if keyword in attributes:
            value = attributes.pop(keyword)
            made.add_new(tag, "SS" if value < 0 else vr if value < 2**15 else "US", value)
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def read(made: Any) -> Any:
    return decode_with_padding(written(made), name="a.dcm")


WINDOW = {"WindowCenter": 600, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}


@pytest.mark.parametrize(
    "inverted", [{}, {"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}]
)
@pytest.mark.parametrize("window", [{}, WINDOW], ids=["no window", "window"])
@pytest.mark.parametrize("pad", [0, 50, 2000, 4095])
def test_padding_is_black_and_the_picture_is_what_it_is_without(pad: int, window: Any, inverted: Any) -> None:
    image, where = read(padded(pad, PixelPaddingValue=pad, **window, **inverted))
    bare, nowhere = read(padded(pad, **window, **inverted))
    assert nowhere is None
    assert np.array_equal(where, CORNERS)
    assert not image.image[0][CORNERS].any()
    np.testing.assert_array_equal(image.image[0][~CORNERS], bare.image[0][~CORNERS])
    shown = ((NUMBERS - 600) / 1000 + 0.5).clip(0, 1) if window else NUMBERS / 4095  # the closed form
    expected = 1 - shown if inverted else shown
    np.testing.assert_allclose(image.image[0][~CORNERS], expected[~CORNERS], atol=1e-6)
    assert image.bits == bare.bits


@pytest.mark.parametrize(("value", "limit"), [(0, 40), (40, 0), (3000, 4095), (4095, 3000)])
def test_a_range_of_padding_is_inclusive_and_has_its_ends_in_either_order(value: int, limit: int) -> None:
    numbers = np.where(np.arange(SIDE)[None] < 3, np.array([value, limit, (value + limit) // 2])[NUMBERS % 3], NUMBERS)
    image, where = read(padded(value, numbers=numbers, PixelPaddingValue=value, PixelPaddingRangeLimit=limit))
    assert np.array_equal(where, CORNERS | (np.arange(SIDE)[None] < 3))
    assert not image.image[0][where].any()
    alone, _ = read(padded(value, PixelPaddingRangeLimit=limit))  # means nothing without a value
    assert np.array_equal(alone.image, read(padded(value))[0].image)


@pytest.mark.parametrize(
    ("pad", "bits", "signed", "declared"),
    [
        (-2000, 16, True, -2000),
        (-2000, 16, True, 63536),  # written as an unsigned number
        (-2000, 12, True, -2000),
        (-32768, 12, True, -32768),  # more bits than are stored
        (63536, 12, False, 63536),  # the same, as old files have it
        (-2000, 12, False, -2000),
        (255, 8, False, 255),
    ],
)
def test_padding_is_found_in_signed_numbers_and_beside_the_stored_bits(
    pad: int, bits: int, signed: bool, declared: int
) -> None:
    numbers = NUMBERS % 200
    made = padded(pad, bits=bits, numbers=numbers, signed=signed, PixelPaddingValue=declared)
    image, where = read(made)
    assert np.array_equal(where, CORNERS)
    assert not image.image[0][CORNERS].any()


def test_padding_behind_a_modality_lut_a_table_and_a_compression() -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.add_new(0x00283006, "OW", np.arange(65535, 61439, -1).astype("<u2").tobytes())  # shows 0 as white
    for more in ({"VOILUTSequence": Sequence([table])}, {"RescaleSlope": -1, "RescaleIntercept": 4095}):
        image, where = read(padded(0, PixelPaddingValue=0, **more))
        assert np.array_equal(where, CORNERS)
        assert not image.image[0][CORNERS].any()
        assert image.image[0][~CORNERS].all()
    made = padded(4095, PixelPaddingValue=4095)
    plain = read(made)[0].image
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.compress(RLELossless)
    assert np.array_equal(read_compressed(made), plain)


def read_compressed(made: Any) -> Any:
    from io import BytesIO

    buffer = BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return decode_image(buffer.getvalue(), name="a.dcm").image


@pytest.mark.parametrize("pad", [0, 4095])
def test_padding_neither_hides_a_flat_image_nor_makes_one(pad: int, tmp_path: Path) -> None:
    """A body of 40 grey levels between padding of another value; and a full one in much padding."""
    full = np.where(np.abs(np.arange(SIDE) - 15.5)[None] < 1, NUMBERS * 4 % 4095, pad)
    kinds = {"flat": NUMBERS % 40, "full": NUMBERS * 4 % 4000, "narrow": full, "empty": np.full_like(NUMBERS, pad)}
    for label, (name, numbers) in enumerate(kinds.items()):
        folder = tmp_path / str(label % 2)
        folder.mkdir(exist_ok=True)
        made = padded(pad, numbers=numbers + (0 if name in ("narrow", "empty") else 1), PixelPaddingValue=pad)
        (folder / f"{name}.dcm").write_bytes(written(made))
    cohort = load_cohort(f"folder:{tmp_path}", positive="1")
    assert {Path(record.name).stem for record in flat(cohort)} == {"flat", "empty"}
    contrast = next(found for found in audit(cohort) if found.check == "contrast")
    assert {Path(name).stem for name in contrast.numbers["files"]} == {"flat", "empty"}


def test_the_range_of_what_is_no_padding() -> None:
    ramp = np.linspace(0.2, 0.6, SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE)
    left = np.broadcast_to(np.arange(SIDE)[None] < SIDE // 2, (SIDE, SIDE))
    black = np.where(left, 0, ramp).astype(np.float32)
    assert used_range(black, left) == pytest.approx(0.99 * 0.4, rel=0.02)
    assert used_range(black) == pytest.approx(0.6, rel=0.02)
    assert used_range(black, np.ones_like(left)) == 0


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="needs dcm2pnm of DCMTK")
@pytest.mark.parametrize("inverted", [False, True])
def test_outside_the_padding_pixels_are_dcmtk_s(inverted: bool, tmp_path: Path) -> None:
    """DCMTK shows padding as any other number: it is an oracle where that is black anyway."""
    pad = 4095 if inverted else 0
    made = padded(pad, PixelPaddingValue=pad, WindowCenter=600, WindowWidth=900)
    if inverted:
        made.PhotometricInterpretation = "MONOCHROME1"
    (tmp_path / "a.dcm").write_bytes(written(made))
    command = ["dcm2pnm", "-O", "+Wi", "1", "+opn", "16", str(tmp_path / "a.dcm"), str(tmp_path / "a.pgm")]
    subprocess.run(command, check=True, capture_output=True)
    expected = np.asarray(Image.open(tmp_path / "a.pgm"), dtype=np.float64) / 65535
    np.testing.assert_allclose(read(made)[0].image[0], expected, atol=2e-3)
