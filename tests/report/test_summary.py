"""summary.json beyond the study: robust accuracy of every attack, the worst case, verdicts on the evaluation."""

import json

import pandas as pd
import pytest
from response_factory import make_responses

from dosimeter.record.table import Responses
from dosimeter.report import summarise
from dosimeter.report.build import build_tables


def test_a_network_whose_every_image_failed_makes_the_run_incomplete() -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, epsilons=(0.0, 0.009), n_cases=8)
    failed = run.frame.assign(status=run.frame["status"].where(run.frame["model"] != "vgg16", "error"))
    run = Responses(failed, run.meta)
    summary = summarise(run, build_tables(run))
    assert summary["status"] == "incomplete"
    assert summary["n_failed"] >= 8


def test_copies_and_flat_images_stand_beside_the_numbers() -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, models=("vgg16",), n_cases=8)
    counted = {"n_test_in_training": 3, "n_two_labels": 2, "n_flat": 1}
    cards = [{**card, **counted} for card in run.meta["cohorts"]]
    run = Responses(run.frame, {**run.meta, "cohorts": [*cards, *run.meta["cohorts"]]})
    found = summarise(run, build_tables(run))["cohorts"]
    card = cards[0]
    names = ("cohort", "protocol", "seed", "n", "n_train", "n_test", "skipped", "n_test_sharing_patient", *counted)
    assert found[0] == {name: card[name] for name in names}
    assert {found[-1][name] for name in counted} == {None}  # of versions that did not count


@pytest.fixture(scope="module")
def attacked() -> Responses:
    return make_responses(
        cohorts={"xray-268": "xray"}, epsilons=(0.0, 1e-3, 4e-3, 9e-3), n_cases=8, attacks=("pgd", "random_sign"),
        transfers=("pgd",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def tables(attacked: Responses) -> dict[str, pd.DataFrame]:
    return build_tables(attacked)


def test_every_attack_has_its_robust_accuracy_at_the_nearest_doses(
    attacked: Responses, tables: dict[str, pd.DataFrame]
) -> None:
    summary = json.loads(json.dumps(summarise(attacked, tables), allow_nan=False))
    for result in summary["results"]:
        attacks = {(attack["preset"], attack["storage"]): attack for attack in result["attacks"]}
        assert {attack["role"] for attack in attacks.values()} == {
            *("attack", "control", "published", "transfer", "worst case")
        }
        for (preset, storage), attack in attacks.items():
            robust = tables["robust_accuracy"]
            own = (robust["model"] == result["model"]) & (robust["preset"] == preset) & (robust["storage"] == storage)
            robust = robust[own & (robust["epsilon"] > 0)]
            assert [point["epsilon"] for point in attack["robust_accuracy"]] == [1e-3, 4e-3, 9e-3]
            assert [point["value"] for point in attack["robust_accuracy"]] == robust["accuracy"].to_list()
        assert attacks["pgd", "float"]["taxonomy"]["atlas"] == "AML.T0043.000 White-Box Optimization"
        assert attacks["random_sign", "float"]["taxonomy"]["atlas"] is None
        assert attacks["worst case", "float"]["taxonomy"] is None


def test_every_curve_has_its_interval_and_its_simultaneous_band(
    attacked: Responses, tables: dict[str, pd.DataFrame]
) -> None:
    alone = make_responses(cohorts={"xray-268": "xray"}, epsilons=(0.0, 1e-3, 0.009), n_cases=20, patients=False)
    of_alone = build_tables(alone)
    for run, found, name in ((attacked, tables, "robust_accuracy"), (alone, of_alone, "fgsm_accuracy")):
        for result in json.loads(json.dumps(summarise(run, found), allow_nan=False))["results"]:
            assert result["worst_case"]["band_low"] <= result["worst_case"]["low"]
            for attack in result["attacks"]:
                names = {"model": result["model"], "preset": attack["preset"], "storage": attack["storage"]}
                rows = found[name][(found[name][[*names]] == pd.Series(names)).all(axis=1)]
                for place, column in (("epsilon", "epsilon"), ("value", "accuracy"), ("low", "ci_low"),
                                      ("band_low", "band_low"), ("band_high", "band_high")):  # fmt: skip
                    assert [point[place] for point in attack["curve"]] == rows[column].to_list()
                for point in (*attack["curve"], *attack.get("robust_accuracy", [])):
                    assert point["band_low"] <= point["low"] <= point["value"] <= point["high"] <= point["band_high"]


def test_evaluations_are_summarised_with_their_verdict_and_its_reasons(
    attacked: Responses, tables: dict[str, pd.DataFrame]
) -> None:
    results = {result["model"]: result for result in summarise(attacked, tables)["results"]}
    judged = {each["preset"]: each for each in results["inception_v3"]["evaluations"]}
    assert judged["paper"]["verdict"] == "UNRELIABLE"  # its gradients vanish
    assert "Gradients are not zero" in judged["paper"]["because"]
    assert {check["verdict"] for check in judged["paper"]["checks"]} >= {"PASS", "UNRELIABLE"}


def test_a_study_without_attacks_says_nothing_of_them() -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, epsilons=(0.0, 0.009), n_cases=8)
    for result in summarise(run, build_tables(run))["results"]:
        assert "evaluations" not in result
        assert all("robust_accuracy" not in attack for attack in result["attacks"])
