"""`dosimeter compare`: finished runs, image by image."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli.lines import JsonAlone, Quiet, say, say_json


def compare(
    runs: Annotated[list[Path], typer.Argument(help="the folders of finished runs; the first is the reference")],
    out: Annotated[Path, typer.Option(help="the folder to write to")] = Path("comparison"),
    as_json: JsonAlone = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs on the images that they share: paired differences with intervals, curves over one another.

    Writes comparison.html, one file that needs no network, comparison.csv and comparison.json.
    """
    from dosimeter.comparison.compare import compare as compared
    from dosimeter.comparison.compare import in_force, lines
    from dosimeter.comparison.page import as_json as plain
    from dosimeter.comparison.write import write
    from dosimeter.record.finished import read_finished

    named = list(zip(labels(runs), [read_finished(run) for run in runs], strict=True))
    with in_force(named):
        found = compared(named)
        if as_json:
            say_json(plain(found))
            return
        page = write(found, out)
        say(*lines(found), f"comparison: {page}")


def labels(runs: Sequence[Path]) -> list[str]:
    """Return what runs are called: their folders' names, with a number where two are the same."""
    names = [run.resolve().name for run in runs]
    counts, seen = Counter(names), Counter[str]()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if counts[name] > 1 else name)
    return found
