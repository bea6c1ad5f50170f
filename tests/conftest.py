import os
from pathlib import Path

import pytest
import tiny


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No test reads or fills the user's cache, but those that work on real weights."""
    if "real" not in request.keywords:
        monkeypatch.setenv("DOSIMETER_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("DOSIMETER_DATA", raising=False)


@pytest.fixture
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks become tiny ones with random weights, under their own names."""
    tiny.install(monkeypatch.setattr, monkeypatch.setitem)


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("DOSIMETER_DATA")
    if not folder:
        pytest.skip("DOSIMETER_DATA is not set")
    return Path(folder)
