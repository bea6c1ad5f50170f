"""Codecs of DICOM pixels: a damaged stream is one sentence, and never the end of the process."""

import io
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from test_dicom import dataset, read
from test_dicom_header import compressed, saved

from dosimeter.cohorts import dicom_codecs
from dosimeter.cohorts.images import ImageError, decode_image


def test_a_process_that_gdcm_ends_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gdcm")
    monkeypatch.setattr(dicom_codecs, "_CODECS", ())
    colour, grey = (
        pydicom.dcmread(io.BytesIO(compressed(saved(*shape, form="JPEG2000", no_jp2=True), syntax=JPEG2000Lossless)))
        for shape in ((16, 16, 3), (16, 16))
    )
    for _ in range(2):
        with pytest.raises(EOFError):
            dicom_codecs.decode(colour)
        np.testing.assert_array_equal(dicom_codecs.decode(grey), np.full((16, 16), 128))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_half_a_run_length_stream_is_one_sentence(share: float) -> None:
    made: Any = dataset(16, shape=(16, 16))
    plain = read(made).image
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.compress(RLELossless)
    stream = next(generate_frames(made.PixelData, number_of_frames=1))

    def written() -> bytes:
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, made, enforce_file_format=True)
        return buffer.getvalue()

    np.testing.assert_array_equal(decode_image(written(), name="a.dcm").image, plain)
    made.PixelData = encapsulate([stream[: int(share * len(stream))]])
    with pytest.raises(ImageError, match="RLE Lossless pixels cannot be decoded by pydicom"):
        decode_image(written(), name="a.dcm")
