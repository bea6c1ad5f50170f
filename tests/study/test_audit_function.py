"""`dosimeter.audit`: from a network to a report in a few lines, with what the command gives."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import dosimeter as dm
from dosimeter.cli.app import app
from dosimeter.errors import DosimeterError
from dosimeter.progress import Progress

SIZE_PX = 16
CLASSES = ("dark", "bright")
ASKED = {"attacks": "pgd", "epsilons": ["4/255", "64/255"]}


def brightness(scale: float = 20.0, *, name: str = "brightness") -> dm.Classifier:
    """A linear classifier of an image's mean, whose worst case is an image moved by epsilon everywhere."""
    layer = nn.Linear(SIZE_PX**2, 2)
    layer.weight.data = torch.stack([-torch.ones(SIZE_PX**2), torch.ones(SIZE_PX**2)]) * scale / SIZE_PX**2
    layer.bias.data = torch.tensor([0.5, -0.5]) * scale
    net = nn.Sequential(nn.Flatten(), layer)
    return dm.classifier(net, size_px=SIZE_PX, classes=CLASSES, channels=1, name=name)


def cohort(n: int = 12) -> dm.Cohort:
    """Flat images 0.1 beside the boundary, and a little texture that moves no mean."""
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(n, 1, SIZE_PX, SIZE_PX, generator=generator) * 0.2
    levels = torch.tensor([0.4, 0.6] * (n // 2))[:, None, None, None]
    images = texture - texture.mean(dim=(1, 2, 3), keepdim=True) + levels
    return dm.cohort_of(images.numpy(), [0, 1] * (n // 2), CLASSES)


@pytest.fixture(scope="module")
def result() -> "dm.study.audit.Audit":  # type: ignore[name-defined]
    return dm.audit(brightness(), cohort(), **ASKED)


def test_it_answers_as_the_closed_form_does(result) -> None:  # type: ignore[no-untyped-def]
    table = result.table()
    pgd = table[(table["preset"] == "pgd") & (table["storage"] == "float")].set_index("epsilon")["accuracy"]
    assert [round(share, 6) for share in pgd] == [1.0, 1.0, 0.0]  # 0.1 lies between 4/255 and 64/255
    assert str(result).startswith("PASS: brightness on arrays (whole protocol, 12 images): epsilon50 0.1")
    assert repr(result) == str(result)


def test_a_classifier_made_by_hand_is_audited() -> None:
    told = brightness()
    made = dm.Classifier(
        told.base, told.head, preprocessing=told.preprocessing, size_px=SIZE_PX, classes=CLASSES, adopt=True
    )
    assert made.card == {}
    found = dm.audit(made, cohort(6), attacks="fgsm", epsilons=["4/255"], data_audit=False)
    assert "classifier on arrays (whole protocol, 6 images)" in str(found)
    assert made.card == {}


def test_it_shows_itself_in_a_notebook(result) -> None:  # type: ignore[no-untyped-def]
    shown = result._repr_html_()
    assert "PASS: brightness" in shown
    assert "<svg" in shown
    assert "<table" in shown
    assert "<?xml" not in shown


@pytest.mark.usefixtures("drawn")
def test_report_figures_and_rows_are_the_studys(result, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page = result.report(tmp_path / "audit.html").read_text()
    assert "brightness" in page
    assert "Not a medical device" in page or "not a medical" in page.lower()
    files = {file.stem for file in (result.folder / "figures").glob("*.svg")}
    assert set(result.figures) == files
    assert result.figure(sorted(files)[0]).axes
    with pytest.raises(DosimeterError, match="there is no figure 'nothing'"):
        result.figure("nothing")
    assert set(result.responses.frame["model"]) == {"brightness"}


def test_a_saved_run_can_be_reported(result, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from typer.testing import CliRunner

    run = result.save(tmp_path / "run")
    assert CliRunner().invoke(app, ["report", str(run)]).exit_code == 0
    before, after = (json.loads((each / "summary.json").read_text()) for each in (result.folder, run))
    assert before == after
    with pytest.raises(DosimeterError, match="must not exist yet"):
        result.save(run)


def test_adversarial_images_are_tensors_within_the_budget(result) -> None:  # type: ignore[no-untyped-def]
    found = result.adversarial("pgd", "64/255")
    assert found.images.shape == (2, 12, 3, SIZE_PX, SIZE_PX)
    assert float((found.images[1] - found.images[0]).abs().max()) <= 64 / 255 + 1e-6
    assert bool(found.success[1].all())
    with pytest.raises(DosimeterError, match="there is no model 'x'"):
        result.adversarial(model="x")


def test_adversarial_images_are_those_that_were_audited(tmp_path: Path) -> None:
    """With the positive class, the draw and everything else that the audit was told."""
    for name, level in (("a", 200), ("b", 50)):
        (tmp_path / name).mkdir()
        for place in range(6):
            shades = np.full((SIZE_PX, SIZE_PX), level, dtype=np.uint8)
            shades[:4] = [0, 255, 90 + place, 140][place % 4]
            Image.fromarray(shades).save(tmp_path / name / f"{place}.png")
    named = dm.classifier(brightness().base[1], size_px=SIZE_PX, classes=("b", "a"), channels=1, name="named")
    result = dm.audit(named, f"folder:{tmp_path}", positive="a", images=4, **ASKED)
    found = result.adversarial("random_sign", "1/255")
    assert found.images.shape[1] == 4
    clean = result.table().query("epsilon == 0 and storage == 'float'")["accuracy"].iloc[0]
    assert float((~found.success[0]).float().mean()) == clean == 1.0


def test_several_classifiers_are_ranked_in_one_report() -> None:
    result = dm.audit([brightness(), brightness(5.0, name="flat")], cohort(), **ASKED, visibility="none")
    assert set(result.table()["model"]) == {"brightness", "flat"}
    assert len(str(result).splitlines()) == 2
    paired = pd.read_csv(result.folder / "tables" / "paired.csv")
    assert "flat" in set(paired["model"]) | set(paired["against"])
    with pytest.raises(DosimeterError, match="two are called 'brightness'"):
        dm.audit([brightness(), brightness(5.0)], cohort())


@pytest.mark.slow  # three audits, two of them with their reports
def test_the_same_folder_continues(tmp_path: Path) -> None:
    first = dm.audit(brightness(), cohort(), **ASKED, out=tmp_path / "run")
    stamp = (tmp_path / "run" / "responses.parquet").stat().st_mtime_ns
    again = dm.audit(brightness(), cohort(), **ASKED, out=tmp_path / "run")
    assert (tmp_path / "run" / "responses.parquet").stat().st_mtime_ns == stamp
    assert str(first) == str(again)
    other = dm.audit(brightness(40.0), cohort(), **ASKED, out=tmp_path / "run")
    assert (tmp_path / "run" / "responses.parquet").stat().st_mtime_ns != stamp  # another network's rows are not its
    assert str(other).startswith("PASS")


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (nn.Linear(2, 2), None, "model must be a dosimeter.Classifier"),
        (None, None, "data must be given"),
        (None, "phantom-oops", "there is no cohort"),
    ],
)
def test_bad_input_is_one_sentence(model: object, data: object, said: str) -> None:
    with pytest.raises(DosimeterError, match=said) as caught:
        dm.audit([brightness() if model is None else model], data)  # type: ignore[list-item]
    assert "\n" not in str(caught.value)


def test_the_evidence_is_of_the_run_and_judges_nothing(result) -> None:  # type: ignore[no-untyped-def]
    table = pd.read_csv(result.folder / "tables" / "evidence.csv")
    assert {"MITRE ATLAS 5.6.0", "NIST AI 100-2e2025", "EU AI Act (2024/1689)"} <= set(table["framework"])
    said = table.set_index("item")["shows"]
    assert said["Robustness or sensitivity analysis"].startswith(
        "Epsilon at which half of the images classified correctly break: brightness 0.1 of the range"
    )
    assert "brightness 100.0 % (76 to 100 %, n = 12); on 12 test images." in said["Art. 15(3), accuracy to be declared"]
    assert "judged: brightness PASS" in said["Art. 15(5), adversarial examples and model evasion"]
    assert "epsilon 0.0157 to 0.251" in said["Empirical and statistical assessment of robustness"]
    assert table["lacks"].str.len().min() > 10
    page = (result.folder / "report.html").read_text().lower()
    assert "evidence toward" in page
    assert "compliant" not in page
    assert "compliance" not in page


def test_phantoms_are_said_to_be_phantoms_wherever_they_come_from() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE_PX**2, 2))
    mine = dm.classifier(net, size_px=SIZE_PX, classes=("clear", "opacity"), channels=1)
    result = dm.audit(mine, dm.load_cohort("phantom-xray", limit=12), attacks="random_sign", epsilons=["1/255"])
    assert str(result).startswith("PHANTOM DATA: these numbers say nothing about patients.")
    page = (result.folder / "report.html").read_text()
    assert "computer-generated" in page
    assert "“”" not in page  # every network's weights have a name
    assert "Can the images be trusted?" in page


def test_images_and_labels_will_do() -> None:
    images = torch.rand(6, 1, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(1))
    result = dm.audit(brightness(), (images.numpy(), [0, 1, 0, 1, 0, 1]), attacks="random_sign", epsilons=["1/255"])
    assert set(result.table()["n"]) == {6}


def test_the_former_audit_of_a_cohort_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="audit_cohort"):
        findings = dm.audit(cohort())
    assert any(finding.check == "classes" for finding in findings)


@pytest.mark.slow  # an audit and that of its images
def test_the_data_audit_asks_the_classifier_about_images_without_their_centre(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    levels = np.array([0.3, 0.7] * 20)[:, None, None, None] + rng.normal(0, 0.2, (40, 1, 1, 1))
    images = np.broadcast_to(levels, (40, 1, SIZE_PX, SIZE_PX)).clip(0, 1).astype(np.float32)
    asked = {"attacks": "random_sign", "epsilons": ["4/255"], "preset": "none", "out": tmp_path / "run"}
    both = [brightness(), brightness(5.0, name="another")]
    found = dm.audit(both, dm.cohort_of(images, [0, 1] * 20, CLASSES), **asked)
    probes = pd.read_csv(found.folder / "tables" / "data_probes.csv").set_index("name")["auc"]
    assert probes["brightness: whole images"] > 0.9
    assert probes["brightness: without their centre"] == pytest.approx(probes["brightness: whole images"])
    checks = json.loads((found.folder / "summary.json").read_text())["data_audits"][0]["checks"]
    told = {check["id"]: check for check in checks}
    assert told["centre: brightness: bright"]["level"] == "warn"
    assert "centre: another: bright" in told
    page = (found.folder / "report.html").read_text()
    assert "Does brightness tell bright without the centre of the images?" in page
    without = dm.audit(brightness(), cohort(), attacks="pgd", epsilons=["4/255"], data_audit=False)
    assert not list(without.folder.glob("examined/shortcut-*"))


@pytest.mark.slow  # an audit of several findings with its report
def test_adversarial_images_of_one_of_several_findings() -> None:
    """The first finding looks at the upper half, the second at the lower; of the last image the second is not known."""
    halves = torch.zeros(2, SIZE_PX, SIZE_PX)
    halves[0, : SIZE_PX // 2], halves[1, SIZE_PX // 2 :] = 1.0, 1.0
    layer = nn.Linear(SIZE_PX**2, 2)
    layer.weight.data, layer.bias.data = halves.flatten(1) * 40 / SIZE_PX**2, torch.tensor([-10.0, -10.0])
    names = ("upper", "lower")
    net = nn.Sequential(nn.Flatten(), layer)
    both = dm.classifier(net, size_px=SIZE_PX, classes=names, channels=1, outputs="findings", name="halves")
    there = [[place % 2, place // 2 % 2] for place in range(8)]
    images = np.stack([(0.4 + 0.2 * (halves[0] * up + halves[1] * low))[None] for up, low in there])
    images += np.arange(8)[:, None, None, None] / 5000
    labels = np.array([*there[:7], [1, np.nan]])
    result = dm.audit(both, (images.astype(np.float32), labels), attacks="pgd", epsilons=["32/255"], data_audit=False)
    found = result.adversarial("pgd", "32/255", finding="lower")
    assert found.images.shape[1] == 7
    assert found.predicted[0].tolist() == [place // 2 % 2 for place in range(7)]
    assert bool(found.success[1].all())
    moved = (found.images[1] - found.images[0]).abs()
    assert float(moved[..., : SIZE_PX // 2, :].max()) < 0.01 < float(moved[..., SIZE_PX // 2 :, :].min())
    with pytest.raises(DosimeterError, match="finding must be one of those of the classifier, upper, lower, got none"):
        result.adversarial("pgd", "32/255")


def test_a_classifier_of_classes_has_no_finding(result) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DosimeterError, match="finding must be left out of a classifier of classes, got 'dark'"):
        result.adversarial(finding="dark")


def test_the_first_number_comes_before_the_data_audit_and_the_sweep(tmp_path: Path) -> None:
    class Heard(Progress):
        def __init__(self) -> None:
            self.said: list[str] = []

        def begin(self, stage: str, total: int) -> None:
            self.said.append(stage)

        def note(self, message: str) -> None:
            self.said.append(message)

    heard, again = Heard(), Heard()
    for each in (heard, again):
        dm.audit(brightness(), cohort(), **ASKED, progress=each, out=tmp_path / "run")
    first = heard.said.index("brightness on arrays: 8 of the first 8 test images are right.")
    assert first < heard.said.index("auditing the images of arrays")
    assert [stage for stage in heard.said if stage.endswith("loading")] == ["brightness: loading"]
    assert not any("of the first" in said for said in again.said), "a finished run is only read again"


class Wearing:
    """A dataset whose images are others once `n_reads` were read."""

    def __init__(self, n_reads: int) -> None:
        self.n_left = n_reads

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.n_left -= 1
        level = 0.4 + 0.2 * (index % 2) + (0.01 if self.n_left < 0 else 0)
        generator = torch.Generator().manual_seed(index)
        return level + 0.1 * torch.rand(1, SIZE_PX, SIZE_PX, generator=generator), index % 2


def test_a_run_of_which_every_image_fails_is_incomplete_and_says_so() -> None:
    read_before = 12 + 8 + 8  # for digests, the first look and the pre-flight
    images = dm.cohort_of(Wearing(read_before), None, CLASSES)
    settings = {"data_audit": False, "allow_flat": True, "preset": "none"}
    result = dm.audit(brightness(), images, attacks="random_sign", epsilons=["4/255"], **settings)
    assert str(result) == (
        "INCOMPLETE RUN: 12 images failed (counted for each classifier): log.txt of the run's folder says why."
    )
    assert "has changed. Turn augmentation off" in (result.folder / "log.txt").read_text()
