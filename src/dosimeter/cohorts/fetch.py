"""`fetch`: the public cohorts' images, from their Git repositories at a pinned commit, each one verified.

The package ships a manifest for each modality (files, repositories, commits, hashes, labels) and no image.
A file counts only once its Git blob hash matches: a mirror need not be trusted, and a fetch may stop anywhere.

    FOLDER/ct/images/...    the originals, byte for byte    FOLDER/ct/metadata.csv
    FOLDER/xray/images/...  small grey copies               FOLDER/xray/metadata.csv, fetched.csv
"""

import csv
import gzip
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from importlib import resources
from pathlib import Path
from typing import NamedTuple
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

import filelock
import numpy as np
from PIL import Image

from dosimeter.cohorts.base import Skipped
from dosimeter.cohorts.images import ImageError, read_image
from dosimeter.cohorts.public import PUBLIC_COHORTS
from dosimeter.errors import DosimeterError, did_you_mean

PUBLIC_BASE = "https://raw.githubusercontent.com"
"""Where `{base}/{owner/name}/{commit}/{path}` is a file of a public Git repository."""

COPY_COLUMNS = ("file", "git_blob", "sha256", "conversion")  # fetched.csv: which original gave which copy
LONGEST_SIDE_PX = 512
JPEG_QUALITY = 93
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG

PAUSES_S = (0.5, 1.0, 2.0)  # before each new attempt, or longer where the server asks for it
LONGEST_PAUSE_S = 60.0
CHUNK_BYTES = 1 << 16
LARGEST_FILE_BYTES = 100 << 20  # the public host keeps no larger file in Git

Row = dict[str, str]
"""One line of a manifest or of a metadata.csv."""

Progress = Callable[[int, int], None]
"""Called with (files finished, files in all) after each file, failed ones too."""


@dataclass(frozen=True)
class FetchReport:
    """What a fetch did; the files in `failed` are still missing, and the caller must say so."""

    name: str
    folder: Path  # as given to `fetch`
    downloaded: int  # files that came over the network this time
    present: int  # files that were there already, verified
    failed: tuple[Skipped, ...]


def fetch(
    name: str,
    folder: Path,
    *,
    base_url: str = PUBLIC_BASE,
    progress: Progress | None = None,
    jobs: int = 4,
    timeout_s: float = 30,
) -> FetchReport:
    """Download a public cohort into `folder`, verify every file, and write its metadata.csv.

    Files already there and verified are not downloaded again, and a half-received one is continued: fetching
    again finishes what was stopped. X-ray cohorts share a folder, whose metadata.csv lists all their files.

    Args:
        name: a key of `PUBLIC_COHORTS`.
        folder: the data folder; nothing outside it is written.
        base_url: where the repositories are served, http or https.
        progress: see `Progress`.
        jobs: downloads at a time.
        timeout_s: longest silence of the server.

    Returns:
        How many files came, how many were there, and which are missing and why.

    Raises:
        DosimeterError: an argument is wrong, the server cannot be reached, or the folder cannot be written.
    """
    rows = manifest(name)
    if jobs < 1 or not timeout_s > 0:
        raise DosimeterError(f"jobs must be at least 1 and timeout_s above 0, got {jobs} and {timeout_s}.")
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise DosimeterError(f"base_url must start with http:// or https://, got {base_url!r}.")
    server = _Server(base_url.rstrip("/"), timeout_s)
    modality = PUBLIC_COHORTS[name].folder
    root = folder / modality
    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / ".fetch.lock", timeout=0):
            shelf = _Shelf(root, modality)
            outcomes = _fill(shelf, server, rows, jobs=jobs, progress=progress)
    except filelock.Timeout:
        raise DosimeterError(f"folder must be free, got {root}: another fetch is at work. Wait for it.") from None
    except OSError as error:
        reason = error.strerror or error
        raise DosimeterError(
            f"folder must be readable and writable, got {folder} ({reason}). Free some space or choose "
            "another; fetching again continues."
        ) from error
    kinds = [outcome.kind for outcome in outcomes.values()]
    failed = tuple(Skipped(row["file"], why) for row in rows if (why := outcomes[row["file"]].reason))
    return FetchReport(name, folder, kinds.count("downloaded"), kinds.count("present"), failed)


def manifest(name: str) -> list[Row]:
    """Return what the package knows of a cohort's files: a row for each, with the columns of metadata.csv.

    Raises:
        DosimeterError: `name` is not a key of `PUBLIC_COHORTS`.
    """
    if name not in PUBLIC_COHORTS:
        hint = did_you_mean(name, PUBLIC_COHORTS)
        raise DosimeterError(f"name must be a cohort to fetch, got {name!r}. {hint}")
    public = PUBLIC_COHORTS[name]
    rows = _unpacked(public.folder)
    return [row for row in rows if public.column is None or row[public.column] == "True"]


def _unpacked(modality: str) -> list[Row]:
    packed = resources.files(__package__).joinpath("manifests", f"{modality}.csv.gz").read_bytes()
    return list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode(), newline="")))


def git_blob(data: bytes) -> str:
    """Return the 40 hex digits by which Git knows a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def raw_url(row: Row, base_url: str = PUBLIC_BASE) -> str:
    """Return the address of a manifest row's original, whose name may hold `%`, spaces or any letter."""
    return f"{base_url}/{quote(row['source_repo'])}/{row['source_commit']}/{quote(row['source_path'])}"


class _Outcome(NamedTuple):
    kind: str  # "downloaded", "present" or "failed"
    reason: str = ""  # of the failure


class _FileError(Exception):
    """Why one file cannot be had; the others still can."""


def _fill(
    shelf: "_Shelf", server: "_Server", rows: list[Row], *, jobs: int, progress: Progress | None
) -> dict[str, _Outcome]:
    """Get every row's file, keyed by its name; however this ends, metadata.csv lists what is there."""

    def obtain(row: Row) -> _Outcome:
        if shelf.has(row):
            return _Outcome("present")
        part = shelf.path(row, ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            server.download(row, part)
            shelf.keep(row, part)
        except _FileError as error:
            return _Outcome("failed", str(error))
        return _Outcome("downloaded")

    outcomes: dict[str, _Outcome] = {}
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="fetch")
    try:
        futures = {pool.submit(obtain, row): row["file"] for row in rows}
        for future in as_completed(futures):
            outcomes[futures[future]] = future.result()
            if progress:
                progress(len(outcomes), len(rows))
    finally:
        server.stop.set()  # after Ctrl-C or a full disk nobody waits for the other downloads
        pool.shutdown(cancel_futures=True)
        shelf.list_files(rows, outcomes)
    return outcomes


class _Shelf:
    """A modality's folder: which files are there, verified, and the tables that list them."""

    def __init__(self, root: Path, modality: str) -> None:
        self.root = root
        self.shrinks = modality == "xray"  # keeps small grey copies, recorded in fetched.csv
        self.places = {row["file"]: place for place, row in enumerate(_unpacked(modality))}
        self.copies = {row["file"]: row for row in _read_table(root / "fetched.csv", COPY_COLUMNS)}
        self.lock = threading.Lock()

    def path(self, row: Row, suffix: str = "") -> Path:
        """Return where the row's file belongs, always inside the folder."""
        name = row["file"]
        assert name.startswith("images/"), name
        assert not {"..", "."} & set(name.split("/")), name
        assert not set('\\:*?"<>|\0') & set(name), name  # on some system a separator, a drive or a wildcard
        return self.root / f"{name}{suffix}"

    def has(self, row: Row) -> bool:
        """Say whether the row's file is there and still what was verified."""
        path, copy = self.path(row), self.copies.get(row["file"], {})
        if not path.is_file():
            return False
        data = path.read_bytes()
        if not self.shrinks:
            return git_blob(data) == row["git_blob"]
        return copy.get("git_blob") == row["git_blob"] and copy["sha256"] == hashlib.sha256(data).hexdigest()

    def keep(self, row: Row, original: Path) -> None:
        """Put a verified original in its place, or its grey copy and the record of it."""
        path = self.path(row)
        if not self.shrinks:
            original.replace(path)
            return
        data, conversion = _grey_copy(original)
        _write_atomically(path, data)
        values = (row["file"], row["git_blob"], hashlib.sha256(data).hexdigest(), conversion)
        with self.lock:
            self.copies[row["file"]] = dict(zip(COPY_COLUMNS, values, strict=True))
            self._write("fetched.csv", self.copies)
        original.unlink()

    def list_files(self, rows: list[Row], outcomes: dict[str, _Outcome]) -> None:
        """Add to metadata.csv the files that came, drop those that failed, keep those of an earlier fetch."""
        table = self.root / "metadata.csv"
        listed = {row["file"]: row for row in _read_table(table, ("file",))}
        listed = {file: row for file, row in listed.items() if (self.root / file).is_file()}
        for row in rows:
            file = row["file"]
            if file in outcomes:
                listed.pop(file, None)
                if outcomes[file].kind != "failed":
                    how = {"conversion": self.copies[file]["conversion"]} if self.shrinks else {}
                    listed[file] = row | how
        if listed or table.exists():
            self._write("metadata.csv", listed)

    def _write(self, table: str, rows: dict[str, Row]) -> None:
        """Write a table in the manifest's order, on which a seeded split depends; files it lacks come last."""
        ordered = sorted(rows.values(), key=lambda row: self.places.get(row["file"], len(self.places)))
        text = io.StringIO(newline="")
        columns = dict.fromkeys(column for row in ordered for column in row)
        writer = csv.DictWriter(text, list(columns) or ["file"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)
        _write_atomically(self.root / table, text.getvalue().encode())


def _read_table(path: Path, needed: tuple[str, ...]) -> list[Row]:
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error):
        rows = [{}]
    if not all(row.get(column) for row in rows for column in needed):
        raise DosimeterError(f"{path} must be a CSV file with {', '.join(needed)} on each line. Mend it.")
    return rows


def _write_atomically(path: Path, data: bytes) -> None:
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _grey_copy(original: Path) -> tuple[bytes, str]:
    """Return an image as an 8-bit grey JPEG of at most 512 x 512 px, and how it was made.

    What is deeper than 8 bits often uses little of its range: its own range is spread over the grey levels.
    """
    try:
        image, bits = read_image(original)  # (C, H, W)
    except ImageError as error:
        raise _FileError(f"the original came as published but cannot be used: {error.reason}") from error
    grey = image[0] if len(image) == 1 else np.tensordot(LUMINANCE, image, axes=1)  # (H, W)
    how = f"grey copy, longest side at most {LONGEST_SIDE_PX} px, JPEG quality {JPEG_QUALITY}"
    low, high = float(grey.min()), float(grey.max())
    if bits > 8 and high > low:
        grey = (grey - low) / (high - low)
        how += f", {bits}-bit values from {low:.4f} to {high:.4f} of full scale spread over 8 bits"
    small = Image.fromarray(grey.astype(np.float32))
    shrink = min(1.0, LONGEST_SIDE_PX / max(small.size))
    width, height = (max(1, round(side * shrink)) for side in small.size)
    small = small.resize((width, height), Image.Resampling.LANCZOS)
    levels = np.rint(np.asarray(small).clip(0, 1) * 255).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(levels).save(packed, "JPEG", quality=JPEG_QUALITY)
    return packed.getvalue(), how


class _NetworkError(Exception):
    """A download that may work when tried again."""

    def __init__(self, reason: str, restart: bool = False, offline: bool = False, after_s: float = 0) -> None:
        super().__init__(reason)
        self.restart = restart  # nothing received so far can be used
        self.offline = offline  # no connection at all: true of every file, not of this one
        self.after_s = after_s  # the server asks to be left alone for so long


@contextmanager
def _network(url: str) -> Iterator[None]:
    """Tell the network's errors from the disk's, which are `OSError`s too."""
    try:
        yield
    except HTTPError as error:
        error.close()
        reason = f"{error.code} {error.reason} at {url}"
        if error.code not in (408, 416, 429) and error.code < 500:
            raise _FileError(reason) from error
        wait = error.headers.get("Retry-After", "")
        after_s = min(float(wait), LONGEST_PAUSE_S) if wait.isdecimal() else 0
        raise _NetworkError(reason, restart=error.code == 416, after_s=after_s) from error
    except URLError as error:
        raise _NetworkError(str(error.reason), offline=True) from error
    except (HTTPException, OSError) as error:
        raise _NetworkError(f"connection broken ({error or type(error).__name__}) at {url}") from error


class _Server:
    """Where the repositories are served.

    With urllib and not pooch, whose HTTPDownloader cannot continue a broken download.
    """

    def __init__(self, base_url: str, timeout_s: float) -> None:
        self.base_url, self.timeout_s = base_url, timeout_s
        self.stop = threading.Event()  # set: give up waiting and reading
        self.opener = request.OpenerDirector()  # of http and https only: no redirect leads elsewhere
        for handler in ("Proxy", "HTTP", "HTTPS", "HTTPRedirect", "HTTPDefaultError", "Unknown"):
            self.opener.add_handler(getattr(request, f"{handler}Handler")())
        self.opener.add_handler(request.HTTPErrorProcessor())

    def download(self, row: Row, part: Path) -> None:
        """Make `part` the row's original, continuing what is in it; `_FileError` if this file cannot be had."""
        url = raw_url(row, self.base_url)
        for pause_s in (*PAUSES_S, None):
            try:
                self._complete(url, part, row["git_blob"])
                return
            except _NetworkError as error:
                if error.restart:
                    part.unlink(missing_ok=True)
                if pause_s is not None and not self.stop.wait(max(pause_s, error.after_s)):
                    continue
                if not error.offline:
                    raise _FileError(f"{error}, even at attempt {1 + len(PAUSES_S)}") from error
                raise DosimeterError(
                    f"base_url must be reachable, got {self.base_url} ({error}). Check the network and the proxy; "
                    "fetching again continues."
                ) from error

    def _complete(self, url: str, part: Path, blob: str) -> None:
        """Receive what `part` lacks, if anything, and verify it."""
        if part.exists() and git_blob(part.read_bytes()) == blob:
            return
        self._receive(url, part)
        if (got := git_blob(part.read_bytes())) != blob:
            raise _NetworkError(f"corrupt: Git hash {got}, not {blob}, from {url}", restart=True)

    def _receive(self, url: str, part: Path) -> None:
        """Append the rest of the file to `part`, or write it anew if the server does not continue."""
        have = part.stat().st_size if part.exists() else 0
        headers = {"User-Agent": "dosimeter"} | ({"Range": f"bytes={have}-"} if have else {})
        with _network(url):
            asked = request.Request(url, headers=headers)
            response: HTTPResponse = self.opener.open(asked, timeout=self.timeout_s)
        with response, part.open("ab" if response.status == 206 else "wb") as out:
            while not self.stop.is_set():
                with _network(url):
                    chunk = response.read(CHUNK_BYTES)
                if not chunk:
                    break
                if out.tell() + len(chunk) > LARGEST_FILE_BYTES:
                    out.truncate(0)
                    raise _FileError(f"more than {LARGEST_FILE_BYTES >> 20} MiB at {url}")
                out.write(chunk)
        if response.length:  # announced and not received, which `read` does not mind
            raise _NetworkError(f"connection broken {response.length} bytes before the end at {url}")
