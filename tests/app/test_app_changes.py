"""The explorer and its export of physical changes: severities in place of epsilons, what is shown is what was asked."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from test_app_explorer import finished_run, levels_of, shows, slide

from dosimeter.app.explorer import Explorer, explorer_router
from dosimeter.app.security import Gate
from dosimeter.app.server import NotThere, create_app
from dosimeter.app.standalone import check_export, write_explorer
from dosimeter.errors import DosimeterError
from dosimeter.record import table as responses

SEVERITIES = [0.0, -5.0, -15.0]
CHOSEN: dict[str, Any] = {"model": "vgg16", "attack": "rotation", "severities": "rotation=-5,-15"}


@pytest.fixture(scope="module")
def folder(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with finished_run(image_folder, tmp_path_factory.mktemp("run"), **CHOSEN) as run_folder:
        yield run_folder


@pytest.fixture(scope="module")
def explorer(folder: Path) -> Explorer:
    return Explorer(folder)


def place_of(explorer: Explorer) -> int:
    curves = explorer.run()["curves"]
    (place,) = [place for place, curve in enumerate(curves) if curve["severities"]]
    assert curves[place]["attack"] == "rotation"
    assert (curves[place]["severities"], curves[place]["unit"]) == (SEVERITIES, "degrees")
    assert not curves[place]["epsilons"]
    return place


def test_answers_and_flips_of_a_change_are_those_of_the_table(folder: Path, explorer: Explorer) -> None:
    place = place_of(explorer)
    rows, _ = responses.read(folder / "responses.parquet")
    rows = rows[rows["preset"] == "rotation"]
    ids = list(dict.fromkeys(rows["case_id"]))
    for row in rows.to_dict("records"):
        said = explorer.answer(place, ids.index(row["case_id"]), row["severity"], "float")
        np.testing.assert_allclose(said["probabilities"], row["probabilities"], atol=1e-6)
        assert (said["predicted"], said["linf"]) == (row["predicted"], row["linf"])
    cases = explorer.cases(place)
    assert sorted(case["place"] for case in cases) == list(range(len(ids)))
    for case in cases:
        mine = rows[rows["case_id"] == ids[case["place"]]].set_index("severity")["correct"]
        wrong = [severity for severity in SEVERITIES[1:] if not mine[severity]]
        assert case["right"] == mine[0.0]
        assert case["flip"] == (wrong[0] if wrong and case["right"] else None)
    far = [SEVERITIES.index(case["flip"]) for case in cases if case["flip"] is not None]
    assert far == sorted(far)


def test_what_was_not_asked_is_one_sentence(explorer: Explorer) -> None:
    place = place_of(explorer)
    with pytest.raises(NotThere, match="severity must be one of 0, -5, -15, got 3"):
        explorer.shown(place, 0, 3.0, "float")
    with pytest.raises(DosimeterError, match="epsilon must be from 0 to 1, got -20"):
        explorer.shown(0, 0, -20.0, "float")


def at_each_severity(page: Any, explorer: Explorer, place: int) -> None:
    """Step through the severities with the keys and the slider, and compare what the page shows."""
    assert page.text_content("#dose-name") == "Severity"
    slide(page, 0)
    for severity in SEVERITIES:
        shown = shows(page, epsilon=severity)
        assert page.text_content("#epsilon-value") == f"{severity:g} degrees"
        exact = explorer.shown(place, shown["case"], severity, "float")
        np.testing.assert_array_equal(levels_of(page, "adversarial"), np.rint(255 * exact.adversarial.numpy()))
        page.keyboard.press("ArrowRight")
    slide(page, 400)
    shows(page, epsilon=-5)


def test_the_slider_of_a_change_steps_along_its_severities(
    served: Callable[[Any], str], new_context: Callable[..., Any], explorer: Explorer
) -> None:
    gate, place = Gate(), place_of(explorer)
    page = new_context(viewport={"width": 1280, "height": 900}).new_page()
    mistakes: list[str] = []
    page.on("pageerror", lambda error: mistakes.append(str(error)))
    page.goto(f"{served(create_app(gate, routers=[explorer_router(explorer)]))}/?token={gate.token}")
    shows(page)
    assert page.text_content("#dose-name") == "Epsilon"
    page.select_option("#attack", "rotation")
    opened = shows(page, curve=place)
    flips = {case["place"]: case["flip"] for case in explorer.cases(place)}
    assert opened["epsilon"] == (flips[opened["case"]] or SEVERITIES[0])
    at_each_severity(page, explorer, place)
    page.select_option("#attack", index=0)
    assert 0 <= shows(page, curve=0)["epsilon"] <= 0.08
    assert page.text_content("#dose-name") == "Epsilon"
    assert mistakes == []


def test_an_export_has_every_severity(explorer: Explorer, tmp_path: Path, new_context: Callable[..., Any]) -> None:
    place = place_of(explorer)
    write_explorer(explorer, check_export(tmp_path / "explorer", limit=2))
    page = new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto((tmp_path / "explorer" / "index.html").as_uri())
    shows(page)
    page.select_option("#attack", "rotation")
    shows(page, curve=place)
    at_each_severity(page, explorer, place)
