"""Fetching against a local server that corrupts, loses and breaks off files."""

import csv
import errno
import hashlib
import importlib
import io
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import filelock
import numpy as np
import pytest
from http_server import STALL_S, FileServer
from PIL import Image

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.fetch import PUBLIC_BASE, Row, fetch, git_blob, manifest, raw_url
from dosimeter.cohorts.public import PUBLIC_COHORTS
from dosimeter.errors import DosimeterError

module = importlib.import_module("dosimeter.cohorts.fetch")  # the module, whatever its package calls `fetch`

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CT_NAMES = ["plain.png", "a%0 b,c%20.png", "Lungenübersicht #1 & (2)+;=é.png"]


def row_of(name: str, content: bytes, **columns: str) -> Row:
    where = {"source_repo": "owner/name", "source_commit": COMMIT, "source_path": f"some dir/{name}"}
    return {"file": f"images/{name}", "label": "1"} | where | {"git_blob": git_blob(content)} | columns


def server_path(row: Row) -> str:
    return f"{row['source_repo']}/{row['source_commit']}/{row['source_path']}"


def read_table(path: Path) -> dict[str, Row]:
    with path.open(encoding="utf-8", newline="") as lines:
        return {row["file"]: row for row in csv.DictReader(lines)}


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.suffix in (".part", ".new")]


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """A covid-ct of three files; `CONTENTS` are their bytes."""
    rows = [row_of(name, content) for name, content in CONTENTS.items()]
    monkeypatch.setattr(module, "_unpacked", lambda modality: rows)
    return rows


CONTENTS = {name: np.random.default_rng(i).bytes(300_000 + i) for i, name in enumerate(CT_NAMES)}


@pytest.fixture
def server(rows: list[Row]) -> Iterator[FileServer]:
    contents = zip(rows, CONTENTS.values(), strict=True)
    with FileServer({server_path(row): content for row, content in contents}) as server:
        yield server


def assert_complete(folder: Path) -> None:
    for name, content in CONTENTS.items():
        assert (folder / "ct" / "images" / name).read_bytes() == content
    assert list(read_table(folder / "ct" / "metadata.csv")) == [f"images/{name}" for name in CT_NAMES]
    assert leftovers(folder) == []


def test_fetch_gets_verifies_and_lists_every_file(server: FileServer, rows: list[Row], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = fetch("covid-ct", tmp_path, base_url=server.url + "/", progress=lambda *done: seen.append(done))
    assert (report.downloaded, report.present, report.failed) == (3, 0, ())
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert_complete(tmp_path)
    assert read_table(tmp_path / "ct" / "metadata.csv") == {row["file"]: row for row in rows}


def test_fetching_again_downloads_only_what_changed(server: FileServer, rows: list[Row], tmp_path: Path) -> None:
    fetch("covid-ct", tmp_path, base_url=server.url)
    report = fetch("covid-ct", tmp_path, base_url=server.url)
    assert (report.downloaded, report.present, len(server.requests)) == (0, 3, 3)
    assert_complete(tmp_path)
    (tmp_path / "ct" / rows[1]["file"]).write_bytes(b"altered")
    assert fetch("covid-ct", tmp_path, base_url=server.url).downloaded == 1
    assert_complete(tmp_path)


def test_a_corrupt_file_is_named_and_the_rest_goes_on(server: FileServer, rows: list[Row], tmp_path: Path) -> None:
    bad = server_path(rows[1])
    server.corrupt = {bad}
    report = fetch("covid-ct", tmp_path, base_url=server.url)
    assert report.downloaded == 2
    assert [failure.name for failure in report.failed] == [rows[1]["file"]]
    assert "corrupt" in report.failed[0].reason
    assert rows[1]["git_blob"] in report.failed[0].reason
    assert server.counts[bad] == 4
    assert rows[1]["file"] not in read_table(tmp_path / "ct" / "metadata.csv")
    assert not (tmp_path / "ct" / rows[1]["file"]).exists()
    server.corrupt = set()
    assert fetch("covid-ct", tmp_path, base_url=server.url).downloaded == 1
    assert_complete(tmp_path)


def test_a_missing_file_is_named_and_not_asked_for_again(server: FileServer, rows: list[Row], tmp_path: Path) -> None:
    server.missing = {server_path(rows[2])}
    report = fetch("covid-ct", tmp_path, base_url=server.url)
    assert [failure.name for failure in report.failed] == [rows[2]["file"]]
    assert "404" in report.failed[0].reason
    assert len(server.requests) == 3


def test_a_file_that_no_longer_verifies_is_not_listed(server: FileServer, rows: list[Row], tmp_path: Path) -> None:
    fetch("covid-ct", tmp_path, base_url=server.url)
    (tmp_path / "ct" / rows[0]["file"]).write_bytes(b"altered")
    server.missing = {server_path(rows[0])}
    fetch("covid-ct", tmp_path, base_url=server.url)
    assert set(read_table(tmp_path / "ct" / "metadata.csv")) == {row["file"] for row in rows[1:]}


@pytest.mark.parametrize("honour_range", [True, False])
@pytest.mark.parametrize("fault", ["half", "reset"])
def test_a_broken_connection_is_continued(
    server: FileServer, rows: list[Row], tmp_path: Path, fault: str, honour_range: bool
) -> None:
    path = server_path(rows[1])
    server.faults, server.honour_range = {path: [fault, fault]}, honour_range
    assert fetch("covid-ct", tmp_path, base_url=server.url).failed == ()
    assert_complete(tmp_path)
    starts = [int(wanted[6:-1]) if wanted else 0 for asked, wanted in server.requests if asked == path]
    half = len(CONTENTS[CT_NAMES[1]]) // 2
    if fault == "half":
        assert starts == ([0, half, half + (half + 1) // 2] if honour_range else [0, half, half])
    else:
        assert len(starts) == 3
        assert starts[1] > 0


@pytest.mark.parametrize("fault", ["silent", "stall", "503"])
def test_a_failing_server_is_tried_again(server: FileServer, rows: list[Row], tmp_path: Path, fault: str) -> None:
    server.faults = {server_path(rows[0]): [fault]}
    assert fetch("covid-ct", tmp_path, base_url=server.url, timeout_s=STALL_S / 2).failed == ()
    assert server.counts[server_path(rows[0])] == 2
    assert_complete(tmp_path)


def test_the_next_fetch_continues_a_broken_one(server: FileServer, rows: list[Row], tmp_path: Path) -> None:
    path = server_path(rows[0])
    server.faults = {path: ["half"] * 4}
    report = fetch("covid-ct", tmp_path, base_url=server.url)
    assert [failure.name for failure in report.failed] == [rows[0]["file"]]
    assert "connection broken" in report.failed[0].reason
    part = tmp_path / "ct" / (rows[0]["file"] + ".part")
    have = part.stat().st_size
    assert CONTENTS[CT_NAMES[0]].startswith(part.read_bytes())
    assert fetch("covid-ct", tmp_path, base_url=server.url).downloaded == 1
    assert server.requests[-1] == (path, f"bytes={have}-")
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    ("part", "ranges"),
    [
        (b"not the beginning of that file", ["bytes=30-", None]),
        (bytes(400_000), ["bytes=400000-", None]),  # longer than the file: 416
        (CONTENTS[CT_NAMES[0]], []),  # received whole by a process that was killed before it could say so
    ],
)
def test_whatever_a_killed_fetch_left_behind_ends_well(
    server: FileServer, rows: list[Row], tmp_path: Path, part: bytes, ranges: list[str | None]
) -> None:
    leftover = tmp_path / "ct" / (rows[0]["file"] + ".part")
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(part)
    assert fetch("covid-ct", tmp_path, base_url=server.url).failed == ()
    assert [wanted for path, wanted in server.requests if path == server_path(rows[0])] == ranges
    assert_complete(tmp_path)


def test_ctrl_c_waits_for_no_file_and_lists_what_came(
    server: FileServer, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (30.0,))
    server.faults = {server_path(rows[0]): ["503"]}
    begin_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch("covid-ct", tmp_path, base_url=server.url, progress=Mock(side_effect=KeyboardInterrupt))
    assert time.monotonic() - begin_s < 10
    assert len(read_table(tmp_path / "ct" / "metadata.csv")) == 1
    assert fetch("covid-ct", tmp_path, base_url=server.url).present >= 1
    assert_complete(tmp_path)


def test_a_redirect_leads_to_no_other_scheme(server: FileServer, rows: list[Row], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENTS[CT_NAMES[0]])
    server.faults = {server_path(rows[0]): [secret.as_uri()]}
    assert len(fetch("covid-ct", tmp_path / "data", base_url=server.url).failed) == 1
    server.faults = {server_path(rows[0]): ["ftp://127.0.0.1/x"] * 4}
    with pytest.raises(DosimeterError, match="unknown url type: ftp"):
        fetch("covid-ct", tmp_path / "data", base_url=server.url)


def test_an_unreachable_server_is_one_error_for_all_files(rows: list[Row], tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(DosimeterError, match=r"base_url must be reachable.*refused.*fetching again continues"):
            fetch("covid-ct", tmp_path, base_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert not (tmp_path / "ct" / "metadata.csv").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("covid-tc", {}, "Did you mean 'covid-ct'"),
        ("covid-ct", {"base_url": "file:///etc"}, "base_url must start with http"),
        ("covid-ct", {"jobs": 0}, "jobs must be at least 1"),
        ("covid-ct", {"timeout_s": 0}, "timeout_s above 0"),
    ],
)
def test_wrong_arguments_are_explained(tmp_path: Path, name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        fetch(name, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_explained(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DosimeterError, match="folder must be readable and writable"):
        fetch("covid-ct", tmp_path / "file", base_url=server.url)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_write_atomically", full)
    with pytest.raises(DosimeterError, match=r"No space left on device.*fetching again continues"):
        fetch("covid-ct", tmp_path, base_url=server.url)


def test_two_fetches_do_not_share_a_folder(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    lock = filelock.FileLock(tmp_path / "ct" / ".fetch.lock")
    with lock, pytest.raises(DosimeterError, match="another fetch"):
        fetch("covid-ct", tmp_path, base_url=server.url)
    assert server.requests == []


def test_a_damaged_table_is_explained(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "metadata.csv").write_bytes(b"name,label\nx,\xff\n")
    with pytest.raises(DosimeterError, match=r"metadata\.csv must be a CSV file with file on each line"):
        fetch("covid-ct", tmp_path, base_url=server.url)


@pytest.mark.parametrize("file", ["../x", "/etc/x", "images/../../x", "images\\..\\x", "images/C:x", "x.png"])
def test_no_file_outside_is_written(server: FileServer, rows: list[Row], tmp_path: Path, file: str) -> None:
    rows[0]["file"] = file
    with pytest.raises(AssertionError):
        fetch("covid-ct", tmp_path / "a" / "b", base_url=server.url)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert server_path(rows[0]) not in server.counts


def png(pixels: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    return packed.getvalue()


RAMP_12_IN_16 = np.linspace(100, 4000, 1000).astype(np.uint16)[None].repeat(600, axis=0)  # (600, 1000)
COLOURS = np.repeat(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8), 64, axis=1).repeat(64, axis=0)
XRAYS = {
    "deep.png": png(RAMP_12_IN_16),
    "colour 100%.png": png(COLOURS),
    "broken.png": b"published like this",
    "small.png": png(np.full((3, 5), 128, np.uint8)),
}


@pytest.fixture
def xrays(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """xray-268 holds all but the last of `XRAYS`, xray-268-child the last two."""
    rows = []
    for place, (name, content) in enumerate(XRAYS.items()):
        marks = {"cohort268": str(place < 3), "cohort268_child": str(place > 1)}
        rows.append(row_of(f"{place}.jpg", content, source_path=name, label=str(place % 2), **marks))
    monkeypatch.setattr(module, "_unpacked", lambda modality: rows)
    contents = zip(rows, XRAYS.values(), strict=True)
    with FileServer({server_path(row): content for row, content in contents}) as server:
        yield server


def test_xrays_become_small_grey_copies(xrays: FileServer, tmp_path: Path) -> None:
    report = fetch("xray-268", tmp_path, base_url=xrays.url)
    assert report.downloaded == 2
    assert [failure.name for failure in report.failed] == ["images/2.jpg"]
    assert "cannot be used" in report.failed[0].reason

    with Image.open(tmp_path / "xray" / "images" / "0.jpg") as deep:
        assert (deep.format, deep.mode, deep.size) == ("JPEG", "L", (512, 307))
        levels = np.asarray(deep)[150].astype(int)
    assert (levels[0], levels[-1]) == (0, 255)
    assert np.abs(levels - np.linspace(0, 255, 512)).max() <= 2  # neither clipped nor squeezed into a few levels

    with Image.open(tmp_path / "xray" / "images" / "1.jpg") as image:
        colour = np.asarray(image)
    assert colour.shape == (64, 192)
    assert [int(colour[32, x]) for x in (32, 96, 160)] == pytest.approx([76, 150, 29], abs=1)

    table = read_table(tmp_path / "xray" / "metadata.csv")
    assert table["images/1.jpg"]["conversion"] == "grey copy, longest side at most 512 px, JPEG quality 93"
    assert "16-bit values from 0.0015 to 0.0610" in table["images/0.jpg"]["conversion"]
    copies = read_table(tmp_path / "xray" / "fetched.csv")
    for file, copy in copies.items():
        assert copy["sha256"] == hashlib.sha256((tmp_path / "xray" / file).read_bytes()).hexdigest()
        assert copy["git_blob"] == table[file]["git_blob"]
    assert leftovers(tmp_path) == ["2.jpg.part"]  # verified, so never downloaded again


def test_fetching_xrays_again_downloads_only_what_changed(xrays: FileServer, tmp_path: Path) -> None:
    fetch("xray-268", tmp_path, base_url=xrays.url)
    fetch("xray-268", tmp_path, base_url=xrays.url)
    assert len(xrays.requests) == 3
    (tmp_path / "xray" / "images" / "0.jpg").write_bytes(b"altered")
    (tmp_path / "xray" / "images" / "1.jpg").unlink()
    assert fetch("xray-268", tmp_path, base_url=xrays.url).downloaded == 2
    assert len(xrays.requests) == 5


def test_a_second_cohort_in_the_folder_joins_the_first(xrays: FileServer, tmp_path: Path) -> None:
    fetch("xray-268-child", tmp_path, base_url=xrays.url)
    fetch("xray-268", tmp_path, base_url=xrays.url)
    files = ["images/0.jpg", "images/1.jpg", "images/3.jpg"]  # 2.jpg is broken
    assert list(read_table(tmp_path / "xray" / "metadata.csv")) == files
    assert list(read_table(tmp_path / "xray" / "fetched.csv")) == files
    with Image.open(tmp_path / "xray" / "images" / "3.jpg") as small:
        assert small.size == (5, 3)  # never enlarged


def test_the_cohort_loader_reads_what_was_fetched(xrays: FileServer, tmp_path: Path) -> None:
    fetch("xray-268", tmp_path, base_url=xrays.url)
    cohort = load_cohort("xray-268", data=tmp_path)
    assert [case.image.shape for case in cohort] == [(1, 307, 512), (1, 64, 192)]


@pytest.mark.parametrize("name", PUBLIC_COHORTS)
def test_the_manifests_are_well_formed(name: str) -> None:
    rows = manifest(name)
    n, n_positive = {"xray-all": (840, 290), "covid-ct": (746, 349)}.get(name, (268, 141))
    assert len(rows) == len({row["file"] for row in rows}) == n
    assert sum(row["label"] == "1" for row in rows) == n_positive
    shelf = module._Shelf(Path("data"), PUBLIC_COHORTS[name].folder)
    for row in rows:
        assert re.fullmatch("[0-9a-f]{40}", row["git_blob"])
        assert re.fullmatch("[0-9a-f]{40}", row["source_commit"])
        assert re.fullmatch("[A-Za-z0-9._-]+/[A-Za-z0-9._-]+", row["source_repo"])
        assert not {"", ".", ".."} & set(row["source_path"].split("/"))
        assert shelf.path(row).suffix.lower() in (".jpg", ".jpeg", ".png")
        assert raw_url(row).startswith(f"{PUBLIC_BASE}/{row['source_repo']}/{row['source_commit']}/")
        assert re.fullmatch(r"https://[A-Za-z0-9._~/%-]+", raw_url(row))


@pytest.mark.parametrize(
    ("content", "blob"),  # from `git hash-object`
    [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
    ],
)
def test_git_blob_is_gits(content: bytes, blob: str) -> None:
    assert git_blob(content) == blob


@pytest.mark.real
@pytest.mark.skipif("DOSIMETER_DATA" not in os.environ, reason="DOSIMETER_DATA is not set")
def test_real_ct_files_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(os.environ["DOSIMETER_DATA"])
    rows = manifest("covid-ct")[::100]
    monkeypatch.setattr(module, "_unpacked", lambda modality: rows)
    with FileServer({server_path(row): data / "ct" / row["file"] for row in rows}) as server:
        report = fetch("covid-ct", tmp_path, base_url=server.url)
    assert (report.downloaded, report.failed) == (len(rows), ())
    for row in rows:
        assert (tmp_path / "ct" / row["file"]).read_bytes() == (data / "ct" / row["file"]).read_bytes()
