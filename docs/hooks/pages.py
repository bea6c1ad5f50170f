"""Pages that MkDocs makes while it builds: the reference, out of the code, and the pages that lie beside docs/.

Nothing of it is written into the clone.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import dosimeter
from dosimeter.cli.app import app

ROOT = Path(__file__).parents[2]
BESIDE = (
    *("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    *(f"benchmarks/{file.name}" for file in sorted(ROOT.glob("benchmarks/*.md"))),
)
FOLDER = "project"
"""Where the pages from beside docs/ are in the site."""

_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of docs/."""
    made = {"reference/python.md": public_names(), "reference/commands.md": commands()}
    made |= {f"{FOLDER}/{name}": (ROOT / name).read_text(encoding="utf-8") for name in BESIDE}
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links that lead out of docs/ in the clone into those to the same page of the site."""
    here = page.file.src_uri
    inside = here.removeprefix(f"{FOLDER}/") if here.startswith(f"{FOLDER}/") else f"docs/{here}"
    return _LINK.sub(lambda link: moved(link.group(1), clone=inside, site=here), markdown)


def moved(target: str, *, clone: str, site: str) -> str:
    """Return a relative link of the page `clone` in the repository as one of the page `site` in the site."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(clone), target))
    if path == "README.md":
        path = "docs/index.md"
    if path in BESIDE:
        place = f"{FOLDER}/{path}"
    elif path.startswith("docs/"):
        place = path.removeprefix("docs/")
    else:
        return target  # MkDocs says that there is no such page
    return posixpath.relpath(place, posixpath.dirname(site) or ".")


def public_names() -> str:
    """Return the page of `dosimeter.__all__`, in its order, each name as mkdocstrings reads it from the sources."""
    lines = ["# Python", "", "Everything that `import dosimeter as dm` offers. Its use: [In Python](../python.md).", ""]
    for name in dosimeter.__all__:
        if not name.startswith("_"):
            thing = getattr(dosimeter, name)
            options = f"    options: {{heading: dm.{name}, toc_label: {name}}}"
            lines += [f"::: {thing.__module__}.{thing.__qualname__}", options, ""]
    return "\n".join(lines)


def commands() -> str:
    """Return the page of all commands, from the program itself."""
    program = typer.main.get_command(app)
    lines = ["# Commands", "", program.help or "", ""]
    for path, command in walked(program, "dosimeter"):
        lines += [f"## {path}", "", *described(command), *usage(path, command), ""]
    return "\n".join(lines)


def walked(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every command below `command` that does something, with the words that call it."""
    for name, below in sorted(getattr(command, "commands", {}).items()):
        if hasattr(below, "commands"):
            yield from walked(below, f"{path} {name}")
        else:
            yield f"{path} {name}", below


def described(command: Any) -> list[str]:
    """Return a command's help as paragraphs."""
    return [*(command.help or "").strip().split("\n"), ""]


def usage(path: str, command: Any) -> list[str]:
    """Return how a command is called, and a table of its arguments and options."""
    context = command.make_context(path, [], resilient_parsing=True)
    lines = ["```text", command.get_usage(context).removeprefix("Usage: "), "```", ""]
    rows = [row for parameter in command.get_params(context) if (row := record(parameter, context))]
    return lines + (["| argument or option | what it is |", "| :-- | :-- |", *rows] if rows else [])


def record(parameter: Any, context: Any) -> str:
    """Return a line of the table; nothing of what is hidden."""
    if getattr(parameter, "hidden", False):
        return ""
    name, help_text = parameter.get_help_record(context) or (parameter.make_metavar(context), parameter.help or "")
    return f"| `{cell(name)}` | {cell(help_text).replace('<', '&lt;')} |"


def cell(text: str) -> str:
    """Return text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
