"""A run: one folder that holds a study's settings, rows, classifiers, tables, figures and report."""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from dosimeter.errors import DosimeterError
from dosimeter.files import LEFT, json_in, sweep, write_text
from dosimeter.plain import FolderlessFormatter, named
from dosimeter.record.facts import Plan, Stage, sealed, unsealed
from dosimeter.record.schema import METADATA_KEY
from dosimeter.record.typed import Typed

log = logging.getLogger(__name__)

PRODUCTS = ("responses.parquet", "report.html", "summary.json", "tables", "figures")
"""What a study, or a report, replaces in its run's folder."""

BEGUN, RUNNING, MERGING, FINISHED, REPORTED = "begun", "running", "merging", "finished", "reported partial"
"""How far the last study in a folder came; the last: it was interrupted, and a report of it drawn as far as it came."""

_WORK = ("config.toml", "manifest.json", "interim.json", "parts", "pictures", "examined", "learned", "classifiers")
_OPENED = ("log.txt", ".lock")
"""Files that are opened where they lie; all others are replaced."""
_PLACES = ("tables", "figures", "parts", "pictures", "examined", "learned", "classifiers")
"""Those of `PRODUCTS` and `_WORK` that are folders."""

_PART = re.compile(r"[0-9a-f]+\.parquet")


class Manifest(Typed):
    """manifest.json: what a run has spent and decided. The work itself lies in files of its own.

    Attributes:
        status: how far the last study in this folder came: `BEGUN` to `REPORTED`.
        settings: digest of the settings of that study, which the seconds are of.
        stages: seconds of each stage.
        engine_plans: how each classifier is swept, as it was decided the first time.
        recomputed: cells that torch made again after an engine.
        finished: digest of what the products that stand here are of; None while they are of no finished study.
    """

    status: str | None = None
    settings: str | None = None
    stages: list[Stage] = Field(default_factory=list)
    engine_plans: dict[str, Plan] = Field(default_factory=dict)
    recomputed: list[str] = Field(default_factory=list)
    finished: str | None = None


class Run:
    """The folder of a run and its manifest.

    `config.toml manifest.json parts/*.parquet examined/ classifiers/ responses.parquet tables/ figures/ summary.json
    report.html log.txt`. Work that is done lies there as files that are whole or absent, so the same command
    continues where the last one stopped.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = folder / "parts"
        self.classifiers = folder / "classifiers"
        self.responses = folder / "responses.parquet"
        self.report = folder / "report.html"
        self.interim = folder / "interim.json"
        self.products = tuple(folder / name for name in PRODUCTS)
        self._manifest_file = folder / "manifest.json"
        self.manifest = self._read_manifest()
        self._is_other = False  # than the study before it

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the folder for this process alone, with the library's log going to its log.txt.

        Raises:
            DosimeterError: the folder cannot be written, holds what is not ours, or another process holds it.
        """
        foreign = [name for name in (*PRODUCTS, *_WORK) if _is_there(self.folder / name)]
        if foreign == ["config.toml"] and self.parts.is_dir():
            foreign = []  # older versions wrote these first, and a manifest later
        if foreign and not is_study(self.folder):
            raise DosimeterError(
                f"out: the folder {self.folder} holds {foreign[0]} and is no run, so a study would overwrite it. Give "
                "a new folder with --out."
            )
        require_kinds(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        with _locked(self.folder):
            if is_study(self.folder):
                _sweep_run(self.folder)
            with self._logged():
                yield

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Make the folder a run, and let the library's log go to its log.txt while the block runs."""
        try:
            if not self._manifest_file.is_file():
                self.save_manifest()
            self.parts.mkdir(exist_ok=True)
            handler = _Log(self.folder / "log.txt", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        handler.setFormatter(FolderlessFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger("dosimeter")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            handler.close()

    def begin(self, *, settings: str) -> None:
        """Note whose seconds are counted: a run with other settings, their digest says, counts from zero."""
        if self.manifest.settings != settings:
            self.manifest.settings, self.manifest.stages = settings, []
            self._is_other = True

    @property
    def is_settled(self) -> bool:
        """Whether the last study here came to its end, so that nothing of it waits to be done."""
        return self.manifest.status == FINISHED

    @property
    def status(self) -> str:
        """How far the last study here came; where the manifest does not say, as of old or damaged: what lies here."""
        return self.manifest.status or (RUNNING if self.interim.is_file() else FINISHED)

    def enter(self) -> None:
        """Note that a study works here from now on: what one of other settings left to be reported is not its own.

        One that came to its end, and that may just be asked for again, stays as it is.
        """
        if self._is_other:
            self.interim.unlink(missing_ok=True)
        if self._is_other or not self.is_settled:
            self.save_manifest(status=BEGUN)

    def finish(self, **facts: Any) -> None:
        """Note that all is done; nothing is left that would be reported as partial."""
        self.save_manifest(status=FINISHED, **facts)
        self.interim.unlink(missing_ok=True)

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
            found = json_in(self._manifest_file)
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


class _Log(logging.FileHandler):
    """A log whose lines are lost where the disk is full, which is said once: what matters refuses by itself."""

    _lost = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Say that lines are lost."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._lost and logging.lastResort is not None:
            self._lost = True
            said = f"the run's log.txt cannot be written ({error.strerror or error}): lines of it are lost."
            logging.lastResort.handle(logging.LogRecord(log.name, logging.WARNING, "", 0, said, (), None))

    def close(self) -> None:
        """Close the file; lines that still wait may be lost."""
        try:
            super().close()
        except OSError:
            self.stream = None  # as FileHandler leaves it
            logging.Handler.close(self)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder of a run for this process alone, and sweep what a killed one left there.

    Of a folder that is no run nothing is held, and nothing in it is touched: whoever reads from it says so.

    Raises:
        DosimeterError: another process holds it.
    """
    if not is_run(folder):
        yield
        return
    with _locked(folder):
        _sweep_run(folder)
        yield


def is_study(folder: Path) -> bool:
    """Whether a study works in `folder`, or has: its manifest says so or, if that is damaged, its parts."""
    if {"stages", "engine_plans"} <= _keys(folder / "manifest.json"):
        return True
    try:
        names = [path.name for path in (folder / "parts").iterdir()]
    except OSError:
        return False
    return bool(names) and all(_PART.fullmatch(name) or LEFT.search(name) for name in names)


def is_run(folder: Path) -> bool:
    """Whether `folder` is a study's, or holds the table of one."""
    if is_study(folder):
        return True
    table = folder / "responses.parquet"
    try:
        return table.is_file() and METADATA_KEY in (pq.read_metadata(table).metadata or {})
    except (pa.ArrowException, OSError, ValueError):  # also a name that is no UTF-8
        return False


def require_own(folder: Path) -> None:
    """Raise DosimeterError if a report in `folder` would replace what neither a study nor a report wrote there."""
    there = [name for name in PRODUCTS[1:] if _is_there(folder / name)]
    if there and not is_study(folder) and not {"run_id", "dosimeter_version"} <= _keys(folder / "summary.json"):
        raise DosimeterError(
            f"{folder} holds {there[0]} that dosimeter did not write, and a report would replace it. Copy "
            "responses.parquet into a folder of its own, and draw the report there."
        )
    require_kinds(folder)


def require_kinds(folder: Path) -> None:
    """Raise DosimeterError if a folder stands where a study or report writes a file, or a file where a folder goes."""
    for name in (*PRODUCTS, *_WORK, *_OPENED):
        require_kind(folder, name, is_folder=name in _PLACES)
    for name in _OPENED:
        path = folder / name
        if path.exists() and not path.is_file() and not path.samefile(os.devnull):  # a pipe would be waited for
            raise DosimeterError(
                f"{name} in {named(folder)} must be a file, it is a pipe or a device: remove it, and the same command "
                "writes the file in its place."
            )


def require_kind(folder: Path, name: str, *, is_folder: bool) -> None:
    """Raise DosimeterError if `name` in a run's folder is there and is no folder, or no file."""
    path = folder / name
    if path.is_symlink() or not path.exists() or path.is_dir() == is_folder:  # a link is replaced
        return
    there, wanted = ("a file", "folder") if is_folder else ("a folder", "file")
    raise DosimeterError(
        f"{name} in {named(folder)} must be a {wanted}, it is {there}: rename or remove it, and the same command "
        f"writes the {wanted} in its place."
    )


def _is_there(path: Path) -> bool:
    """Whether there is a file, or a folder that is not empty."""
    try:
        return next(path.iterdir(), None) is not None if path.is_dir() else path.exists() or path.is_symlink()
    except OSError:  # it may not be looked into
        return True


def _keys(file: Path) -> set[str]:
    """Return the keys of a JSON mapping; of anything else none."""
    try:
        found = json_in(file)
    except (OSError, ValueError):
        return set()
    return set(found) if isinstance(found, dict) else set()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DosimeterError(
            f"{folder} is in use by another dosimeter. Wait for it to end, or give another --out."
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _unwritable(folder: Path, error: OSError) -> DosimeterError:
    return DosimeterError(f"out: the folder {folder} cannot be written ({error.strerror}).")


def _sweep_run(folder: Path) -> None:
    """Sweep the places of a run that its own processes write to; what else lies in it, other runs too, is not ours."""
    sweep(folder)
    for name in ("parts", "pictures", "examined", "learned", "classifiers"):
        sweep(folder / name)
    classifiers = folder / "classifiers"
    if classifiers.is_dir() and not classifiers.is_symlink():
        for each in classifiers.iterdir():
            if each.is_dir():
                sweep(each)


def keep(file: Path, value: Any) -> None:
    """Write a value of JSON types to `file` with its digest, for `kept`."""
    file.parent.mkdir(exist_ok=True)
    write_text(file, sealed(value))


def kept(file: Path) -> Any:
    """Return what `keep` wrote to `file`; None if it is not there, or is not what was written."""
    try:
        return unsealed(file.read_bytes()) if file.is_file() else None
    except (OSError, ValueError):
        return None
