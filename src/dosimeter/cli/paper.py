"""`dosimeter tables`, `figures` and `methods`: a finished run for a paper."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli.lines import AsJson, JsonAlone, Quiet, say, say_json
from dosimeter.errors import DosimeterError, did_you_mean
from dosimeter.plain import named, shown

RunFolder = Annotated[Path, typer.Argument(help="the folder of a finished run")]


def tables(
    run: RunFolder,
    form: Annotated[str, typer.Option("--format", help="format of the tables: latex, csv or md")] = "latex",
    table: Annotated[list[str] | None, typer.Option(help="the tables that are wanted; default: all")] = None,
    width: Annotated[str, typer.Option(help="width of LaTeX tables: a column is 88mm, the article class has 121mm")] = (
        "121mm"
    ),
    out: Annotated[Path | None, typer.Option(help="the folder to write to; default: paper/ in the run's")] = None,
    as_json: JsonAlone = False,
    quiet: Quiet = False,
) -> None:
    """Write a run's tables as a paper prints them: a few columns, values with their intervals, captions.

    LaTeX needs no package, and none is needed to write it. What is too long for a paper stays in tables/.
    """
    from dosimeter.analysis import names
    from dosimeter.presentation.lengths import parse_length
    from dosimeter.record.finished import read_finished
    from dosimeter.report.paper import FORMATS, for_paper, write

    if form not in FORMATS:
        raise DosimeterError(f"format must be latex, csv or md, got {shown(form)}. {did_you_mean(form, FORMATS)}")
    points = parse_length(width, name="width", least_mm=60)
    responses = read_finished(run)
    with names.of(responses.meta):
        paper = for_paper(responses, table or ())
    if as_json:
        say_json([{**sheet._asdict(), "rows": [[cell._asdict() for cell in row] for row in sheet.rows]}
                  for sheet in paper.sheets])  # fmt: skip
        return
    folder = out or run / "paper"
    files = write_all(folder, write(paper, form, width=points))
    say(*(folder / name for name in files))
    if paper.left_out:
        say(f"note: too long for a paper, in tables/ alone: {', '.join(paper.left_out)}", error=True)
    say(f"cite: {paper.source}; dosimeter methods {run} --bibtex", error=True)


def figures(
    run: RunFolder,
    form: Annotated[
        str, typer.Option("--format", help="format of the figures: pdf, svg or png; PDF and SVG have real text")
    ] = "pdf",
    width: Annotated[str, typer.Option(help="width of every figure: 88mm is a column, 180mm a page")] = "88mm",
    font: Annotated[str, typer.Option(help="an installed font")] = "DejaVu Sans",
    size: Annotated[float, typer.Option(help="size of the type, in points")] = 8.0,
    out: Annotated[Path | None, typer.Option(help="the folder to write to; default: paper/ in the run's")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw a run's figures as a paper prints them, with their captions in captions.md."""
    from dosimeter.analysis import names
    from dosimeter.cli.display import Display
    from dosimeter.presentation.lengths import parse_length
    from dosimeter.record.finished import read_finished
    from dosimeter.report.paper import source
    from dosimeter.report.prints import FORMATS, Look, check_look, print_figures

    if form not in FORMATS:
        raise DosimeterError(f"format must be pdf, svg or png, got {shown(form)}. {did_you_mean(form, FORMATS)}")
    look = Look(parse_length(width, name="width", least_mm=40), font, size)
    check_look(look)
    responses = read_finished(run)
    folder = out or run / "paper"
    with names.of(responses.meta), Display() as display:
        display.begin("figures", 0)
        drawn = []
        for each in print_figures(responses, folder, form, look):
            drawn.append(each)
            display.advance()
    made = source(responses)
    captions = "".join(f"## {each.file.name}\n\n{each.caption} {made}.\n\n" for each in drawn)
    write_all(folder, [("captions.md", captions)])
    if as_json:
        say_json([{"file": str(each.file), "caption": each.caption} for each in drawn])
        return
    say(*(each.file for each in drawn), folder / "captions.md")
    if small := [each for each in drawn if each.size < size]:
        names_of = ", ".join(f"{each.file.stem} {each.size:.1f} pt" for each in small)
        say(f"note: set in smaller type, as words would meet at {width}: {names_of}", error=True)
    say(f"cite: {made}; dosimeter methods {run} --bibtex", error=True)


def write_all(folder: Path, files: Iterable[tuple[str, str]]) -> list[str]:
    """Write texts by their files' names into `folder`, which is made if needed, and return the names."""
    from dosimeter.files import write_text

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files:
            write_text(folder / name, text)
            written.append(name)
    except OSError as error:
        raise DosimeterError(
            f"out must be a folder that can be written, {named(folder)} cannot ({error.strerror})."
        ) from error
    return written


def methods(
    run: RunFolder,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="print BibTeX of dosimeter and of the attacks")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print a methods paragraph, every word from the run's facts, and a line to cite."""
    from dosimeter.analysis import names
    from dosimeter.record.finished import read_finished
    from dosimeter.report import methods as written
    from dosimeter.report.quoted import Quoted

    responses = read_finished(run)
    with names.of(responses.meta):
        if bibtex:
            sources, unknown = _sources(written.attacks_of(responses.frame))
            say(*written.bibtex(responses.meta, sources).split("\n"))
            if unknown:
                say(f"note: not installed here, so without their papers: {', '.join(unknown)}", error=True)
            return
        found = written.facts(Quoted(responses))
    if as_json:
        say_json(found)
        return
    say(found["methods"], "", f"Cite: {found['cite']}")


def _sources(attacks: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the papers of attacks by their titles, and the attacks that are not known here."""
    from dosimeter import registry
    from dosimeter.analysis.names import attack_title

    sources, unknown = {}, []
    for name in attacks:
        if name not in registry.names("attacks"):
            unknown.append(name)
            continue
        sources[attack_title(name)] = str(registry.get("attacks", name).source)
    return sources, unknown
