"""Images of a user's own in other forms: archives, NIfTI slices, folders with a list or a tag, lists of findings."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dosimeter.cohorts import load_cohort
from dosimeter.errors import DosimeterError
from dosimeter.record.table import read
from dosimeter.study.config import load_config
from dosimeter.study.run import run_study
from dosimeter.study.trials import plan_trials

rng = np.random.default_rng(0)


def listed(path: Path, lines: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def pictures(folder: Path, n: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{place}.png" for place in range(n)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / name)
    return names


# --- findings in a list ------------------------------------------------------------------------------------


def findings_list(folder: Path, **changes: str) -> Path:
    names = pictures(folder, 6)
    cells = [("1", "0"), ("0", ""), ("", "1"), ("0", "0"), ("1.0", "1"), ("0", "0.0")]
    lines = [{"file": name, "Nodule": a, "Effusion": b} for name, (a, b) in zip(names, cells, strict=True)]
    lines[0] |= changes
    return listed(folder / "list.csv", lines)


def test_a_list_of_findings_has_unknown_labels(tmp_path: Path) -> None:
    cohort = load_cohort(f"csv:{findings_list(tmp_path)}", findings=("nodule", "effusion"))
    assert cohort.findings == ("nodule", "effusion")
    assert [record.findings for record in cohort.records] == [(1, 0), (0, None), (None, 1), (0, 0), (1, 1), (0, 0)]
    assert cohort.counts == {"no finding": 3, "any finding": 3}
    assert cohort.of_finding("effusion").labels.tolist() == [0, 1, 0, 1, 0]
    (trial,), _ = plan_trials(load_config(cohort=f"csv:{tmp_path / 'list.csv'}", findings="nodule,effusion",
                                          limit=10, protocol="paper", allow_flat=True))  # fmt: skip
    assert trial.split.test.findings == ("nodule", "effusion")


def test_a_study_of_a_list_of_findings_reports_each(tmp_path: Path, tiny_networks: None, no_report: None) -> None:
    names = pictures(tmp_path / "films", 24)
    lines = [
        {"file": name, "nodule": place % 2, "mass": "" if place % 5 == 0 else place // 2 % 2}
        for place, name in enumerate(names)
    ]
    path = listed(tmp_path / "films" / "list.csv", lines)
    asked = {"findings": "nodule,mass", "protocol": "paper", "data_audit": True, "model": "vgg16", "preset": "sound"}
    outcome = run_study(load_config(cohort=f"csv:{path}", epochs=1, epsilons="0.01", out=tmp_path / "run", **asked))
    table = read(outcome.run.responses)
    assert set(table.frame["decision"]) == {"nodule", "mass"}
    assert table.meta["data_audits"][0]["n"] == 24


@pytest.mark.parametrize(
    ("findings", "changes", "words"),
    [
        (("Nodule",), {"Nodule": "-1"}, "must hold 1, 0 or nothing, got '-1' in line 2"),
        (("Nodule", "mass"), {}, "must have a column 'mass'"),
        (("Nodule", "nodule"), {}, "must be different"),
    ],
)
def test_a_wrong_list_of_findings_is_one_sentence(
    tmp_path: Path, findings: tuple[str, ...], changes: dict[str, str], words: str
) -> None:
    with pytest.raises(DosimeterError, match=words):
        load_cohort(f"csv:{findings_list(tmp_path, **changes)}", findings=findings)


def test_a_finding_that_nobody_has_is_refused(tmp_path: Path) -> None:
    path = listed(tmp_path / "list.csv", [{"file": name, "mass": "0"} for name in pictures(tmp_path, 3)])
    with pytest.raises(DosimeterError, match="none is known to have mass present"):
        load_cohort(f"csv:{path}", findings=("mass",))


# --- a folder with a list, or a tag ------------------------------------------------------------------------


def test_a_flat_folder_is_told_by_a_list_elsewhere(tmp_path: Path) -> None:
    names = pictures(tmp_path / "films", 5)
    lines = [{"file": name, "label": place % 2, "view": "PA"} for place, name in enumerate(names[:4])]
    path = listed(tmp_path / "labels.csv", lines)
    cohort = load_cohort(f"folder:{tmp_path / 'films'}", labels=path)
    assert cohort.name == "folder:films"
    assert cohort.labels.tolist() == [0, 1, 0, 1]
    assert cohort.records[0].facts == (("view", "PA"),)
    assert cohort.notes == ("1 entry is in no line of the list, not read: 4.png.",)


def dicom(path: Path, **tags: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = CTImageStorage, "1.2.3", "DX"
    dataset.PatientID = dataset.PatientName = "SMITH"
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = rng.integers(0, 256, 64, dtype=np.uint8).tobytes()
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def test_a_coded_tag_is_the_label_of_dicom_files(tmp_path: Path) -> None:
    for place in range(4):
        dicom(tmp_path / f"study-{place}" / "image", ViewPosition="PA" if place % 2 else "LL")
    dicom(tmp_path / "untold")
    Image.new("L", (4, 4)).save(tmp_path / "logo.png")
    cohort = load_cohort(f"folder:{tmp_path}", label_tag="ViewPosition", positive="PA")
    assert cohort.classes == ("LL", "PA")
    assert cohort.labels.tolist() == [0, 1, 0, 1]
    assert sorted(skipped.name for skipped in cohort.skipped) == ["logo.png", "untold"]
    assert cohort.modality == "xray"


@pytest.mark.parametrize(
    ("tag", "words"), [("PatientName", "must be a tag that holds a coded string"), ("Viewpos", "must be the keyword")]
)
def test_a_tag_that_may_name_a_person_is_refused(tmp_path: Path, tag: str, words: str) -> None:
    dicom(tmp_path / "image")
    with pytest.raises(DosimeterError, match=words):
        load_cohort(f"folder:{tmp_path}", label_tag=tag)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("phantom-ct", {"findings": ("a",)}, "findings is for cohorts folder: and csv: and npz: and nifti:"),
        ("csv:a.csv", {"label_tag": "ViewPosition"}, "label_tag is for cohorts folder:"),
        ("csv:a.csv", {"classes": ("a", "b")}, "classes is for cohorts npz:"),
        ("folder:a", {"findings": ("a",)}, "need a list"),
        ("csv:a.csv", {"findings": ("a",), "positive": "a"}, "positive must be left out"),
        ("folder:a", {"labels": "a.csv", "label_tag": "Modality"}, "label_tag must be alone"),
    ],
)
def test_what_has_no_meaning_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DosimeterError, match=words):
        load_cohort(name, **options)


# --- archives ----------------------------------------------------------------------------------------------


def archive(path: Path, *, columns: int = 1, colour: bool = False, **arrays: Any) -> Path:
    shape = (12, 10, 3) if colour else (12, 10)
    found: dict[str, Any] = {}
    for side, n in (("train", 8), ("val", 4), ("test", 6)):
        found[f"{side}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        labels = np.array([[(place + column) % 2 for column in range(columns)] for place in range(n)])
        found[f"{side}_labels"] = labels.astype(np.uint8)
    found |= arrays
    np.savez_compressed(path, **{name: array for name, array in found.items() if array is not None})
    return path


def test_an_archive_has_its_published_split(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz")
    cohort = load_cohort(f"npz:{path}", classes=("clear", "ill"), positive="ill")
    assert cohort.classes == ("clear", "ill")
    assert [record.official_split for record in cohort.records].count("test") == 6
    expected = np.load(path)["val_images"][1]
    assert cohort.records[9].name == "val/1"
    np.testing.assert_array_equal(np.rint(255 * cohort[9].image[0]), expected)
    assert cohort.records[0].patient_id is None
    tested = load_cohort(f"npz:{path}:test")
    assert (tested.name, len(tested), tested.classes) == ("npz:a.npz:test", 6, ("0", "1"))
    assert len(load_cohort(f"npz:{path}", limit=4)) == 4


def test_an_archive_of_findings_and_one_in_colour(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", columns=2, colour=True)
    cohort = load_cohort(f"npz:{path}", findings=("nodule", "mass"))
    assert cohort.records[1].findings == (1, 0)
    assert cohort[0].image.shape == (3, 12, 10)
    with pytest.raises(DosimeterError, match="must name the 2 columns"):
        load_cohort(f"npz:{path}", findings=("nodule",))


class Planted:
    def __reduce__(self) -> Any:
        return (Path("planted").touch, ())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"test_images": np.array([Planted()], dtype=object)}, "Python objects, which may run code"),
        ({"test_images": np.zeros((6, 12, 10), np.float32)}, "must be uint8"),
        ({"test_labels": np.zeros((5, 1), np.uint8)}, "one row for each of the 6 images"),
        ({"test_labels": None}, "must have test_labels"),
        ({"test_labels": np.zeros((6, 1), np.uint8)}, "must have two classes or more"),
    ],
)
def test_a_wrong_archive_is_one_sentence_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrays: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DosimeterError, match=words):
        load_cohort(f"npz:{archive(tmp_path / 'a.npz', **arrays)}:test")
    assert not (tmp_path / "planted").exists()


def test_what_is_no_archive_or_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK no")
    with pytest.raises(DosimeterError, match=r"must be an \.npz archive"):
        load_cohort(f"npz:{tmp_path / 'a.npz'}")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (10**9, 512, 512), "fortran_order": False, "descr": "|u1"})
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("test_images.npy", header.getvalue())
        file.writestr("test_labels.npy", header.getvalue())
    with pytest.raises(DosimeterError, match="needs 262144000000000 bytes"):
        load_cohort(f"npz:{tmp_path / 'b.npz'}")


# --- NIfTI -------------------------------------------------------------------------------------------------

HU = np.arange(5 * 4 * 3).reshape(5, 4, 3) * 10 - 300  # right, front, up in canonical order


def volume(path: Path, codes: str = "RAS", *, slope: float = 1.0, code: int = 1, array: Any = HU) -> Path:
    nibabel = pytest.importorskip("nibabel")
    canonical = nibabel.Nifti1Image(array.astype(np.int16), np.diag([2.0, 2.0, 5.0, 1.0]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    turned = canonical.as_reoriented(turn)
    assert nibabel.aff2axcodes(turned.affine) == tuple(codes)
    turned.header.set_slope_inter(slope, 0)
    turned.set_sform(turned.affine, code=code)
    turned.set_qform(turned.affine, code=code)
    nibabel.save(turned, path)
    return path


def slices(folder: Path, files: list[Path], place: object = 1, width: object = 400) -> str:
    lines = [
        {"file": file.name, "label": index % 2, "slice": place, "window_center": -100, "window_width": width}
        for index, file in enumerate(files)
    ]
    return f"nifti:{listed(folder / 'list.csv', lines)}"


def test_a_slice_is_the_same_however_its_volume_is_stored(tmp_path: Path) -> None:
    orders = ["RAS", "LPS", "ASR", "PIL", "SRA", "LAS"]
    files = [volume(tmp_path / f"{codes}.nii{'.gz' if codes == 'LPS' else ''}", codes) for codes in orders]
    cohort = load_cohort(slices(tmp_path, files))
    assert not cohort.skipped
    expected = (HU[::-1, ::-1, 1].T + 100) / 400 + 0.5  # the patient's right on the left, the front above
    for case in cohort:
        np.testing.assert_allclose(case.image[0], expected.clip(0, 1), atol=1e-6)


def test_a_slope_is_applied(tmp_path: Path) -> None:
    files = [volume(tmp_path / "a.nii", slope=2.0), volume(tmp_path / "b.nii")]
    images = [case.image[0] for case in load_cohort(slices(tmp_path, files))]
    np.testing.assert_allclose(images[0], ((2 * HU[::-1, ::-1, 1].T + 100) / 400 + 0.5).clip(0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("place", "width", "code", "array", "words"),
    [
        (3, 400, 1, HU, "it has 3 slices, from 0 on, and none of number 3"),
        (0.5, 400, 1, HU, "must be a whole number"),
        (1, 0, 1, HU, "window_width must be above 0"),
        (1, "", 1, HU, "window_width must be a number"),
        (1, 400, 0, HU, "states no orientation"),
        (1, 400, 1, np.stack([HU, HU], axis=3), "one volume of three axes"),
    ],
)
def test_a_wrong_slice_is_left_out_with_the_reason(
    tmp_path: Path, place: object, width: object, code: int, array: Any, words: str
) -> None:
    files = [volume(tmp_path / f"{index}.nii", code=code, array=array) for index in range(2)]
    with pytest.raises(DosimeterError, match=words):
        load_cohort(slices(tmp_path, files, place, width))


def test_what_is_no_nifti_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    (tmp_path / "a.nii").write_bytes(b"no header" * 100)
    (tmp_path / "b.pkl").write_bytes(b"")
    good = [volume(tmp_path / f"{index}.nii") for index in range(2)]
    cohort = load_cohort(slices(tmp_path, [*good, tmp_path / "a.nii", tmp_path / "b.pkl"]))
    assert [skipped.reason for skipped in cohort.skipped] == [
        "it is no NIfTI file, or is damaged.",
        "its name must end in .nii or .nii.gz.",
    ]
