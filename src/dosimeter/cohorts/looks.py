"""What is kept of images to compare them with one another, in a file: memory is then flat in their number."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

import numpy as np

from dosimeter.cohorts.alignment import DETAIL_PX
from dosimeter.cohorts.base import Cohort
from dosimeter.cohorts.near_duplicates import WHOLE_PX, Look, look
from dosimeter.errors import DosimeterError

_ROW = np.dtype([("whole", np.float16, WHOLE_PX**2), ("face", np.uint8, (DETAIL_PX, DETAIL_PX))])


class Looks(Sequence[Look]):
    """Looks in a temporary file, 45 kB each; an item is read when it is asked for, and none stays in memory.

    The file has no name and goes with the object. Not for several threads at once.

    Example:
        >>> kept = Looks([look(np.zeros((1, 40, 40), np.float32))])
        >>> len(kept), kept[0].face.shape
        (1, (192, 192))
    """

    def __init__(self, given: Iterable[Look] = ()) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the object)
        self._n = 0
        for each in given:
            self.append(each)

    def append(self, given: Look) -> None:
        """Keep one more.

        Raises:
            DosimeterError: the temporary folder is full.
        """
        row = np.zeros((), _ROW)
        row["whole"], row["face"] = given
        try:
            self._file.seek(self._n * _ROW.itemsize)
            self._file.write(row.tobytes())
            self._file.flush()
        except OSError as error:
            raise DosimeterError(
                f"the temporary folder must have room for {_ROW.itemsize / 1000:.0f} kB an image, of image "
                f"{self._n + 1} {tempfile.gettempdir()} had none ({error.strerror}). Make room, or set TMPDIR to "
                "another folder."
            ) from error
        self._n += 1

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, place: int) -> Look: ...

    @overload
    def __getitem__(self, place: slice) -> list[Look]: ...

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(self._n))]
        if not -self._n <= place < self._n:
            raise IndexError(place)
        self._file.seek(place % self._n * _ROW.itemsize)
        row = np.frombuffer(self._file.read(_ROW.itemsize), _ROW)[0]
        return Look(row["whole"], row["face"])


def looks(cohort: Cohort) -> Looks:
    """Read every image once and return what is kept of it."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return Looks(pool.map(lambda record: look(record.read().image), cohort.records))
