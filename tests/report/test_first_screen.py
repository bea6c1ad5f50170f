"""The first screen: sentences and numbers as the run has them, of one classifier, of few, of many."""

from typing import Any

import pytest

from dosimeter.presentation.section import fill
from dosimeter.report.answer import lines
from dosimeter.report.first_screen import MOST, cards


def result(
    half: float | None = 0.3, *, censored: bool = False, verdict: str = "PASS", model: str = "vgg16", **more: Any
) -> dict[str, Any]:
    def value(number: float | None) -> dict[str, Any]:
        bounds = {"low": None if number is None else number / 2, "high": None if number is None else number * 2}
        return {"value": number, "evaluation": verdict, "censored": censored, **bounds}

    attack = {"preset": "sound", "storage": "float", "evaluation": verdict}
    attack |= {"epsilon50": value(None if half is None else half / 255), "grey_levels": value(half)}
    worst = {"epsilon": 0.003, "preset": "sound", "value": 0.25, "low": 0.1, "high": 0.4, "n": 40}
    return {
        "model": model,
        "cohort": "mine",
        "protocol": "whole",
        "n": 40,
        "worst_case": {**worst, "evaluation": verdict},
        "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95},
        "attacks": [attack],
        "evaluations": [{"preset": "sound", "verdict": verdict, "because": "" if verdict == "PASS" else "A check"}],
        **more,
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (result(0.3), "Fragile: half of its right answers change within 0.3 grey levels of 255."),
        (result(4.0), "Half of its right answers change within 4 grey levels of 255."),
        (result(None, censored=True), "It withstands what was tried: fewer than half of its right answers changed."),
        (result(None), "There was no right answer to attack."),
        (result(None, verdict="UNRELIABLE"), "There was no right answer to attack."),
        (result(0.3) | {"attacks": [], "worst_case": None}, "It was not attacked."),
    ],
)
def test_the_sentence_is_what_the_run_shows(given: dict[str, Any], said: str) -> None:
    (card,) = cards([given])
    assert card.sentence == said


def test_the_published_preset_answers_for_nothing_beside_another_attack() -> None:
    found = result(3.0)
    (pgd,) = found["attacks"]
    published = {**pgd, "preset": "paper", "evaluation": "UNRELIABLE"}
    published |= {"epsilon50": {**pgd["epsilon50"], "value": None, "censored": True}}
    found |= {"attacks": [published, {**pgd, "preset": "pgd"}], "n": 1}
    found["worst_case"] |= {"preset": "pgd", "n": 1}
    (card,) = cards([found])
    assert card.sentence == "Half of its right answers change within 3 grey levels of 255."
    assert card.where.endswith(", 1 image")
    (said,) = lines({"status": "complete", "phantom": False, "results": [found]})
    assert "epsilon50 0.012 = 3.00 grey levels (95 % interval 1.50 to 6.00; PGD)" in said
    assert said.count("1 image") == 2
    assert "1 images" not in said


def test_an_unreliable_evaluation_is_said_in_the_sentence_and_beside_each_number() -> None:
    (card,) = cards([result(8.0, verdict="UNRELIABLE")])
    assert "UNRELIABLE, so it may be more fragile" in card.sentence
    assert [fact.mark for fact in card.facts] == ["UNRELIABLE", "UNRELIABLE", ""]
    page = str(fill("dosimeter.report", "first_screen.html", cards=[card], most=MOST, picture=None, numbers={}))
    assert page.count('class="flag unreliable"') == 2
    assert "UNRELIABLE: not passed: A check" in page


def test_files_are_not_spoken_of_where_no_right_answer_was_stored() -> None:
    stored = {"storage": "png8", "evaluation": "", "deployed_epsilon": {"value": None}}
    for n, names in ((0, []), (7, ["flips kept by a file"])):
        (card,) = cards([result(None, storage=[{**stored, "n": n}])])
        assert [fact.name for fact in card.facts if "file" in fact.name] == names


def test_what_was_not_asked_is_not_there_and_what_was_is() -> None:
    stored = {"storage": "png8", "n": 30, "evaluation": "PASS", "deployed_epsilon": {"value": 0.004}}
    seen = {"metric": "jnd_p95", "storage": "float", "preset": "sound", "epsilon": 0.001, "median": 1.7}
    (bare,), (whole,) = cards([result()]), cards([result(storage=[stored], visibility=[seen])])
    names = [fact.name for fact in bare.facts]
    assert names == ["epsilon50, in grey levels", "right at epsilon 0.003, FGSM, sound preset", "right without attack"]
    told = {fact.name: fact.value for fact in whole.facts[3:]}
    assert told == {"flips kept by a file": "from 1.02 grey levels", "would be seen": "possibly"}


OF = "; of 3 physical changes the least visible that does"


@pytest.mark.parametrize(
    ("changes", "name", "value", "note", "said"),
    [
        ({}, "half lost to rotation at", "-10 degrees", "95 % interval -5 to beyond -20" + OF,
         "; half lost under rotation at -10 degrees"),
        ({"high_censored": False}, "half lost to rotation at", "-10 degrees",
         "95 % interval -5 to -15" + OF, "; half lost under rotation at -10 degrees"),
        ({"censored": True}, "half lost to a physical change", "no",
         "3 physical changes asked; most, 16.7 %, under rotation at -20 degrees",
         "; half not lost to any physical change (3 asked)"),
        ({"n": 0}, None, None, None, ""),
    ],
)  # fmt: skip
def test_the_physical_change_that_breaks_first_is_on_the_first_screen(
    changes: dict[str, Any], name: str | None, value: str | None, note: str | None, said: str
) -> None:
    everyday = {
        "change": "rotation", "unit": "degrees", "n": 18, "n_changes": 3, "censored": False, "high_censored": True,
        "severity50": {"value": -10.0, "low": -5.0, "high": -15.0}, "severity_max": -20.0, "lost_max": 1 / 6,
    }  # fmt: skip
    given = result(everyday=everyday | changes)
    (card,) = cards([given])
    facts = [tuple(fact)[:3] for fact in card.facts[3:]]
    assert facts == ([(name, value, note)] if name else [])
    (line,) = list(lines({"status": "complete", "phantom": False, "results": [given]}))
    assert ("half lost" in line or "half not lost" in line) == bool(said)
    assert said in line


def test_of_many_classifiers_the_most_fragile_come_first_and_all_stand_in_a_table() -> None:
    found = cards([result(half, model=f"net {half}") for half in (5.0, 0.2, None, 1.0, 9.0, 3.0)])
    assert [card.order for card in found] == [0.2, 1.0, 3.0, 5.0, 9.0, float("inf")]
    page = str(fill("dosimeter.report", "first_screen.html", cards=found, most=MOST, picture=None, numbers={}))
    assert page.count('<article class="card">') == MOST
    assert page.count('<th scope="row"') == len(found)
