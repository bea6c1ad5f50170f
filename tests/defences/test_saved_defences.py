"""A defended classifier on disk: what is not as it was saved is one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import convolutional_classifier

from dosimeter.cohorts.arrays import cohort_of
from dosimeter.defences.base import defend, train
from dosimeter.defences.saved import bring, save_defended
from dosimeter.errors import DosimeterError
from dosimeter.models import source
from dosimeter.models.base import Classifier
from dosimeter.study import config, settings

TEXT = "mahalanobis:0.2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved defended classifier, whose undefended one is a file that stands for a model card."""
    bare = convolutional_classifier()
    (tmp_path / "bare.toml").write_text("")

    def brought(model: str | Path, *, trust: bool = False, device: str = "cpu") -> Classifier:
        del model, trust, device
        return bare

    monkeypatch.setattr(source, "bring", brought)
    images = torch.rand(30, 3, 32, 32, generator=torch.Generator().manual_seed(0)).numpy()
    trained = train(bare, TEXT, cohort_of(images, [0, 1] * 15, classes=bare.classes))
    guarded = tmp_path / "guarded"
    save_defended(guarded, trained, undefended=tmp_path / "bare.toml", name="bare", seed=0, training=[])
    return guarded


def test_what_is_saved_comes_back(folder: Path) -> None:
    assert bring(folder).card["model"] == f"bare + {TEXT}"


def named_otherwise(card: dict[str, Any]) -> None:
    card["parts"][0]["name"] = "lid"


def without_file(card: dict[str, Any]) -> None:
    card["parts"][0]["file"] = None


def of_itself(card: dict[str, Any]) -> None:
    card["undefended"] = "."


def with_another_setting(card: dict[str, Any]) -> None:
    card["defence"] = "mahalanobis:0.3"


def with_another_defence(card: dict[str, Any]) -> None:
    card["defence"] = "kernel_density:0.2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (named_otherwise, "lacks what its defence mahalanobis learned"),
        (without_file, "lacks what its defence mahalanobis learned"),
        (of_itself, "defends a model that is defended itself"),
        (with_another_setting, "makes another network now"),
        (with_another_defence, "lacks what its defence kernel_density learned"),
    ],
)
def test_a_changed_card_is_one_sentence(folder: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    file = folder / "defended.json"
    card = json.loads(file.read_text())
    change(card)
    file.write_text(json.dumps(card))
    with pytest.raises(DosimeterError, match=said):
        bring(folder)


def test_a_defended_classifier_is_not_defended_again(folder: Path) -> None:
    defended = bring(folder)
    nothing = cohort_of(torch.rand(1, 3, 32, 32).numpy(), [0], classes=defended.classes)
    with pytest.raises(DosimeterError, match="joined by plus signs"):
        defend(defended, "jpeg:75", nothing)


def test_beside_its_undefended_one_it_is_a_defence_that_is_judged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = str(tmp_path / "bare.toml")
    for module in (config, settings):
        monkeypatch.setattr(module, "name_of", lambda model: "bare" if model == bare else f"bare + {TEXT}")
    assert not config.StudyConfig(model=(str(folder),), protocol=("whole",)).defends
    both = config.StudyConfig(model=(bare, str(folder)), protocol=("whole",))
    assert both.defends
    assert both.shares_images
