"""Cohorts from folders, CSV files and metadata.csv: every file is in the cohort or named as left out."""

import hashlib
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dosimeter.cohorts import COHORTS, Cohort, load_cohort
from dosimeter.cohorts.copies import copies
from dosimeter.cohorts.files import Row, limit_rows
from dosimeter.cohorts.public import PUBLIC_COHORTS
from dosimeter.cohorts.split import split
from dosimeter.errors import DosimeterError

DATA = os.environ.get("DOSIMETER_DATA")


def write_image(path: Path, seed: int = 0) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path.read_bytes()


def write_csv(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return f"csv:{path}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("healthy/a.png", "healthy/deep/b 50%.png", "ill/ü.png", "ill/d.png", "ill/e.png")):
        write_image(tmp_path / "set" / name, seed)
    (tmp_path / "set" / "ill" / ".hidden").write_text("x")
    (tmp_path / "set" / ".cache").mkdir()
    return tmp_path / "set"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder in the public format: 6 X-rays, 4 of them in cohort268, and 4 slices."""
    xray, ct = tmp_path / "data" / "xray", tmp_path / "data" / "ct"
    for seed in range(6):
        write_image(xray / f"images/{seed}.png", seed)
    for seed in range(4):
        write_image(ct / f"images/{seed}%0.png", seed)
    columns = "file,label,patient_id,source,license,cohort268,cohort268_child"
    rows = [f"images/{i}.png,{i % 2},p{i // 2},{'ab'[i % 2]},{'CC0' if i else ''},{i < 4},{i > 1}" for i in range(6)]
    write_csv(xray / "metadata.csv", columns, *rows)
    splits = ["train", "train", "test", "val"]
    rows = [f"images/{i}%0.png,{i % 2},Patient {i},{splits[i]}" for i in range(4)]
    write_csv(ct / "metadata.csv", "file,label,patient_id,official_split", *rows)
    return tmp_path / "data"


def test_a_folder_is_one_class_a_sub_folder(folder: Path) -> None:
    cohort = load_cohort(f"folder:{folder}", positive="ill")
    assert cohort.name == "folder:set"  # a whole path may name a person
    assert cohort.classes == ("healthy", "ill")
    names = ["healthy/a.png", "healthy/deep/b 50%.png", "ill/d.png", "ill/e.png", "ill/ü.png"]
    assert [record.name for record in cohort.records] == names
    assert cohort.labels.tolist() == [0, 0, 1, 1, 1]
    for record, case in zip(cohort.records, cohort, strict=True):
        content = (folder / record.name).read_bytes()
        assert record.sha256 == hashlib.sha256(content).hexdigest()
        expected = np.asarray(Image.open(folder / record.name)) / 255
        np.testing.assert_array_equal(case.image[0], expected.astype(np.float32))
    assert load_cohort(f"folder:{folder}", positive="healthy").classes == ("ill", "healthy")


def test_a_case_id_tells_no_file_and_does_not_shift(folder: Path) -> None:
    whole = load_cohort(f"folder:{folder}", positive="ill")
    (folder / "healthy" / "a.png").write_bytes(b"")
    rest = load_cohort(f"folder:{folder}", positive="ill")
    assert [record.case_id for record in rest.records] == [record.case_id for record in whole.records[1:]]
    assert all("png" not in record.case_id for record in whole.records)
    assert whole.sha256 != rest.sha256


def test_a_csv_gives_patients_sources_and_splits(tmp_path: Path) -> None:
    for seed in range(3):
        write_image(tmp_path / f"in/{seed}.png", seed)
    header = "label, file ,patient_id,split,source"
    name = write_csv(tmp_path / "list.csv", header, '1,"in/0.png",p 1,train,A', "0,in/1.png,,test,", "1,in/2.png")
    cohort = load_cohort(name)
    assert cohort.classes == ("0", "1")
    assert cohort.labels.tolist() == [1, 0, 1]
    assert [record.patient_id for record in cohort.records] == ["p 1", None, None]
    assert [record.official_split for record in cohort.records] == ["train", "test", None]
    assert [record.source for record in cohort.records] == ["A", None, None]
    assert load_cohort(name, positive="0").labels.tolist() == [0, 1, 0]


def test_unusable_files_are_left_out_by_name(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = write_image(tmp_path / "outside.png")
    (folder / "half.png").write_bytes(content[:40])
    (folder / "empty.png").write_bytes(b"")
    bad = ["half.png", "empty.png", "gone.png", "../outside.png", "http://example.org/a.png", "ill"]
    lines = ["file,label", "healthy/a.png,0", "ill/d.png,1", *[f"{name},1" for name in bad], "ill/e.png,", ",1"]
    name = write_csv(folder / "list.csv", *lines)
    with caplog.at_level(logging.WARNING):
        cohort = load_cohort(name)
    assert len(cohort) == 2
    assert [left_out.name for left_out in cohort.skipped] == [*bad, "ill/e.png", "line 11"]
    reasons = dict(cohort.skipped)
    assert "truncated" in reasons["half.png"] or "damaged" in reasons["half.png"]
    assert reasons["empty.png"] == "the file is empty."
    assert reasons["gone.png"] == "there is no such file."
    assert reasons["ill"] == "it is a folder, not a file."
    assert "stay inside" in reasons["../outside.png"]
    assert "or be absolute" in reasons["../outside.png"]
    assert reasons["http://example.org/a.png"] == "it is an address, not a file: fetch it first."
    assert reasons["ill/e.png"] == "it has no label."
    assert reasons["line 11"] == "its line names no file."
    assert all(left_out.name in caplog.text for left_out in cohort.skipped)
    with pytest.raises(DosimeterError, match=r"8 of 10 images cannot be used, the first is half\.png"):
        load_cohort(name, strict=True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file;label", "a.png;1"], r"must have a column 'file'.*found: file;label.*semicolons: save it with commas"),
        (["file\tlabel", "a.png\t1"], r"must have a column 'file'.*tabs: save it with commas"),
        (["file,class", "a.png,1"], "must have a column 'label'"),
        ([], "found: none"),
        (["file,label", "a.png,0", "b.png,0"], "two classes or more, .* give 1: 0"),
        (["file,label", "a.png,0", "b.png,1", "c.png,2"], "class 0 must have at least one image"),
        (["file,label", "a.png,sick", "b.png,well"], "say which with --positive NAME"),
        (["file,label,split", "a.png,0,training", "b.png,1,test"], "got 'training'. Did you mean 'train'"),
        (["file,label", "a.png,0", "b.png,1"], "class 0 must have at least one image .*there is no such file"),
    ],
)
def test_a_wrong_csv_is_one_clear_sentence(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DosimeterError, match=message):
        load_cohort(write_csv(tmp_path / "list.csv", *lines))


def test_wrong_requests_are_clear(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOSIMETER_DATA", raising=False)
    for name, options, message in [
        ("covid-tc", {}, "Did you mean 'covid-ct'"),
        ("folder:", {}, "no cohort 'folder:'"),
        (f"folder:{folder}/none", {}, "must be a folder"),
        (f"folder:{folder}", {}, "--positive ill"),
        (f"folder:{folder}", {"positive": "il"}, "Did you mean 'ill'"),
        (f"csv:{folder}/none.csv", {}, "must be a UTF-8 CSV file"),
        (f"csv:{folder}/ill/d.png", {}, "must be a UTF-8 CSV file"),
        ("xray-268", {}, "--data DIR or DOSIMETER_DATA.*dosimeter data fetch xray-268"),
        ("xray-268", {"data": folder}, "metadata.csv, which is missing.*dosimeter data fetch xray-268"),
        ("covid-ct", {"limit": 1}, "limit must be at least 2"),
    ]:
        with pytest.raises(DosimeterError, match=message):
            load_cohort(name, **options)


def test_public_cohorts_follow_their_columns(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOSIMETER_DATA", str(data))
    cohort = load_cohort("xray-268")
    assert cohort.classes == ("other", "COVID-19")
    assert cohort.modality == "xray"
    assert [record.name for record in cohort.records] == [f"images/{i}.png" for i in range(4)]
    assert [record.source for record in cohort.records] == ["a", "b", "a", "b"]
    assert cohort.provenance["licences"] == {"CC0": 3, "not stated": 1}
    assert load_cohort("xray-268-child").records[0].name == "images/2.png"
    assert load_cohort("xray-all").counts == {"other": 3, "COVID-19": 3}
    slices = load_cohort("covid-ct")
    assert slices.modality == "ct"
    assert [record.official_split for record in slices.records] == ["train", "train", "test", "val"]
    assert {record.source for record in slices.records} == {None}


def test_an_unfinished_fetch_is_not_passed_over(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_cohort("xray-all", data=data)
    assert "lists 6 of the 840 images of xray-all" in caplog.text
    with pytest.raises(DosimeterError, match="strict needs all of them: `dosimeter data fetch xray-all`"):
        load_cohort("xray-all", data=data, strict=True)


def test_damaged_metadata_is_clear(data: Path) -> None:
    metadata = data / "xray" / "metadata.csv"
    metadata.write_text("file,label\nimages/0.png,1\n")
    with pytest.raises(DosimeterError, match="must have a column 'cohort268'"):
        load_cohort("xray-268", data=data)
    metadata.write_text("file,label\nimages/0.png,yes\n")
    with pytest.raises(DosimeterError, match="must hold 0 or 1, got 'yes'"):
        load_cohort("xray-all", data=data)


def test_limit_keeps_shares_order_and_prefixes() -> None:
    rows = [Row(str(i), int(i % 4 == 0)) for i in range(40)]  # 10 of 40 are positive
    before: set[str] = set()
    for limit in range(2, 41):
        kept = limit_rows(rows, limit)
        positive = sum(row.label or 0 for row in kept)
        assert len(kept) == limit
        assert kept == sorted(kept, key=rows.index)
        assert abs(positive - limit / 4) <= 0.5
        assert 0 < positive < limit
        assert before <= {row.file for row in kept}
        before = {row.file for row in kept}
    assert limit_rows(rows, None) == limit_rows(rows, 99) == rows


def test_limit_reads_no_more_files_than_needed(folder: Path) -> None:
    cohort = load_cohort(f"folder:{folder}", positive="ill", limit=3)
    assert cohort.counts == {"healthy": 1, "ill": 2}
    assert [record.name for record in cohort.records] == ["healthy/a.png", "ill/d.png", "ill/e.png"]


@pytest.mark.parametrize("name", ["phantom-xray", "phantom-ct"])
def test_phantoms_take_limit_and_seed(name: str) -> None:
    cohort = load_cohort(name, limit=4, seed=1)
    assert len(cohort) == 4
    assert cohort.sha256 == load_cohort(name, limit=4, seed=1).sha256
    assert cohort.sha256 != load_cohort(name, limit=4, seed=2).sha256


def test_every_cohort_has_a_line_and_records_travel_between_processes(folder: Path) -> None:
    assert all(line and "\n" not in line for line in COHORTS.values())
    cohort = load_cohort(f"folder:{folder}", positive="ill")
    twin: Cohort = pickle.loads(pickle.dumps(cohort))
    np.testing.assert_array_equal(twin[2].image, cohort[2].image)
    assert twin.sha256 == cohort.sha256


@pytest.mark.real
@pytest.mark.skipif(not DATA, reason="DOSIMETER_DATA is not set")
@pytest.mark.parametrize(
    ("name", "other", "covid", "n_patients", "n_pairs", "n_shared"),
    [
        ("xray-268", 127, 141, 211, 0, 0),
        ("xray-268-child", 127, 141, 231, 0, 0),
        ("xray-all", 550, 290, 585, 2, 2),
        ("covid-ct", 397, 349, 384, 0, 0),
    ],
)
def test_the_real_cohorts_are_complete(
    name: str, other: int, covid: int, n_patients: int, n_pairs: int, n_shared: int, caplog: pytest.LogCaptureFixture
) -> None:
    cohort = load_cohort(name, strict=True)
    assert cohort.counts == {"other": other, "COVID-19": covid}
    assert not cohort.skipped
    assert len({record.patient_id for record in cohort.records}) == n_patients
    assert len({record.case_id for record in cohort.records}) == len(cohort)
    assert len(copies(cohort)) == n_pairs
    halves = split(cohort, "paper")
    assert (f"{n_shared} of {len(halves.test)} test images of {name}" in caplog.text) == (n_shared > 0)
    assert ("two pairs have the same pixels" in PUBLIC_COHORTS[name].description) == (n_pairs == 2)
    for record in cohort.records[::10]:
        image, bits = record.read()
        assert bits == 8
        assert image.shape[0] in (1, 3)
        np.testing.assert_array_equal(image, (np.rint(image * 255) / 255).astype(np.float32))
