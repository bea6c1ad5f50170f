"""The data audit: each check fires on images made to fail it, and stays quiet on sound ones."""

import errno
import io
import json
import pickle
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from scipy.stats import norm
from typer.testing import CliRunner

from dosimeter import registry
from dosimeter.analysis.auc import auc_newcombe
from dosimeter.bounds import newcombe
from dosimeter.cli.app import app
from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.auditing import labels, sampling
from dosimeter.cohorts.auditing.base import Entry, Evidence, audit_cohort
from dosimeter.cohorts.auditing.outliers import modified_z
from dosimeter.cohorts.auditing.probes import level_of
from dosimeter.cohorts.auditing.seeing import Seen, centre, see
from dosimeter.cohorts.auditing.subgroups import subgroups
from dosimeter.cohorts.base import Cohort, Decoded, FloatImage, Record, Skipped
from dosimeter.cohorts.near_duplicates import look
from dosimeter.cohorts.split import divide
from dosimeter.cohorts.subgroups import age_band, facts_of
from dosimeter.errors import DosimeterError
from dosimeter.record.data_audit import DataAudit, DataCheck
from dosimeter.record.table import read_meta
from dosimeter.report.data_page import data_page
from dosimeter.study.run import run_study

N = 60

Change = Callable[[FloatImage, int], FloatImage]


def noise(place: int) -> FloatImage:
    """A smooth random image, another for each place, of which labels say nothing."""
    rng = np.random.default_rng(place)
    return np.kron(rng.random((12, 12)), np.ones((4, 4)))[None].astype(np.float32)


def made(change: Change | None = None, **columns: Sequence[Any]) -> Cohort:
    """60 images of 60 patients, every other one ill; `change` gets each image and its label."""
    labels = [place % 2 for place in range(N)]
    fields: dict[str, Sequence[Any]] = {
        "patient_id": [f"SMITH-{place}" for place in range(N)],
        "source": ["ab"[place // 2 % 2] for place in range(N)],
        **columns,
    }
    images = [noise(place) for place in range(N)]
    if change is not None:
        images = [change(image, label) for image, label in zip(images, labels, strict=True)]
    records = tuple(
        Record(
            case_id=f"{place:05d}",
            label=labels[place],
            sha256=str(place),
            read=partial(Decoded, images[place], 8),
            name=f"SMITH-{place}.png",
            **{name: values[place] for name, values in fields.items()},
        )
        for place in range(N)
    )
    return Cohort("made", ("clear", "ill"), records)


def checks(audit: DataAudit) -> dict[str, DataCheck]:
    found = {check.id: check for check in audit.checks}
    assert len(found) == len(audit.checks)
    for check in audit.checks:
        assert check.measured.endswith(".")
        assert check.title.endswith("?")
        assert check.rule
        assert check.source
        assert bool(check.remedy) or check.level in ("pass", "info")
    text = audit.model_dump_json()
    assert "SMITH" not in text
    assert DataAudit.model_validate(json.loads(text)) == audit
    return found


@cache
def sound() -> DataAudit:
    cohort = made()
    return audit_cohort(cohort, split=divide(cohort, "patient"), tuned=False)


def test_sound_images_pass() -> None:
    warned = {check.id for check in checks(sound()).values() if check.level not in ("pass", "info")}
    assert warned == {"balance", "interval"}  # of twelve test images
    assert sound().pairs == []


def test_near_duplicates_are_judged_by_patient_label_and_side() -> None:
    def bright(image: FloatImage) -> FloatImage:
        return (image**0.8).astype(np.float32)

    cohort = made()
    halves = divide(cohort, "paper")
    ids = [record.case_id for record in cohort.records]
    trained, tested = (ids.index(side.records[3].case_id) for side in (halves.train, halves.test))
    records = list(cohort.records)
    records[tested] = replace(records[tested], read=partial(Decoded, bright(noise(trained)), 8))
    planted = replace(cohort, records=tuple(records))
    found = audit_cohort(planted, split=divide(planted, "paper"))
    (pair,) = found.pairs
    assert set(pair.cases) == {ids[trained], ids[tested]}
    assert set(pair.sides) == {"train", "test"}
    assert len(pair.pictures) == 2
    by_id = checks(found)
    assert by_id["near duplicates: split"].level == "fail"
    assert by_id["near duplicates: patients"].level == "warn"
    same_label = records[trained].label == records[tested].label
    assert by_id["near duplicates: labels"].level == ("pass" if same_label else "warn")
    one = replace(records[tested], patient_id=records[trained].patient_id, label=records[trained].label)
    expected = replace(planted, records=tuple(one if place == tested else each for place, each in enumerate(records)))
    assert audit_cohort(expected).pairs == []


@pytest.mark.parametrize(
    ("probe", "change"),
    [
        ("size", lambda image, label: image[:, : 48 - 6 * label]),
        ("histogram", lambda image, label: image ** (1 + label)),
        ("border", lambda image, label: np.pad(image, ((0, 0), (3, 3), (3, 3)), constant_values=label / 2)),
        ("thumbnail without its centre", lambda image, label: marked(image, label)),
    ],
)
def test_a_shortcut_is_found(probe: str, change: Change) -> None:
    found = audit_cohort(made(change))
    check = checks(found)[f"probe: {probe}"]
    assert check.level in ("warn", "fail")
    assert check.numbers["auc"] > 0.9
    assert 0.3 < check.numbers["permuted"] < 0.7


def marked(image: FloatImage, label: int) -> FloatImage:
    """A marker burnt in near a corner of those who are ill."""
    image = image.copy()
    image[:, 3:8, 3:8] = label
    return image


def test_what_shows_in_the_centre_alone_is_no_shortcut() -> None:
    def inside(image: FloatImage, label: int) -> FloatImage:
        return np.where(centre(48, 48), image * (1 - 0.6 * label), image).astype(np.float32)

    by_id = checks(audit_cohort(made(inside)))
    assert by_id["probe: thumbnail"].numbers["auc"] > 0.9
    assert by_id["probe: thumbnail"].level == "info"
    assert by_id["probe: thumbnail without its centre"].level in ("pass", "info")
    assert by_id["probe: border"].level in ("pass", "info")


def test_patients_are_in_training_or_in_the_test_of_a_probe() -> None:
    """Ten people whose border tells who they are, and labels drawn by person: only a leak would tell them."""
    people = [place // 6 for place in range(N)]
    images = [np.pad(noise(place), ((0, 0), (3, 3), (3, 3)), constant_values=people[place] / 10) for place in range(N)]
    cohort = made(patient_id=[str(person) for person in people])
    ill = np.random.default_rng(3).permutation(10) < 5
    records = tuple(
        replace(record, read=partial(Decoded, images[place].astype(np.float32), 8), label=int(ill[people[place]]))
        for place, record in enumerate(cohort.records)
    )
    found = next(probe for probe in audit_cohort(replace(cohort, records=records)).probes if probe.name == "border")
    assert found.n_groups == 10
    assert found.low < 0.5  # ten people prove nothing


def test_patients_that_are_not_known_are_not_counted() -> None:
    named = [None if place == 7 else str(place) for place in range(N)]
    found = audit_cohort(made(patient_id=named))
    assert "60 images of patients not known" in checks(found)["probe: size"].measured
    assert not found.probes[0].patients_known
    assert "<td>not known</td>" in data_page(found)
    assert "60 images of 60 patients" in checks(sound())["probe: size"].measured


def test_groups_of_near_duplicates_are_called_no_patients() -> None:
    cohort = made(patient_id=[None] * N)
    records = tuple(replace(each, group=f"group-{place // 2}") for place, each in enumerate(cohort.records))
    found = checks(audit_cohort(replace(cohort, records=records)))
    assert "60 images of patients not known" in found["probe: size"].measured
    assert "60 test images, of patients not known, in 30 groups of near duplicates" in found["interval"].measured


def test_too_few_images_are_not_probed() -> None:
    found = audit_cohort(made().subset(range(12)))
    assert found.probes == []
    assert checks(found)["probe: size"].measured.startswith("Not asked")


def test_the_interval_is_that_of_the_analyses() -> None:
    for auc in (0.02, 0.4, 0.8, 0.999):
        wanted = auc_newcombe(auc, 40, 60)
        assert newcombe(auc, 40, 60, z=1.959964) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
    assert [level_of(low) for low in (0.4, 0.6, 0.8, 0.95)] == ["pass", "info", "warn", "fail"]


@pytest.mark.parametrize(("n_positive", "n_negative"), [(4, 4), (10, 30)])
def test_an_area_of_0_or_1_has_an_interval_that_few_images_widen(n_positive: int, n_negative: int) -> None:
    for auc in (0.0, 1.0):
        wanted = auc_newcombe(auc, n_positive, n_negative)
        assert newcombe(auc, n_positive, n_negative, z=1.959964) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


@pytest.mark.parametrize(("n_positive", "n_negative"), [(10, 10), (10, 40), (40, 10), (20, 20)])
@pytest.mark.parametrize("true", [0.03, 0.1, 0.5, 0.8, 0.95, 0.99])
def test_the_interval_covers_at_the_ends_too(n_positive: int, n_negative: int, true: float) -> None:
    rng = np.random.default_rng(0)
    apart = 2**0.5 * norm.ppf(true)
    others = rng.normal(size=(400, 1, n_negative))
    aucs = (rng.normal(apart, size=(400, n_positive, 1)) > others).mean(axis=(1, 2))
    found = [newcombe(float(auc), n_positive, n_negative, z=1.959964) for auc in aucs]
    assert np.mean([low <= true <= high for low, high in found]) >= 0.92
    assert all(0 <= low < auc + 1e-12 and auc - 1e-12 < high <= 1 for auc, (low, high) in zip(aucs, found, strict=True))
    assert np.mean([low > true for low, _ in found]) < 0.08


def test_a_larger_area_has_a_larger_lower_bound() -> None:
    lows = [newcombe(place / 400, 20, 20, z=1.959964)[0] for place in range(401)]
    assert lows == sorted(lows)


def test_findings_are_probed_each_where_they_are_known() -> None:
    def known(place: int) -> tuple[int | None, int | None]:
        return place % 2, None if place < 6 else int(place % 3 == 0)

    cohort = made(marked)
    records = tuple(replace(record, findings=known(place)) for place, record in enumerate(cohort.records))
    found = audit_cohort(replace(cohort, findings=("nodule", "effusion"), records=records))
    border = {probe.target: probe for probe in found.probes if probe.name == "thumbnail without its centre"}
    assert border["nodule"].auc > 0.9 > border["effusion"].auc
    assert (border["nodule"].n, border["effusion"].n) == (60, 54)


@pytest.mark.parametrize(
    ("one", "other", "level", "words"),
    [
        ((1, 1), (None, 1), "pass", "effusion (unknown: nodule)"),
        ((0, None), (None, 1), "pass", "effusion (unknown: nodule)"),
        ((1, 1), (0, 1), "warn", "effusion"),
        ((1, None), (0, None), "warn", "no finding (unknown: effusion)"),
    ],
)
@pytest.mark.parametrize("copied", [False, True])
def test_a_finding_that_is_not_known_contradicts_nothing(
    one: tuple[int | None, ...], other: tuple[int | None, ...], level: str, words: str, copied: bool
) -> None:
    cohort = made()
    told = {0: one, 1: other}
    records = [replace(each, findings=told.get(place, (place % 2, 0))) for place, each in enumerate(cohort.records)]
    image = noise(0) if copied else (noise(0) ** 0.8).astype(np.float32)
    records[1] = replace(records[1], read=partial(Decoded, image, 8))
    found = audit_cohort(replace(cohort, findings=("nodule", "effusion"), records=tuple(records)))
    (pair,) = found.pairs
    assert pair.labels[1] == words
    by_id = checks(found)
    assert by_id["near duplicates: labels"].level == level
    copies = {"pass": "warn", "warn": "fail"}[level] if copied else "pass"
    assert by_id["duplicates"].level == copies


def test_outliers_are_those_far_from_their_class() -> None:
    cohort = made()
    records = list(cohort.records)
    records[7] = replace(records[7], read=partial(Decoded, np.full((1, 48, 48), 0.99, np.float32), 8))
    found = checks(audit_cohort(replace(cohort, records=tuple(records))))["outliers"]
    assert found.cases[0] == "00007"
    values = np.random.default_rng(0).normal(5, 2, 4001)
    assert modified_z(values)[np.argsort(values)[-1]] == pytest.approx((values.max() - np.median(values)) / 2, rel=0.1)
    assert modified_z(np.full(9, 3.0)).max() == 0


def test_intervals_are_wilson_s() -> None:
    assert sampling.half_width(30 / 54, 54) == pytest.approx((0.681 - 0.424) / 2, abs=1e-3)  # 42 to 68 %
    for share in (0.5, 0.9):
        n = sampling.images_for(share, 0.05)
        assert sampling.half_width(share, n) <= 0.05 < sampling.half_width(share, n - 1)
    few = checks(audit_cohort(made().subset(range(30))))["interval"]
    assert few.level == "warn"
    assert few.numbers["n"] == 30


@pytest.mark.parametrize(("tuned", "level"), [(None, "info"), (True, "fail"), (False, "pass")])
def test_tuning_is_as_declared(tuned: bool | None, level: str) -> None:
    (check,) = (check for check in sampling.checks(made(), tuned=tuned) if check.id == "tuning")
    assert check.level == level


def test_subgroups_are_counted_by_class_and_judged() -> None:
    facts = [
        (("view", "PA" if place % 2 else "AP"), ("sex", "male" if place % 4 < 2 else "female")) for place in range(N)
    ]
    cohort = made(facts=facts)
    rows = {(row.fact, row.value): row.counts for row in subgroups(cohort)}
    assert rows["view", "PA"] == {"clear": 0, "ill": 30}
    assert rows["sex", "male"] == {"clear": 15, "ill": 15}
    assert rows["source", "a"] == {"clear": 15, "ill": 15}
    check = checks(audit_cohort(cohort))["subgroups"]
    assert check.level == "warn"
    assert check.numbers == {"view": pytest.approx(1), "sex": pytest.approx(0)}


def test_facts_are_those_of_known_columns_and_ages_are_bands() -> None:
    cells = {"file": "a.png", "gender": "F", "age": "045Y", "view": "pa", "name": "SMITH", "address": "1 Main St"}
    assert facts_of(cells) == (("view", "PA"), ("sex", "female"), ("age", "40 to 59"))
    ages = ["3", "006M", "17.9", "18", "60 years", "99", "200", "old", ""]
    assert [age_band(age) for age in ages] == [
        *("0 to 17", "0 to 17", "0 to 17", "18 to 39", "60 to 79", "80 and over", "", "", "")
    ]


def test_what_was_left_out_is_counted_and_not_named() -> None:
    cohort = replace(made(), skipped=(Skipped("SMITH-99.png", "it is damaged."),), notes=("SMITH.txt was not read.",))
    check = checks(audit_cohort(cohort))["unreadable"]
    assert (check.level, check.measured) == ("warn", "1 of 61 files were left out.")


def test_the_command_prints_and_writes_a_page(tmp_path: Path) -> None:
    page, found = tmp_path / "audit.html", tmp_path / "audit.json"
    asked = ["data", "audit", "phantom-ct", "--limit", "24", "--protocol", "patient", "--tuned-on-test", "no"]
    printed = CliRunner().invoke(app, [*asked, "--out", str(page)])
    text = page.read_text(encoding="utf-8")
    assert "Phantom data" in text
    assert "Are near duplicates under different patients?" in text
    assert "<script" not in text
    assert "PASS  Were choices made on the test images?" in printed.output
    printed = CliRunner().invoke(app, [*asked, "--out", str(found), "--json"])
    assert json.loads(printed.stdout)["cohort"] == "phantom-ct"
    assert DataAudit.model_validate_json(found.read_text()).protocol == "patient"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--group", "people"), ("--tuned-on-test", "maybe"), ("--out", "a.pdf"), ("--protocol", "odd")],
)
def test_a_wrong_option_is_one_sentence(option: str, value: str) -> None:
    found = CliRunner().invoke(app, ["data", "audit", "phantom-ct", "--limit", "12", option, value])
    assert isinstance(found.exception, DosimeterError)
    assert value in str(found.exception)


def test_a_study_audits_its_images_and_its_report_shows_it(
    image_folder: Path, tmp_path: Path, tiny_networks: None
) -> None:
    asked = {"data_audit": True, "group": "duplicates", "tuned_on_test": "no", "protocol": "patient"}
    small = {"model": "vgg16", "preset": "sound", "epochs": 1, "epsilons": "0.01"}
    settings = tiny.settings(image_folder, tmp_path / "run", **asked, **small)
    outcome = run_study(settings)
    (audit,) = read_meta(outcome.run.responses)["data_audits"]
    assert audit["protocol"] == "patient"
    assert next(check["level"] for check in audit["checks"] if check["id"] == "tuning") == "pass"
    page = outcome.run.report.read_text(encoding="utf-8")
    assert "Can the images be trusted?" in page
    assert "SMITH" not in page
    assert "MRN" not in page
    assert (outcome.run.folder / "tables" / "data_audit.csv").is_file()
    summary = json.loads((outcome.run.folder / "summary.json").read_text())
    assert summary["data_audits"][0]["checks"]
    assert run_study(settings).reused


def test_another_package_adds_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def dark(evidence: Evidence) -> list[DataCheck]:
        n = sum(seen.mean < 0.1 for seen in evidence.seen)
        return [
            DataCheck(id="dark", title="Are images dark?", level="pass", measured=f"{n} are.", rule="told", source="me")
        ]

    add = partial(monkeypatch.setitem, registry.ADDED, ("data_checks", "mine"))
    add(Entry("dark images", dark))
    assert checks(audit_cohort(made()))["dark"].measured == "0 are."
    lines = CliRunner().invoke(app, ["list", "data_checks"]).output.splitlines()
    assert any("mine" in line and "dark images" in line for line in lines)
    add(Entry("twice", lambda evidence: dark(evidence) * 2))
    with pytest.raises(DosimeterError, match="data check 'mine' must have an id of its own, 'dark' is there"):
        audit_cohort(made())
    add(Entry("words", lambda evidence: ["dark"]))  # type: ignore[list-item]
    with pytest.raises(DosimeterError, match="data check 'mine' must give DataChecks, got str"):
        audit_cohort(made())


def test_an_audit_shows_itself_and_one_image_is_enough() -> None:
    found = audit_cohort(made().subset([0]))
    assert str(found).startswith("WARN: 1 images of made")
    assert "<table>" in found._repr_html_()
    with pytest.raises(DosimeterError, match="must have an image"):
        audit_cohort(made().subset([]))


@cache
def two_kinds() -> Cohort:
    """60 phantoms, films and slices: nobody takes one for the other, and each kind half clear, half ill."""
    films, slices = load_cohort("phantom-xray", limit=30), load_cohort("phantom-ct", limit=30)
    kinds = [(kind, record) for kind, cohort in enumerate((films, slices)) for record in cohort.records]
    records = tuple(
        replace(record, case_id=f"{place:05d}", label=kind, patient_id=f"{kind} {record.patient_id}")
        for place, (kind, record) in enumerate(kinds)
    )
    return Cohort("two kinds", ("film", "slice"), records)


@cache
def seen_kinds() -> list[Seen]:
    return see(two_kinds()).seen


def label_check(cohort: Cohort, seen: list[Seen] | None = None) -> DataCheck:
    return labels.check(cohort, see(cohort).seen if seen is None else seen, np.arange(len(cohort)))


def relabelled(cohort: Cohort, label: Callable[[int, int], int]) -> Cohort:
    records = [replace(record, label=label(place, record.label)) for place, record in enumerate(cohort.records)]
    return replace(cohort, records=tuple(records))


@pytest.mark.parametrize(("swapped", "least"), [((4,), 1), ((11,), 1), ((47,), 1), ((4, 11, 47), 2)])
def test_swapped_labels_among_phantoms_are_found(swapped: tuple[int, ...], least: int) -> None:
    """Several pull the regression towards them: of three one may be missed, and none other is named."""
    cohort = relabelled(two_kinds(), lambda place, label: 1 - label if place in swapped else label)
    found = label_check(cohort, seen_kinds())
    assert set(found.cases) <= {f"{place:05d}" for place in swapped}
    assert found.level == "warn"
    assert found.numbers["n"] == len(found.cases) >= least
    assert found.measured.startswith(f"{len(found.cases)} of 60 labels are doubted")


def test_clean_phantoms_give_no_false_alarm() -> None:
    told = label_check(two_kinds(), seen_kinds())
    assert (told.level, told.numbers["n"]) == ("pass", 0)
    ill = label_check(load_cohort("phantom-xray", limit=60))  # of which a thumbnail shows little
    assert ill.level in ("info", "pass")
    assert ill.cases == []


def test_labels_that_nothing_shows_are_not_judged() -> None:
    found = label_check(made())
    assert found.level == "info"
    assert found.cases == []
    assert found.measured.startswith("Not judged: the regression's AUC is")
    assert label_check(made().subset(range(12))).measured.startswith("Not asked")


def test_of_several_classes_another_must_be_likely_too() -> None:
    """Three levels of grey; one image of the darkest is called the brightest, one is of a grey of its own."""

    def grey(place: int) -> FloatImage:
        level = {5: 0.05, 8: 0.2}.get(place, (0.05, 0.45, 0.85)[place % 3])
        return (level + 0.1 * noise(place)).astype(np.float32)

    records = tuple(
        replace(record, label=place % 3, read=partial(Decoded, grey(place), 8))
        for place, record in enumerate(made().records)
    )
    found = label_check(replace(made(), classes=("dark", "grey", "bright"), records=records))
    assert found.cases == ["00005"]


def test_findings_are_doubted_where_they_are_stated() -> None:
    def known(place: int) -> tuple[int | None, int | None]:
        return None if place == 3 else 1 - place % 2 if place == 7 else place % 2, place // 2 % 2

    cohort = made(lambda image, label: (0.3 * image + 0.6 * label).astype(np.float32))
    records = tuple(replace(record, findings=known(place)) for place, record in enumerate(cohort.records))
    found = label_check(replace(cohort, findings=("nodule", "effusion"), records=records))
    assert found.cases == ["00007"]


def test_what_is_kept_of_an_image_is_small_and_the_rest_is_in_a_file() -> None:
    cohort = made()
    seen, looks = see(cohort)
    for each in seen:
        arrays = [value for value in each if isinstance(value, np.ndarray)]
        assert sum(array.nbytes for array in arrays) < 2000
        assert all(array.base is None or array.base.nbytes < 2000 for array in arrays)  # no view of an image
    assert len(pickle.dumps(seen)) / len(seen) < 4000
    wanted = look(noise(7))
    assert np.array_equal(looks[7].face, wanted.face)
    assert np.array_equal(looks[7 - N].whole, wanted.whole)
    assert sum(value.nbytes for value in vars(looks).values() if isinstance(value, np.ndarray)) == 0
    with pytest.raises(IndexError):
        looks[N]


def test_a_full_temporary_folder_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(DosimeterError, match="must have room for 45 kB an image"):
        audit_cohort(made())
