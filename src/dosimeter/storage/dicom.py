"""Encodes DICOM files: a header of an allow-list of attributes, made anew, and uncompressed grey pixels."""

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from dosimeter.cohorts.base import FloatImage
from dosimeter.storage.raster import grey, samples

UNNAMED_UID = "2.25.0"
"""Instance UID of a file that never leaves memory."""


class Form(NamedTuple):
    """What the numbers in a file mean.

    Attributes:
        levels: steps between black and white.
        bits: stored of the 16 that are allocated.
        inverted: whether black is the largest number (MONOCHROME1).
        black_hu: Hounsfield units of black, one step being 1 HU; None: the numbers are grey levels.
    """

    levels: int
    bits: int
    inverted: bool = False
    black_hu: int | None = None


DICOM12 = Form(levels=4095, bits=12)
DICOM16 = Form(levels=65535, bits=16)
MONO1 = Form(levels=4095, bits=12, inverted=True)

WINDOW_CENTRE_HU, WINDOW_WIDTH_HU = -600, 1500
"""The lung window that ct-hu states; it spans the image range."""

CT_HU = Form(levels=WINDOW_WIDTH_HU, bits=16, black_hu=WINDOW_CENTRE_HU - WINDOW_WIDTH_HU // 2)
RESCALE_INTERCEPT_HU = -1024


def encode_dicom(image: FloatImage, *, form: Form, header: Mapping[str, Any] | None = None) -> bytes:
    """Return the grey of `image` (3, H, W) as a DICOM file.

    Args:
        image: values in [0, 1].
        form: what the numbers mean.
        header: further attributes by their keywords, such as SOPInstanceUID; without it the file names nobody and has
            no UID of its own.
    """
    numbers = samples(grey(image), form.levels).astype(np.int32)
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = UNNAMED_UID
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if form.inverted else "MONOCHROME2"
    dataset.Rows, dataset.Columns = numbers.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, form.bits, form.bits - 1
    dataset.PixelRepresentation = 0 if form.black_hu is None else 1
    if form.black_hu is not None:
        numbers += form.black_hu - RESCALE_INTERCEPT_HU
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, RESCALE_INTERCEPT_HU, "HU"
        dataset.WindowCenter, dataset.WindowWidth = WINDOW_CENTRE_HU, WINDOW_WIDTH_HU
        dataset.VOILUTFunction = "LINEAR_EXACT"
    dataset.PixelData = (form.levels - numbers if form.inverted else numbers).astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in (header or {}).items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
