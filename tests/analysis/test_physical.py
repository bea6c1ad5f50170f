"""Physical changes below the table: half lost, paired differences, ranks, equal visibility, of rows made by hand."""

import numpy as np
import pandas as pd
import pytest
from response_factory import response_row

from dosimeter.analysis import names
from dosimeter.analysis.clean import clean_metrics
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.equal_visibility import attack_losses, equal_visibility
from dosimeter.analysis.flips import epsilon50
from dosimeter.analysis.physical import physical_accuracy, physical_ranking
from dosimeter.analysis.worst_case import with_worst_case
from dosimeter.record.compact import apart, compact
from dosimeter.record.table import to_frame
from dosimeter.sections.physical.sentences import assumptions, sentences

N = 20
KINDS = {
    "kinds": {
        "changes": [
            {"name": "dose_fraction", "title": "dose fraction", "unit": "of the dose",
             "severities": [1.0, 0.5, 0.25, 0.1], "constants": {"quanta": 2000.0}, "assumed": ["quanta"]},
            {"name": "rotation", "title": "rotation", "unit": "degrees", "severities": [0.0, 5.0, 10.0]},
        ]
    }
}  # fmt: skip


def rows(change: str, unit: str, wrong_from: dict[float, int], jnd: dict[float, float], **more) -> list[dict]:
    """Rows of `N` images, labels in turn: at each severity the first so many are wrong."""
    return [
        response_row(
            case_id=f"{case:05d}-00000000", patient_id=f"p{case}", label=case % 2, epsilon=None, severity=severity,
            unit=unit, preset=change, attack=change, loss="none", norm="none", unchanged=not jnd[severity],
            probability=(0.1 if case < n_wrong else 0.9) if case % 2 else (0.9 if case < n_wrong else 0.1),
            jnd_p95=jnd[severity], linf=jnd[severity] / 600, **more,
        )
        for severity, n_wrong in wrong_from.items()
        for case in range(N)
    ]  # fmt: skip


DOSE = rows("dose_fraction", "of the dose", {1.0: 2, 0.5: 4, 0.25: 14, 0.1: 18}, {1.0: 0, 0.5: 3, 0.25: 6, 0.1: 12})
TURNED = rows("rotation", "degrees", {0.0: 2, 5.0: 3, 10.0: 5}, {0.0: 0, 5.0: 20, 10.0: 40})
ATTACKED = [
    response_row(
        case_id=f"{case:05d}-00000000", patient_id=f"p{case}", label=case % 2, epsilon=epsilon,
        probability=(0.1 if case < n_wrong else 0.9) if case % 2 else (0.9 if case < n_wrong else 0.1),
        jnd_p95=600 * epsilon, linf=epsilon,
    )
    for epsilon, n_wrong in {0.0: 2, 0.005: 11, 0.01: 20}.items()
    for case in range(N)
]  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> tuple[pd.DataFrame, pd.DataFrame]:
    return apart(compact(to_frame([*ATTACKED, *DOSE, *TURNED])))


@pytest.fixture(autouse=True)
def _named():
    with names.of(KINDS):
        yield


def test_attacks_are_as_if_there_were_no_physical_rows(parts):
    attacked, _ = parts
    alone = compact(to_frame(ATTACKED))
    both = to_frame([*ATTACKED, *DOSE, *TURNED])
    for analyse in (fgsm_accuracy, epsilon50, clean_metrics):
        pd.testing.assert_frame_equal(analyse(both), analyse(alone), check_column_type=False)
        pd.testing.assert_frame_equal(analyse(attacked), analyse(alone), check_column_type=False)
    assert set(with_worst_case(attacked)["preset"]) == {"sound"}


def test_accuracy_is_paired_to_the_unchanged_image(parts):
    table = physical_accuracy(parts[1])
    dose = table[table["change"] == "dose_fraction"].set_index("severity")
    assert dose["accuracy"].to_dict() == pytest.approx({1.0: 0.9, 0.5: 0.8, 0.25: 0.3, 0.1: 0.1})
    at = dose.loc[0.25]
    assert (at["n_right"], at["lost"], at["gained"]) == (18, 12, 0)
    assert (at["missed"], at["false_alarms"]) == (6, 6)  # labels in turn, and 12 images of them
    assert at["difference"] == pytest.approx(-0.6)
    assert at["difference_low"] < -0.6 < at["difference_high"] < 0
    assert at["p_patient"] == pytest.approx(2 * 0.5**12)
    assert at["sensitivity"] == pytest.approx(0.3)
    assert at["specificity"] == pytest.approx(0.3)
    assert at["auc"] == pytest.approx(0.5 * (2 * 0.3 * 0.7 + 2 * 0.3**2))  # scores of two values, ties half
    assert at["jnd_p95"] == 6
    assert dose.loc[1.0, "difference"] == 0


def test_half_is_lost_where_the_median_image_changes_and_changes_are_ranked_by_what_is_seen(parts):
    table = physical_ranking(parts[1]).set_index("change")
    dose, turned = table.loc["dose_fraction"], table.loc["rotation"]
    assert (dose["n"], dose["n_censored"], dose["place"], turned["place"]) == (18, 2, 1, 2)
    assert dose["severity50"] == 0.25  # 2 of 18 at a half, 12 more at a quarter
    assert dose["severity50_low"] >= dose["severity50"] >= dose["severity50_high"]
    assert dose["jnd50"] == 6
    assert dose["severity_max"] == 0.1
    assert dose["lost_max"] == pytest.approx(16 / 18)
    assert dose["mean_error"] == pytest.approx((0.2 + 0.7 + 0.9) / 3)
    assert dose["clean_error"] == pytest.approx(0.1)
    assert turned["censored"]
    assert np.isnan(turned["severity50"])
    assert np.isnan(turned["jnd50"])
    assert turned["severity_max"] == 10


def test_an_answer_that_never_changes_and_a_negative_side(parts):
    still = rows("rotation", "degrees", {0.0: 0, -5.0: 0}, {0.0: 0, -5.0: 20})
    table = physical_ranking(apart(compact(to_frame(still)))[1]).iloc[0]
    assert table["censored"]
    assert table["severity_max"] == -5
    broken = rows("rotation", "degrees", {0.0: 0, -5.0: 15, -10.0: 20}, {0.0: 0, -5.0: 20, -10.0: 40})
    assert physical_ranking(apart(compact(to_frame(broken)))[1]).iloc[0]["severity50"] == -5


def test_attacks_and_changes_stand_at_equal_visibility(parts):
    attacked, physical = parts
    losses = attack_losses(attacked)
    assert losses["lost"].tolist() == pytest.approx([0, 0.5, 1.0])
    assert losses["jnd"].tolist() == pytest.approx([0, 3, 6])
    table = equal_visibility(physical, losses).set_index(["change", "severity"])
    half = table.loc[("dose_fraction", 0.5)]  # 3 JND: epsilon 0.005
    assert (half["lost"], half["lost_attack"], half["epsilon"]) == pytest.approx((2 / 18, 0.5, 0.005))
    assert not half["beyond"]
    far = table.loc[("rotation", 5.0)]  # 20 JND: beyond the largest epsilon
    assert far["beyond"]
    assert (far["lost_attack"], far["epsilon"]) == (1.0, 0.01)
    assert half["preset"] == "sound"


def test_without_facts_the_unchanged_severity_is_found(parts):
    with names.of({}):
        table = physical_ranking(parts[1]).set_index("change")
    assert table.loc["dose_fraction", "severity50"] == 0.25


def test_sentences_come_from_the_run(parts):
    attacked, physical = parts
    ranking = physical_ranking(physical)
    equal = equal_visibility(physical, attack_losses(attacked)).assign(evaluation="UNRELIABLE")
    said = sentences({"physical_ranking": ranking, "equal_visibility": equal})
    assert len(said) == 2
    assert "dose fraction breaks it first, half of its 18 right answers being lost at 0.25 of the dose" in said[0]
    assert "moved by 6.0 JND. At no severity asked is half lost under rotation." in said[0]
    assert (
        "it bears rotation at 10 degrees: 16.7 % of 18 right answers are lost although images are moved by 40.0"
        in said[1]
    )
    assert (
        "an attack that moves them no farther, FGSM, sound preset at epsilon 0.01, loses 100.0 % [UNRELIABLE]"
        in said[1]
    )
    half = epsilon50(attacked).assign(evaluation="UNRELIABLE")
    third = sentences({"physical_ranking": ranking, "equal_visibility": equal, "epsilon50": half})[2]
    assert "it bears 0.5 of the dose, 11.1 % of 18 right answers being lost, but not 0.005 of the grey scale" in third
    assert third.endswith("there half are lost under FGSM, sound preset [UNRELIABLE].")
    assert assumptions(KINDS) == ["Assumed of the apparatus, as nobody declared it: quanta 2000."]


def test_failed_answers_are_counted_and_are_in_no_number():
    failed = response_row(
        case_id="99999-00000000", epsilon=None, unit="degrees", preset="rotation", attack="rotation", status="error",
        error="logits are not finite", severity=5.0, logits=None, probabilities=None, predicted=None, correct=None,
    )  # fmt: skip
    table = physical_accuracy(apart(compact(to_frame([*TURNED, failed])))[1]).set_index("severity")
    assert table["n_failed"].to_dict() == {0.0: 0, 5.0: 1, 10.0: 0}
    assert table["n"].to_dict() == {0.0: N, 5.0: N, 10.0: N}


def test_seeds_and_defences_are_not_pooled():
    both = [*TURNED, *({**row, "defence": "median", "classifier": "other"} for row in TURNED)]
    table = physical_ranking(apart(compact(to_frame(both)))[1])
    assert table["defence"].tolist() == ["median", "none"]
    assert table["n"].tolist() == [18, 18]
