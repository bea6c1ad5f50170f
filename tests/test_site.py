"""The documentation is built with no link that leads nowhere, and is read without a network."""

import re
from pathlib import Path

import pytest

import dosimeter

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings_handlers.python")

ROOT = Path(__file__).parent.parent
_FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?((?:https?:)?//[^\" >]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built as `make docs` does: `strict` is in its settings."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
    assert config.strict
    build(config)
    return folder


def test_every_public_name_and_command_is_in_the_reference(site: Path) -> None:
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    names = [name for name in dosimeter.__all__ if not name.startswith("_")]
    assert [name for name in names if f"dm.{name}" not in python] == []
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for command in ("study", "audit", "gate", "data-fetch", "readers-new"):
        assert f'id="dosimeter-{command}"' in commands
    assert "--epsilons" in commands


def test_pages_fetch_nothing_when_they_are_read(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    fetched = {link for page in pages for link in _FETCHED.findall(page.read_text(encoding="utf-8"))}
    assert fetched == set()
    assert (site / "search" / "search_index.js").is_file()


def test_only_documentation_is_in_the_site(site: Path) -> None:
    assert not [file for file in site.rglob("*") if file.suffix in (".py", ".md", ".parquet", ".toml")]
    assert (site / "project" / "CHANGELOG.html").is_file()
    assert "../evaluation.html" in (site / "explanations" / "gradient-masking.html").read_text(encoding="utf-8")
