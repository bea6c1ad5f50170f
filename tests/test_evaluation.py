"""The masked and the honest must be told apart; every check on evidence made by hand."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from masked import HONEST, MASKED, examined

from dosimeter.analysis.evaluation import RULES, evaluate, overall
from dosimeter.responses import to_frame

CAUGHT_BY = {
    "saturated softmax": "saturation",
    "distilled at T = 100": "saturation",
    "quantising input layer": "zero_gradient",
    "random-resize input layer": "iterative",
    "JPEG input layer": "gradient",
    "logits times 1e4": "saturation",
    "dropout left on": "randomness",
    "normalised twice": "clean_accuracy",
    "probabilities for logits": "logits",
}


@cache
def judged(name: str) -> pd.DataFrame:
    evidence = examined({**MASKED, **HONEST}[name](), n=30)
    return evaluate(evidence.frame, evidence.preflights, convergence=evidence.convergence)


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_classifier_is_flagged_by_the_right_check(name: str) -> None:
    checks = judged(name)
    assert overall(checks).set_index("preset").loc["sound", "verdict"] != "PASS"
    mine = checks[(checks["preset"] == "sound") & (checks["verdict"] != "PASS")]
    assert CAUGHT_BY[name] in set(mine["id"])


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_classifier_is_not_called_unreliable(name: str) -> None:
    checks = judged(name)
    assert set(overall(checks)["verdict"]) <= {"PASS", "CAUTION"}


@pytest.mark.parametrize("name", ["saturated softmax", "logits times 1e4"])
def test_the_paper_s_loss_on_a_saturated_softmax_is_unreliable(name: str) -> None:
    checks = judged(name)
    assert overall(checks).set_index("preset").loc["paper", "verdict"] == "UNRELIABLE"
    mine = checks[(checks["preset"] == "paper") & (checks["verdict"] == "UNRELIABLE")]
    assert "zero_gradient" in set(mine["id"])


def test_every_check_says_what_to_do() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert all((rule.title, rule.rule, rule.source, rule.remedy)), rule.id


# --- by hand ------------------------------------------------------------------------------------------------

GRID = (0.0, 0.001, 0.003, 0.01)
N = 100


def attacked(attack: str, accuracies: tuple[float, ...], *, found: bool | None = None, **names: str) -> list[dict]:
    """Rows of one attack that leaves the first share of N cases right at each epsilon of the grid."""
    return [
        {
            "cohort": "c",
            "protocol": "paper",
            "case_id": f"{case:05d}",
            "label": case % 2,
            "model": "m",
            "classifier": "m-0",
            "preset": attack,
            "attack": attack,
            "loss": "margin",
            "channels": "tied",
            "storage": "float",
            "seed": 0,
            "epsilon": epsilon,
            "on_grid": True,
            "unchanged": epsilon == 0,
            "grad_zero": False,
            "found": found,
            "logits": [0.0, 1.0],
            "probabilities": [0.3, 0.7],
            "predicted": case % 2 if case < share * N else 1 - case % 2,
            "correct": case < share * N,
            "status": "ok",
            **names,
        }
        for epsilon, share in zip(GRID, accuracies, strict=True)
        for case in range(N)
    ]


def verdict_of(check: str, *attacks: list[dict]) -> str | None:
    checks = evaluate(to_frame(row for rows in attacks for row in rows))
    mine = checks[(checks["preset"] == "sound") & (checks["id"] == check)]
    return None if mine.empty else str(mine["verdict"].iloc[0])


FGSM = attacked("fgsm", (1.0, 0.7, 0.4, 0.1), preset="sound")
PGD = attacked("pgd", (1.0, 0.6, 0.3, 0.0))


@pytest.mark.parametrize(
    ("check", "attacks", "verdict"),
    [
        ("iterative", (FGSM, PGD), "PASS"),
        ("iterative", (FGSM, attacked("pgd", (1.0, 0.9, 0.8, 0.7))), "UNRELIABLE"),
        ("iterative", (FGSM,), None),
        ("black_box", (FGSM, PGD, attacked("square", (1.0, 0.8, 0.5, 0.2))), "PASS"),
        ("black_box", (FGSM, PGD, attacked("square", (1.0, 0.5, 0.1, 0.0))), "UNRELIABLE"),
        ("noise", (FGSM, PGD, attacked("random_sign", (1.0, 1.0, 1.0, 0.9))), "PASS"),
        ("noise", (FGSM, PGD, attacked("random_sign", (1.0, 0.3, 0.2, 0.0))), "UNRELIABLE"),
        ("monotone", (FGSM, PGD), None),  # by bisection it is so without being looked at
        ("monotone", (FGSM, attacked("pgd", (1.0, 0.6, 0.3, 0.0), effort="thorough")), "PASS"),
        ("monotone", (FGSM, attacked("pgd", (1.0, 0.5, 0.6, 0.0))), "UNRELIABLE"),
        ("silent_success", (FGSM, attacked("pgd", (1.0, 0.6, 0.3, 0.0), found=True)), "UNRELIABLE"),
        ("attacks", (FGSM,), "CAUTION"),
    ],
)
def test_a_check_on_curves_made_by_hand(check: str, attacks: tuple[list[dict], ...], verdict: str | None) -> None:
    assert verdict_of(check, *attacks) == verdict


def test_the_worst_case_is_taken_image_by_image() -> None:
    """Two attacks that each break another half leave nothing together, though their mean leaves half."""
    first = attacked("pgd", (1.0, 0.5, 0.5, 0.5))
    second = [
        {**row, "correct": row["epsilon"] == 0 or row["case_id"] >= f"{N // 2:05d}"}
        for row in attacked("apgd", (1.0, 1.0, 1.0, 1.0))
    ]
    checks = evaluate(to_frame([*first, *second]))
    sentence = checks.loc[checks["id"] == "worst_case", "measured"].iloc[0]
    assert "leaves 0.0 % of 100 images" in sentence
    assert np.mean([row["correct"] for row in first if row["epsilon"] == 0.01]) == 0.5
