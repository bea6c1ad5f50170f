"""Classifiers that are only asked: functions, MAITE models, and endpoints that are well, down, slow, busy or fickle."""

import io
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cards import write_card
from PIL import Image
from typer.testing import CliRunner

import dosimeter as dm
from dosimeter.cli.app import app
from dosimeter.errors import DosimeterError
from dosimeter.models import endpoint
from dosimeter.models.endpoint import Client, EndpointFailed, encoded
from dosimeter.models.queried import LABEL_LOGIT
from dosimeter.record import table as responses
from dosimeter.record.model_card import Endpoint

SIZE_PX = 16
CLASSES = ("dark", "bright")


class Server:
    """An endpoint on 127.0.0.1 that answers with `reply(image)`; what it is told to do wrong, it does first."""

    def __init__(self) -> None:
        self.n = 0
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[str] = []
        self.reply: Callable[[np.ndarray], Any] = scores
        self.decode = decode_png

    def __enter__(self) -> "Server":
        server = self

        class Handler(BaseHTTPRequestHandler):
            wbufsize = -1  # one packet an answer: two would wait for each other

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.n += 1
                server.bodies.append(body)
                server.headers.append(dict(self.headers))
                fault = server.faults.pop(0) if server.faults else ""
                if fault == "slow":
                    time.sleep(1.5)
                status, extra = {"busy": (429, {"Retry-After": "0"}), "broken": (500, {}), "no": (400, {})}.get(
                    fault, (302, {"Location": "http://example.org/"}) if fault == "moved" else (200, {})
                )
                answer = server.reply(server.decode(body)) if status == 200 else {"error": fault}
                content = b"<html>" if fault == "html" else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**extra, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(content)
                except OSError:
                    return  # whoever asked has given up

            def log_message(self, *_: object) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/predict"
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def decode_png(body: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(image, dtype=np.float64) / (65535 if image.mode.startswith("I") else 255)


def probability(image: np.ndarray) -> float:
    return float(1 / (1 + np.exp(-40 * (image.mean() - 0.5))))


def scores(image: np.ndarray) -> Any:
    return {"predictions": [{"scores": {"bright": probability(image), "dark": 1 - probability(image)}}]}


def label(image: np.ndarray) -> Any:
    return {"predictions": [{"label": CLASSES[int(probability(image) > 0.5)]}]}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as begun:
        yield begun


def card(folder: Path, server: Server, *, outputs: str = "probabilities", answer: str = "scores", **how: Any) -> Path:
    asked = {"url": server.url, "answer": f"predictions.0.{answer}", "retries": 1, **how}
    return write_card(
        folder,
        source="http",
        mean=None,
        std=None,
        classes=list(CLASSES),
        size_px=SIZE_PX,
        outputs=outputs,
        endpoint=asked,
    )


def images(n: int = 6) -> np.ndarray:
    """Flat images 0.1 beside the boundary with texture on the 8-bit grid, (n, 1, SIZE_PX, SIZE_PX)."""
    texture = np.random.default_rng(0).integers(-60, 61, (n, 1, SIZE_PX, SIZE_PX))
    return ((texture + np.array([102, 153] * (n // 2))[:, None, None, None]) / 255).astype(np.float32)


def cohort(n: int = 6) -> dm.Cohort:
    return dm.cohort_of(images(n), [0, 1] * (n // 2), CLASSES)


def ask(server: Server, *, outputs: str = "probabilities", **changes: Any) -> Client:
    asked = {"answer": "predictions.0.scores", "retries": 1, **changes}
    return Client(Endpoint(url=server.url, **asked), CLASSES, None, outputs=outputs)


# --- functions ------------------------------------------------------------------------------------------------


def by_mean(batch: np.ndarray) -> np.ndarray:
    bright = batch.mean(axis=(1, 2, 3))
    return np.stack([0.5 - bright, bright - 0.5], axis=1) * 20


def test_a_function_is_a_classifier_without_gradients() -> None:
    mine = dm.classifier(by_mean, size_px=SIZE_PX, classes=CLASSES, channels=1)
    assert mine.access == "scores"
    given = torch.from_numpy(images()).expand(-1, 3, -1, -1)
    np.testing.assert_allclose(mine(given).numpy(), by_mean(images()), rtol=1e-5)
    result = dm.audit(mine, cohort(), epsilons=["8/255", "64/255"], effort="quick")
    table = result.table()
    square = table[(table["preset"] == "square") & (table["storage"] == "float")].set_index("epsilon")["accuracy"]
    assert square[0.0] == square[8 / 255] == 1.0  # a mean 0.1 away flips between the two budgets
    assert square[64 / 255] <= 0.5
    assert set(table["preset"]) >= {"random_sign", "square"}
    assert "A gradient reaches the image" in str(result)


def test_what_needs_gradients_is_refused_with_what_does_not() -> None:
    mine = dm.classifier(by_mean, size_px=SIZE_PX, classes=CLASSES, channels=1)
    said = r"gives scores and no gradient, which pgd cannot attack. Use hopskipjump, random_sign, square, uniform_noise"
    with pytest.raises(DosimeterError, match=said):
        dm.sweep(mine, cohort(), "pgd")
    with pytest.raises(DosimeterError, match="which fgsm, pgd cannot attack"):
        dm.audit(mine, cohort(), attacks="pgd", preset="sound")


def test_a_maite_model_is_a_function_of_a_sequence() -> None:
    class Model:
        def __call__(self, batch: Any) -> list[np.ndarray]:
            return [by_mean(np.asarray(image)[None])[0] for image in batch]

    mine = dm.classifier(Model(), size_px=SIZE_PX, classes=CLASSES, channels=1, identity="maite mine 1")
    given = torch.from_numpy(images()).expand(-1, 3, -1, -1)
    np.testing.assert_allclose(mine(given).numpy(), by_mean(images()), rtol=1e-5)


def test_labels_alone_leave_attacks_on_decisions() -> None:
    def decide(batch: np.ndarray) -> np.ndarray:
        return by_mean(batch).argmax(axis=1)

    mine = dm.classifier(decide, size_px=SIZE_PX, classes=CLASSES, channels=1, outputs="labels")
    assert mine.access == "decisions"
    given = torch.from_numpy(images(2)).expand(-1, 3, -1, -1)
    assert mine(given).tolist() == [[LABEL_LOGIT, 0.0], [0.0, LABEL_LOGIT]]
    with pytest.raises(DosimeterError, match="gives labels alone, which square cannot attack"):
        dm.sweep(mine, cohort(), "square")
    rows = dm.sweep(mine, cohort(2), "random_sign", epsilons=["64/255"], refine=False).frame
    assert rows["correct"].all()


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (lambda batch: "yes", "must answer with numbers"),
        (lambda batch: np.zeros((1, 2)), r"must answer \(n, n_outputs\) for n images"),
        (lambda batch: [[1.0, 2.0], [1.0]] * len(batch), "as many for every image"),
        (lambda batch: np.full(len(batch), 2), "one place of a class from 0 to 1, got 2.0"),
        (lambda batch: np.full(len(batch), 0.5), "got 0.5"),
    ],
)
def test_answers_that_are_none_are_one_sentence(answers: Callable[[Any], Any], said: str) -> None:
    outputs = "labels" if "place" in said or "got 0.5" in said else "logits"
    mine = dm.classifier(answers, size_px=SIZE_PX, classes=CLASSES, channels=1, outputs=outputs, identity="odd")
    with pytest.raises(DosimeterError, match=said):
        mine(torch.zeros(3, 3, SIZE_PX, SIZE_PX))


# --- what is sent ---------------------------------------------------------------------------------------------


def test_a_png_holds_the_image() -> None:
    (image,) = images(2)[:1]
    np.testing.assert_allclose(decode_png(encoded(np.repeat(image, 3, axis=0), "png")), image[0], atol=1e-7)
    fine = image + 0.3 / 65535
    np.testing.assert_allclose(decode_png(encoded(fine, "png16")), fine[0], atol=0.51 / 65535)
    assert decode_png(encoded(np.repeat(image, 3, axis=0) * np.array([1, 0.5, 0.2])[:, None, None], "png")).shape == (
        *(SIZE_PX, SIZE_PX),
        3,
    )
    np.testing.assert_allclose(json.loads(encoded(image, "json"))["image"], image, atol=1e-8)


def test_forms_fields_and_tokens_are_sent_as_the_card_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    server.decode = lambda body: decode_png(body[body.index(b"\x89PNG") :])
    (answer,) = ask(server, field="file", token="MY_TOKEN")(images(2)[:1])
    assert answer == pytest.approx([1 - probability(images(2)[0]), probability(images(2)[0])], abs=0.01)
    assert server.headers[0]["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="file"; filename="image.png"' in server.bodies[0]
    assert server.headers[0]["Authorization"] == "Bearer secret"
    monkeypatch.delenv("MY_TOKEN")
    with pytest.raises(EndpointFailed, match=r"environment variable MY_TOKEN, of the card's \[endpoint\], is not set"):
        ask(server, token="MY_TOKEN")(images(2)[:1])


# --- what goes wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["busy", "broken", "slow"])
def test_what_may_pass_is_tried_again(server: Server, fault: str) -> None:
    server.faults = [fault]
    assert len(ask(server, timeout_s=0.5)(images(2)[:1])) == 1
    assert server.n == 2


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (["no"], "refused an image with status 400"),
        (["moved"], "refused an image with status 302"),
        (["html"], "must answer JSON, got '<html>'"),
        (["broken", "broken"], "did not answer in 2 tries: status 500"),
        (["slow", "slow"], "did not answer in 2 tries"),
    ],
)
def test_what_does_not_pass_is_one_sentence(server: Server, faults: list[str], said: str) -> None:
    server.faults = list(faults)
    with pytest.raises(EndpointFailed, match=said) as caught:
        ask(server, timeout_s=0.5)(images(2)[:1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda image: {}, "answers stand at 'predictions.0.scores', but"),
        (lambda image: {"predictions": [{"scores": {"dark": 1.0}}]}, "gave no score of 'bright'"),
        (lambda image: {"predictions": [{"scores": "grey"}]}, "label 'grey', which is none of"),
        (lambda image: {"predictions": [{"scores": [True, None]}]}, "must answer numbers or a label"),
    ],
)
def test_an_answer_of_another_shape_is_one_sentence(server: Server, reply: Callable[[Any], Any], said: str) -> None:
    server.reply = reply
    with pytest.raises(EndpointFailed, match=said):
        ask(server, outputs="labels")(images(2)[:1])


@pytest.mark.parametrize("outputs", ["one probability", "one logit", "probabilities", "findings"])
def test_a_label_is_no_score(server: Server, outputs: str) -> None:
    server.reply = label
    asked = ask(server, outputs=outputs, answer="predictions.0.label")
    with pytest.raises(
        EndpointFailed, match=f"says outputs '{outputs}', but .* answered the label 'dark'. Say outputs"
    ):
        asked(images(2)[:1])
    assert ask(server, outputs="labels", answer="predictions.0.label")(images(2)) == [[0.0], [1.0]]


def test_an_endpoint_that_changes_its_mind_is_found_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client, values = ask(server), iter([0.2, 0.9])
    server.reply = lambda image: {"predictions": [{"scores": [next(values), 0.5]}]}
    client(images(2)[:1])
    monkeypatch.setattr(endpoint, "SHARE_RECHECKED", 1.0)
    with pytest.raises(EndpointFailed, match=r"changed its mind: .* \(0.2, 0.5\), then with \(0.9, 0.5\)"):
        client(images(2)[:1])


def test_rechecks_are_drawn_among_all_that_is_known(server: Server) -> None:
    client = ask(server)
    client(images(6))
    for _ in range(100):
        client(images(6))
    assert 6 < server.n <= 6 + endpoint.N_RECHECKED


def test_what_only_limits_the_asking_names_no_other_run(server: Server, tmp_path: Path) -> None:
    from dosimeter.study.config import load_config

    def name() -> str:
        return load_config(model=str(tmp_path / "mine.toml"), cohort="phantom-xray").default_name()

    card(tmp_path, server, budget=100)
    first = name()
    card(tmp_path, server, budget=200, retries=9)
    assert name() == first
    card(tmp_path, server, send="png16")
    assert name() != first


def test_queries_leave_no_quicker_than_allowed(server: Server) -> None:
    client = ask(server, per_second=20)
    begun = time.monotonic()
    client(images(6))
    assert time.monotonic() - begun >= 5 / 20


def test_nothing_is_asked_twice_in_another_session_and_the_budget_counts_all(server: Server, tmp_path: Path) -> None:
    asked = Endpoint(url=server.url, answer="predictions.0.scores", budget=4)
    first = Client(asked, CLASSES, tmp_path / "answers.sqlite", outputs="probabilities")
    known = first(images(4))
    assert server.n == 4
    again = Client(
        asked.model_copy(update={"budget": 100}), CLASSES, tmp_path / "answers.sqlite", outputs="probabilities"
    )
    again._rechecks = 0
    assert again(images(4)) == known
    assert server.n == 4
    with pytest.raises(EndpointFailed, match=r"the budget of 4 queries for .* is spent"):
        first(images(6))


@pytest.mark.parametrize("damage", ["no database", "no answer"])
def test_answers_that_are_damaged_are_one_sentence(server: Server, tmp_path: Path, damage: str) -> None:
    endpoint, store = Endpoint(url=server.url, answer="predictions.0.scores"), tmp_path / "answers.sqlite"

    def asked() -> list[list[float]]:
        return Client(endpoint, CLASSES, store, outputs="probabilities")(images(2))

    if damage == "no database":
        store.write_bytes(b"x" * 5000)
    else:
        asked()
        with sqlite3.connect(store) as database:
            database.execute("UPDATE answers SET answer = '[0.1, '")
        database.close()
    with pytest.raises(EndpointFailed, match=f"cannot be used .* remove {store}, and they are asked again") as caught:
        asked()
    assert "\n" not in str(caught.value)
    for file in tmp_path.glob("answers.sqlite*"):
        file.unlink()
    assert len(asked()) == 2


# --- an audit -------------------------------------------------------------------------------------------------


def audited(path: Path, data: Path, out: Path, *more: str) -> Any:
    asked = ["audit", "--model", str(path), "--data", f"csv:{data}", "--epsilons", "0.02,0.3", "--out", str(out), *more]
    return CliRunner().invoke(app, asked)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    rows = ["file,label"]
    for place, image in enumerate(images()):
        Image.fromarray((image[0] * 255).round().astype(np.uint8)).save(tmp_path / f"{place}.png")
        rows.append(f"{place}.png,{CLASSES[place % 2]}")
    (tmp_path / "films.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "films.csv"


@pytest.mark.parametrize(
    ("outputs", "answer", "reply", "attack"),
    [
        ("probabilities", "scores", scores, "square"),
        pytest.param("labels", "label", label, "hopskipjump", marks=pytest.mark.slow),  # thousands of requests
    ],
)
def test_an_endpoint_is_audited_as_files_are(
    server: Server, films: Path, tmp_path: Path, outputs: str, answer: str, reply: Callable[[Any], Any], attack: str
) -> None:
    server.reply = reply
    path = card(tmp_path, server, outputs=outputs, answer=answer)
    asked = ("--positive", "bright", "--attack", f"random_sign,{attack}", "--images", "2")
    result = audited(path, films, tmp_path / "run", *asked)
    assert result.exit_code == 0, result.output
    rows = responses.read(tmp_path / "run" / "responses.parquet").frame
    assert set(rows["preset"]) == {"random_sign", attack}
    worst = rows[rows["on_grid"] & (rows["preset"] == attack)].pivot_table("correct", "case_id", "epsilon")
    assert worst[0.0].all()
    assert not worst[0.3].any()  # 0.1 away from the boundary
    page = (tmp_path / "run" / "report.html").read_text()
    assert "It was asked over HTTP, without gradients." in page
    assert server.url not in page  # an address may be a hospital's own
    n = server.n
    assert "already finished" in audited(path, films, tmp_path / "run", *asked).output
    assert server.n <= n + 10  # what it is, is asked again; the images are not
    checks = pd.read_csv(tmp_path / "run" / "tables" / "evaluation.csv").set_index("id")
    assert checks.loc["gradient", "verdict"] == "CAUTION"


def test_another_model_behind_the_address_is_another_network(server: Server, tmp_path: Path) -> None:
    path = card(tmp_path, server)
    first = dm.bring(path).name
    assert dm.bring(path).name == first
    server.reply = lambda image: {"predictions": [{"scores": [0.3, 0.7]}]}
    assert dm.bring(path).name != first


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"endpoint": None}, r"must say \[endpoint\]"),
        ({"size_px": None}, "must say size_px"),
        ({"endpoint": {"url": "file:///etc/passwd"}}, "endpoint.url: String should match pattern"),
        ({"endpoint": {"url": "http://a", "sent": "png"}}, "endpoint.sent"),
    ],
)
def test_a_card_that_lacks_something_is_one_sentence(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    facts = {"source": "http", "mean": None, "std": None, "size_px": 8, "endpoint": {"url": "http://127.0.0.1:9"}}
    with pytest.raises(DosimeterError, match=said) as caught:
        dm.bring(write_card(tmp_path, **(facts | changes)))
    assert "\n" not in str(caught.value)
