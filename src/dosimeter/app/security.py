"""Who may talk to the app, and what a browser may do with what it is given.

The app listens on this machine. A page of another site, open in the same browser, must not reach it, nor anybody else
on the network: whoever comes needs a link that works once, or the password, and then holds a session cookie.
"""

import asyncio
import hmac
import html
import ipaddress
import json
import secrets
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dosimeter.errors import DosimeterError

MAX_BODY = 65_536
"""Bytes that a request may bring."""

MIN_PASSWORD = 8
"""Characters."""

WRONG_PASSWORD_S = 1.0
"""How long a wrong password waits for its answer; they wait one after the other."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Sent with every answer."""

_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<link rel="icon" href="data:,">'
    "{head}<title>dosimeter</title><h1>dosimeter</h1>{body}</html>"
)
_LOGIN = (
    '<form method="post" action="/login"><label>Password <input type="password" name="password" '
    'autocomplete="current-password" autofocus required></label> <button>Open</button></form>'
)


class Gate:
    """The keys of one server. They live as long as it does.

    Args:
        host: the interface it listens on.
        password: lets others in, where the server listens on more than this machine.
        announce: told the new token whenever one was used.

    Raises:
        DosimeterError: another interface than this machine's own without a password, or with a short one.
    """

    def __init__(
        self, *, host: str = "127.0.0.1", password: str | None = None, announce: Callable[[str], None] | None = None
    ) -> None:
        self.is_local = _is_loopback(host)
        if not self.is_local and password is None:
            raise DosimeterError(
                f"host {host} can be reached from other machines, so it needs a password. Give --password-file."
            )
        if password is not None and len(password) < MIN_PASSWORD:
            raise DosimeterError(
                f"the password must have {MIN_PASSWORD} characters or more, got {len(password)}. Take a longer one."
            )
        self.password = password
        self.announce = announce
        self.cookie = f"dosimeter-{secrets.token_hex(4)}"  # its own: browsers share cookies between ports
        self.token = secrets.token_urlsafe(24)
        self._host = host.lower()
        self._session = secrets.token_urlsafe(32)

    def redeem(self, token: str) -> bool:
        """Return whether `token` is the one that was printed; it is then used up, and another one takes its place."""
        if not _same(token, self.token):
            return False
        self.token = secrets.token_urlsafe(24)
        if self.announce is not None:
            self.announce(self.token)
        return True

    def is_password(self, text: str) -> bool:
        """Return whether `text` is the password."""
        return self.password is not None and _same(text, self.password)

    def is_open_to(self, cookies: str) -> bool:
        """Return whether a request with this Cookie header has come in before."""
        try:
            morsel = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, self._session)

    def is_own_name(self, host: str) -> bool:
        """Return whether a Host header may be this server's.

        A site whose name was pointed at this machine's address sends its own, which is refused (DNS rebinding). The
        port is left out of account: it differs behind an SSH tunnel.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name == "localhost" or _is_loopback(name):
            return True
        return not self.is_local and (name == self._host or _is_address(name))

    @property
    def set_cookie(self) -> str:
        """The header that opens a session."""
        return f"{self.cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"


class Guard:
    """ASGI middleware: nothing behind it is reached but through its gate."""

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app = app
        self._gate = gate
        self._wrong = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        send = _with_headers(send)
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if not self._gate.is_own_name(headers.get("host", "")):
            await _refuse(send, 421, "This server is not known by that name. Open the address that it printed.")
        elif not _is_same_origin(headers, scope["method"]):
            await _refuse(send, 403, "The request comes from another site.")
        elif _length(headers) > MAX_BODY:
            await _refuse(send, 413, f"A request may bring {MAX_BODY} bytes at most.")
        elif scope["path"] == "/login" and scope["method"] == "POST":
            await self._log_in(_limited(receive), send)
        elif "token" in query and scope["method"] == "GET" and self._gate.redeem(query["token"][0]):
            await self._enter(send)
        elif self._gate.is_open_to(headers.get("cookie", "")):
            await self._app(scope, _limited(receive), send)
        else:
            await self._turn_away(send, page="text/html" in headers.get("accept", ""))

    async def _log_in(self, receive: Receive, send: Send) -> None:
        try:
            body = await _body(receive)
        except _TooLong:
            await _refuse(send, 413, f"A request may bring {MAX_BODY} bytes at most.")
            return
        given = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
        if self._gate.is_password(given):
            await self._enter(send)
            return
        async with self._wrong:
            await asyncio.sleep(WRONG_PASSWORD_S)
        await self._turn_away(send, page=True)

    async def _enter(self, send: Send) -> None:
        # Not a redirect: a browser that came from another site's link would follow it without the cookie.
        page = _PAGE.format(head='<meta http-equiv="refresh" content="0; url=/">', body='<p><a href="/">Open</a></p>')
        await _answer(send, 200, page, "text/html; charset=utf-8", {"set-cookie": self._gate.set_cookie})

    async def _turn_away(self, send: Send, *, page: bool) -> None:
        sentence = "Open the link that the terminal printed last: each works once."
        if self._gate.password is not None:
            sentence = "Give the password, or open the link that the terminal printed last."
        if not page:
            await _refuse(send, 401, sentence)
            return
        body = f"<p>{html.escape(sentence)}</p>" + (_LOGIN if self._gate.password is not None else "")
        await _answer(send, 401, _PAGE.format(head="", body=body), "text/html; charset=utf-8")


class _TooLong(Exception):
    """A body beyond `MAX_BODY`."""


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _limited(receive: Receive) -> Receive:
    """Return `receive` that stops a body without a declared length at `MAX_BODY`."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY:
            raise _TooLong
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sending


async def _refuse(send: Send, status: int, sentence: str) -> None:
    await _answer(send, status, json.dumps({"error": sentence}), "application/json")


async def _answer(send: Send, status: int, text: str, kind: str, more: dict[str, str] | None = None) -> None:
    body = text.encode()
    headers = {"content-type": kind, "content-length": str(len(body)), **(more or {})}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _is_same_origin(headers: Headers, method: str) -> bool:
    """Return whether a request that may change something comes from a page of this server, or from no page."""
    if method in ("GET", "HEAD"):
        return True
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")


def _length(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isdecimal() else MAX_BODY + 1


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name.lower() == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
