"""A run: one folder that holds a study's settings, rows, classifiers, tables, figures and report."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dosimeter.atomic import write_text
from dosimeter.errors import DosimeterError
from dosimeter.plain import LineFormatter

log = logging.getLogger(__name__)


class Run:
    """The folder of a run and its manifest.

    `config.toml manifest.json parts/*.parquet pictures/ classifiers/ responses.parquet tables/ figures/ summary.json
    report.html log.txt`. Work that is done lies there as files that are whole or absent, so the same command
    continues where the last one stopped.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / "parts"
        self.pictures = folder / "pictures"
        self.classifiers = folder / "classifiers"
        self.responses = folder / "responses.parquet"
        self.report = folder / "report.html"
        self.products = (
            *(self.responses, self.report, folder / "summary.json"),
            *(folder / "tables", folder / "figures"),
        )
        self._manifest_file = folder / "manifest.json"
        self.manifest: dict[str, Any] = {"stages": []}
        if self._manifest_file.is_file():
            try:
                self.manifest |= json.loads(self._manifest_file.read_text(encoding="utf-8"))
            except (ValueError, TypeError):  # it holds only a record; the work itself lies in files of its own
                log.warning("%s is damaged: it is written anew", self._manifest_file)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the folder for this process alone, with the library's log going to its log.txt.

        Raises:
            DosimeterError: the folder cannot be written, or another process holds it.
        """
        foreign = [path.name for path in (*self.products, self.folder / "config.toml") if path.exists()]
        if foreign and not (self.parts.is_dir() or self._manifest_file.is_file()):
            raise DosimeterError(
                f"out: the folder {self.folder} holds {foreign[0]} and is no run, so a study would overwrite it. Give "
                "a new folder with --out."
            )
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
            self.pictures.mkdir(exist_ok=True)
            handler = logging.FileHandler(self.folder / "log.txt", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise DosimeterError(f"out: the folder {self.folder} cannot be written ({error.strerror}).") from error
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger("dosimeter")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            with lock:
                yield
        except Timeout:
            raise DosimeterError(
                f"{self.folder} is in use by another dosimeter. Wait for it to end, or give another --out."
            ) from None
        finally:
            logger.removeHandler(handler)
            handler.close()

    def begin(self, *, settings: str) -> None:
        """Note whose seconds are counted: a run with other settings, their digest says, counts from zero."""
        if self.manifest.get("settings") != settings:
            self.manifest |= {"settings": settings, "stages": []}

    def part(self, cell_id: str) -> Path:
        """Return the file of a cell's rows."""
        return self.parts / f"{cell_id}.parquet"

    @contextmanager
    def stage(self, stage: str, **scope: str) -> Iterator[None]:
        """Add the time that the block takes to the manifest, under `stage` and `scope` (cohort, protocol, model)."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(stage, time.perf_counter() - started, **scope)

    def add_seconds(self, stage: str, duration_s: float, **scope: str) -> None:
        """Add `duration_s` to a stage; a resumed stage sums up."""
        key = {"stage": stage, "cohort": "", "protocol": "", "model": ""} | scope
        for entry in self.manifest["stages"]:
            if all(entry[name] == value for name, value in key.items()):
                entry["duration_s"] += duration_s
                return
        self.manifest["stages"].append({**key, "duration_s": duration_s})

    def save_manifest(self, **facts: Any) -> None:
        """Write the manifest, with `facts` added."""
        self.manifest |= facts
        write_text(self._manifest_file, json.dumps(self.manifest, indent=2) + "\n")
