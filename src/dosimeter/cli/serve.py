"""`dosimeter serve`: the part that needs the web server."""

import socket
import sys
import webbrowser
from pathlib import Path

import typer

from dosimeter.errors import DosimeterError

try:
    from dosimeter.app.explorer import Explorer, explorer_router
    from dosimeter.app.security import Gate
    from dosimeter.app.server import bind, create_app
    from dosimeter.app.server import run as serve_app
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "uvicorn", "starlette"):
        raise
    raise DosimeterError("The explorer needs FastAPI and uvicorn: pip install 'dosimeter[app]'.") from None
from dosimeter.replay import Replay


def serve(
    run: Path, *, data: Path | None, host: str, port: int, password_file: Path | None, open_browser: bool
) -> None:
    """Serve a run's explorer until Ctrl-C."""
    gate = Gate(host=host, password=_password(host, password_file))
    listener = bind(host, port)
    print("opening the run: its images are read and its classifiers built ...", file=sys.stderr)
    app = create_app(gate, routers=[explorer_router(Explorer(Replay(run, data=data)))])
    address = _address(host, listener)
    if not gate.is_local:
        print(
            f"WARNING: other machines can reach this server on {host}, and what it sends is NOT encrypted: anybody on "
            "the network may read images and password on their way. Use an SSH tunnel instead where you can.",
            file=sys.stderr,
        )

    def announce(token: str) -> None:
        print(f"that link is used up; for another browser: {address}/?token={token}", flush=True)

    gate.announce = announce
    print(f"open in a browser (works once): {address}/?token={gate.token}\nCtrl-C ends it.", flush=True)
    if open_browser:
        webbrowser.open(f"{address}/?token={gate.token}")
    try:
        serve_app(app, listener)
    except KeyboardInterrupt:
        print("ended.", file=sys.stderr)


def _password(host: str, file: Path | None) -> str | None:
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DosimeterError(f"the password file {file} cannot be read ({error}).") from error
    if host in ("127.0.0.1", "localhost", "::1") or not sys.stdin.isatty():
        return None
    password: str = typer.prompt("Password for those who open it from other machines", hide_input=True)
    return password


def _address(host: str, listener: socket.socket) -> str:
    """Return what to type into a browser."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"


def export(run: Path, folder: Path, *, data: Path | None, epsilons: str | None, limit: int) -> None:
    """Write an explorer that needs no server."""
    check_folder(folder)
    print("opening the run and making its images again ...", file=sys.stderr)
    doses = PAPER_EPSILONS if epsilons is None else epsilons
    n_images = write_explorer(Explorer(Replay(run, data=data)), folder, epsilons=doses, limit=limit)
    print(f"{n_images} images: {folder / 'index.html'}")
