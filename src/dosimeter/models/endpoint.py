"""A classifier behind HTTP: an image is sent, and scores or a label come back. Nothing is asked twice.

Answers are kept in the cache folder, under what the endpoint is, so that an interrupted audit asks on where it stopped.
"""

import hashlib
import io
import json
import os
import random
import sqlite3
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dosimeter.cohorts.base import FloatImage
from dosimeter.errors import DosimeterError, in_a_line
from dosimeter.files import json_of
from dosimeter.plain import shown
from dosimeter.record.model_card import Endpoint

N_RECHECKED, SHARE_RECHECKED = 16, 0.2
"""Answers from the cache that are asked again in each session, at most, and the share of them, drawn at random, until
then: an endpoint must not change its mind."""

SAME = 1e-4
"""How far two answers to one image may differ, as a share of the largest number."""

MOST_WAIT_S = 60.0
"""The longest wait that an endpoint may ask for before the next try."""

MAX_ANSWER_BYTES = 10_000_000


class EndpointFailed(DosimeterError):
    """An endpoint is down, refuses, or answers what the card does not say."""


class Client:
    """Asks an endpoint about images, one by one; safe to use from several threads.

    Args:
        endpoint: where and how.
        classes: names, in the order in which scores are wanted.
        store: a SQLite file of answers; None keeps none.
        outputs: as the card says; a label is an answer where it says "labels", and nowhere else.
    """

    def __init__(self, endpoint: Endpoint, classes: Sequence[str], store: Path | None, *, outputs: str) -> None:
        self._endpoint = endpoint
        self._classes = tuple(classes)
        self._outputs = outputs
        self._lock = threading.Lock()
        self._next = 0.0  # when the next request may leave
        self._rechecks, self._draw = N_RECHECKED, random.Random()
        self._answers = _Answers(store)
        self._opener = urllib.request.build_opener(_NoRedirect())

    def __call__(self, images: FloatImage) -> list[list[float]]:
        """Return the answer about every image (n, 3, H, W) in [0, 1]: scores, or the place of a label.

        Raises:
            EndpointFailed: it does not answer, not as the card says, otherwise than before; or its budget is spent.
        """
        return [self._one(encoded(image, self._endpoint.send)) for image in images]

    def fresh(self, image: FloatImage) -> list[float]:
        """Return the answer about an image (3, H, W), asked whether it is known or not."""
        return self._asked(encoded(image, self._endpoint.send))

    def _one(self, body: bytes) -> list[float]:
        key = hashlib.sha256(body).hexdigest()
        known = self._answers.get(key)
        if known is None:
            found = self._asked(body)
            self._answers.put(key, found)
            return found
        with self._lock:
            again = self._rechecks > 0 and self._draw.random() < SHARE_RECHECKED
            self._rechecks -= again
        if again:
            self._compare(known, self._asked(body))
        return known

    def _compare(self, known: list[float], again: list[float]) -> None:
        largest = max(map(abs, (*known, *again)), default=0.0)
        if len(known) != len(again) or any(
            abs(a - b) > SAME * max(largest, 1e-12) for a, b in zip(known, again, strict=True)
        ):
            raise EndpointFailed(
                f"{self._endpoint.url} changed its mind: it answered an image with {_few(known)}, then with "
                f"{_few(again)}. An audit needs answers that stay; remove what makes them random."
            )

    def _asked(self, body: bytes) -> list[float]:
        """Return a new answer, within the budget, no quicker than allowed, tried again where that may help."""
        reason = ""
        for trial in range(self._endpoint.retries + 1):
            self._wait_for_turn()
            if not self._answers.spend(self._endpoint.budget):
                raise EndpointFailed(
                    f"the budget of {self._endpoint.budget} queries for {self._endpoint.url} is spent. Answers are "
                    "kept: raise `budget` in the card's [endpoint], and the same command goes on."
                )
            try:
                return self._parsed(self._sent(body))
            except _TryAgain as error:
                reason = str(error)
                if trial < self._endpoint.retries:
                    time.sleep(error.wait_s if error.wait_s is not None else min(0.5 * 2**trial, MOST_WAIT_S))
        raise EndpointFailed(
            f"{self._endpoint.url} did not answer in {self._endpoint.retries + 1} tries: {reason}. Is it up? What it "
            "answered before is kept."
        )

    def _wait_for_turn(self) -> None:
        if self._endpoint.per_second is None:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + 1 / self._endpoint.per_second
        time.sleep(max(turn - now, 0.0))

    def _sent(self, body: bytes) -> bytes:
        headers, content = _request(body, self._endpoint)
        request = urllib.request.Request(self._endpoint.url, data=content, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._endpoint.timeout_s) as reply:
                answer: bytes = reply.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            said = _text(error.read(300))
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _TryAgain(f"status {error.code} {said}".strip(), _seconds(error.headers)) from error
            raise EndpointFailed(
                f"{self._endpoint.url} refused an image with status {error.code} ({said}). Does the card's [endpoint] "
                "say how it wants images?"
            ) from error
        except (OSError, HTTPException) as error:  # no connection, too slow, cut off
            raise _TryAgain(in_a_line(error)[:160] or type(error).__name__) from error
        if len(answer) > MAX_ANSWER_BYTES:
            raise EndpointFailed(f"{self._endpoint.url} answered with more than {MAX_ANSWER_BYTES} bytes.")
        return answer

    def _parsed(self, answer: bytes) -> list[float]:
        try:
            found = json_of(answer)
        except ValueError as error:
            raise EndpointFailed(f"{self._endpoint.url} must answer JSON, got {_text(answer)}.") from error
        for step in self._endpoint.answer.split(".") if self._endpoint.answer else []:
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise EndpointFailed(
                    f"the card says that answers stand at '{self._endpoint.answer}', but {self._endpoint.url} answered "
                    f"{_text(answer)}."
                ) from error
        if isinstance(found, str) and self._outputs != "labels":
            raise EndpointFailed(
                f"the card says outputs '{self._outputs}', but {self._endpoint.url} answered the label "
                f"{shown(found[:120])}. Say outputs = 'labels', or in `answer` where the scores stand."
            )
        return _numbers(found, self._classes, self._endpoint.url)


class _Answers:
    """Answers by the digest of what was sent, and how often the endpoint was asked, in a file or in memory."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        with self._used():
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(file or ":memory:", check_same_thread=False, isolation_level=None)
            for statement in (
                "PRAGMA busy_timeout = 10000",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = NORMAL",  # what a crash loses is asked again
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)",
                "CREATE TABLE IF NOT EXISTS spent (one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER)",
                "INSERT OR IGNORE INTO spent VALUES (1, 0)",
            ):
                self._database.execute(statement)

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Let one thread use the file.

        Raises:
            EndpointFailed: it is damaged, or cannot be read or written.
        """
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise EndpointFailed(
                f"the answers that an endpoint gave before cannot be used ({in_a_line(error)[:160]}): remove "
                f"{self._file}, and they are asked again."
            ) from error

    def get(self, key: str) -> list[float] | None:
        with self._used():
            row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
            return None if row is None else [float(value) for value in json_of(row[0])]

    def put(self, key: str, answer: list[float]) -> None:
        with self._used():
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(answer)))

    def spend(self, budget: int) -> bool:
        """Count a query, if there were fewer than `budget`; return whether there were."""
        with self._used():
            return self._database.execute("UPDATE spent SET n = n + 1 WHERE n < ?", (budget,)).rowcount == 1


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Images go where the card says, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _TryAgain(Exception):
    """What may be over at the next try; the endpoint may say when."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def encoded(image: FloatImage, form: str) -> bytes:
    """Return what is sent of an image (3, H, W) in [0, 1]: a PNG of 8 bits, of 16 if it is grey, or JSON of floats."""
    planes = image[:1] if bool((image == image[:1]).all()) else image
    if form == "json":
        return json.dumps({"image": planes.astype(float).round(9).tolist()}).encode()
    levels, kind = (65535, np.uint16) if form == "png16" else (255, np.uint8)
    if form == "png16" and len(planes) == 3:
        planes = planes.mean(axis=0, keepdims=True)
    pixels = np.rint(np.clip(planes.astype(np.float64), 0, 1) * levels).astype(kind)
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(
        buffer, format="PNG", compress_level=1
    )
    return buffer.getvalue()


def _request(body: bytes, endpoint: Endpoint) -> tuple[dict[str, str], bytes]:
    """Return headers and content of a request; a token comes from the environment, and stands in no file."""
    headers = {"Accept": "application/json", "User-Agent": "dosimeter"}
    if endpoint.token:
        token = os.environ.get(endpoint.token)
        if not token:
            raise EndpointFailed(f"the environment variable {endpoint.token}, of the card's [endpoint], is not set.")
        headers["Authorization"] = f"Bearer {token}"
    kind = "application/json" if endpoint.send == "json" else "image/png"
    if not endpoint.field or endpoint.send == "json":
        return {**headers, "Content-Type": kind}, body
    boundary = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(body).hexdigest()).hex
    disposition = f'form-data; name="{endpoint.field}"; filename="image.png"'
    head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n"
    content = head.encode() + body + f"\r\n--{boundary}--\r\n".encode()
    return {**headers, "Content-Type": f"multipart/form-data; boundary={boundary}"}, content


def _numbers(found: Any, classes: Sequence[str], url: str) -> list[float]:
    """Return scores in the classes' order, or the place of a label, of what an answer holds."""
    if isinstance(found, str):
        if found not in classes:
            raise EndpointFailed(f"{url} answered the label {shown(found)}, which is none of {list(classes)}.")
        return [float(classes.index(found))]
    if isinstance(found, dict):
        lacking = [name for name in classes if name not in found]
        if lacking:
            raise EndpointFailed(
                f"{url} gave no score of {shown(lacking[0])}; it gave {shown(', '.join(map(str, found)))}."
            )
        found = [found[name] for name in classes]
    values = found if isinstance(found, list) else [found]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise EndpointFailed(f"{url} must answer numbers or a label, got {shown(str(found)[:120])}.")
    return [float(value) for value in values]


def _seconds(headers: Any) -> float | None:
    """Return how long an endpoint asks to wait, if it says so in seconds."""
    text = headers.get("Retry-After") if headers else None
    return min(float(text), MOST_WAIT_S) if text and text.strip().isdigit() else None


def _text(content: bytes) -> str:
    """Return the beginning of an answer, fit for a sentence."""
    return shown(content[:160].decode("utf-8", "replace"))


def _few(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values[:4])}{', ...' if len(values) > 4 else ''})"
