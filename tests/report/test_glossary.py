"""The glossary: one text, in the package, in docs/ and at the end of every report."""

from pathlib import Path

from typer.testing import CliRunner

from dosimeter.cli.app import app
from dosimeter.report.glossary import GLOSSARY


def test_the_page_is_the_packages() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("- ")] == [
        f"- **{word}**: {meaning}" for word, meaning in GLOSSARY.items()
    ]


def test_help_names_the_words_and_lists_print_them() -> None:
    assert "dosimeter list words" in " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    printed = " ".join(CliRunner().invoke(app, ["list", "words"]).output.split())
    for word, meaning in GLOSSARY.items():
        assert word in printed
        assert meaning.split(".")[0][:40] in printed
