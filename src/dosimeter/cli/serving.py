"""What commands share that serve pages: a port, a link that works once, a password for other machines."""

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dosimeter.cli.lines import say
from dosimeter.errors import DosimeterError
from dosimeter.files import require_file

if TYPE_CHECKING:
    from fastapi import APIRouter

Port = Annotated[int, typer.Option(help="port of the server; 0: any that is free")]
Host = Annotated[
    str, typer.Option(help="address that the server listens at; any but this machine's own needs a password")
]
PasswordFile = Annotated[Path | None, typer.Option(help="file with the password")]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="open a browser")]


class Page(NamedTuple):
    """What is served, and the words for it.

    Attributes:
        title: what the link opens.
        home: where "/" leads.
        note: said below the link.
        warning: what whoever has the password can do.
        router: makes the routes; called once the port is there.
    """

    title: str
    home: str
    note: str
    warning: str
    router: "Callable[[], APIRouter]"


def need_app() -> Any:
    """Return the module `app.server`.

    Raises:
        DosimeterError: the extra is not installed.
    """
    try:
        from dosimeter.app import server
    except ImportError as error:
        raise DosimeterError("Serving needs FastAPI and uvicorn: pip install 'dosimeter[app]'.") from error
    return server


def serve_page(page: Page, *, host: str, port: int, password_file: Path | None, browser: bool) -> None:
    """Serve until Ctrl-C."""
    server = need_app()
    from dosimeter.app.security import Gate

    password = None if password_file is None else _password(password_file)
    listener = server.bind(host, port)
    address = f"http://{host}:{listener.getsockname()[1]}/"
    gate = Gate(host=host, password=password, announce=lambda token: say(f"next link: {address}?token={token}"))
    app = server.create_app(gate, routers=[page.router()], home=page.home)
    link = f"{address}?token={gate.token}"
    say(f"{page.title}: {link}", f"The link works once. Stop with Ctrl-C{page.note}")
    if not gate.is_local:
        say(
            f"OPEN TO THE NETWORK: whoever has the password and reaches {host} {page.warning}.", error=True, urgent=True
        )
    if browser and gate.is_local:
        webbrowser.open(link)
    server.run(app, listener)


def _password(file: Path) -> str:
    try:
        require_file(file)
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise DosimeterError(
            f"password-file: {file} cannot be read. Give a text file with the password; a pipe is not waited for."
        ) from error
