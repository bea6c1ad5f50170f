"""Parses DICOM files into data sets: with and without preamble, meta header or deflation, by an allow-list."""

import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Sequence

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dosimeter.cohorts.base import Facts
from dosimeter.cohorts.limits import LIMIT_VARIABLE, ImageError
from dosimeter.cohorts.patients import patient_of
from dosimeter.errors import DosimeterError
from dosimeter.plain import shown

warnings.filterwarnings("ignore", module=r"pydicom\.")  # they quote values of the header

_PREAMBLE = 128
_GROUPS = {0x0002, 0x0004, 0x0008, 0x0010, 0x0018, 0x0020, 0x0028}  # one of which a data set begins with
_HEADER_BYTES = 1 << 24
"""What a header may hold beside pixels, in a file that is inflated."""


def is_dicom(content: bytes) -> bool:
    """Whether bytes look like a DICOM file, be it without preamble or meta header."""
    return _start(content) is not None


def parse(content: bytes, name: str, *, tags: Sequence[str], max_pixels: int) -> pydicom.Dataset:
    """Return the data set of a file with only `tags`, and a transfer syntax in its `file_meta`.

    Without a meta header the byte order and the form are those that the data set itself shows.

    Args:
        content: the file's bytes.
        name: for the error message.
        tags: keywords of the attributes to read.
        max_pixels: bounds what a deflated file may inflate to.

    Raises:
        ImageError: a deflated file that inflates to more than such an image needs.
        Exception: whatever pydicom raises on damaged bytes.

    Source: DICOM PS3.10, 7.1 (preamble and meta header), PS3.5, A.5 (deflated).
    """
    start = _start(content)
    assert start is not None
    whole = content[start:] if start != _PREAMBLE + 4 else content
    body = _deflated_body(content, start)
    if body is not None:
        syntax = ExplicitVRLittleEndian.encode() + b"\0"
        meta = struct.pack("<HH2sH", 0x0002, 0x0010, b"UI", len(syntax)) + syntax
        whole = b"\0" * _PREAMBLE + b"DICM" + meta + _inflated(body, name, 2 * max_pixels + _HEADER_BYTES)
    dataset = pydicom.dcmread(io.BytesIO(whole), force=True, specific_tags=list(tags))
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )
    return dataset


def facts(content: bytes, *, salt: bytes | None) -> Facts:
    """Return what a file says beside its pixels; a file that is no readable DICOM says nothing.

    Args:
        content: the file's bytes.
        salt: mixed into the digest of the patient's identifier; None: the identifier is not read at all.
    """
    asked = ["Modality"] if salt is None else ["Modality", "PatientID", "IssuerOfPatientID"]
    if not is_dicom(content):
        return Facts(None, None)
    try:
        dataset = parse(content, "", tags=asked, max_pixels=0)
        code = str(dataset.get("Modality") or "").strip().upper()
        patient = "" if salt is None else str(dataset.get("PatientID") or "").strip()
        issuer = "" if salt is None else str(dataset.get("IssuerOfPatientID") or "").strip()
    except Exception:  # decoded before, or refused; what it says beside pixels is optional
        return Facts(None, None)
    modality = _MODALITIES.get(code)
    if salt is None or patient_of(patient) is None:
        return Facts(modality, None)
    return Facts(modality, hashlib.blake2b(f"{issuer}\0{patient}".encode(), key=salt).hexdigest())


def coded(content: bytes, tag: str) -> str:
    """Return the value of a tag that holds a coded string, "" if the file is no readable DICOM or does not state it.

    Args:
        content: the file's bytes.
        tag: its keyword. Only coded strings are read, such as ViewPosition: other kinds of values may name a person.

    Raises:
        DosimeterError: there is no such tag, or its value is no coded string.

    Source: DICOM PS3.5, 6.2 (value representation CS), PS3.6 (keywords).
    """
    code = tag_for_keyword(tag)
    if code is None:
        raise DosimeterError(f"label_tag must be the keyword of a DICOM tag, got {shown(tag)}. Try ViewPosition.")
    if dictionary_VR(code) != "CS":
        raise DosimeterError(
            f"label_tag must be a tag that holds a coded string (CS), {tag} holds {dictionary_VR(code)}, which may "
            "name a person: give the labels in a CSV file with --labels."
        )
    if not is_dicom(content):
        return ""
    try:
        found = parse(content, "", tags=[tag], max_pixels=0).get(tag)
    except Exception:  # damaged: what reads its pixels says so
        return ""
    return str(found or "").strip()


_OTHERS = ("MR", "MG", "US", "XA", "RF", "PX", "IO", "NM", "PT", "BMD", "ES", "XC", "GM", "SM", "OP", "OCT", "OT")
_MODALITIES = {"CT": "ct"} | dict.fromkeys(("CR", "DX", "DR", "RG"), "xray") | {code: code.lower() for code in _OTHERS}


def _start(content: bytes) -> int | None:
    """Return where the meta header or the data set begins; None: this is no DICOM file."""
    if content[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return _PREAMBLE + 4
    if content[:4] == b"DICM":
        return 4
    if _is_element(content, 0):
        return 0
    if not any(content[:_PREAMBLE]) and _is_element(content, _PREAMBLE):
        return _PREAMBLE
    return None


def _is_element(content: bytes, place: int) -> bool:
    """Whether the bytes at `place` can be the first element of a data set."""
    head = content[place : place + 8]
    if len(head) < 8:
        return False
    explicit = re.fullmatch(rb"[A-Z]{2}", head[4:6]) is not None
    if struct.unpack(">H", head[:2])[0] in _GROUPS:
        return explicit
    group, _, length = struct.unpack("<HHI", head)
    return group in _GROUPS and (explicit or length <= len(content) - place - 8)


def _deflated_body(content: bytes, start: int) -> bytes | None:
    """Return the deflated data set behind the meta header, None if it is not deflated."""

    def beyond(tag: BaseTag, vr: str | None, length: int) -> bool:
        return tag.group != 2

    if DeflatedExplicitVRLittleEndian.encode() not in content[start : start + 4096]:
        return None
    stream = io.BytesIO(content[start:])
    meta = read_dataset(stream, False, True, stop_when=beyond)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    length = meta.get("FileMetaInformationGroupLength")
    return content[start + (12 + int(length) if length else stream.tell()) :]


def _inflated(body: bytes, name: str, limit: int) -> bytes:
    """Inflate up to `limit` bytes; more of them are refused."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflate.decompress(body, limit + 1)
    if len(content) > limit and name:
        raise ImageError(
            name, f"it inflates to more than {limit} bytes; save it uncompressed, or raise {LIMIT_VARIABLE}."
        )
    return content
