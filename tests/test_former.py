"""Names of before 0.2.0 work for one release, with a warning."""

import importlib
import subprocess
import sys

import pytest

import dosimeter.study.run
from dosimeter.former import MOVED
from dosimeter.models import backbones
from dosimeter.models.backbones import get_backbone


@pytest.mark.parametrize("name", MOVED)
def test_modules_that_moved_are_found_under_their_former_names(name: str) -> None:
    sys.modules.pop(f"dosimeter.{name}", None)
    with pytest.warns(DeprecationWarning, match=f"dosimeter.{name} is now dosimeter.{MOVED[name]}"):
        former = importlib.import_module(f"dosimeter.{name}")
    now = importlib.import_module(f"dosimeter.{MOVED[name]}")
    assert former is now
    assert now.__name__ == f"dosimeter.{MOVED[name]}"


def test_packages_that_were_modules_have_their_names() -> None:
    with pytest.warns(DeprecationWarning, match=r"dosimeter\.study\.run_study is now dosimeter.study.run.run_study"):
        former = dosimeter.study.run_study
    assert former is dosimeter.study.run.run_study
    with pytest.raises(AttributeError, match="run_studies"):
        _ = dosimeter.study.run_studies


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"dosimeter\.nothing"):
        importlib.import_module("dosimeter.nothing")


def test_a_backbone_can_be_put_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(backbones.BACKBONES) >= {"vgg16", "inception_v3"}
    assert len(backbones.BACKBONES) == len(list(backbones.BACKBONES))
    monkeypatch.setitem(backbones.BACKBONES, "mine", get_backbone("vgg16"))
    assert get_backbone("mine") is get_backbone("vgg16")
    monkeypatch.undo()
    assert "mine" not in backbones.BACKBONES


def test_the_package_alone_loads_no_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, dosimeter; assert 'torch' not in sys.modules"], check=True)
