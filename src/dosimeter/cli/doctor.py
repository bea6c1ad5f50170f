"""`dosimeter doctor`: whether this machine can run a study."""

from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli.lines import AsJson, Quiet, say, say_json


def doctor(
    out: Annotated[Path, typer.Option(help="the folder that runs are to be written to")] = Path("runs"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what is installed, which engines, weights and GPU there are, and what can be written.

    Exit code 0 if a study can run here, 1 if something it needs is missing. Nothing is fetched.
    """
    from dosimeter.study.doctor import examine

    found = list(examine(out))
    if as_json:
        say_json([each._asdict() for each in found])
    else:
        width = max(len(each.part) for each in found)
        say(*(f"{each.level.upper():<5} {each.part:<{width}} {each.said}" for each in found))
    if any(each.level == "fault" for each in found):
        raise typer.Exit(1)
