"""`dosimeter serve`: look at a finished run's images in a browser."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dosimeter.cli.serving import Browser, Host, Page, PasswordFile, Port, need_app, serve_page

if TYPE_CHECKING:
    from fastapi import APIRouter


def serve(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run")],
    port: Port = 0,
    host: Host = "127.0.0.1",
    password_file: PasswordFile = None,
    browser: Browser = True,
    data: Annotated[Path | None, typer.Option(help="folder of the real images, if it has moved")] = None,
) -> None:
    """Explore a run's images at any epsilon in a browser. For a study with readers see `dosimeter readers serve`."""
    need_app()
    from dosimeter.app.explorer import HOME, Explorer, explorer_router

    def router() -> "APIRouter":
        print("making the run's classifiers ready ...", file=sys.stderr, flush=True)
        return explorer_router(Explorer(run, data=data))

    page = Page("explorer", HOME, ".", "sees the images", router)
    serve_page(page, host=host, port=port, password_file=password_file, browser=browser)
