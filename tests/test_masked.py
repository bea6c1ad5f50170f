"""The masked told apart from the honest: small classifiers attacked and judged as a study would."""

from pathlib import Path

import masked
import pandas as pd
import pytest

from dosimeter.analysis.checks import VERDICTS
from dosimeter.analysis.evaluation import RULES, evaluate, overall

DOCUMENT = Path(__file__).parent.parent / "docs" / "evaluation.md"

FLAGGED = {
    "saturated softmax": [("paper", "zero_gradient", "UNRELIABLE"), ("paper", "other_attacks", "UNRELIABLE")],
    "distilled at T = 100": [("paper", "zero_gradient", "UNRELIABLE"), ("sound", "saturation", "CAUTION")],
    "quantising input layer": [("sound", "zero_gradient", "UNRELIABLE"), ("sound", "black_box", "UNRELIABLE")],
    "random-resize input layer": [("sound", "randomness", None), ("sound", "silent_success", "UNRELIABLE")],
    "JPEG input layer": [("sound", "gradient", "UNRELIABLE"), ("paper", "gradient", "UNRELIABLE")],
    "logits times 1e4": [("paper", "zero_gradient", "UNRELIABLE"), ("sound", "saturation", "CAUTION")],
    "dropout left on": [("sound", "evaluation_mode", "UNRELIABLE"), ("sound", "randomness", None)],
    "normalised twice": [("sound", "clean_accuracy", "UNRELIABLE")],
    "probabilities for logits": [("sound", "logits", "CAUTION"), ("paper", "logits", "CAUTION")],
}


def of_zoo(name: str) -> pd.DataFrame:
    classifier = {**masked.HONEST, **masked.MASKED}[name]()
    evidence = masked.examined(classifier, n=24, epsilons=(0.01, 0.03, 0.1), attacks=("pgd", "square", "random_sign"))
    return evaluate(evidence.frame, evidence.preflights, convergence=evidence.convergence)


def test_the_zoo_has_what_it_should() -> None:
    assert FLAGGED.keys() == masked.MASKED.keys()


@pytest.mark.parametrize("name", masked.MASKED)
def test_every_masked_classifier_is_flagged_by_the_check_for_it(name: str) -> None:
    checks = of_zoo(name).set_index(["preset", "id"])["verdict"]
    for preset, check, verdict in FLAGGED[name]:
        assert checks[preset, check] in ([verdict] if verdict else VERDICTS[1:]), check


@pytest.mark.parametrize("name", masked.HONEST)
def test_no_honest_classifier_is_flagged(name: str) -> None:
    checks = of_zoo(name)
    verdicts = overall(checks).set_index("preset")
    assert verdicts.loc["sound", "verdict"] == "PASS"
    assert verdicts.loc["paper", "because"] == "More than one step was tried"  # it is FGSM alone, whoever it attacks
    assert {*checks["id"]} >= {rule.id for rule in RULES} - {"transfer"}


def test_the_document_tells_every_rule() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for rule in RULES:
        for part in (rule.title, rule.rule, rule.source, rule.remedy):
            assert part in text, f"docs/evaluation.md lacks “{part}”: python benchmarks/confusion.py > {DOCUMENT}"
    for name in (*masked.HONEST, *masked.MASKED):
        assert name in text
