"""Flat images: measured, warned of, and too many of them stop a study."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_dicom import dataset, written

from dosimeter.cohorts import load_cohort
from dosimeter.cohorts.contrast import FLAT_RANGE, MOST_FLAT, flat, used_range
from dosimeter.cohorts.trials import describe
from dosimeter.errors import DosimeterError
from dosimeter.study.config import StudyConfig
from dosimeter.study.trials import plan_trials

RNG = np.random.default_rng(3)
HU = RNG.integers(-1024, 1500, (64, 64))
"""Hounsfield units of a slice, more or less."""


def png(samples: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(samples) if mode is None else Image.fromarray(samples).convert(mode)).save(buffer, "PNG")
    return buffer.getvalue()


def ct(**attributes: object) -> bytes:
    made = dataset(16, signed=True, shape=(64, 64), Modality="CT", RescaleSlope=1, RescaleIntercept=0, **attributes)
    made.PixelData = HU.astype("<i2").tobytes()
    return written(made)


def noise(seed: int = 0) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (64, 64), dtype=np.uint8))


FLAT = {
    "CT without a window": ct(),
    "HU + 32768": png((HU + 32768).astype(np.uint16)),
    "12 bits of 16": png(RNG.integers(0, 4096, (64, 64)).astype(np.uint16)),
    "white": png(np.full((64, 64), 255, np.uint8)),
    "black": png(np.zeros((64, 64), np.uint8)),
    "transparent": png(np.dstack([RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8), np.zeros((64, 64), np.uint8)])),
    "red": png(np.tile(np.array([200, 0, 0], np.uint8), (64, 64, 1))),
    "black with a mark": png(np.pad(np.full((3, 4), 255, np.uint8), ((0, 61), (0, 60)))),
    "one pixel": png(np.array([[200]], np.uint8)),
}
NOT_FLAT = {
    "CT with a window": ct(WindowCenter=-600, WindowWidth=1500),
    "noise": noise(),
    "half black": png(np.pad(np.full((64, 4), 255, np.uint8), ((0, 0), (0, 60)))),
    "faint, yet more than a sixteenth": png(RNG.integers(100, 120, (64, 64), dtype=np.uint8)),
}


def folder(root: Path, files: list[bytes]) -> Path:
    for index, content in enumerate(files):
        (root / str(index % 2)).mkdir(parents=True, exist_ok=True)
        (root / str(index % 2) / f"Muster-{index:02d}").write_bytes(content)
    return root


@pytest.mark.parametrize("kind", [*FLAT, *NOT_FLAT])
def test_which_images_are_flat(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [noise(index) for index in range(3)] + [(FLAT | NOT_FLAT)[kind]]
    with caplog.at_level(logging.WARNING):
        cohort = load_cohort(f"folder:{folder(tmp_path, files)}")
    expected = ["1/Muster-03"] if kind in FLAT else []
    assert [record.name for record in flat(cohort)] == expected
    assert ("Muster-03" in caplog.text) == (kind in FLAT)


@pytest.mark.parametrize("share", [0.5, 0.062, 0.063, 0.9])
def test_the_range_is_that_between_the_extremes(share: float) -> None:
    image = np.linspace(0.05, 0.05 + share, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    assert used_range(image) == pytest.approx(0.99 * share, rel=1e-3)
    assert used_range(np.repeat(image, 20, axis=1)) == pytest.approx(0.99 * share, rel=5e-2)
    assert (used_range(image) < FLAT_RANGE) == (share < 0.0631)


@pytest.mark.parametrize("n_flat", [0, 2, 3])
def test_too_many_flat_images_stop_a_study_unless_it_is_forced(n_flat: int, tmp_path: Path) -> None:
    files = [FLAT["black"] if index < n_flat else noise(index) for index in range(20)]
    cohort = (f"folder:{folder(tmp_path / 'images', files)}",)
    config = StudyConfig(cohort=cohort, out=tmp_path / "run")
    if n_flat > MOST_FLAT * 20:
        with pytest.raises(DosimeterError, match=r"3 of 20 images .*Muster-00: .*--allow-flat"):
            plan_trials(config)
        config = StudyConfig(cohort=cohort, out=tmp_path / "run", allow_flat=True)
    trials, _ = plan_trials(config)
    card = describe(trials[0])
    assert card["n_flat"] == n_flat
    assert "Muster" not in str(card)


def test_forcing_changes_no_row() -> None:
    assert StudyConfig(allow_flat=True).digest() == StudyConfig().digest()
    assert StudyConfig(patients="dicom").digest() != StudyConfig().digest()
