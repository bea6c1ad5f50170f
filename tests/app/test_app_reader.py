"""The reader study over HTTP: a whole sitting, and nothing that tells which image was altered."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reader_study import make_study_folder

from dosimeter.errors import DosimeterError

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from dosimeter.app.reader import HOME, reader_router
from dosimeter.app.security import Gate
from dosimeter.app.server import create_app
from dosimeter.readers.sittings import Sittings

API = "/api/reader"


class Browser:
    """What a page does, without the page."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.headers: dict[str, str] = {}

    def get(self, path: str) -> Any:
        return self.client.get(f"{API}/{path}", headers=self.headers)

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(f"{API}/{path}", json=body, headers=self.headers)

    def join(self, pseudonym: str, **body: Any) -> Any:
        reply = self.post("join", pseudonym=pseudonym, **body)
        if reply.status_code == 200:
            self.headers = {"X-Sitting": reply.json()["session"]}
        return reply

    def answer(self, place: int, chosen: str = "left") -> Any:
        return self.post("answer", place=place, chosen=chosen, response_s=1.5)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    make_study_folder(tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def sittings(study: Path) -> Iterator[Sittings]:
    opened = Sittings(study)
    yield opened
    opened.store.close()


@pytest.fixture
def client(sittings: Sittings) -> TestClient:
    gate = Gate()
    client = TestClient(create_app(gate, routers=[reader_router(sittings)], home=HOME), base_url="http://127.0.0.1")
    assert client.get("/", params={"token": gate.token}).status_code == 200
    return client


@pytest.fixture
def browser(client: TestClient) -> Browser:
    return Browser(client)


def test_a_whole_sitting(browser: Browser, sittings: Sittings) -> None:
    assert browser.join("alpha").status_code == 200
    display = {"dark_seen": True, "bright_seen": False, "px_per_mm": 3.8, "distance_cm": 60.0, "device_px_ratio": 1.0}
    assert browser.post("display", **display).status_code == 200
    assert sittings.store.displays() == {1: display}
    state = browser.get("next").json()
    phases, pauses = [], []
    while state["phase"] != "done":
        phases.append(state["phase"])
        pauses += [state["index"]] if state["pause"] else []
        reply = browser.answer(state["place"]).json()
        assert (reply["correct"] is None) == (state["phase"] == "trial")  # feedback in practice only
        state = reply["state"]
    assert phases == ["practice"] * 2 + ["trial"] * 28
    assert pauses == [10, 20]
    assert len(sittings.store.answers()) == 30


def test_nothing_tells_the_altered_image(client: TestClient, browser: Browser, sittings: Sittings) -> None:
    """Every byte that a browser gets in a whole sitting, but the pixels."""
    said: list[str] = []
    for name in ("", "reader.js", "images.js", "display.js", "reader.css"):
        page = client.get(f"/reader/{name}")
        assert page.status_code == 200, name
        said.append(page.text)
    said.append(json.dumps(browser.get("study").json()))
    browser.join("alpha")
    state = browser.get("next").json()
    names: list[str] = []
    shapes, headers, sizes = set(), set(), set()
    while state["phase"] != "done":
        for name in (state["left"], state["right"]):
            names.append(name)
            image = browser.get(f"image/{name}")
            headers.add(json.dumps({k: v for k, v in image.headers.items() if k != "date"}, sort_keys=True))
            sizes.add(len(image.content))
        if state["phase"] == "trial":
            shapes.add((*state, *(type(value) for value in state.values()), len(json.dumps(state["left"]))))
        reply = browser.answer(state["place"])
        said += [reply.text, str(reply.headers)]
        state = reply.json()["state"]
    assert len(headers) == len(sizes) == 1  # alike to the byte
    assert len(shapes) == 1  # a catch trial looks like any other
    assert len(set(names)) == len(names) == 60  # even the same image has another name each time
    assert all(re.fullmatch(r"[\w-]{32}", name) for name in names)
    text = "\n".join(said)
    design = sittings.design
    secrets = {pair.case_id for pair in (*design.pairs, *design.practice)} | set(design.images)
    secrets |= {"adversarial", "random", "epsilon", "xray-268", "vgg16", ".png"}
    secrets |= {design.digest, design.study_id, design.run_id}
    assert not [secret for secret in secrets if secret in text]
    replies = "\n".join(each for each in said if each.startswith("{"))
    secrets = {"catch", "sound", *(f"{epsilon:g}" for epsilon in design.epsilons)}
    assert not [secret for secret in secrets if secret in replies]  # they may be words and numbers of JavaScript


def test_another_reader_gets_other_names_for_the_same_images(client: TestClient) -> None:
    browsers = [Browser(client), Browser(client)]
    seen: list[set[str]] = []
    for place, browser in enumerate(browsers):
        browser.join(f"reader-{place}")
        state = browser.get("next").json()
        seen.append({state["left"], state["right"], *state["ahead"]})
        assert browser.get("next").json() == state  # the same after a reload
    assert not seen[0] & seen[1]


def test_a_reader_goes_on_and_is_asked_first(client: TestClient) -> None:
    first, later = Browser(client), Browser(client)
    first.join("alpha")
    for place in range(4):
        first.answer(place)
    reply = later.join("Alpha")
    assert reply.status_code == 409
    assert reply.json()["begun"] == {"n_answered": 4, "n_trials": 30}
    assert later.join("alpha", resume=True).status_code == 200
    assert later.get("next").json()["place"] == 4


def test_an_answer_sent_twice_is_one(browser: Browser, sittings: Sittings) -> None:
    browser.join("alpha")
    assert [browser.answer(0).status_code for _ in range(2)] == [200, 200]
    reply = browser.answer(0, "right")
    assert reply.status_code == 409
    assert "answered before" in reply.json()["error"]
    assert len(sittings.store.answers()) == 1


def test_a_study_edited_while_it_runs_is_halted(browser: Browser, study: Path) -> None:
    browser.join("alpha")
    browser.answer(0)
    design = (study / "design.json").read_text()
    (study / "design.json").write_text(design.replace('"seed": 3', '"seed": 4'))
    for reply in (browser.answer(1), browser.get("next"), browser.join("beta")):
        assert reply.status_code == 409
        assert "was changed while it ran" in reply.json()["error"]
    (study / "design.json").write_text(design)
    assert browser.get("next").json()["place"] == 1  # nothing is lost
    (study / "design.json").unlink()
    assert "was changed while it ran" in browser.answer(1).json()["error"]


def test_an_image_edited_before_it_is_served_is_refused(study: Path) -> None:
    path = study / "images" / "0002.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DosimeterError, match="was changed after the study was made"):
        Sittings(study)
    path.unlink()
    with pytest.raises(DosimeterError, match="cannot be read"):
        Sittings(study)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"place": 0, "chosen": "middle", "response_s": 1},
        {"place": -1, "chosen": "left", "response_s": 1},
        {"place": 0, "chosen": "left", "response_s": -1},
        {"place": "0", "chosen": "left", "response_s": 1},
        {"place": 0, "chosen": "left", "response_s": 1, "correct": True},
        {"place": 0, "chosen": "left", "response_s": 1, "window_width": 0},
    ],
)
def test_nonsense_is_one_sentence_and_saves_nothing(browser: Browser, sittings: Sittings, body: dict[str, Any]) -> None:
    browser.join("alpha")
    reply = browser.post("answer", **body)
    assert 400 <= reply.status_code < 500
    assert reply.json()["error"]
    assert not sittings.store.answers()


def test_strangers_are_turned_away(browser: Browser) -> None:
    assert browser.get("next").status_code in (400, 422)  # no sitting at all
    browser.headers = {"X-Sitting": "guessed"}
    for reply in (browser.get("next"), browser.answer(0)):
        assert reply.status_code == 401
        assert "Enter your pseudonym" in reply.json()["error"]
    for name in ("guessed", "..%2f..%2fdesign.json", "0000.png"):
        assert browser.get(f"image/{name}").status_code == 404
    for path in ("/reader/design.json", "/reader/../design.json", "/reader/%2e%2e/answers.sqlite", "/images/0000.png"):
        assert browser.client.get(path).status_code == 404


def test_a_simulated_study_is_not_for_people(study: Path) -> None:
    sittings = Sittings(study)
    sittings.store.mark_simulated()
    with pytest.raises(DosimeterError, match="are simulated"):
        sittings.join("alpha")
