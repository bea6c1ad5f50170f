"""The web server: static files from memory, routers behind a gate, and a port to listen on."""

import errno
import logging
import mimetypes
import socket
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from dosimeter.app.security import Gate, Guard
from dosimeter.errors import DosimeterError

log = logging.getLogger(__name__)
mimetypes.add_type("text/javascript", ".js")


class NotThere(DosimeterError):
    """What was asked for does not exist: 404."""


class StaticFile(NamedTuple):
    """A file of the package, held in memory."""

    body: bytes
    kind: str


def static_files() -> dict[str, StaticFile]:
    """Return every file below `static/` by its place; a folder's "index.html" also as "explorer/"."""
    found: dict[str, StaticFile] = {}
    _gather(files("dosimeter.app") / "static", "", found)
    return found


def _gather(folder: Traversable, prefix: str, found: dict[str, StaticFile]) -> None:
    for item in folder.iterdir():
        if item.is_dir():
            _gather(item, f"{prefix}{item.name}/", found)
            continue
        kind = mimetypes.guess_type(item.name)[0] or "application/octet-stream"
        file = StaticFile(item.read_bytes(), f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        found[f"{prefix}{item.name}"] = file
        if item.name == "index.html":
            found[prefix] = file


def create_app(gate: Gate, *, routers: Sequence[APIRouter] = (), home: str = "/explorer/") -> ASGIApp:
    """Return the app: `routers`, the files of `static/`, and nothing else.

    A file is looked up by name among those that were read when the app was made: no request reaches the file system.

    Args:
        gate: who may come in.
        routers: what answers, under paths that begin with /api/.
        home: where "/" leads.
    """
    app = FastAPI(title="dosimeter", docs_url=None, redoc_url=None, openapi_url=None)
    for router in routers:
        app.include_router(router)
    known = static_files()

    @app.get("/")
    def start() -> RedirectResponse:
        return RedirectResponse(home, 303)

    @app.get("/{name:path}")
    def static(name: str) -> Response:
        file = known.get(name)
        if file is None:
            raise HTTPException(404)
        return Response(file.body, headers={"content-type": file.kind})

    app.add_exception_handler(DosimeterError, _mistake)
    app.add_exception_handler(RequestValidationError, _nonsense)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _own_fault)
    return Guard(app, gate=gate)  # around all of it: an answer to an error has its headers too


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `port` of `host`; port 0 is any free one.

    Raises:
        DosimeterError: the port is in use or not allowed, or the host is not this machine's.
    """
    if not 0 <= port <= 65535:
        raise DosimeterError(f"port must be from 0 to 65535, got {port}. Try --port 0, any free one.")
    reasons = {
        errno.EADDRINUSE: f"port {port} of {host} is in use. Take another with --port, or any free one with --port 0.",
        errno.EACCES: f"port {port} is reserved for the system's own services. Take one above 1023 with --port.",
        errno.EADDRNOTAVAIL: f"host {host} is no address of this machine. Leave --host out to listen on 127.0.0.1.",
    }
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise DosimeterError(f"host {host} is not known here ({error}). Leave --host out.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # so that a browser that is opened at once waits instead of being refused
    except OSError as error:
        listener.close()
        raise DosimeterError(
            reasons.get(error.errno or 0, f"cannot listen on {host}, port {port}: {error}.")
        ) from error
    return listener


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until Ctrl-C."""
    server_of(app).run(sockets=[listener])


def server_of(app: ASGIApp) -> uvicorn.Server:
    """Return a quiet server of `app`, which stops once its `should_exit` is set."""
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    return uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", timeout_graceful_shutdown=2, **quiet))


def _mistake(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 404 if isinstance(error, NotThere) else 400)


def _nonsense(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg']}."}, 400)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    sentence = "There is nothing at this address." if error.status_code == 404 else f"{error.detail}."
    return JSONResponse({"error": sentence}, error.status_code, headers=error.headers)


def _own_fault(request: Request, error: Exception) -> JSONResponse:
    log.error("a request failed", exc_info=error)
    return JSONResponse({"error": "This went wrong here, not in the browser. The terminal says more."}, 500)
