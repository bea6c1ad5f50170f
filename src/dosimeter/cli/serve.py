"""`dosimeter serve`: look at a finished run's images in a browser."""

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from dosimeter.cli.readers import password_in


def serve(
    run: Annotated[Path, typer.Argument(help="the folder of a finished run")],
    port: Annotated[int, typer.Option(help="0: any that is free")] = 0,
    host: Annotated[str, typer.Option(help="another interface needs a password")] = "127.0.0.1",
    password_file: Annotated[Path | None, typer.Option(help="file with the password")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open a browser")] = True,
    data: Annotated[Path | None, typer.Option(help="folder of the real images, if it has moved")] = None,
) -> None:
    """Explore a run's images at any epsilon in a browser. For a study with readers see `dosimeter readers serve`."""
    from dosimeter.errors import DosimeterError

    try:
        from dosimeter.app.explorer import HOME, Explorer, explorer_router
        from dosimeter.app.security import Gate
        from dosimeter.app.server import bind, create_app
        from dosimeter.app.server import run as listen
    except ImportError as error:
        raise DosimeterError("Serving needs FastAPI and uvicorn: pip install 'dosimeter[app]'.") from error
    listener = bind(host, port)
    address = f"http://{host}:{listener.getsockname()[1]}/"
    gate = Gate(
        host=host,
        password=None if password_file is None else password_in(password_file),
        announce=lambda token: print(f"next link: {address}?token={token}", flush=True),
    )
    print("making the run's classifiers ready ...", file=sys.stderr, flush=True)
    app = create_app(gate, routers=[explorer_router(Explorer(run, data=data))], home=HOME)
    link = f"{address}?token={gate.token}"
    print(f"explorer: {link}\nThe link works once. Stop with Ctrl-C.", flush=True)
    if not gate.is_local:
        print(f"OPEN TO THE NETWORK: whoever has the password and reaches {host} sees the images.", file=sys.stderr)
    if browser and gate.is_local:
        webbrowser.open(link)
    listen(app, listener)
