"""What DICOM headers say, rightly and wrongly: tables, functional groups, numbers, missing parts, sizes."""

import io
import shutil
import struct
import subprocess
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)
from test_dicom import dataset, read, written

from dosimeter.cohorts.dicom_file import facts, is_dicom
from dosimeter.cohorts.images import ImageError, decode_image

RAMP = np.arange(256, dtype=np.uint16)


def ramp(bits: int = 8, **attributes: Any) -> Any:
    """An image (16, 16) whose stored numbers are 0 to 255."""
    made = dataset(bits, shape=(16, 16), **attributes)
    made.PixelData = RAMP.astype("<u2").tobytes()
    return made


def item(keyword: str, place: pydicom.Dataset) -> pydicom.Dataset:
    """A data set with a sequence of one item."""
    made = pydicom.Dataset()
    setattr(made, keyword, Sequence([place]))
    return made


def table(entries: np.ndarray, declared: int, *, n: int | None = None, first: int = 0) -> pydicom.Dataset:
    """A look-up table whose descriptor says `declared` bits, and whose entries are as they are."""
    made = pydicom.Dataset()
    made.LUTDescriptor = [len(entries) if n is None else n, first, declared]
    made.ModalityLUTType = "US"
    made.add_new(0x00283006, "OW", entries.tobytes())
    return made


@pytest.mark.parametrize("kind", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("declared", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("held", [8, 10, 12, 16])
def test_a_ramp_in_a_table_is_a_ramp_whatever_depth_is_declared(kind: str, declared: int, held: int) -> None:
    entries = np.rint(np.linspace(0, 2**held - 1, 256)).astype("<u2")
    image = read(ramp(**{kind: Sequence([table(entries, declared)])})).image
    np.testing.assert_allclose(image.ravel(), np.linspace(0, 1, 256), atol=0.5 / (2**held - 1) + 1e-7)


@pytest.mark.parametrize("kind", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("declared", [8, 16])
@pytest.mark.parametrize("vr", ["OW", "US"])
@pytest.mark.parametrize("n_entries", [255, 256])
def test_entries_of_one_byte_are_read_one_by_one(kind: str, declared: int, vr: str, n_entries: int) -> None:
    entries = np.arange(n_entries, dtype=np.uint8)
    made = table(entries, declared)
    padded = entries.tobytes() + b"\0" * (n_entries % 2)
    del made.LUTData
    made.add_new(0x00283006, vr, padded if vr == "OW" else list(np.frombuffer(padded, "<u2").tolist()))
    image = read(ramp(**{kind: Sequence([made])})).image
    np.testing.assert_allclose(image.ravel(), np.minimum(RAMP, n_entries - 1) / 255, atol=1e-7)


def test_more_entries_than_their_depth_can_number_do_not_wrap() -> None:
    entries = (np.arange(4096) // 16).astype("<u2")
    made = dataset(12, VOILUTSequence=Sequence([table(entries, 8)]))
    numbers = np.frombuffer(made.PixelData, "<u2")
    np.testing.assert_allclose(read(made).image.ravel(), numbers // 16 / 255, atol=1e-7)


@pytest.mark.parametrize("first", [-1024, 64512])
def test_a_table_may_begin_below_zero_also_in_an_unsigned_descriptor(first: int) -> None:
    made = ramp(12, RescaleSlope=8, RescaleIntercept=-1024)
    entry = table(np.arange(2048, dtype="<u2"), 11, first=0)
    entry["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    entry.LUTDescriptor = [2048, first, 11]
    made.VOILUTSequence = Sequence([entry])
    np.testing.assert_allclose(read(made).image.ravel(), np.minimum(8 * RAMP, 2047) / 2047, atol=1e-7)


@pytest.mark.parametrize("n_bytes", [2, 300, 1024])
def test_a_table_of_another_length_is_refused(n_bytes: int) -> None:
    made = ramp(VOILUTSequence=Sequence([table(np.zeros(n_bytes, np.uint8), 16, n=256)]))
    with pytest.raises(ImageError, match=f"declares 256 entries and holds {n_bytes} bytes"):
        read(made)


@pytest.mark.parametrize("groups", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_functional_groups_hold_slope_and_window(groups: str) -> None:
    values, window = pydicom.Dataset(), pydicom.Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 2, -100, "HU"
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 155, 510, "LINEAR_EXACT"
    group = item("PixelValueTransformationSequence", values)
    group.FrameVOILUTSequence = Sequence([window])
    made = ramp(12, WindowCenter=1, WindowWidth=1, RescaleSlope=1, RescaleIntercept=0)
    setattr(made, groups, Sequence([group]))
    np.testing.assert_allclose(read(made).image.ravel(), RAMP / 255, atol=1e-7)


def test_the_group_of_the_frame_goes_before_the_shared_one() -> None:
    def group(width: float) -> pydicom.Dataset:
        window = pydicom.Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = width / 2, width, "LINEAR_EXACT"
        return item("FrameVOILUTSequence", window)

    made = ramp(12)
    made.SharedFunctionalGroupsSequence = Sequence([group(1000)])
    made.PerFrameFunctionalGroupsSequence = Sequence([group(255)])
    np.testing.assert_allclose(read(made).image.ravel(), RAMP / 255, atol=1e-7)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 4])
def test_the_high_bit_says_where_a_pixel_lies_in_its_word(shift: int, signed: bool) -> None:
    made = dataset(12, signed=signed)
    plain = read(made).image
    words = (np.frombuffer(made.PixelData, "<u2") & 0xFFF) << shift
    made.PixelData, made.HighBit = (words | ((1 << shift) - 1)).astype("<u2").tobytes(), 11 + shift
    np.testing.assert_array_equal(read(made).image, plain)


@pytest.mark.parametrize("high", [10, 16])
def test_a_high_bit_outside_the_word_is_refused(high: int) -> None:
    with pytest.raises(ImageError, match=f"HighBit {high} does not fit 12 of 16 bits"):
        read(dataset(12, HighBit=high))


NUMBERS = ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth")


@pytest.mark.parametrize("keyword", NUMBERS)
@pytest.mark.parametrize("text", ["NaN", "inf", "-inf", "Muster"])
def test_a_number_that_is_none_is_one_sentence(keyword: str, text: str) -> None:
    made = dataset(RescaleSlope=1, RescaleIntercept=0, WindowCenter=40, WindowWidth=400)
    setattr(made, keyword, "11111111")
    content = written(made).replace(b"11111111", text.encode().ljust(8))
    rule = "is no number|not of the form" if text == "Muster" else "must be a finite number"
    with pytest.raises(ImageError, match=f"{keyword} ({rule})") as caught:
        decode_image(content, name="a.dcm")
    assert "Muster" not in str(caught.value)


@pytest.mark.parametrize(
    "attributes",
    [
        {"RescaleSlope": "1e308", "RescaleIntercept": "1e308", "WindowCenter": 10, "WindowWidth": 100},
        {"WindowCenter": "1e308", "WindowWidth": "1e308", "RescaleSlope": "-1e304", "RescaleIntercept": 0},
        {"WindowCenter": 10, "WindowWidth": "1e-300", "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 10, "WindowWidth": "1e-300", "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": "-1e308", "WindowWidth": "1e308", "VOILUTFunction": "SIGMOID"},
    ],
    ids=str,
)
def test_absurd_numbers_give_pixels_from_0_to_1_or_a_sentence(attributes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            image = read(dataset(**attributes)).image
        except ImageError as error:
            assert "infinite pixels" in error.reason  # noqa: PT017
        else:
            assert image.min() >= 0
            assert image.max() <= 1


@pytest.mark.parametrize(("has", "lacks"), [("WindowWidth", "WindowCenter"), ("WindowCenter", "WindowWidth")])
def test_half_a_window_is_said(has: str, lacks: str) -> None:
    with pytest.raises(ImageError, match=f"states a {has} and no {lacks}"):
        read(dataset(**{has: 400}))


NEEDED = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored"),
    "PixelRepresentation",
)


@pytest.mark.parametrize("keyword", NEEDED)
def test_what_a_header_lacks_is_named(keyword: str) -> None:
    made = dataset()
    delattr(made, keyword)
    with pytest.raises(ImageError, match=f"lacks {keyword}"):
        read(made)


@pytest.mark.parametrize("slope", [2, None])
def test_a_slope_or_an_intercept_alone_counts(slope: float | None) -> None:
    made = ramp(12, WindowCenter=255, WindowWidth=510, VOILUTFunction="LINEAR_EXACT")
    if slope is None:
        made.RescaleIntercept, made.WindowCenter, made.WindowWidth = -100, 27.5, 255
    else:
        made.RescaleSlope = slope
    np.testing.assert_allclose(read(made).image.ravel(), RAMP / 255, atol=1e-7)


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("form", ["whole", "no preamble", "no prefix", "prefix alone", "no meta header"])
def test_files_without_preamble_or_meta_header_are_read(syntax: str, form: str) -> None:
    made = dataset(12)
    expected = read(made).image
    if syntax == ExplicitVRBigEndian:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    content = buffer.getvalue()
    meta_end = 144 + struct.unpack("<I", content[140:144])[0]
    content = {
        "whole": content,
        "no preamble": content[132:],
        "no prefix": content[:128] + content[132:],
        "prefix alone": content[128:],
        "no meta header": content[meta_end:],
    }[form]
    np.testing.assert_array_equal(decode_image(content, name="a.dcm").image, expected)


def test_other_files_are_no_dicom() -> None:
    for content in (b"", b"hello", b"\x08\x00", b"\0" * 200, b"II*\0" + b"\0" * 200, bytes(range(256))):
        assert not is_dicom(content)


def deflated(made: Any, extra: bytes = b"") -> bytes:
    content = written(made)
    meta_end = 144 + struct.unpack("<I", content[140:144])[0]
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    uid = DeflatedExplicitVRLittleEndian.encode()
    uid += b"\0" * (len(uid) % 2)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return b"\0" * 128 + b"DICM" + length + meta + pack.compress(content[meta_end:] + extra) + pack.flush()


def test_a_deflated_file_is_inflated_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(12)
    np.testing.assert_array_equal(decode_image(deflated(made), name="a.dcm").image, read(made).image)
    size = 1 << 26
    bomb = deflated(made, struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, size) + b"\0" * size)
    assert len(bomb) < size / 500
    monkeypatch.setenv("DOSIMETER_MAX_PIXELS", "1000")
    with pytest.raises(ImageError, match=r"inflates to more than 16779216 bytes; .* raise DOSIMETER_MAX_PIXELS"):
        decode_image(bomb, name="a.dcm")
    monkeypatch.setenv("DOSIMETER_MAX_PIXELS", str(size))
    np.testing.assert_array_equal(decode_image(bomb, name="a.dcm").image, read(made).image)


def compressed(*streams: bytes, syntax: str, **attributes: Any) -> bytes:
    made = dataset(8, shape=(16, 16), BitsAllocated=8, **attributes)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate(list(streams))
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def saved(*shape: int, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8) + 128).save(buffer, form, **options)
    return buffer.getvalue()


def test_compressed_pixels_of_another_size_are_refused_before_they_are_decoded() -> None:
    np.testing.assert_allclose(
        decode_image(compressed(saved(16, 16), syntax=JPEGBaseline8Bit), name="a.dcm").image, 128 / 255, atol=1e-6
    )
    with pytest.raises(ImageError, match="compressed pixels are 4000 x 3000, and its header says 16 x 16"):
        decode_image(compressed(saved(3000, 4000), syntax=JPEGBaseline8Bit), name="a.dcm")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (compressed(saved(16, 16, 3), syntax=JPEGBaseline8Bit), "have 3 channels, and its header says one"),
        (
            compressed(saved(16, 16, 3, form="JPEG2000", no_jp2=True), syntax=JPEG2000Lossless),
            "have 3 channels, and its header says one",
        ),
        (compressed(saved(16, 16), saved(16, 16), syntax=JPEGBaseline8Bit), "several frames, and its header says one"),
        (
            compressed(saved(16, 16), syntax=JPEGBaseline8Bit, BitsStored=7, HighBit=6),
            "compressed pixels have 8 bits, and its header says 7",
        ),
    ],
)
def test_a_compressed_stream_that_contradicts_its_header_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(content, name="a.dcm")


@pytest.mark.parametrize("rows", [8, 12])
def test_more_pixels_than_the_header_declares_are_refused(rows: int) -> None:
    with pytest.raises(ImageError, match=rf"have 512 bytes, and its header declares {32 * rows} of one frame"):
        read(ramp(Rows=rows))


@pytest.mark.filterwarnings("ignore:The pixel data is")
def test_zeros_behind_the_pixels_are_no_pixels() -> None:
    made = ramp()
    plain = read(made).image
    made.PixelData += bytes(2)
    np.testing.assert_array_equal(read(made).image, plain)
    made.PixelData += bytes(100)
    np.testing.assert_array_equal(read(made).image, plain)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"PhotometricInterpretation": "monochrome2"}, "PhotometricInterpretation must be one of MONOCHROME1, MONO"),
        ({"PixelRepresentation": 2}, "PixelRepresentation must be 0 or 1, got 2"),
        ({"PixelData": b""}, "holds no pixel data"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_what_is_wrong_is_said_as_it_is(attributes: dict[str, Any], reason: str) -> None:
    made = ramp()
    for keyword, value in attributes.items():
        made[keyword].value = value  # assigning it anew warns
    with pytest.raises(ImageError, match=reason):
        read(made)


def test_a_codec_that_is_missing_is_named_with_its_remedy() -> None:
    of_12_bits = b"\xff\xd8\xff\xc1" + struct.pack(">HBHHBBBB", 11, 12, 16, 16, 1, 1, 0x11, 0) + b"\xff\xd9"
    files = [
        compressed(of_12_bits, syntax=JPEGExtended12Bit, BitsStored=8),
        compressed(b"\xff\xd8\xff\xd9", syntax=JPEGLosslessSV1),
        compressed(b"\xff\xd8\xff\xd9", syntax=JPEGLSLossless),
    ]
    for content in files:
        with pytest.raises(ImageError, match=r"cannot be decoded (here|by)") as caught:
            decode_image(content, name="a.dcm")
        assert "Explicit VR Little Endian" in caught.value.reason
        assert "damaged" not in caught.value.reason


def test_compressed_pixels_without_a_meta_header_are_not_taken_for_plain_ones() -> None:
    content = compressed(saved(16, 16), syntax=JPEGBaseline8Bit)
    meta_end = 144 + struct.unpack("<I", content[140:144])[0]
    with pytest.raises(ImageError, match="no transfer syntax says how"):
        decode_image(content[meta_end:], name="a.dcm")


def test_lossless_jpeg_ls_is_exact_where_its_plug_in_is_there() -> None:
    pytest.importorskip("jpeg_ls")
    made = dataset(16, shape=(16, 16))
    plain = read(made).image
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.compress(JPEGLSLossless, encoding_plugin="pyjpegls")
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    np.testing.assert_array_equal(decode_image(buffer.getvalue(), name="a.dcm").image, plain)


def test_facts_name_a_modality_and_a_patient_by_a_digest_of_this_salt_only() -> None:
    content = written(dataset(Modality="DX"))
    assert facts(content, salt=None) == ("xray", None)
    assert facts(b"hello", salt=b"1") == (None, None)
    first, again = facts(content, salt=b"1"), facts(content, salt=b"1")
    assert first == again
    assert first.person is not None
    assert "4711" not in first.person
    assert facts(content, salt=b"2").person not in (None, first.person)
    assert facts(written(dataset(PatientID="other", Modality="MR")), salt=b"1").person != first.person
    assert facts(written(dataset(PatientID="", Modality="MR")), salt=b"1") == ("mr", None)


# --- DCMTK -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="needs dcm2pnm of DCMTK")
@pytest.mark.parametrize("seed", range(12))
def test_windows_and_tables_are_those_of_dcmtk(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits, signed = int(rng.integers(8, 17)), bool(rng.integers(2))
    made = dataset(bits, signed=signed, shape=(32, 32))
    made.PhotometricInterpretation = str(rng.choice(["MONOCHROME1", "MONOCHROME2"]))
    made.RescaleSlope, made.RescaleIntercept = int(rng.integers(1, 4)), int(rng.integers(-1024, 1024))
    option = "+Wi"
    if rng.integers(3):
        made.WindowCenter, made.WindowWidth = int(rng.integers(-200, 2000)), int(rng.integers(2, 3000))
        made.VOILUTFunction = str(rng.choice(["LINEAR", "SIGMOID"]))
    else:
        entries = np.rint(np.linspace(0, 1, 500) ** 2 * 4095).astype("<u2")
        entry = table(entries, 12)
        entry["LUTDescriptor"].VR = "SS"
        entry.LUTDescriptor, option = [500, int(rng.integers(-300, 300)), 12], "+Wl"
        made.VOILUTSequence = Sequence([entry])
    (tmp_path / "a.dcm").write_bytes(written(made))
    command = ["dcm2pnm", "-O", option, "1", "+opn", "16", str(tmp_path / "a.dcm"), str(tmp_path / "a.pgm")]
    subprocess.run(command, check=True, capture_output=True)
    expected = np.asarray(Image.open(tmp_path / "a.pgm"), np.float64) / 65535
    np.testing.assert_allclose(read(made).image[0], expected, atol=1e-3)
