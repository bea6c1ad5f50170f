"""A run: one folder that holds a study's settings, rows, classifiers, tables, figures and report."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from dosimeter.errors import DosimeterError
from dosimeter.files import sweep, write_text
from dosimeter.plain import LineFormatter
from dosimeter.record.facts import Plan, Stage, Typed, sealed, unsealed

log = logging.getLogger(__name__)


class Manifest(Typed):
    """manifest.json: what a run has spent and decided. The work itself lies in files of its own.

    Attributes:
        status: how far it is.
        settings: digest of the settings that the seconds are of.
        stages: seconds of each stage.
        engine_plans: how each classifier is swept, as it was decided the first time.
        recomputed: cells that torch made again after an engine.
        finished: digest of what the finished run holds.
    """

    status: str | None = None
    settings: str | None = None
    stages: list[Stage] = Field(default_factory=list)
    engine_plans: dict[str, Plan] = Field(default_factory=dict)
    recomputed: list[str] = Field(default_factory=list)
    finished: str | None = None


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
        self.interim = folder / "interim.json"
        self.products = (
            *(self.responses, self.report, folder / "summary.json"),
            *(folder / "tables", folder / "figures"),
        )
        self._manifest_file = folder / "manifest.json"
        self.manifest = self._read_manifest()

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
        try:
            with held(self.folder):
                yield
        finally:
            logger.removeHandler(handler)
            handler.close()

    def begin(self, *, settings: str) -> None:
        """Note whose seconds are counted: a run with other settings, their digest says, counts from zero."""
        if self.manifest.settings != settings:
            self.manifest.settings, self.manifest.stages = settings, []

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
        for entry in self.manifest.stages:
            if all(getattr(entry, name) == value for name, value in key.items()):
                entry.duration_s += duration_s
                return
        self.manifest.stages.append(Stage.model_validate({**key, "duration_s": duration_s}))

    def save_manifest(self, **facts: Any) -> None:
        """Write the manifest, with `facts` added."""
        for name, value in facts.items():
            setattr(self.manifest, name, value)
        write_text(self._manifest_file, json.dumps(self.manifest.model_dump(mode="json"), indent=2) + "\n")

    def _read_manifest(self) -> Manifest:
        """Return the manifest; what of it is damaged is left out, and decided or counted anew."""
        if not self._manifest_file.is_file():
            return Manifest()
        try:
            found = json.loads(self._manifest_file.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        known = found if isinstance(found, dict) else {}
        while True:
            try:
                manifest = Manifest.model_validate(known)
            except ValidationError as error:
                for each in error.errors():
                    _leave_out(known, each["loc"])
            else:
                if known != found or not isinstance(found, dict):
                    log.warning("%s was damaged: what was damaged is written anew", self._manifest_file)
                return manifest


def _leave_out(known: dict[str, Any], place: tuple[int | str, ...]) -> None:
    """Take what lies at `place` out of a manifest: one plan, or all that an attribute holds."""
    name = str(place[0])
    plans = known.get(name)
    if name == "engine_plans" and len(place) > 1 and isinstance(plans, dict):
        plans.pop(str(place[1]), None)
    else:
        known.pop(name, None)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a run for this process alone, and sweep what a killed one left there.

    Of a folder that is not there nothing is held: whoever reads from it says so.

    Raises:
        DosimeterError: another process holds it.
    """
    if not folder.is_dir():
        yield
        return
    try:
        with FileLock(folder / ".lock", timeout=0):
            sweep(folder)
            yield
    except Timeout:
        raise DosimeterError(
            f"{folder} is in use by another dosimeter. Wait for it to end, or give another --out."
        ) from None


def keep(file: Path, value: Any) -> None:
    """Write a value of JSON types to `file` with its digest, for `kept`."""
    file.parent.mkdir(exist_ok=True)
    write_text(file, sealed(value))


def kept(file: Path) -> Any:
    """Return what `keep` wrote to `file`; None if it is not there, or is not what was written."""
    try:
        return unsealed(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
