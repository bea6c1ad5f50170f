import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sketches
import tiny
from PIL import Image

import dosimeter.study.run
from dosimeter.cohorts import Decoded, load_cohort, phantom, to_grid
from dosimeter.record import table as responses
from dosimeter.report.build import build_tables, write_tables
from dosimeter.study.run import run_study


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No test reads or fills the user's cache, but those that work on real weights."""
    if "real" not in request.keywords:
        monkeypatch.setenv("DOSIMETER_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("DOSIMETER_DATA", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _sketched() -> Iterator[None]:
    """Reports have blank figures, but where a test asks for `drawn`."""
    with sketches.sketched():
        yield


@pytest.fixture(scope="session", autouse=True)
def _phantoms() -> Iterator[None]:
    """A phantom is rendered once, however many tests ask for it."""
    render = phantom._render
    kept = functools.cache(render)

    @functools.wraps(render)
    def copied(*recipe: int) -> Decoded:
        decoded = kept(*recipe)
        return decoded._replace(image=decoded.image.copy())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(phantom, "_render", copied)
        yield


@pytest.fixture
def drawn() -> Iterator[None]:
    """Reports have their pictures."""
    with sketches.drawn():
        yield


@pytest.fixture
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks become tiny ones with random weights, under their own names."""
    tiny.install(monkeypatch.setitem)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 phantoms as small PNG files and a cases.csv, whose names and patients must not reach any output."""
    folder = tmp_path_factory.mktemp("images")
    rows = ["file,label,patient_id"]
    for case in load_cohort("phantom-ct", limit=40):
        name = f"SMITH-{case.case_id}.png"
        image = to_grid(Decoded(case.image, case.bits), size_px=2 * tiny.SIZE_PX)
        Image.fromarray((image[0] * 255).round().astype("uint8")).save(folder / name)
        rows.append(f"{name},{case.label},MRN-{case.patient_id}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a browser or a cluster by the fixture that it asks for."""
    for item in items:
        for fixture, mark in (("chromium", pytest.mark.browser), ("ray_cluster", pytest.mark.ray)):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


BROWSER_TIMEOUT_MS = 120_000
"""How long a browser may take over one step: a machine that runs much else is slow, and no test fails for that."""


@pytest.fixture(scope="session")
def study_copy(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Puts a finished study of tiny networks into a folder; one of the same settings is run but once."""
    kept: dict[str, Path] = {}

    def copy(folder: Path, **changes: object) -> Path:
        chosen = repr(sorted(changes.items()))
        if chosen not in kept:
            place = tmp_path_factory.mktemp("study")
            with pytest.MonkeyPatch.context() as patched:
                patched.setenv("DOSIMETER_CACHE", str(place / "cache"))
                tiny.install(patched.setitem)
                run_study(tiny.settings(image_folder, place / "run", **changes))
            kept[chosen] = place / "run"
        shutil.copytree(kept[chosen], folder, dirs_exist_ok=True)
        return folder

    return copy


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium; tests take `new_context` instead."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or os.environ.get("CHROMIUM")
    if program is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        launched = engine.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=BROWSER_TIMEOUT_MS)
        yield launched
        launched.close()


@pytest.fixture
def served() -> Iterator[Callable[[Any], str]]:
    """Serves an application on this machine for the length of a test, and returns its address."""
    server = pytest.importorskip("dosimeter.app.server")
    begun = []

    def serve(app: Any) -> str:
        listener = server.bind("127.0.0.1", 0)
        begun.append(server.server_of(app))
        threading.Thread(target=begun[-1].run, kwargs={"sockets": [listener]}, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for each in begun:
        each.should_exit = True


@pytest.fixture
def new_context(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Makes browsers, each with its own cookies and storage."""
    contexts = []

    def make(**options: Any) -> Any:
        context = chromium.new_context(**options)
        context.set_default_timeout(BROWSER_TIMEOUT_MS)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("DOSIMETER_DATA")
    if not folder:
        pytest.skip("DOSIMETER_DATA is not set")
    return Path(folder)


@pytest.fixture
def only_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The study writes its tables and a blank report."""

    def write(folder: Path, **_: object) -> Path:
        page = sketches.unreported(folder)
        write_tables(build_tables(responses.read(folder / "responses.parquet")), folder / "tables")
        return page

    monkeypatch.setattr(dosimeter.study.run, "redraw", write)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The study writes a blank report and no tables: the analyses are most of a small study's time."""
    monkeypatch.setattr(dosimeter.study.run, "redraw", sketches.unreported)
