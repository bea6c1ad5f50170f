"""The explorer, over HTTP and in a real browser: what is shown is what was evaluated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sketches
import tiny
from PIL import Image
from tiny import settings

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from dosimeter.app.explorer import Explorer, explorer_router
from dosimeter.app.security import HEADERS, Gate
from dosimeter.app.server import create_app
from dosimeter.record import table as responses
from dosimeter.study.run import run_study

API = "/api/explorer"


@contextmanager
def finished_run(image_folder: Path, out: Path, **changes: Any) -> Iterator[Path]:
    """A finished run of tiny networks, which stay in the real ones' places; its report is blank."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DOSIMETER_CACHE", str(out / "cache"))
        tiny.install(patched.setitem)
        patched.setattr("dosimeter.study.run.redraw", sketches.unreported)
        run_study(settings(image_folder, out / "run", visibility="none", **changes))
        yield out / "run"


@pytest.fixture(scope="module")
def folder(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with finished_run(image_folder, tmp_path_factory.mktemp("run"), storages="png8") as run_folder:
        yield run_folder


@pytest.fixture(scope="module")
def explorer(folder: Path) -> Explorer:
    return Explorer(folder)


@pytest.fixture
def client(explorer: Explorer) -> TestClient:
    gate = Gate()
    app = create_app(gate, routers=[explorer_router(explorer)])
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    client.cookies.set(*gate.set_cookie.partition(";")[0].split("=", 1))
    return client


def test_answers_and_flips_are_those_of_the_table(folder: Path, client: TestClient) -> None:
    rows, _ = responses.read(folder / "responses.parquet")
    curves = client.get(f"{API}/run").json()["curves"]
    assert {(curve["model"], curve["attack"]) for curve in curves} == {
        (model, attack)
        for model in ("VGG16", "Inception-v3")
        for attack in ("FGSM, paper preset", "FGSM, sound preset")
    }
    place = next(
        i for i, each in enumerate(curves) if (each["model"], each["attack"]) == ("VGG16", "FGSM, sound preset")
    )
    cases = client.get(f"{API}/cases", params={"curve": place}).json()
    assert len(cases) == curves[place]["n"]
    flips = [case["flip"] for case in cases if case["right"] and case["flip"] is not None]
    assert flips
    assert flips == sorted(flips)
    mine = rows[(rows["model"] == "vgg16") & (rows["preset"] == "sound") & rows["on_grid"]]
    ids = list(dict.fromkeys(mine["case_id"]))
    for row in mine[::3].to_dict("records"):
        wanted = {
            "curve": place,
            "case": ids.index(row["case_id"]),
            **{key: row[key] for key in ("epsilon", "storage")},
        }
        said = client.get(f"{API}/answer", params=wanted).json()
        np.testing.assert_allclose(said["probabilities"], row["probabilities"], atol=1e-6)
        assert (said["predicted"], said["label"], said["linf"]) == (row["predicted"], row["label"], row["linf"])


def test_an_image_is_the_evaluated_one_in_eight_bits(client: TestClient, explorer: Explorer) -> None:
    wanted = {"curve": 0, "case": 1, "epsilon": 0.08, "storage": "float"}
    shown = explorer.shown(0, 1, 0.08, "float")
    for kind, exact in (
        ("original", 255 * shown.original),
        ("adversarial", 255 * shown.adversarial),
        ("difference", (128 + 255 * 5 * (shown.adversarial - shown.original)).clamp(0, 255)),
    ):
        reply = client.get(f"{API}/image/{kind}", params={**wanted, "times": 5})
        assert reply.headers["content-type"] == "image/png"
        levels = np.asarray(Image.open(BytesIO(reply.content)).convert("RGB")).transpose(2, 0, 1)
        np.testing.assert_array_equal(levels, np.rint(exact.numpy()))


def test_values_are_those_of_the_image(client: TestClient, explorer: Explorer) -> None:
    for storage in ("float", "dicom12"):
        wanted = {"curve": 0, "case": 1, "epsilon": 0.003, "storage": storage}
        shown = explorer.shown(0, 1, 0.003, storage)
        for kind, image in (("original", shown.original), ("adversarial", shown.adversarial)):
            reply = client.get(f"{API}/values/{kind}", params=wanted)
            planes = np.frombuffer(reply.content, "<f4").reshape(-1, tiny.SIZE_PX, tiny.SIZE_PX)
            assert len(planes) == (3 if (storage, kind) == ("float", "adversarial") else 1)  # grey files hold one
            np.testing.assert_array_equal(np.broadcast_to(planes, image.shape), image.numpy())
    assert client.get(f"{API}/answer", params=wanted).json()["levels"] == {"original": 255, "adversarial": 4095}


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("answer?curve=99&case=0&epsilon=0", 404, "curve must be below 4, got 99."),
        ("answer?curve=0&case=999&epsilon=0", 404, "case must be below"),
        ("answer?curve=0&case=0&epsilon=2", 400, "epsilon"),
        ("answer?curve=0&case=0&epsilon=nan", 400, "epsilon"),
        ("answer?curve=-1&case=0&epsilon=0", 400, "curve"),
        ("answer?curve=0&case=0&epsilon=0&storage=../../etc/passwd", 404, "storage must be one of"),
        ("image/secret?curve=0&case=0&epsilon=0", 404, "an image is one of"),
        ("values/difference?curve=0&case=0&epsilon=0", 404, "values are those of original or adversarial"),
        ("../../../etc/passwd", 404, "There is nothing at this address."),
    ],
)
def test_nonsense_gets_a_sentence(client: TestClient, path: str, status: int, sentence: str) -> None:
    reply = client.get(f"{API}/{path}")
    assert reply.status_code == status
    assert sentence in reply.json()["error"]


def test_no_answer_names_a_patient_or_a_file(client: TestClient) -> None:
    said = client.get(f"{API}/run").text + client.get(f"{API}/cases?curve=0").text
    assert "SMITH" not in said
    assert "MRN" not in said


def test_every_answer_has_the_security_headers_even_when_the_server_fails(
    client: TestClient, explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(explorer, "run", fail)
    failed, missing, page = client.get(f"{API}/run"), client.get("/nothing"), client.get("/explorer/")
    assert [reply.status_code for reply in (failed, missing, page)] == [500, 404, 200]
    for reply in (failed, missing, page):
        assert {name: reply.headers[name] for name in HEADERS} == HEADERS
    assert "a mistake of ours" not in failed.text


def test_a_stranger_is_turned_away(explorer: Explorer) -> None:
    client = TestClient(create_app(Gate(), routers=[explorer_router(explorer)]), base_url="http://127.0.0.1")
    assert client.get(f"{API}/run").status_code == 401
    assert client.get(f"{API}/run", headers={"host": "evil.example"}).status_code == 421


# --- in a browser -------------------------------------------------------------------------------------------


@pytest.fixture
def page(served: Callable[[Any], str], new_context: Callable[..., Any], explorer: Explorer) -> Iterator[Any]:
    gate = Gate()
    address = served(create_app(gate, routers=[explorer_router(explorer)]))
    page = new_context(viewport={"width": 1280, "height": 900}).new_page()
    mistakes: list[str] = []
    page.mistakes = mistakes
    page.on("pageerror", lambda error: mistakes.append(str(error)))
    page.on("console", lambda message: mistakes.append(message.text) if message.type == "error" else None)
    page.goto(f"{address}/?token={gate.token}")
    page.opened = shows(page)
    page.select_option("#attack", index=0)
    shows(page, curve=0)
    slide(page, 0)
    shows(page, epsilon=0)
    yield page
    assert mistakes == []


def shows(page: Any, **wanted: Any) -> dict[str, Any]:
    """Wait until the page shows what is wanted, and return all that it says it shows."""
    page.wait_for_function(
        "wanted => { const busy = document.getElementById('viewer').getAttribute('aria-busy') === 'true';"
        " const shown = JSON.parse(document.body.dataset.shown || 'null');"
        " return !busy && shown && Object.entries(wanted).every(([key, value]) => shown[key] === value); }",
        arg=wanted,
    )
    found: dict[str, Any] = page.evaluate("JSON.parse(document.body.dataset.shown)")
    return found


def slide(page: Any, at: int) -> None:
    """Move the slider as a hand does: place and event in one, for an image that arrives in between moves it back."""
    page.evaluate(
        "at => { const slider = document.getElementById('epsilon');"
        " slider.value = at; slider.dispatchEvent(new Event('input')); }",
        at,
    )


def levels_of(page: Any, canvas: str) -> Any:
    width, values = page.evaluate(
        "id => { const canvas = document.getElementById(id);"
        " const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
        " return [canvas.width, Array.from(data)]; }",
        canvas,
    )
    return np.array(values).reshape(-1, width, 4)[..., :3].transpose(2, 0, 1)


def test_it_opens_at_the_flip_of_the_most_susceptible_image_and_says_what_is_shown(
    page: Any, explorer: Explorer
) -> None:
    opened = page.opened
    flips = [case for case in explorer.cases(opened["curve"]) if case["flip"] is not None]
    least = min(flips, key=lambda case: case["flip"])
    assert (opened["case"], opened["epsilon"]) == (least["place"], least["flip"])
    assert "sound" in explorer.run()["curves"][opened["curve"]]["attack"]
    slide(page, 1000)
    shows(page, epsilon=0.08)
    assert page.text_content("#often") == ", 5"  # 0.08 times 20 would leave the range
    assert "at epsilon 0.08" in page.get_attribute("#adversarial", "aria-label")
    assert page.get_attribute("#viewer", "aria-busy") == "false"


def test_the_canvas_holds_exactly_the_pixels(page: Any, explorer: Explorer) -> None:
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    shown = shows(page, epsilon=0.003)
    exact = explorer.shown(shown["curve"], shown["case"], 0.003, "float")
    np.testing.assert_array_equal(levels_of(page, "original"), np.rint(255 * exact.original.numpy()))
    np.testing.assert_array_equal(levels_of(page, "adversarial"), np.rint(255 * exact.adversarial.numpy()))


def test_slider_storage_window_and_keys(page: Any) -> None:
    slide(page, 1000)
    shows(page, epsilon=0.08)
    assert "20.40 of 255" in page.text_content("#epsilon-value")
    page.click("#storages button:has-text('png8')")
    shows(page, storage="png8")
    page.keyboard.press("s")
    shows(page, storage="png16")
    before = levels_of(page, "original")
    box = page.locator("#original").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] - 50, box["y"] + 80, steps=4)
    page.mouse.up()
    assert (levels_of(page, "original") != before).any()
    assert "width" in page.text_content("#pixel")
    page.keyboard.press("r")
    np.testing.assert_array_equal(levels_of(page, "original"), before)
    page.keyboard.press("d")
    assert not page.is_visible("#difference")
    page.keyboard.press("?")
    assert page.is_visible("#help")


@pytest.mark.parametrize("storage", ["float", "png16", "dicom12"])
def test_the_values_under_the_pointer_have_the_depth_of_the_file(page: Any, explorer: Explorer, storage: str) -> None:
    page.keyboard.press("ArrowRight")
    page.click(f"#storages button:has-text('{storage}')")
    shown = shows(page, epsilon=0.001, storage=storage)
    box = page.locator("#adversarial").bounding_box()
    side = box["width"] / tiny.SIZE_PX
    page.mouse.move(box["x"] + 7.5 * side, box["y"] + 3.5 * side)
    page.wait_for_function("() => document.getElementById('pixel').textContent.includes('Pixel 7, 3')")
    levels = {"float": 255, "png16": 65535, "dicom12": 4095}[storage]
    exact = explorer.shown(shown["curve"], shown["case"], 0.001, storage)
    before = round(255 * float(exact.original[0, 3, 7]))
    planes = [f"{levels * float(plane[3, 7]):.2f}".rstrip("0").rstrip(".") for plane in exact.adversarial]
    written = (
        " / ".join(planes) if storage == "float" else planes[0]
    )  # the paper's attack makes colours, a grey file none
    assert storage == "float" or "." not in written
    assert page.text_content("#pixel") == f"Pixel 7, 3: {before} of 255 before, {written} of {levels} now."


def test_a_resting_pointer_reads_the_values_of_every_new_image(page: Any) -> None:
    shows(page, storage="float")
    box = page.locator("#adversarial").bounding_box()
    side = box["width"] / tiny.SIZE_PX
    page.mouse.move(box["x"] + 7.5 * side, box["y"] + 3.5 * side)
    page.wait_for_function("() => document.getElementById('pixel').textContent.includes('Pixel 7, 3')")
    page.keyboard.press("s")  # the next storage, whose file has other levels
    page.keyboard.press("s")
    shows(page, storage="png16")
    page.wait_for_function("() => document.getElementById('pixel').textContent.endsWith('of 65535 now.')")


def test_a_button_that_is_pressed_while_an_image_comes_is_clicked(page: Any) -> None:
    page.hover("#storages button:has-text('png16')")
    page.mouse.down()
    page.keyboard.press("ArrowRight")
    shows(page, epsilon=0.001)
    page.mouse.up()
    shows(page, epsilon=0.001, storage="png16")
    assert page.text_content("#storages [aria-pressed=true]") == "png16"


def test_another_classifier_can_be_chosen(page: Any) -> None:
    page.select_option("#model", "Inception-v3")
    page.wait_for_function("() => document.getElementById('answer').textContent.includes('Inception-v3')")
    page.select_option("#attack", "FGSM, paper preset")
    page.wait_for_function("() => document.getElementById('adversarial-caption').textContent.includes('paper')")


def test_a_refusal_is_neither_right_nor_wrong(page: Any) -> None:
    def refuse(route: Any) -> None:
        reply = route.fetch()
        route.fulfill(response=reply, json=reply.json() | {"refused": True})

    page.route("**/api/explorer/answer*", refuse)
    page.keyboard.press("ArrowRight")
    shows(page, epsilon=0.001)
    assert "refuses to answer, would have said" in page.text_content("#answer .said.refused")
    assert page.get_attribute("#adversarial", "aria-label").endswith("refuses to answer")


def test_of_an_image_that_cannot_be_shown_nothing_of_the_last_one_is_left(page: Any) -> None:
    sentence = "image 1 cannot be read any more. Give --data."
    page.route("**/api/explorer/image/**", lambda route: route.fulfill(status=422, json={"error": sentence}))
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.text_content("#trouble") == sentence
    assert page.text_content("#answer") == page.text_content("#facts") == ""
    assert not any(levels_of(page, canvas).any() for canvas in ("original", "adversarial", "difference"))
    page.unroute("**/api/explorer/image/**")
    page.keyboard.press("ArrowRight")
    shows(page, epsilon=0.003)
    assert page.is_hidden("#trouble")
    assert all("422" in mistake for mistake in page.mistakes)  # the browser's own line of each refused image
    page.mistakes.clear()
