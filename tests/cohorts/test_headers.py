"""What DICOM headers tell of a cohort: its modality, and whose the images are."""

from pathlib import Path

import pytest
from test_dicom import dataset, written

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.split import shared_patients, split
from dosimeter.errors import DosimeterError

PEOPLE = ["Muster-A", "Muster-A", "Muster-B", "Muster-B", "Muster-C", "Muster-C", "Muster-D", "Muster-D"]


def folder(root: Path, people: list[str], modality: list[str]) -> str:
    for index, (person, code) in enumerate(zip(people, modality, strict=True)):
        (root / str(index // 2 % 2)).mkdir(parents=True, exist_ok=True)
        made = dataset(12, shape=(16, 16), PatientID=person, Modality=code)
        (root / str(index // 2 % 2) / f"{index}.dcm").write_bytes(written(made))
    return f"folder:{root}"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [("CT", "ct"), ("CR", "xray"), ("DX", "xray"), ("MG", "mg"), ("", ""), ("Muster", ""), ("CT CR", "")],
)
def test_the_modality_is_what_all_headers_state(stated: str, expected: str, tmp_path: Path) -> None:
    codes = stated.split() * 4 if " " in stated else [stated] * 8
    assert load_cohort(folder(tmp_path, PEOPLE, codes)).modality == expected


def test_patients_are_grouped_on_request_and_never_named(tmp_path: Path) -> None:
    name = folder(tmp_path, PEOPLE, ["CT"] * 8)
    assert {record.patient_id for record in load_cohort(name).records} == {None}
    cohort, again = load_cohort(name, patients="dicom"), load_cohort(name, patients="dicom")
    ids = [record.patient_id for record in cohort.records]
    assert ids == [record.patient_id for record in again.records]
    assert "Muster" not in str(ids)
    same = [[PEOPLE[int(record.name[2:-4])] for record in cohort.records if record.patient_id == one] for one in ids]
    assert all(len(group) == 2 and len(set(group)) == 1 for group in same)
    assert shared_patients(split(cohort, "patient", seed=0, test_share=0.5)) == 0


def test_a_list_goes_before_the_headers(tmp_path: Path) -> None:
    folder(tmp_path, PEOPLE, ["CT"] * 8)
    files = [f"{index // 2 % 2}/{index}.dcm" for index in range(8)]
    lines = [f"{file},{file[0]},{'mine' if index == 0 else ''}" for index, file in enumerate(files)]
    (tmp_path / "list.csv").write_text("\n".join(["file,label,patient_id", *lines]))
    ids = [record.patient_id for record in load_cohort(f"csv:{tmp_path / 'list.csv'}", patients="dicom").records]
    assert ids[0] == "mine"
    assert len(set(ids)) == 5


def test_no_patient_at_all_is_a_sentence(tmp_path: Path) -> None:
    name = folder(tmp_path, [""] * 8, ["CT"] * 8)
    with pytest.raises(DosimeterError, match="none of 8 images states one"):
        load_cohort(name, patients="dicom")
    with pytest.raises(DosimeterError, match="patients must be list or dicom, got 'header'"):
        load_cohort(name, patients="header")
