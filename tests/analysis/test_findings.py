"""Findings and verdict: each sentence appears only where the numbers carry it, and then with those numbers."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from response_factory import make_responses

from dosimeter.analysis import names, wording
from dosimeter.analysis.findings import Finding, findings
from dosimeter.analysis.verdict import verdict
from dosimeter.record.table import Responses
from dosimeter.report.build import build_tables

EPSILONS = (0.0, 1e-3, 3e-3, 9e-3, 0.01, 0.08)
SMALL: dict[str, Any] = {"cohorts": {"xray-268": "xray"}, "epsilons": EPSILONS}
KEYS = {"zero_gradient", "rounded_away", "colour_noise", "not_monotone", "survivor_bias"}
KEYS |= {"small_test_set", "patients_shared", "no_untouched_test_set"}
Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def run() -> Responses:
    return make_responses(**SMALL)


@pytest.fixture(scope="module")
def tables(run: Responses) -> Tables:
    return build_tables(run)


def judge(run: Responses, tables: Tables, **changes: pd.DataFrame) -> dict[tuple[str, str], Finding]:
    """The findings by key and scope, less its cohort, of tables with some replaced."""
    found = findings(run, {**tables, **changes})
    by_key = {(each.key, each.scope.removeprefix("xray-268, ")): each for each in found}
    assert len(by_key) == len(found)
    return by_key


def keys(run: Responses, tables: Tables) -> set[str]:
    return {each.key for each in findings(run, tables)}


def with_meta(run: Responses, change: Callable[[dict[str, Any]], Any]) -> Responses:
    meta = copy.deepcopy(run.meta)
    change(meta)
    return Responses(run.frame, meta)


# --- findings: there, with the run's own numbers


def test_the_whole_run_supports_every_finding(run: Responses, tables: Tables) -> None:
    assert keys(run, tables) == KEYS
    for each in findings(run, tables):
        assert each.scope.startswith("xray-268, paper protocol")
        assert any(character.isdigit() for character in each.statement)


def test_zero_gradients_are_counted_where_they_are(run: Responses, tables: Tables) -> None:
    found = [each for each in findings(run, tables) if each.key == "zero_gradient"]
    assert [each.scope for each in found] == ["xray-268, paper protocol, Inception-v3"]
    table = tables["fgsm_accuracy"]
    rows = table[(table["model"] == "inception_v3") & (table["storage"] == "float")].set_index(["preset", "epsilon"])
    n_zero = round(rows.loc[("paper", 0.01), "grad_zero_share"] * 24)
    assert 0 < n_zero < 24
    assert f"{n_zero} of 24 images ({wording.percent(n_zero / 24)}" in found[0].statement
    for preset in ("paper", "sound"):
        assert wording.percent(rows.loc[(preset, 0.01), "accuracy"]) in found[0].statement
    assert found[0].statement.endswith("Under the margin loss no image has a zero gradient.")


def test_only_an_accuracy_that_freezes_above_the_margin_s_is_said_to_freeze(run: Responses, tables: Tables) -> None:
    statement = next(each for each in findings(run, tables) if each.key == "zero_gradient")
    assert "freezes" in statement.claim
    assert "does not move from epsilon" in statement.statement
    table = tables["fgsm_accuracy"]
    paper = (table["preset"] == "paper") & (table["model"] == "inception_v3")
    falling = table.assign(correct=table["correct"].where(~paper, 20 - table["epsilon"] * 100))
    other = next(each for each in findings(run, {**tables, "fgsm_accuracy": falling}) if each.key == "zero_gradient")
    assert "freezes" not in other.claim
    assert "does not move" not in other.statement
    weak = table.assign(ci_high=table["ci_high"].where(table["preset"] == "paper", 1.0))
    other = next(each for each in findings(run, {**tables, "fgsm_accuracy": weak}) if each.key == "zero_gradient")
    assert "freezes" not in other.claim


def test_the_rise_is_the_one_of_the_curve(run: Responses, tables: Tables) -> None:
    statement = next(each.statement for each in findings(run, tables) if each.key == "not_monotone")
    table = tables["fgsm_accuracy"]
    sound = wording.curve(table[table["model"] == "vgg16"], "sound")
    lowest = sound["correct"].idxmin()
    assert f"{wording.attacked_accuracy(wording.point(sound, lowest))} at epsilon {lowest:g}" in statement
    assert f"{wording.attacked_accuracy(wording.point(sound, 0.08))} at 0.08" in statement


def test_survivors_are_set_against_the_fixed_cohort(run: Responses, tables: Tables) -> None:
    statement = next(each.statement for each in findings(run, tables) if each.key == "survivor_bias")
    drop = tables["probability_drop"]
    rows = drop[(drop["model"] == "vgg16") & (drop["preset"] == "paper") & (drop["epsilon"] <= 0.01) & (drop["n"] > 0)]
    first, last = rows.iloc[0], rows.iloc[-1]
    assert last["n"] < first["n"]
    assert f"{first['n']} at epsilon {first['epsilon']:g} and {last['n']} at {last['epsilon']:g}" in statement
    assert f"{last['decrease']:.3f} over those survivors, {last['decrease_fixed']:.3f}" in statement


def test_small_test_set_has_the_widest_interval(run: Responses, tables: Tables) -> None:
    clean = tables["clean_metrics"].copy()
    clean.loc[clean["model"] == "vgg16", "accuracy_low"] = 0.5
    row = wording.records(clean[clean["model"] == "vgg16"])[0]
    key = ("small_test_set", "paper protocol")
    statement = judge(run, tables, clean_metrics=clean)[key].statement
    assert statement.startswith(f"Already without attack the accuracy of VGG16 is {wording.clean_accuracy(row)}.")
    assert statement.endswith("Images of one patient count for less there than as many patients.")
    for n_patients in (24, pd.NA):
        alone = clean.assign(n_patients=pd.array([n_patients] * len(clean), "Int64"))
        assert "wider" not in judge(run, tables, clean_metrics=alone)[key].statement


def test_the_best_epoch_is_set_against_the_last(run: Responses, tables: Tables) -> None:
    gain = 100 * ((0.88 - 0.3 / 12 + 0.05) - (0.88 - 0.3 / 25))
    statement = next(each.statement for each in findings(run, tables) if each.key == "no_untouched_test_set")
    assert f"by up to {gain:.1f} points" in statement


@pytest.mark.parametrize(("shared", "compared"), [(0, True), (3, False), (None, False)])
def test_another_protocol_is_compared_only_if_it_shares_no_patient(
    shared: int | None, compared: bool, run: Responses, tables: Tables
) -> None:
    def add_official(meta: dict[str, Any]) -> None:
        meta["cohorts"].append({**meta["cohorts"][0], "protocol": "official", "n_test_sharing_patient": shared})

    own = tables["clean_metrics"]
    other = own.assign(protocol="official", accuracy=0.25, accuracy_low=0.12, accuracy_high=0.45)
    found = judge(with_meta(run, add_official), tables, clean_metrics=pd.concat([own, other], ignore_index=True))
    statement = found[("patients_shared", "paper protocol")].statement
    assert statement.startswith("16 of 24 test images (66.7 %) show a patient who is also in training.")
    assert ("25.0 % (12 to 45 %, n = 24) under the official protocol" in statement) == compared
    assert ("without shared patients" in statement) == compared


# --- findings: absent without support


def test_no_zero_gradient_no_sentence(run: Responses, tables: Tables) -> None:
    found = judge(run, tables, fgsm_accuracy=tables["fgsm_accuracy"].assign(grad_zero_share=0.0))
    assert "zero_gradient" not in {key for key, _ in found}
    assert "zero gradient" not in " ".join(each.statement for each in found.values())


def test_zero_gradients_under_the_margin_loss_too_are_not_denied(run: Responses, tables: Tables) -> None:
    found = judge(run, tables, fgsm_accuracy=tables["fgsm_accuracy"].assign(grad_zero_share=1.0))
    statement = found[("zero_gradient", "paper protocol, Inception-v3")].statement
    assert "24 of 24 images" in statement
    assert "no image has a zero gradient" not in statement


def test_a_monotone_curve_is_not_called_otherwise(run: Responses, tables: Tables) -> None:
    accuracy = tables["fgsm_accuracy"].query("epsilon <= 0.01").sort_values("epsilon")
    assert (accuracy.groupby(["model", "preset", "storage"])["correct"].diff().dropna() <= 0).all()
    assert keys(run, {**tables, "fgsm_accuracy": accuracy}) == KEYS - {"not_monotone"}


def test_a_rise_by_one_image_is_not_worth_a_sentence(run: Responses, tables: Tables) -> None:
    table = tables["fgsm_accuracy"].copy()
    for rise, expected in ((1, False), (2, True)):
        table["correct"] = 10 + rise * (table["epsilon"] == 0.08)
        assert ("not_monotone" in keys(run, {**tables, "fgsm_accuracy": table})) == expected


def test_storage_that_keeps_the_perturbation_is_not_said_to_lose_it(run: Responses, tables: Tables) -> None:
    table = tables["fgsm_accuracy"]
    kept = table.assign(unchanged_share=table["unchanged_share"].where(table["epsilon"] == 0, 0.99))
    for other in (kept, table[table["storage"] != "png8"]):
        assert keys(run, {**tables, "fgsm_accuracy": other}) == KEYS - {"rounded_away"}


def test_equal_presets_make_no_colour_noise(run: Responses, tables: Tables) -> None:
    table = tables["fgsm_accuracy"]
    assert {each.scope.rsplit(", ", 1)[-1] for each in findings(run, tables) if each.key == "colour_noise"} == {"VGG16"}
    sound = table[(table["preset"] == "sound") & (table["storage"] == "float")]
    for same in (pd.concat([sound, sound.assign(preset="paper")]), sound):
        assert "colour_noise" not in keys(run, {**tables, "fgsm_accuracy": same})


def test_no_survivor_bias_where_nothing_is_lost(run: Responses, tables: Tables) -> None:
    drop = tables["probability_drop"]
    for same in (drop.assign(n=20), drop.assign(decrease_fixed=drop["decrease"]), drop[drop["epsilon"] == 1e-3]):
        assert "survivor_bias" not in keys(run, {**tables, "probability_drop": same})


@pytest.mark.parametrize("shared", [0, None])
def test_no_shared_patient_no_sentence(shared: int | None, run: Responses, tables: Tables) -> None:
    alone = with_meta(run, lambda meta: meta["cohorts"][0].update(n_test_sharing_patient=shared))
    assert keys(alone, tables) == KEYS - {"patients_shared"}
    assert "also in training" not in " ".join(verdict(alone, tables))


def test_a_large_test_set_is_not_called_small(run: Responses, tables: Tables) -> None:
    narrow = tables["clean_metrics"].assign(accuracy_low=0.86, accuracy_high=0.88)
    assert keys(run, {**tables, "clean_metrics": narrow}) == KEYS - {"small_test_set"}


def test_the_last_epoch_may_be_the_best(run: Responses, tables: Tables) -> None:
    def rising(meta: dict[str, Any]) -> None:
        for card in meta["classifiers"]:
            card["history"] = [{**epoch, "test_accuracy": epoch["epoch"] / 25} for epoch in card["history"]]

    def unknown(meta: dict[str, Any]) -> None:
        for card in meta["classifiers"]:
            card["history"] = []

    for change in (rising, unknown):
        assert keys(with_meta(run, change), tables) == KEYS - {"no_untouched_test_set"}


# --- the verdict


def test_the_verdict_is_five_statements_with_the_runs_numbers(run: Responses, tables: Tables) -> None:
    sentences = verdict(run, tables)
    assert len(sentences) == 5
    for row in tables["clean_metrics"].to_dict("records"):
        assert f"{names.model_name(row['model'])} {wording.clean_accuracy(row)}" in sentences[0]
    half = tables["epsilon50"].query("preset == 'sound' and storage == 'float'").sort_values("epsilon50")
    places = [sentences[1].index(f"{row['epsilon50']:.2g}, {row['grey_levels']:.2f}") for _, row in half.iterrows()]
    assert places == sorted(places), "the most fragile network comes first"
    curves = tables["fgsm_accuracy"]
    for preset in ("paper", "sound"):
        point = wording.point(wording.curve(curves[curves["model"] == "inception_v3"], preset), 0.009)
        assert wording.attacked_accuracy(point) in sentences[2]
    assert "100.0 % of the images perturbed by less than half a grey level" in sentences[3]
    assert "At 0.009 the file keeps 100.0 % of the perturbations" in sentences[3]
    assert sentences[4].endswith("was not measured with readers.")


def test_the_verdict_follows_the_order_of_the_run(run: Responses, tables: Tables) -> None:
    def add_ct(meta: dict[str, Any]) -> None:
        meta["cohorts"].append({**meta["cohorts"][0], "cohort": "covid-ct"})

    clean = tables["clean_metrics"]
    assert clean["model"].to_list() == ["inception_v3", "vgg16"]  # tables are sorted by name
    both = pd.concat([clean.assign(cohort="covid-ct"), clean], ignore_index=True)
    first = verdict(with_meta(run, add_ct), {**tables, "clean_metrics": both})[0]
    words = ("xray-268", "VGG16", "Inception-v3", "covid-ct")
    assert sorted(words, key=first.index) == list(words)


def test_a_dose_that_breaks_nothing_is_censored_in_words(run: Responses, tables: Tables) -> None:
    unbroken = tables["epsilon50"].assign(epsilon50=float("nan"), censored=True)
    assert "VGG16 above 0.08" in verdict(run, {**tables, "epsilon50": unbroken})[1]


def test_an_interval_beyond_the_grid_is_said_to_be_so(run: Responses, tables: Tables) -> None:
    open_ended = tables["epsilon50"].assign(epsilon50_high=float("nan"), high_censored=True)
    assert "to beyond the largest asked, n = " in verdict(run, {**tables, "epsilon50": open_ended})[1]


def test_storage_that_keeps_nothing_at_the_safe_dose_is_not_said_to_keep_it(run: Responses, tables: Tables) -> None:
    lost = tables["fgsm_accuracy"].assign(unchanged_share=1.0)
    assert "the file keeps" not in " ".join(verdict(run, {**tables, "fgsm_accuracy": lost}))


def test_without_the_sound_preset_the_papers_speaks(run: Responses, tables: Tables) -> None:
    alone = {name: table[table["preset"] == "paper"] if "preset" in table else table for name, table in tables.items()}
    sentences = verdict(run, alone)
    assert len(sentences) == 3  # nothing to compare, nothing stored
    assert "(paper preset)" in sentences[1]


def test_caveats_appear_only_where_they_apply(run: Responses, tables: Tables) -> None:
    usual = verdict(run, tables)[-1]
    assert "16 of 24 test images show a patient who is also in training" in usual
    cases: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
        (lambda meta: meta.update(phantom=True), "Phantom images are among these"),
        (lambda meta: meta["classifiers"][1]["weights"].update(stand_in=True), "Inception-v3 ran on stand-in weights"),
        (lambda meta: meta.update(incomplete=["VGG16 needs pip."]), "The run is incomplete: VGG16 needs pip."),
    ]
    for change, sentence in cases:
        assert sentence not in usual
        assert sentence in verdict(with_meta(run, change), tables)[-1]


# --- wording


def test_numbers_in_words() -> None:
    row = {"accuracy": 30 / 54, "ci_low": 0.424, "ci_high": 0.68, "n": 54}
    assert wording.attacked_accuracy(row) == "55.6 % (42 to 68 %, n = 54)"
    assert wording.interval_words(0.424, 0.68) == "95 % interval 42 to 68 %"
    assert wording.interval_words(np.nan, np.nan) == "too few for an interval"
    assert wording.attacked_accuracy(row | {"ci_low": np.nan, "ci_high": np.nan, "n": 2}) == "55.6 % (n = 2)"
    assert names.model_name("inception_v3") == "Inception-v3"
    assert names.model_name("resnet") == "resnet"


def test_an_unknown_trial_comes_last_in_run_order(run: Responses) -> None:
    table = pd.DataFrame({"cohort": ["new", "xray-268", "xray-268"], "protocol": ["paper"] * 3,
                          "model": ["vgg16", "inception_v3", "vgg16"]})  # fmt: skip
    assert wording.in_run_order(table, run.meta).index.to_list() == [2, 1, 0]


# --- runs with something missing


def _constant(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame[frame["status"] == "ok"]
    return rows.assign(logits=[np.float32([0, 0])] * len(rows), predicted=0, correct=rows["label"] == 0)


INCOMPLETE: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "nothing missing": lambda frame: frame,
    "nothing": lambda frame: frame[:0],
    "errors only": lambda frame: frame[frame["status"] != "ok"],
    "one image": lambda frame: frame[frame["case_id"] == frame["case_id"].iloc[0]],
    "negatives only": lambda frame: frame[frame["label"] == 0],
    "positives only": lambda frame: frame[frame["label"] == 1],
    "no patients": lambda frame: frame.assign(patient_id=None),
    "some patients": lambda frame: frame.assign(patient_id=frame["patient_id"].where(frame["label"] == 1)),
    "one patient": lambda frame: frame.assign(patient_id="p"),
    "no modality": lambda frame: frame.assign(modality=None),
    "another modality": lambda frame: frame.assign(modality="mri"),
    "no paper preset": lambda frame: frame[frame["preset"] != "paper"],
    "no sound preset": lambda frame: frame[frame["preset"] != "sound"],
    "no png8": lambda frame: frame[frame["storage"] != "png8"],
    "no float": lambda frame: frame[frame["storage"] != "float"],
    "no attack": lambda frame: frame[frame["epsilon"] == 0],
    "no unattacked image": lambda frame: frame[frame["epsilon"] != 0],
    "constant answers": _constant,
    "all wrong": lambda frame: frame[frame["status"] == "ok"].assign(correct=False, predicted=lambda t: 1 - t["label"]),
}


@pytest.fixture(scope="module")
def small() -> Responses:
    return make_responses(cohorts={"xray-268": "xray"}, models=("inception_v3",), epsilons=(0.0, 1e-3, 9e-3), n_cases=8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("missing", INCOMPLETE)
def test_tables_stay_tables_and_sentences_sentences(missing: str, small: Responses, tables: Tables) -> None:
    frame = INCOMPLETE[missing](small.frame)
    rest = build_tables(Responses(frame, small.meta))
    of_files = set() if (frame["storage"] == "png8").any() else {"survival", "deployed_epsilon", "deployed_median"}
    assert {name: list(table.columns) for name, table in rest.items()} == {
        name: list(table.columns) for name, table in tables.items() if name not in of_files
    }
    curves = rest["fgsm_accuracy"]
    for share in ("accuracy", "accuracy_envelope", "unchanged_share", "grad_zero_share"):
        assert curves[share].between(0, 1).all()
    for bound in ("ci_low", "ci_high", "grad_zero_low", "grad_zero_high"):
        assert curves[bound].between(0, 1).all() or (missing.startswith("one ") and curves[bound].isna().all())
    assert curves["n"].sum() == len(frame[(frame["status"] == "ok") & frame["on_grid"].eq(True)])
    assert (len(rest["flip_epsilon"]) > 0) == (frame["epsilon"] == 0).any()
    run = Responses(frame, small.meta)
    sentences = [text for each in findings(run, rest) for text in (each.claim, each.statement)] + verdict(run, rest)
    assert sentences[-1].endswith("was not measured with readers.")
    for sentence in sentences:
        assert sentence.endswith(".")
        assert not any(word in sentence.lower() for word in ("nan", "none", "compliant", "<na>", "inf ", ": .", "()"))


def test_a_run_without_facts_still_has_its_numbers(run: Responses, tables: Tables) -> None:
    bare = Responses(run.frame, {})
    assert keys(bare, tables) == KEYS - {"small_test_set", "patients_shared", "no_untouched_test_set"}
    assert len(verdict(bare, tables)) == 5
