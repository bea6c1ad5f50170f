"""A run small enough to report often, its page as a test asks it, and the bytes of its files."""

import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dosimeter.record.table import SCHEMA, Responses

SMALL: dict[str, Any] = {"cohorts": {"xray-268": "xray"}, "epsilons": (0.0, 1e-3, 3e-3, 9e-3), "n_cases": 8}


class Page(HTMLParser):
    """What a test asks of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def write_responses(responses: Responses, folder: Path) -> None:
    table = pa.Table.from_pandas(responses.frame, schema=SCHEMA, preserve_index=False)
    payload = json.dumps(responses.meta).encode()
    pq.write_table(table.replace_schema_metadata({b"dosimeter": payload}), folder / "responses.parquet")


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
