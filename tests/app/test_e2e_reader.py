"""Readers in a real browser: a whole session, a reload in its middle, two readers at once, the grey window."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from reader_study import make_study_folder

pytest.importorskip("fastapi")

from dosimeter.app.reader import HOME, reader_router
from dosimeter.app.security import Gate
from dosimeter.app.server import create_app
from dosimeter.readers.sittings import Sittings


class Study(NamedTuple):
    """A reader study that is served."""

    address: str
    gate: Gate
    sittings: Sittings
    new_context: Callable[..., Any]

    def open(self, **options: Any) -> Any:
        """A page in a browser of its own, let in by a link that works once."""
        page = self.new_context(**options).new_page()
        page.goto(f"{self.address}/?token={self.gate.token}")
        page.wait_for_selector("#join:not([hidden])")
        return page


@pytest.fixture
def serve(served: Callable[[Any], str], new_context: Callable[..., Any]) -> Callable[[Path], Study]:
    def serve(folder: Path) -> Study:
        gate, sittings = Gate(), Sittings(folder)
        address = served(create_app(gate, routers=[reader_router(sittings)], home=HOME))
        return Study(address, gate, sittings, new_context)

    return serve


@pytest.fixture
def study(tmp_path: Path, serve: Callable[[Path], Study]) -> Study:
    make_study_folder(tmp_path / "study", n_images=1, break_every=4)
    return serve(tmp_path / "study")


def join(page: Any, name: str) -> None:
    page.fill("#pseudonym", name)
    page.click("#join-form button")
    page.wait_for_selector("#display:not([hidden])")
    page.check("input[name=dark][value=yes]")
    page.check("input[name=bright][value=yes]")
    page.click("#display-form button")
    page.wait_for_selector("#ready:not([hidden])")


def answer(page: Any, side: str = "left", *, how: str = "click") -> None:
    """Answer one trial, whatever stands before it."""
    page.wait_for_selector("#ready:not([hidden]), #trial:not([hidden])")
    if page.is_visible("#onward"):
        page.click("#onward")
    page.wait_for_selector(f"#ready-go:visible, #choose-{side}:enabled:visible")
    if page.is_visible("#ready-go"):
        page.click("#ready-go")
    page.wait_for_selector(f"#choose-{side}:enabled")
    before = page.inner_text("#count")
    if how == "key":
        page.keyboard.press(f"Arrow{side.capitalize()}")
    elif how == "image":
        page.click(f"#{side}")
    elif how == "tap":
        page.tap(f"#{side}")
    else:
        page.click(f"#choose-{side}")
    page.wait_for_function(
        "before => document.getElementById('trial').hidden || !document.getElementById('onward').hidden"
        " || document.getElementById('count').textContent !== before",
        arg=before,
    )


def test_a_whole_session_with_a_reload_in_its_middle(study: Study) -> None:
    page = study.open()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    join(page, "alpha")
    answer(page)
    assert page.inner_text("#told").endswith("image was altered.")
    answer(page, "right", how="key")
    for place, how in enumerate(("click", "image", "key")):
        answer(page, "left" if place % 2 else "right", how=how)
        assert page.inner_text("#told") == ""
    page.reload()
    page.wait_for_selector("#choose-left:enabled")
    assert page.inner_text("#count") == "Trial 4 of 7"
    answer(page)
    page.wait_for_selector("#ready:not([hidden])")
    assert page.inner_text("#ready-title") == "A break"
    for _ in range(3):
        answer(page)
    page.wait_for_selector("#done:not([hidden])")
    assert "All 7 trials are answered and saved" in page.inner_text("#done")
    answers = study.sittings.store.answers()
    assert [each["chosen"] for each in answers] == ["left", "right", "right", "left", "right", *["left"] * 4]
    assert all(0 <= each["response_s"] < 60 for each in answers)
    assert study.sittings.store.displays()[1]["distance_cm"] == 60  # type: ignore[index]
    assert not problems


@pytest.mark.slow  # three sessions of a browser; another test has one whole session
def test_two_readers_at_once_and_one_on_another_day(study: Study) -> None:
    pages = [study.open(), study.open(has_touch=True, viewport={"width": 390, "height": 844})]
    for page, name in zip(pages, ("alpha", "beta"), strict=True):
        join(page, name)
    for _ in range(4):
        answer(pages[0])
        answer(pages[1], "right", how="tap")
    later = study.open()
    later.fill("#pseudonym", "beta")
    later.click("#join-form button")
    later.wait_for_selector("#begun:not([hidden])")
    assert later.inner_text("#begun-counts") == "4 of 9"
    later.click("#begun-yes")
    later.wait_for_selector("#display:not([hidden])")
    answers = study.sittings.store.answers()
    assert [(each["reader"], each["chosen"]) for each in answers] == [(1, "left")] * 4 + [(2, "right")] * 4


def test_what_is_shown_is_what_was_drawn(study: Study) -> None:
    """Read back from the canvas, and as large as a whole number of screen pixels."""
    page = study.open(device_scale_factor=2)
    join(page, "alpha")
    page.click("#ready-go")
    page.wait_for_selector("#choose-left:enabled")
    read = """side => { const c = document.getElementById(side);
        return { data: [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data],
                 css: c.getBoundingClientRect().width, style: getComputedStyle(c).imageRendering }; }"""
    (upcoming,) = study.sittings.store.upcoming(1, 1)
    pair = study.sittings.design.pair(upcoming.trial)
    for side in ("left", "right"):
        found = page.evaluate(read, side)
        content = study.sittings._images[pair.altered if side == upcoming.trial.altered else pair.plain]
        levels = np.asarray(Image.open(BytesIO(content)))
        shown = np.array(found["data"]).reshape(*levels.shape, 4)
        assert (shown[..., :3] == levels[..., None]).all()
        assert (found["css"] * 2 / levels.shape[1]).is_integer()
        assert found["style"] == "pixelated"


@pytest.mark.parametrize("window", ["locked", "free"])
def test_the_grey_window_moves_only_where_it_may(serve: Callable[[Path], Study], tmp_path: Path, window: str) -> None:
    make_study_folder(tmp_path / "study", n_images=1, window=window)
    study = serve(tmp_path / "study")
    page = study.open()
    join(page, "alpha")
    page.click("#ready-go")
    page.wait_for_selector("#choose-left:enabled")
    assert page.is_visible("#reset") == (window == "free")
    box = page.locator("#left").bounding_box()
    read = "() => document.getElementById('right').getContext('2d').getImageData(0, 0, 32, 32).data[0]"
    before = page.evaluate(read)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y - 30, steps=6)
    page.mouse.up()
    after = page.evaluate(read)
    assert page.is_enabled("#choose-left")  # a drag is no answer
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#onward:not([hidden])")
    answer = study.sittings.store.answers()[0]
    if window == "locked":
        assert after == before
        assert answer["window_width"] is None
    else:
        assert after != before
        assert answer["window_width"] == pytest.approx(0.8, abs=0.05)
        assert answer["window_centre"] == pytest.approx(0.4, abs=0.05)


def test_an_answer_that_did_not_reach_the_server_is_sent_again(study: Study) -> None:
    page = study.open()
    join(page, "alpha")
    page.click("#ready-go")
    page.wait_for_selector("#choose-left:enabled")
    page.context.set_offline(True)
    page.click("#choose-left")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "cannot be reached" in page.inner_text("#trouble-text")
    assert not study.sittings.store.answers()
    page.context.set_offline(False)
    page.click("#trouble-retry")
    page.wait_for_selector("#onward:not([hidden])")
    assert len(study.sittings.store.answers()) == 1
