"""The masked told apart from the honest: small classifiers attacked and judged as a study would."""

from pathlib import Path

import masked
import pandas as pd
import pytest

from dosimeter.analysis.evaluation import evaluate, overall, rules

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "evaluation.md"
ATTACKS = ("pgd", "square", "random_sign")

FLAGGED = {
    "quantising input layer": ("zero_gradient", "black_box"),
    "half rounded": ("black_box",),
    "JPEG input layer": ("gradient",),
    "one-hot answers": ("gradient",),
    "gradient reversed": ("finite_differences", "loss_rises", "black_box"),
    "gradient tossed": ("repeated_gradient",),
    "a quarter of the gradient lost": ("still_pixels",),
    "another network's gradient": ("finite_differences",),
    "another answer under attack": ("epsilon_zero",),
    "half detached": ("still_pixels",),
    "coarse detached": ("finite_differences",),
    "random-resize input layer": ("convergence",),
    "random padding": ("repeated_gradient",),
    "noise by hash": ("neighbours",),
    "dropout left on": ("evaluation_mode",),
    "shattered": ("black_box",),
    "recognising images": ("neighbours",),
    "normalised twice": ("clean_accuracy",),
}
"""Of each kind of mask, the checks that must say UNRELIABLE. All of the zoo: benchmarks/confusion.py."""

NOT_OVERSTATED = {
    "logits times 1e4": ("PASS", ""),
    "probabilities for logits": ("CAUTION", "Outputs are logits"),
    "constant": ("CAUTION", "The classifier is better than the larger class"),
    "larger class": ("CAUTION", "The classifier is better than the larger class"),
}
"""What takes nothing from an attack on the margin."""

HONEST = (
    *("convolutional", "adversarially trained", "linear", "small fields", "max pooling", "batch normalisation"),
    *("left in training mode", "logits times 1000", "logits times 1e-5", "logits plus 100", "cropped", "in colour"),
    *("five images", "one image in eight"),
)


def of_zoo(name: str, n: int = 8, presets: tuple[str, ...] = ("sound",)) -> pd.DataFrame:
    entry = {**masked.HONEST, **masked.MASKED}[name]
    cohort, declared = masked.cohort_of(name, n), getattr(entry, "declared", None)
    evidence = masked.examined(
        entry.build(), cohort, epsilons=(0.03, 0.1), attacks=ATTACKS, presets=presets, declared=declared
    )
    return evaluate(evidence.frame, evidence.preflights, convergence=evidence.convergence)


@pytest.mark.parametrize("name", FLAGGED)
def test_every_kind_of_mask_is_flagged_by_the_check_for_it(name: str) -> None:
    checks = of_zoo(name).set_index("id")["verdict"]
    assert {check: checks[check] for check in FLAGGED[name]} == dict.fromkeys(FLAGGED[name], "UNRELIABLE")


@pytest.mark.parametrize("name", NOT_OVERSTATED)
def test_what_hides_nothing_from_the_margin_is_named_and_no_more(name: str) -> None:
    verdict = overall(of_zoo(name)).loc[0]
    assert verdict["verdict"] == NOT_OVERSTATED[name][0]
    assert NOT_OVERSTATED[name][1] in verdict["because"]


@pytest.mark.parametrize("name", HONEST)
def test_no_honest_classifier_is_flagged(name: str) -> None:
    because = masked.HONEST[name].because
    verdict = overall(of_zoo(name)).loc[0]
    assert verdict["verdict"] == ("CAUTION" if because else "PASS")
    assert verdict["because"] == because


def test_the_published_loss_on_saturated_logits_is_blind_and_one_step_is_never_enough() -> None:
    verdicts = overall(of_zoo("logits times 1000", presets=("paper", "sound"))).set_index("preset")["verdict"]
    assert verdicts.to_dict() == {"paper": "UNRELIABLE", "sound": "PASS"}
    checks = of_zoo("linear", presets=("paper", "sound"))
    assert overall(checks).set_index("preset").loc["paper", "because"] == "More than one step was tried"
    assert {*checks["id"]} >= {rule.id for rule in rules()} - {"transfer", "still_pixels", "convergence"}


def test_what_an_attacker_leaves_who_knows_the_mask() -> None:
    """Behind a network that rounds, the open one's images break what its own gradient leaves."""
    entry, cohort = masked.MASKED["quantising input layer"], masked.cohort_of("", 8)
    evidence = masked.examined(entry.build(), cohort, epsilons=(0.1,), attacks=("pgd",), presets=("sound",))
    assert masked.stated(evidence.frame, [0.1]) == [1.0]
    assert masked.truth(entry.build(), entry.open(), cohort, [0.1]) == [0.0]


def test_the_document_tells_every_rule() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for rule in rules():
        for part in (rule.title, rule.rule, rule.source, rule.remedy):
            assert part in text, f"docs/evaluation.md lacks “{part}”: python benchmarks/confusion.py > {DOCUMENT}"
    for name in (*masked.HONEST, *masked.MASKED):
        assert name in text
