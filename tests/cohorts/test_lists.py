"""Lists and folders of the user's own: read rightly, or one true sentence; nothing passed over in silence."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dosimeter as dm
from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.files import _CHUNK
from dosimeter.errors import DosimeterError
from dosimeter.plain import one_line

N = 8


def picture(path: Path, seed: int, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for index in range(N):
        picture(tmp_path / "img" / f"{index}.png", index)
    return tmp_path


def listed(folder: Path, text: str | bytes, name: str = "list.csv") -> str:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return f"csv:{folder / name}"


def lines(extra: str = "", n: int = N) -> list[str]:
    return [f"img/{index}.png,{index % 2}{extra}" for index in range(n)]


def refused(name: str, **options: object) -> str:
    with pytest.raises(DosimeterError) as caught:
        load_cohort(name, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert one_line(message) == message
    assert message.endswith((".", "?"))
    assert len(message) < 1200
    return message


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_change_nothing(images: Path, end: str, mark: str) -> None:
    text = mark + end.join(["", "file, label", *(line.replace(",", ', "') + '"' for line in lines()), "", " , ", ""])
    cohort = load_cohort(listed(images, text))
    assert cohort.labels.tolist() == [index % 2 for index in range(N)]
    assert not cohort.skipped


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({4: 'img/4.png,0,"ward A'}, "every quote in .* must be closed, the one in line 6 is not"),
        (
            {4: 'img/4.png,0,"ward A', 6: 'img/6.png,0,ward A"'},
            "must be closed in the cell that it opens.*in line 6 is",
        ),
        ({4: 'img/4.png,0,"ward A', 6: 'img/6.png,0,"ward A'}, "must end with its quote, the one in line 6"),
        ({4: 'img/4.png,0,"ward "A"'}, "must end with its quote, the one in line 6"),
        ({4: '"img/4.png,0,ward A'}, "every quote"),
        ({4: '"img/4.png,0,ward A', 5: 'img/5.png",1,ward A'}, "must be closed in the cell"),
        ({4: '"img/4\n.png",0,ward A'}, "take the line breaks out"),
        ({4: 'img/4.png,0,"', 5: 'img/5.png,1,ward A"'}, "must be closed in the cell"),
        (
            dict.fromkeys(range(N), "img/0.png;0;ward A"),
            "by commas, those of line 2 seem to be by semicolons",
        ),
        ({4: "img/4.png,0,ward A,b"}, "at most as many cells as its header, which has 3; line 6 has 4"),
        ({4: "img/4, left.png,0,ward A"}, "line 6 has 4: put a cell that holds a comma in quotes"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(images: Path, changed: dict[int, str], message: str) -> None:
    rows = [changed.get(index, line) for index, line in enumerate(lines(",ward A"))]
    with pytest.raises(DosimeterError, match=message):
        load_cohort(listed(images, "\n".join(["file,label,source", *rows])))


def test_prose_of_several_lines_is_kept_and_lines_of_the_list_within_it_are_not(images: Path) -> None:
    rows = lines(',"No effusion, no\nconsolidation, heart of normal size."')
    cohort = load_cohort(listed(images, "\n".join(["file,label,report", *rows])))
    assert len(cohort) == N
    assert cohort.notes == ("columns that have no meaning here were not read: report.",)
    rows = lines(",clear")
    rows[2], rows[3] = 'img/2.png,0,"clear', 'img/3.png,1,clear"'
    assert "must be closed" in refused(listed(images, "\n".join(["file,label,report", *rows])))
    rows = [f"clear,{line}" for line in lines()]
    rows[2], rows[3] = f'"{rows[2]}', 'clear",' + lines()[3]
    assert "must be closed" in refused(listed(images, "\n".join(["report,file,label", *rows])))


def test_known_columns_are_known_however_they_are_written(images: Path) -> None:
    rows = lines(",p1,train,ward")
    for header in (
        "File,LABEL,patientid,Split,SOURCE",
        "file,label,Patient ID,split ,source",
        "file,label,patient-id,split,source",
    ):
        cohort = load_cohort(listed(images, "\n".join([header, *rows])))
        first = cohort.records[0]
        assert (first.patient_id, first.official_split, first.source) == ("p1", "train", "ward"), header
        assert not cohort.notes


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,label,label", "must be there once, 'label' and 'label' both mean label"),
        ("file,label,Label", "'label' and 'Label' both mean label"),
        ("file,label,patient_ids", "must be called patient_id or be something else, 'patient_ids'"),
        ("file,label,spilt", "must be called split"),
        ("file,label,sourcee", "must be called source"),
        ("files,label,source", "must have a column 'file'"),
    ],
)
def test_a_column_in_doubt_is_refused(images: Path, header: str, message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        load_cohort(listed(images, "\n".join([header, *lines(",train")])))


def test_placeholders_are_no_patient_ids_and_are_counted(images: Path) -> None:
    said = ["unknown", "NaN", "None", "n/a", "-", "?", "", "p7"]
    text = "\n".join(["file,label,patient_id", *(f"{line},{id_}" for line, id_ in zip(lines(), said, strict=True))])
    cohort = load_cohort(listed(images, text))
    assert [record.patient_id for record in cohort.records] == [None] * 7 + ["p7"]
    (note,) = cohort.notes
    assert note.startswith("6 cells of patient_id say nothing of a patient (unknown, NaN, None, n/a, -, ...)")
    arrays = dm.cohort_of(
        [np.full((1, 8, 8), level) for level in (0.1, 0.4, 0.7)], [0, 1, 1], classes=["a", "b"],
        patients=[float("nan"), None, 7],
    )  # fmt: skip
    assert [record.patient_id for record in arrays.records] == [None, None, "7"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_another_encoding_is_refused(images: Path, encoding: str) -> None:
    message = refused(listed(images, "\n".join(["file,label,source", *lines(",Köln")]).encode(encoding)))
    assert "must be a UTF-8 CSV file" in message
    assert ("UTF-16" in message) == encoding.startswith("utf-")


def test_what_is_no_file_is_refused(images: Path) -> None:
    os.mkfifo(images / "pipe.csv")
    assert "is no file" in refused(f"csv:{images / 'pipe.csv'}")
    assert "is no file" in refused(f"csv:{images / 'img'}")
    assert "File name too long" in refused("csv:/" + "x" * 5000)
    assert "File name too long" in refused("folder:/" + "x" * 5000)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("COVID", "covid"), ("no finding", "nofinding"), ("ill\u200b", "ill"), ("ﬁt", "fit"), ("a\x07", "b")),
        *(("2", "2.0"), ("02", "2"), ("-2", "-2.00")),
    ],
)
def test_classes_that_differ_to_a_computer_only_are_refused(images: Path, one: str, other: str) -> None:
    rows = [line.replace(",0", f",{one}").replace(",1", f",{other}") for line in lines()]
    message = refused(listed(images, "\n".join(["file,label", *rows])), positive=other)
    assert "must differ in more than" in message or "must be text that can be shown" in message


def test_a_name_of_a_class_has_a_length_that_figures_can_show(images: Path) -> None:
    rows = [line.replace(",0", "," + "x" * 201) for line in lines()]
    assert "at most 200 characters, the labels of" in refused(listed(images, "\n".join(["file,label", *rows])))


def test_large_numbers_are_classes_apart(images: Path) -> None:
    rows = [line.replace(",0", ",1000001") for line in lines()]
    rows = [row if row.endswith("1000001") else row.rsplit(",", 1)[0] + ",1000002" for row in rows]
    assert load_cohort(listed(images, "\n".join(["file,label", *rows])), positive="1000001").classes == (
        "1000002",
        "1000001",
    )


def test_signs_tell_classes_apart_and_forms_of_unicode_do_not(images: Path) -> None:
    rows = [line.replace(",0", ",-1") for line in lines()]
    assert load_cohort(listed(images, "\n".join(["file,label", *rows])), positive="1").classes == ("-1", "1")
    long, short = (unicodedata.normalize(form, "gesund, schön") for form in ("NFD", "NFC"))
    labels = [f'"{long}"', "krank", f'"{short}"', "krank"]
    text = "\n".join(["file,label", *(f"img/{index}.png,{label}" for index, label in enumerate(labels))])
    for positive in (long, short):
        cohort = load_cohort(listed(images, text), positive=positive)
        assert cohort.counts == {"krank": 2, short: 2}


@pytest.mark.parametrize(("listed_as", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_in_another_form_of_unicode_is_found(images: Path, listed_as: str, on_disk: str) -> None:
    picture(images / unicodedata.normalize(on_disk, "Röntgen") / unicodedata.normalize(on_disk, "é.png"), 50)
    name = unicodedata.normalize(listed_as, "Röntgen/é.png")
    cohort = load_cohort(listed(images, "\n".join(["file,label", *lines(), f"{name},1"])))
    assert len(cohort) == N + 1
    assert cohort[N].image.shape == (1, 8, 6)


def test_absolute_paths_are_taken(images: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    rows = [f"{images}/{line}" for line in lines()]
    absolute = load_cohort(listed(elsewhere, "\n".join(["file,label", *rows])))
    relative = load_cohort(listed(images, "\n".join(["file,label", *lines()])))
    assert absolute.sha256 == relative.sha256
    assert [record.case_id for record in absolute.records] == [record.case_id for record in relative.records]


def test_what_cannot_be_read_is_named_with_its_own_reason(images: Path) -> None:
    (images / "dangling.png").symlink_to("nowhere.png")
    (images / "x.png").symlink_to("y.png")
    (images / "y.png").symlink_to("x.png")
    os.mkfifo(images / "pipe.png")
    (images / "empty.png").touch()
    reasons = {
        "dangling.png": "it is a link to a file that is not there.",
        "x.png": "its links lead in a circle.",
        "pipe.png": "it is no regular file.",
        "empty.png": "the file is empty.",
        "img\\1.png": "there is no such file; write its path with forward slashes.",
        "img/0.png/more.png": "there is no such file.",
        "img/\0.png": "its name holds a NUL character, which no file's can.",
    }
    cohort = load_cohort(listed(images, "\n".join(["file,label", *lines(), *(f"{name},1" for name in reasons)])))
    assert dict(cohort.skipped) == reasons
    assert len(cohort) == N


def test_many_missing_files_are_one_sentence_with_a_count(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = [f"gone/{index}.png,1" for index in range(50 * _CHUNK)]
    cohort = load_cohort(listed(images, "\n".join(["file,label", *lines(), *gone])))
    assert len(cohort.skipped) == 50 * _CHUNK
    (sentence,) = cohort.left_out
    assert sentence.startswith(f"{50 * _CHUNK} files, the first are gone/0.png, ")
    assert sentence.endswith("were left out: there is no such file.")
    assert len(caplog.records) == 1


def test_reasons_without_end_are_summed_up(images: Path) -> None:
    cohort = dm.load_cohort(listed(images, "\n".join(["file,label", *lines()])))
    skipped = [dm.cohorts.Skipped(f"{index}\x1b.png", f"reason {index}.") for index in range(30)]
    *first, last = dm.cohorts.Cohort("made", ("a", "b"), cohort.records, skipped=tuple(skipped)).left_out
    assert first[0] == r"0\x1b.png was left out: reason 0."
    assert last == f"{30 - len(first)} more files were left out, for {30 - len(first)} other reasons."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(N):
        picture(tmp_path / "set" / "ab"[index % 2] / f"{index}.png", index)
    return tmp_path / "set"


def test_links_are_followed_and_circles_are_said(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "deep" / "far.png", 20)
    picture(tmp_path / "far.png", 21)
    (folder / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "one.png").symlink_to(tmp_path / "far.png")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "a" / "gone").symlink_to(tmp_path / "nowhere")
    (folder / "b" / "x").symlink_to("y")
    (folder / "b" / "y").symlink_to("x")
    (folder / "b" / "folder.png").mkdir()
    picture(folder / "b" / "folder.png" / "within.png", 22)
    os.mkfifo(folder / "b" / "pipe.png")
    cohort = load_cohort(f"folder:{folder}", positive="b")
    names = {record.name for record in cohort.records}
    assert {"a/linked/deep/far.png", "a/one.png", "b/folder.png/within.png"} < names
    assert len(cohort) == N + 3
    assert {name: reason.split(",")[0] for name, reason in cohort.skipped} == {
        "a/up": "it is a link to a folder that holds it",
        "a/gone": "it is a link to a file that is not there.",
        "b/x": "its links lead in a circle.",
        "b/y": "its links lead in a circle.",
        "b/pipe.png": "it is no regular file.",
    }


def test_a_folder_that_may_not_be_looked_into_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(folder / "a" / "deep" / "0.png", 30)
    scandir = os.scandir

    def guarded(path: Path) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("dosimeter.cohorts.paths.os.scandir", guarded)
    cohort = load_cohort(f"folder:{folder}", positive="b")
    assert len(cohort) == N
    assert cohort.skipped[0].name == "a/deep"
    assert "cannot be looked into (Permission denied)" in cohort.skipped[0].reason
    assert "cannot be looked into" in refused(f"folder:{folder}", positive="b", strict=True)


def test_what_systems_leave_behind_is_counted_not_read(folder: Path) -> None:
    (folder / "__MACOSX").mkdir()
    (folder / "a" / "x.png").mkdir()
    for name in ("a/.DS_Store", "a/Thumbs.db", "b/desktop.ini", "b/._0.png", "README.txt"):
        (folder / name).write_text("x")
    cohort = load_cohort(f"folder:{folder}", positive="b", strict=True)
    assert len(cohort) == N
    hidden, beside, empty = cohort.notes
    assert hidden.startswith("5 entries are hidden or left by an operating system, not read: __MACOSX, ")
    assert empty == "1 entry is a folder without any file: a/x.png."
    assert beside == "1 entry is beside the classes' sub-folders, not read: README.txt."


def test_class_folders_that_are_none_are_refused(folder: Path) -> None:
    (folder / "c").symlink_to("nowhere")
    assert "is a link that leads nowhere" in refused(f"folder:{folder}", positive="b")
    (folder / "c").unlink()
    (folder / "B").mkdir()
    assert "'B' and 'b'" in refused(f"folder:{folder}", positive="b")
    (folder / "B").rmdir()
    (folder / "a").rename(folder / "train")
    (folder / "b").rename(folder / "test")
    assert "are sides of a split" in refused(f"folder:{folder}", positive="test")


def test_names_that_are_not_utf8(folder: Path, tmp_path: Path) -> None:
    picture(folder / "a" / os.fsdecode(b"caf\xe9.png"), 40)
    cohort = load_cohort(f"folder:{folder}", positive="b")
    assert len(cohort) == N + 1
    odd = folder / os.fsdecode(b"caf\xe9")
    (folder / "a").rename(odd)
    assert "must be text that can be shown" in refused(f"folder:{folder}", positive="b")
    odd.rename(folder / "a")
    whole = tmp_path / os.fsdecode(b"set\xe9")
    folder.rename(whole)
    assert "must be text that can be shown" in refused(f"folder:{whole}", positive="b")


def test_one_picture_under_two_labels_or_on_both_sides(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(images / "img" / "copy.tiff", 0)  # other bytes, the pixels of 0.png
    splits = ["train", "train", "train", "train", "test", "test", "test", "test"]
    rows = [f"{line},{split}" for line, split in zip(lines(), splits, strict=True)]
    name = listed(images, "\n".join(["file,label,split", *rows, "img/copy.tiff,0,test", "img/1.png,1,test"]))
    cohort = load_cohort(name, strict=True)
    assert cohort.records[0].pixels_sha256 == cohort.records[N].pixels_sha256
    assert cohort.records[0].sha256 != cohort.records[N].sha256
    dm.split(cohort, "official")
    assert "2 of 6 test images of csv:list.csv (official protocol, seed 0) are in training too" in caplog.text
    with pytest.raises(
        DosimeterError, match=r"on one side of the official split .* 2 of 6 .* the first is img/copy\.tiff"
    ):
        dm.split(cohort, "official", strict=True)
    name = listed(images, "\n".join(["file,label", *lines(), "img/copy.tiff,1"]))
    caplog.clear()
    dm.split(load_cohort(name), "paper")
    assert "2 images of csv:list.csv show 1 picture under two labels" in caplog.text
    assert "img/0.png is 0 and, with the same pixels, img/copy.tiff is 1" in refused(name, strict=True)


def test_a_cohort_without_copies_is_split_in_silence(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    dm.split(load_cohort(listed(images, "\n".join(["file,label", *lines()]))), "paper", strict=True)
    assert not caplog.records
