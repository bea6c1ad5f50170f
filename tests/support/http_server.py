"""A local HTTP server of files that misbehaves where a test asks it to."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote

STALL_S = 0.5


class FileServer:
    """Serves `files`, keyed by their decoded path below the root, on 127.0.0.1 while in its `with` block.

    Attributes:
        corrupt: paths served with one byte changed.
        missing: paths answered by 404.
        faults: path -> what happens to its next requests, in turn: "half" (the connection is closed half-way
            through the body), "reset" (the same, with a TCP reset), "silent" (closed without an answer), "stall"
            (nothing is sent for `STALL_S`), "503", or an address to redirect to.
        honour_range: whether `Range: bytes=N-` is answered by 206.
        requests: path and Range header (or None) of every request so far.
    """

    def __init__(self, files: Mapping[str, bytes | Path]) -> None:
        self.files = files
        self.corrupt: set[str] = set()
        self.missing: set[str] = set()
        self.faults: dict[str, list[str]] = {}
        self.honour_range = True
        self.requests: list[tuple[str, str | None]] = []

    def __enter__(self) -> Self:
        server = self

        class Handler(_Handler):
            files = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def counts(self) -> Counter[str]:
        """Number of requests for each path."""
        return Counter(path for path, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    files: FileServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server, path = self.files, unquote(self.path).lstrip("/")
        server.requests.append((path, self.headers["Range"]))
        faults = server.faults.get(path)
        fault = faults.pop(0) if faults else ""
        if fault == "silent":
            return
        if fault == "stall":
            time.sleep(STALL_S)
            return
        if fault == "503" or "://" in fault:
            self.send_response(503 if fault == "503" else 302)
            self.send_header("Retry-After" if fault == "503" else "Location", "0" if fault == "503" else fault)
            self.end_headers()
            return
        if path in server.missing or path not in server.files:
            self.send_error(404)
            return
        self._send(path, server.files[path], fault)

    def _send(self, path: str, source: bytes | Path, fault: str) -> None:
        body = source if isinstance(source, bytes) else source.read_bytes()
        if path in self.files.corrupt:
            body = body[:-1] + bytes([body[-1] ^ 1])
        start = 0
        if self.files.honour_range and (wanted := self.headers["Range"]):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        rest = body[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if fault else rest)
        if fault == "reset":
            self.wfile.flush()
            time.sleep(0.05)  # let the client read what came: a reset discards what it has not read
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
