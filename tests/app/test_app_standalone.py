"""The explorer without its server: a browser shows of it what was evaluated, and it names nobody."""

import errno
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from test_app_explorer import finished_run, levels_of, shows, slide

from dosimeter.app import standalone
from dosimeter.app.explorer import Explorer
from dosimeter.app.standalone import check_export, write_explorer
from dosimeter.cli import main
from dosimeter.errors import DosimeterError
from dosimeter.replay.export import MARK

LIMIT = 3


@pytest.fixture(scope="module")
def finished(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("run")
    with finished_run(image_folder, out, model="vgg16", storages="png8,dicom12") as run_folder:
        yield run_folder


@pytest.fixture(scope="module")
def explorer(finished: Path) -> Explorer:
    return Explorer(finished)


@pytest.fixture(scope="module")
def exported(explorer: Explorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "explorer"
    assert write_explorer(explorer, check_export(folder, limit=LIMIT)) == LIMIT * len(explorer.run()["curves"])
    return folder


@pytest.fixture
def opened(new_context: Callable[..., Any]) -> Iterator[Callable[[str], Any]]:
    """Opens an address in a browser; nothing may fail in it, and nothing may be fetched but from the same place."""
    context = new_context(viewport={"width": 1280, "height": 900})
    mistakes: list[str] = []
    requests: list[str] = []

    def open_page(address: str) -> Any:
        page = context.new_page()
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.on("console", lambda message: mistakes.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        shows(page)
        page.select_option("#attack", index=0)
        shows(page, curve=0)
        page.select_option("#times", "20")
        slide(page, 0)
        shows(page, epsilon=0)
        page.click("#cases button >> nth=0")
        return page

    yield open_page
    assert mistakes == []
    place = requests[0].rpartition("/")[0]
    assert all(url.startswith((place, "data:", "blob:")) for url in requests)


def test_an_export_shows_exactly_the_pixels_and_the_answers(
    exported: Path, explorer: Explorer, opened: Callable[[str], Any]
) -> None:
    page = opened((exported / "index.html").as_uri())
    for keys, epsilon, storage in (((), 0, "float"), (("ArrowRight",) * 9, 0.08, "float"), (("s",), 0.08, "png8")):
        for key in keys:
            page.keyboard.press(key)
        shown = shows(page, epsilon=epsilon, storage=storage)
        exact = explorer.shown(shown["curve"], shown["case"], epsilon, storage)
        np.testing.assert_array_equal(levels_of(page, "original"), np.rint(255 * exact.original.numpy()))
        np.testing.assert_array_equal(levels_of(page, "adversarial"), np.rint(255 * exact.adversarial.numpy()))
        difference = (128 + 255 * 20 * (exact.adversarial - exact.original)).clamp(0, 255)
        np.testing.assert_array_equal(levels_of(page, "difference"), np.rint(difference.numpy()))
        said = explorer.answer(shown["curve"], shown["case"], epsilon, storage)
        assert f"{100 * said['probabilities'][0]:.1f} %" in page.text_content("#answer")


def test_the_slider_rests_at_what_was_exported(
    exported: Path, explorer: Explorer, opened: Callable[[str], Any]
) -> None:
    page = opened((exported / "index.html").as_uri())
    case = explorer.cases(0)[0]
    for at, epsilon in ((1000, 0.08), (990, 0.08), (1, None), (0, 0)):
        slide(page, at)
        found = shows(page, **({} if epsilon is None else {"epsilon": epsilon}))["epsilon"]
        assert found in {0, 0.003, 0.009, 0.08, case["flip"]}
    page.keyboard.press("f")
    shows(page, epsilon=case["flip"])
    assert "wrong" in page.text_content("#answer")
    page.keyboard.press("ArrowDown")
    after = shows(page, case=explorer.cases(0)[1]["place"])
    assert after["epsilon"] in {0, 0.003, 0.009, 0.08, explorer.cases(0)[1]["flip"]}
    page.select_option("#times", "100")
    assert page.locator("#storages button").all_text_contents() == ["float", "png8", "dicom12"]
    assert page.locator("#cases button").count() == LIMIT
    assert f"{LIMIT} of 8 test images" in page.text_content("#count")
    page.hover("#original")
    page.wait_for_function("() => document.getElementById('pixel').textContent.includes('of 255 before')")
    assert explorer.run()["run_id"] in page.text_content(".banner")
    assert "Not a medical device" in page.text_content(".banner")


def test_a_static_server_can_serve_it(exported: Path, opened: Callable[[str], Any]) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(exported))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = opened(f"http://127.0.0.1:{server.server_address[1]}/index.html")
        page.keyboard.press("ArrowRight")
        server.shutdown()


def test_nothing_but_the_folders_own_scripts_runs(exported: Path, new_context: Callable[..., Any]) -> None:
    page = new_context().new_page()
    page.goto((exported / "index.html").as_uri())
    shows(page)
    page.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = 'window.intruder = true';"
        " document.head.append(script); }"
    )
    assert page.evaluate("window.intruder") is None
    assert page.evaluate("fetch('https://example.org').then(() => true, () => false)") is False


def test_an_export_names_nobody_and_says_what_it_is(exported: Path, image_folder: Path) -> None:
    files = [file for file in exported.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".html", ".css", ".js"}
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    for name in ("SMITH", "MRN-", str(image_folder), str(exported.parent)):
        assert name not in text
    scripts = list((exported / "data").iterdir())
    assert len(scripts) == 1 + 2 * LIMIT
    assert all(script.read_text(encoding="utf-8").startswith(f"// {MARK}") for script in scripts)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--export", "full"], "the folder must be empty or absent"),
        (["--export", "new", "--limit", "0"], "limit must be at least 1 image, got 0"),
        (["--export", "new", "--epsilons", "4"], "Did you mean 4/255?"),
        (["--export", "new", "--epsilons", "much"], "epsilon must be a number"),
        (["--export", "new", "--epsilons", "0.5"], "epsilons must be at most the largest of the run, 0.08, got 0.5"),
        (["--limit", "3"], "limit chooses what is exported, got 3. Give --export DIR"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    monkeypatch.setattr(sys, "argv", ["dosimeter", "serve", str(finished), *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["full"]


def test_the_command_writes_what_was_asked_for(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["--export", str(tmp_path / "empty"), "--epsilons", "2/255", "--limit", "1"]
    monkeypatch.setattr(sys, "argv", ["dosimeter", "serve", str(finished), *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert "2 images" in capsys.readouterr().out
    assert len(list((tmp_path / "empty" / "data").iterdir())) == 3


def test_a_full_disk_leaves_nothing(explorer: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = standalone._write

    def full(file: Path, text: str) -> None:
        if file.name == "run.js":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, text)

    monkeypatch.setattr(standalone, "_write", full)
    with pytest.raises(DosimeterError, match=r"cannot be written \(No space left on device\), and nothing is left"):
        write_explorer(explorer, check_export(tmp_path / "new", epsilons="0.003", limit=1))
    assert list(tmp_path.glob("*new*")) == []


def test_an_image_that_cannot_be_read_is_left_out(
    explorer: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, shown = explorer.cases(0)[0]["place"], explorer.shown

    def some_are_lost(place: int, case: int, *more: Any) -> Any:
        if case == lost:
            raise DosimeterError("the image cannot be read.")
        return shown(place, case, *more)

    monkeypatch.setattr(explorer, "shown", some_are_lost)
    assert write_explorer(explorer, check_export(tmp_path / "new", epsilons="0.01", limit=2)) in (2, 3)
    with pytest.raises(DosimeterError, match="has no image that can be read"):
        write_explorer(explorer, check_export(tmp_path / "other", epsilons="0.01", limit=1))


@pytest.mark.parametrize(("content", "said"), [(None, "is missing beside this page"), ("// cut of", "is damaged")])
def test_an_image_that_was_not_copied_is_one_sentence(
    exported: Path, new_context: Callable[..., Any], tmp_path: Path, content: str | None, said: str
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "copied"))
    page = new_context().new_page()
    page.goto((folder / "index.html").as_uri())
    case = shows(page)["case"]
    script = next(file for file in sorted((folder / "data").glob("0-*.js")) if file.stem != f"0-{case}")
    script.unlink()
    if content is not None:
        script.write_text(content)
    page.select_option("#attack", index=0)
    shows(page, curve=0)
    page.click(f"#cases button[data-place='{script.stem.partition('-')[2]}']")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.text_content("#trouble") == f"data/{script.name} {said}. Copy the whole folder of the export."
    assert page.text_content("#answer") == ""
