"""`dosimeter serve`: look at a finished run's images in a browser, or write a folder that needs no server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dosimeter.cli import options
from dosimeter.cli.lines import Quiet, say
from dosimeter.cli.serving import Browser, Host, Page, PasswordFile, Port, need_app, serve_page
from dosimeter.errors import DosimeterError

if TYPE_CHECKING:
    from fastapi import APIRouter

    from dosimeter.app.explorer import Explorer


def serve(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run")],
    port: Port = 0,
    host: Host = "127.0.0.1",
    password_file: PasswordFile = None,
    browser: Browser = True,
    data: Annotated[Path | None, typer.Option(help="folder of the real images, if it has moved")] = None,
    trust: options.Trust = False,
    export: Annotated[
        Path | None, typer.Option(help="write the explorer into this folder instead, for browsers without a server")
    ] = None,
    epsilons: Annotated[
        str | None, typer.Option(help="epsilons of an export; default: 0, and the paper's 0.0007, 0.003, 0.009, 0.08")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="images of each curve in an export, most susceptible first; default: 20")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Explore a run's images at any epsilon in a browser. For a study with readers see `dosimeter readers serve`."""
    if export is not None:
        _export(run, export, epsilons=epsilons, limit=limit, data=data, trust=trust)
        return
    for name, value in (("epsilons", epsilons), ("limit", limit)):
        if value is not None:
            raise DosimeterError(f"{name} chooses what is exported, got {value}. Give --export DIR, or leave it out.")
    need_app()
    from dosimeter.app.explorer import HOME, explorer_router

    def router() -> "APIRouter":
        return explorer_router(_explorer(run, data, trust=trust))

    page = Page("explorer", HOME, ".", "sees the images", router)
    serve_page(page, host=host, port=port, password_file=password_file, browser=browser)


def _explorer(run: Path, data: Path | None, *, trust: bool) -> "Explorer":
    from dosimeter.app.explorer import Explorer

    say("making the run's classifiers ready ...", error=True)
    return Explorer(run, data=data, trust=trust)


def _export(
    run: Path, folder: Path, *, epsilons: str | None, limit: int | None, data: Path | None, trust: bool
) -> None:
    need_app()
    from dosimeter.app.standalone import check_export, write_explorer
    from dosimeter.cli.display import Display

    choice = check_export(folder, epsilons=epsilons, limit=limit)
    explorer = _explorer(run, data, trust=trust)
    with Display() as display:
        n_images = write_explorer(explorer, choice, progress=display)
    size_mb = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    say(
        f"{n_images} images, {size_mb:.1f} MB: {folder / 'index.html'}",
        "It contains images of the cohort: whoever may not have them may not have this folder.",
    )
