"""Decodes the pixels of a DICOM data set: by codecs that survive damaged streams, at last by GDCM in its own process.

GDCM throws at a damaged stream what Python cannot catch, and the process ends; pylibjpeg's RLE decoder panics. One file
of thousands must not end a study.
"""

import os
import pickle
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import RLELossless

_CODECS = ("pydicom", "pyjpegls", "pylibjpeg", "pillow")
"""Those that raise at whatever they cannot decode, in the order in which they are asked."""

_CHILD = """
import os, pickle, sys
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what GDCM prints is no answer
while True:
    try:
        dataset = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        answer = dataset.pixel_array
    except Exception:
        answer = None
    pickle.dump(answer, answers)
    answers.flush()
"""


def decode(dataset: pydicom.Dataset) -> npt.NDArray[Any]:
    """Return the words (H, W) of the first frame as they lie in the file, bits that are not stored included.

    Raises:
        Exception: no codec that is there decodes them.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    options: dict[str, Any] = {"correct_unused_bits": False, "allow_excess_frames": False}
    if not syntax.is_encapsulated:
        dataset.pixel_array_options(**options)
        return dataset.pixel_array
    there = get_decoder(syntax).available_plugins
    for codec in _CODECS:
        if codec not in there or (syntax == RLELossless and codec != "pydicom"):
            continue
        dataset.pixel_array_options(decoding_plugin=codec, **options)
        try:
            return dataset.pixel_array
        except Exception:
            continue
    if "gdcm" in there:
        dataset.pixel_array_options(decoding_plugin="gdcm", **options)
        return _GDCM.decode(dataset)
    raise ValueError("no codec decodes these pixels")


class _Apart:
    """A process that decodes one data set after another, and is started again where one ended it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # whose child it is: a fork must not talk to it too

    def decode(self, dataset: pydicom.Dataset) -> npt.NDArray[Any]:
        with self._turn:
            if self._process is None or self._owner != os.getpid():
                self._owner = os.getpid()
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _CHILD],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            child = self._process
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                pickle.dump(dataset, child.stdin)
                child.stdin.flush()
                answer = pickle.load(child.stdout)  # of our own child
            except BaseException:
                self._process = None
                child.kill()
                child.wait()
                raise
        if not isinstance(answer, np.ndarray):
            raise ValueError("GDCM cannot decode these pixels")
        return answer


_GDCM = _Apart()
