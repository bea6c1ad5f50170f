"""A study made from a run shows what the run evaluated, in files that do not give themselves away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import settings

from dosimeter.errors import DosimeterError
from dosimeter.progress import Progress
from dosimeter.readers.design import Design, read_design
from dosimeter.record import table as responses
from dosimeter.replay.reader_study import Options, blind_epsilons, make_study
from dosimeter.replay.replay import Replay
from dosimeter.study.run import run_study

pytestmark = pytest.mark.usefixtures("tiny_networks", "no_report")

CURVE = {"model": "vgg16"}


@pytest.fixture
def run(study_copy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("dosimeter.replay.reader_study.N_PRACTICE", 2)  # the tiny network answers 4 images correctly
    return study_copy(tmp_path / "run")


def levels(folder: Path, design: Design, place: int) -> np.ndarray:
    with Image.open(folder / "images" / f"{place:04d}.png") as image:
        return np.asarray(image)


def test_a_study_shows_the_images_of_its_run(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "study"
    options = Options((0.0, 0.001, 0.02, 0.08), n_images=2, curve=CURVE)
    design = make_study(run, out, options, progress=Progress())
    assert read_design(out) == design
    assert design.epsilons == (0.001, 0.02, 0.08)
    assert design.curve["preset"] == "sound"  # by default
    assert len(design.pairs) == 2 * (3 * 2 + 1)
    assert len(design.practice) == 2 * 2
    assert not {pair.case_id for pair in design.practice} & {pair.case_id for pair in design.pairs}
    replay = Replay(run)
    curve = next(curve for key, curve in replay.curves.items() if key._asdict() == design.curve)
    for pair in design.pairs:
        target = replay.target(curve, pair.case_id)
        plain = levels(out, design, pair.plain)
        assert (plain == (target.image[0] * 255).round().numpy()).all()
        altered = levels(out, design, pair.altered).astype(float)
        if pair.kind == "adversarial":
            assert (altered == (target.path.at(target.image, pair.epsilon)[0] * 255).round().numpy()).all()
        elif pair.kind == "catch":
            assert pair.altered == pair.plain
        assert np.abs(altered - plain).max() <= np.ceil(255 * pair.epsilon)
        assert pair.changed == (altered != plain).mean()
    random = next(pair for pair in design.pairs if (pair.kind, pair.epsilon) == ("random", 0.08))
    moved = np.sign(levels(out, design, random.altered).astype(float) - levels(out, design, random.plain))
    assert abs(moved.mean()) < 0.2
    assert blind_epsilons(design) == [0.001]
    assert len({file.stat().st_size for file in (out / "images").iterdir()}) == 1
    assert {Image.open(file).mode for file in (out / "images").iterdir()} == {"L"}
    assert not [path for path in out.parent.iterdir() if path != out]  # no draft is left
    assert "SMITH" not in (out / "design.json").read_text()


def test_colour_is_kept_where_an_attack_adds_it(run: Path, tmp_path: Path) -> None:
    options = Options((0.02, 0.08), n_images=1, curve={**CURVE, "preset": "paper"})
    make_study(run, tmp_path / "study", options, progress=Progress())
    assert {Image.open(file).mode for file in (tmp_path / "study" / "images").iterdir()} == {"RGB"}
    assert len({file.stat().st_size for file in (tmp_path / "study" / "images").iterdir()}) == 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"epsilons": (0.01,)}, "at least two above 0"),
    ({"n_images": 0}, "images must be at least 1"),
    ({"break_every": 0}, "break-every must be at least 1"),
    ({"n_images": 999}, "are more than the"),
    ({"curve": {}}, "Choose with --cohort"),
    ({"curve": {"model": "resnet"}}, "0 of the run fit"),
]


def test_what_cannot_be_shown_is_one_sentence(run: Path, tmp_path: Path) -> None:
    for changes, sentence in REFUSED:
        options = Options((0.01, 0.02), n_images=2, curve=CURVE)._replace(**changes)
        with pytest.raises(DosimeterError, match=sentence):
            make_study(run, tmp_path / "study", options, progress=Progress())
        assert not (tmp_path / "study").exists()
    with pytest.raises(DosimeterError, match="is not empty"):
        make_study(run, run, Options((0.01, 0.02), curve=CURVE), progress=Progress())


def test_a_run_that_is_merged_again_keeps_what_readers_saw(run: Path, image_folder: Path) -> None:
    table = run / "responses.parquet"
    scope = {"study": "5eed0001", "cohort": "csv:cases.csv", "protocol": "paper", "model": "vgg16", "preset": "sound"}
    counts = {"seed": 0, "epsilons": [], "n_readers": 0, "n_answers": 0, "curves": [], "catch": []}
    displays = {"n_checked": 0, "n_both": 0}
    study = {**scope, **counts, "simulated": True, "phantom": True, "displays": displays}
    responses.annotate(table, {"readers": [study]})
    (run / "report.html").unlink()  # so that the same command merges and draws again
    assert not run_study(settings(image_folder, run)).reused
    assert responses.read_meta(table)["readers"] == [study]
