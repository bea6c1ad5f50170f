import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from PIL import Image

import dosimeter.study.run
from dosimeter.analysis.tables import build_tables, write_tables
from dosimeter.cohorts import Decoded, load_cohort, to_grid
from dosimeter.record import table as responses


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No test reads or fills the user's cache, but those that work on real weights."""
    if "real" not in request.keywords:
        monkeypatch.setenv("DOSIMETER_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("DOSIMETER_DATA", raising=False)


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
    """Mark what needs a browser."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


BROWSER_TIMEOUT_MS = 120_000
"""How long a browser may take over one step: a machine that runs much else is slow, and no test fails for that."""


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
    """The study writes its tables and a blank report: the drawing is most of a small study's time."""

    def write(folder: Path, **_: object) -> Path:
        write_tables(build_tables(responses.read(folder / "responses.parquet")), folder / "tables")
        (folder / "figures").mkdir(exist_ok=True)
        for name in ("report.html", "summary.json"):
            (folder / name).write_text("not drawn")
        return folder / "report.html"

    monkeypatch.setattr(dosimeter.study.run, "redraw", write)
