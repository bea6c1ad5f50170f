"""The tutorials do what they show, from top to bottom."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dosimeter.cli.app import app

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
PAGES = sorted(file.stem for file in FOLDER.glob("*.md") if file.stem != "README")
NEEDED = {
    "timm": ["timm"],
    "onnx": ["onnx", "onnxruntime", "onnxscript", "onnx2pytorch"],
    "keras": ["h5py", "keras"],
    "torchxrayvision": ["skimage", "torchxrayvision"],
    "cluster": ["ray"],
}
WITH_VGG16 = ("paper", "cluster")
CACHE = Path.home() / ".cache" / "dosimeter"
_BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name: str) -> list[tuple[str, str]]:
    """Return the language and the text of each block of a page."""
    return _BLOCK.findall((FOLDER / f"{name}.md").read_text(encoding="utf-8"))


@pytest.mark.slow  # trains, converts and attacks networks, up to some minutes a page
@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for package in NEEDED.get(name, []):
        pytest.importorskip(package)
    if name in WITH_VGG16:
        if not list((CACHE / "weights").glob("vgg16*")):
            pytest.skip("needs VGG16's weights in the user's cache: dosimeter weights fetch vgg16")
        monkeypatch.setenv("DOSIMETER_CACHE", str(CACHE))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": name}
    for place, (language, text) in enumerate(blocks(name)):
        if language == "python":
            exec(compile(text, f"{name}.md, block {place + 1}", "exec"), names)
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "dosimeter"
            result = CliRunner().invoke(app, arguments, catch_exceptions=False)
            assert result.exit_code == 0, result.output


def test_every_tutorial_is_in_the_list_of_them() -> None:
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert PAGES
    assert all(f"]({name}.md)" in listed for name in PAGES)
    assert all(blocks(name) for name in PAGES)
