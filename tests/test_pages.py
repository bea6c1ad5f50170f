"""What README and documentation say is there: files that links lead to, commands, options, targets of make."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from dosimeter.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    file.relative_to(ROOT).as_posix()
    for file in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"))
)
WITH_PYTHON = [
    page
    for page in PAGES
    if (page == "README.md" or page.startswith("docs/"))
    and not page.startswith("docs/tutorials/")
    and "```python\n" in (ROOT / page).read_text(encoding="utf-8")
]
CACHE = Path.home() / ".cache" / "dosimeter"
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)")
_COMMAND = re.compile(r"^(?:\$ )?(dosimeter .*?)(?:\s+#.*)?$", re.MULTILINE)
_SHELL = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_files_of_the_clone(page: str) -> None:
    if page == "docs/index.md":
        assert "](study.md#a-runs-folder)" in text_of(page)  # whose anchor the site's build checks
    lost = [link for link in _LINK.findall(text_of(page)) if not ((ROOT / page).parent / link).is_file()]
    assert not lost


TREATED = {
    "python": "run, but where they need what only their reader has: see `WITH_PYTHON` and test_tutorials",
    "sh": "run in tutorials; elsewhere looked up, commands and options: they name cohorts and files of a reader",
    "console": "likewise, with what is printed",
    "toml": "parsed",
    "yaml": "parsed",
    "bash": "of a scheduler: not run, its commands are looked up",
    "dockerfile": "not run: it needs a network",
}
"""What becomes of the blocks of code in these tests, by their language."""

_FENCED = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_has_a_language_that_is_treated_here(page: str) -> None:
    for language, text in _FENCED.findall(text_of(page)):
        assert language in TREATED or not language, language  # without one: what is printed, or a sketch
        if not language:
            assert not re.search(r"^(import|from) \w+", text, re.MULTILINE), "Python without its name is never run"
        if language == "toml":
            tomllib.loads(text)
        if language == "yaml":
            pytest.importorskip("yaml").safe_load(text)


def unknown(line: str) -> str:
    """Return the first word of a command line that dosimeter does not know; nothing if it knows all."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return words[0]
        command = command.commands[words.pop(0)]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"-h", "--help"}
    return next((word for word in words if word.startswith("--") and word.partition("=")[0] not in known), "")


def test_a_slip_in_a_command_is_found() -> None:
    assert unknown("dosimeter studdy") == "studdy"
    assert unknown("dosimeter data chek x") == "chek"
    assert unknown("dosimeter study --epsilon 1") == "--epsilon"
    assert not unknown("dosimeter gate RUN --rule 'clean_accuracy >= 0.9' --max-drop=0.1")


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_commands_of_a_page_are_there(page: str) -> None:
    lines = [line for block in _SHELL.findall(text_of(page)) for line in _COMMAND.findall(block)]
    assert [(line, word) for line in lines if (word := unknown(line))] == []


def test_the_readme_is_one_screen_whose_commands_are_there() -> None:
    text = text_of("README.md")
    assert len(text.splitlines()) <= 50
    targets = re.findall(r"^make (\w+)", text, re.MULTILINE)
    assert targets == ["study", "test"]
    makefile = text_of("Makefile")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    (python,) = _PYTHON.findall(text)
    assert len([line for line in python.splitlines() if not line.startswith(("import", "from"))]) <= 5
    assert "not a medical device" in text


@pytest.mark.slow  # trains and attacks networks, up to some minutes a page
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = _PYTHON.findall(text_of(page))
    if any('"inception_v3"' in block for block in blocks):
        if not list((CACHE / "weights").glob("inception_v3*")):
            pytest.skip("needs Inception-v3's weights in the user's cache: dosimeter weights fetch inception_v3")
        monkeypatch.setenv("DOSIMETER_CACHE", str(CACHE))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page}
    for place, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {place + 1}", "exec"), names)
