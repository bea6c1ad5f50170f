"""Analyses of many attacks: tables counted by hand, published examples, scipy as a reference, gaps and seeds."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from response_factory import make_responses, response_row

from dosimeter.analysis.attacks import (
    area,
    class_flips,
    cost,
    gain,
    paired_by_patient,
    paired_difference,
    reported_doses,
    robust_accuracy,
    transfer,
)
from dosimeter.analysis.base import ROLES, answered, roles
from dosimeter.analysis.flips import epsilon50
from dosimeter.analysis.intervals import wilson
from dosimeter.analysis.names import FAMILIES, WORST_CASE, attack_kind, attack_title, family, place
from dosimeter.analysis.susceptibility import (
    most_susceptible,
    rank_agreement,
    susceptibility,
)
from dosimeter.analysis.taxonomy import CATALOGUES, taxonomy
from dosimeter.analysis.worst_case import with_worst_case
from dosimeter.attacks.registry import build, entries, kind
from dosimeter.record.kinds import AttackKind
from dosimeter.record.table import Responses, to_frame
from dosimeter.report.build import build_tables

GRID = (0.0, 0.003, 0.009)
WRONG = {  # preset: case: at which epsilons of the grid its answer is wrong
    "sound": {"a": (0.003,), "b": (), "c": (0.009,), "d": (0.0, 0.003, 0.009)},
    "pgd": {"a": (), "b": (0.009,), "c": (0.009,), "d": (0.0, 0.003, 0.009)},
    "random_sign": {"a": (), "b": (), "c": (0.009,), "d": (0.0, 0.003)},
    "paper": {"a": (0.003, 0.009), "b": (0.003, 0.009), "c": (0.003, 0.009), "d": (0.0, 0.003, 0.009)},
    "pgd from inception_v3": {"a": (0.003, 0.009), "b": (0.003, 0.009), "c": (), "d": (0.0, 0.003, 0.009)},
}
LABELS = {"a": 1, "b": 0, "c": 1, "d": 0}
SPENT = {"pgd": (40, 3), "sound": (1, 0)}
SMALL: dict[str, Any] = {"cohorts": {"xray-268": "xray"}, "epsilons": (0.0, 1e-3, 3e-3, 9e-3, 0.08), "n_cases": 16}
OF_ATTACKS = (
    robust_accuracy,
    area,
    class_flips,
    gain,
    susceptibility,
    rank_agreement,
    most_susceptible,
    transfer,
    cost,
)


def answer(preset: str, case: str, epsilon: float, wrong: bool, **columns: Any) -> dict[str, Any]:
    attack, _, source = preset.partition(" from ")
    gradients, queries = SPENT.get(preset, (0, 0))
    right = 0.9 if LABELS[case] else 0.1
    return response_row(
        preset=preset, attack="fgsm" if preset in ("sound", "paper") else attack, made_on=source or None, case_id=case,
        label=LABELS[case], epsilon=epsilon, probability=1 - right if wrong else right, n_gradients=gradients,
        n_queries=queries, duration_s=0.5, patient_id=case, **columns,
    )  # fmt: skip


def counted(*presets: str) -> list[dict[str, Any]]:
    """Four cases whose every number can be counted."""
    return [
        answer(preset, case, epsilon, epsilon in wrong)
        for preset in presets or WRONG
        for case, wrong in WRONG[preset].items()
        for epsilon in GRID
    ]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return to_frame(counted())


@pytest.fixture(scope="module")
def run() -> Responses:
    attacks = ("fgsm", "pgd", "square", "hopskipjump", "random_sign")
    return make_responses(**SMALL, attacks=attacks, transfers=("pgd",))


@pytest.fixture(scope="module")
def tables(run: Responses) -> dict[str, pd.DataFrame]:
    return build_tables(run)


def of(table: pd.DataFrame, preset: str, **names: Any) -> pd.DataFrame:
    chosen = table[table["preset"] == preset]
    for name, value in names.items():
        chosen = chosen[chosen[name] == value]
    return chosen


# --- what attacks are


def test_every_registered_attack_has_its_kind() -> None:
    for name, entry in entries().items():
        told = AttackKind(**kind(build(name, "quick")))
        known = attack_kind(name)
        assert told.model_copy(update={"rank": 0}) == known.model_copy(update={"rank": 0})
        assert (entry.family == "minimum norm") == (entry.searches == "minimum" and entry.needs_gradient)
    ranked = sorted(entries().items(), key=lambda each: (FAMILIES.index(each[1].family), each[1].rank))
    assert [name for name, _ in ranked] == sorted(entries(), key=place)


def test_catalogue_ids_are_pinned_and_only_where_they_are_known(tables: dict[str, pd.DataFrame]) -> None:
    assert CATALOGUES == {"atlas": "5.6.0", "nist": "E2025"}
    table = tables["taxonomy"].query("model == 'vgg16'").set_index("preset")
    assert table.loc["pgd", "atlas"].startswith("AML.T0043.000 ")
    assert table.loc["square", "atlas"].startswith("AML.T0043.001 ")
    assert table.loc["hopskipjump", "nist"].startswith("NISTAML.025 ")
    assert table.loc["pgd from inception_v3", "atlas"].startswith("AML.T0043.002 ")
    assert table.loc["pgd from inception_v3", "nist_section"].startswith("2.2.3 ")
    assert table.loc["random_sign", ["atlas", "atlas_version", "nist", "nist_version"]].to_list() == [""] * 4
    assert set(table["role"]) == set(ROLES) - {"worst case"}
    foreign = taxonomy(to_frame([response_row(preset="art.Boundary", attack="art.Boundary")]))
    assert foreign[["role", "knowledge", "atlas", "nist"]].iloc[0].to_list() == ["attack", "not known", "", ""]


def test_titles_families_and_order() -> None:
    assert attack_title("carlini_wagner") == "Carlini-Wagner"
    assert attack_title("pgd from vgg16") == "PGD from VGG16"
    assert attack_title("sound") == "FGSM, sound preset"
    assert attack_title("art.Boundary") == "art.Boundary"
    assert (family("fmn"), family("art.Boundary")) == ("minimum norm", "other")
    ordered = ["paper", "sound", "pgd", "random_sign", "art.Boundary", WORST_CASE, "pgd from vgg16"]
    assert sorted(ordered[3:] + ordered[:3], key=place) == ordered


# --- the worst case


def test_the_worst_case_is_the_minimum_over_the_models_own_attacks(frame: pd.DataFrame) -> None:
    table = of(robust_accuracy(frame), WORST_CASE)
    # a falls to sound at 0.003 and stays fallen, b to pgd at 0.009, c to both; d was wrong from the start
    assert table["correct"].to_list() == [3, 2, 0]
    assert table["accuracy"].to_list() == table["accuracy_envelope"].to_list() == [0.75, 0.5, 0.0]
    assert set(table["role"]) == {"worst case"}
    assert table["sensitivity"].to_list() == [1, 0.5, 0]
    assert not epsilon50(with_worst_case(answered(frame))).set_index("preset").loc[WORST_CASE, "censored"]


def test_one_attack_alone_has_no_worst_case(frame: pd.DataFrame) -> None:
    for presets in (("pgd",), ("pgd", "paper", "random_sign", "pgd from inception_v3")):
        rows = with_worst_case(answered(to_frame(counted(*presets))))
        assert WORST_CASE not in set(rows["preset"])
    once = with_worst_case(answered(frame))
    assert with_worst_case(once) is once


def test_the_worst_case_counts_images_that_every_attack_answered() -> None:
    rows = [row for row in counted() if (row["preset"], row["case_id"], row["epsilon"]) != ("pgd", "a", 0.003)]
    table = of(robust_accuracy(to_frame(rows)), WORST_CASE).set_index("epsilon")
    assert table["n"].to_list() == [4, 3, 4]
    assert table["correct"].to_list() == [3, 2, 0]  # sound alone breaks a at 0.003, so at 0.009 it is lost


def test_refined_flips_count_in_the_worst_case() -> None:
    rows = [*counted("sound", "pgd"), answer("pgd", "b", 0.004, wrong=True, on_grid=False)]
    rows.append(answer("pgd", "b", 0.0035, wrong=False, on_grid=False))
    ranks = of(susceptibility(to_frame(rows)), WORST_CASE).set_index("case_id")
    assert ranks["flip_epsilon"].to_dict() == {"a": 0.003, "b": 0.004, "c": 0.009}


def test_the_worst_case_of_a_run_is_below_every_attack_and_never_rises(tables: dict[str, pd.DataFrame]) -> None:
    robust = tables["robust_accuracy"].query("storage == 'float'")
    assert set(robust["role"]) == set(ROLES)
    for _, rows in robust.groupby("model"):
        worst = of(rows, WORST_CASE).set_index("epsilon")["accuracy"]
        assert (worst.diff().dropna() <= 0).all()
        for _, curve in rows[rows["role"] == "attack"].groupby("preset"):
            assert (worst <= curve.set_index("epsilon")["accuracy_envelope"] + 1e-12).all()


# --- robust accuracy and area


def test_robust_accuracy_counted_by_hand(frame: pd.DataFrame) -> None:
    table = robust_accuracy(frame)
    assert list(dict.fromkeys(table["preset"])) == [
        *("paper", "sound", "pgd", "random_sign", WORST_CASE, "pgd from inception_v3")
    ]
    pgd = of(table, "pgd")
    assert pgd["correct"].to_list() == [3, 3, 1]
    assert pgd["ci_low"].to_list() == pytest.approx(wilson([3, 3, 1], 4).low.tolist())
    assert of(table, "sound")["accuracy"].to_list() == [0.75, 0.5, 0.5]
    assert of(table, "sound")["accuracy_envelope"].to_list() == [0.75, 0.5, 0.25]
    expected = {"paper": "published", "pgd": "attack", "random_sign": "control", "pgd from inception_v3": "transfer"}
    for preset, role in expected.items():
        assert set(of(table, preset)["role"]) == {role}
    assert set(of(table, "pgd from inception_v3")["made_on"]) == {"inception_v3"}


def test_reported_doses_are_the_nearest_of_the_grid() -> None:
    assert reported_doses(pd.Series([0.0, 0.001, 0.003, 0.009, 0.08])) == [0.001, 0.003, 0.009]
    assert reported_doses(pd.Series([0.0, 0.002, 0.08])) == [0.002]
    assert reported_doses(pd.Series([0.0])) == []


def test_area_counted_by_hand(frame: pd.DataFrame) -> None:
    sound = of(area(frame), "sound")
    assert sound["epsilon_max"].to_list() == [0.009]  # beyond 0.01 there is nothing, so one row
    # 0.003 x (0.75 + 0.5) / 2 + 0.006 x (0.5 + 0.5) / 2, of 0.009
    assert sound["area"].iloc[0] == pytest.approx((0.003 * 0.625 + 0.006 * 0.5) / 0.009)
    assert sound["area_low"].iloc[0] <= sound["area"].iloc[0] <= sound["area_high"].iloc[0]


def test_area_is_one_where_nothing_falls_and_stops_at_both_limits() -> None:
    doses = (0.0, 0.004, 0.01, 0.08)
    rows = [response_row(case_id=f"{case}", epsilon=dose, patient_id=f"p{case}") for case in range(3) for dose in doses]
    rows += [{**row, "case_id": "gap", "epsilon": dose} for row in rows[:1] for dose in doses[:2]]
    table = area(to_frame(rows))
    assert table["epsilon_max"].to_list() == [0.08, 0.01]
    assert table["area"].to_list() == pytest.approx([1, 1])
    assert table["n"].to_list() == [3, 3]  # not the case with a gap


# --- harm by class


def test_class_flips_counted_by_hand(frame: pd.DataFrame) -> None:
    table = of(class_flips(frame), WORST_CASE)
    assert table["direction"].to_list() == ["to positive"] * 2 + ["from positive"] * 2
    assert table["label"].to_list() == [0, 0, 1, 1]
    assert table["n"].to_list() == [1, 1, 2, 2]  # d was wrong without attack
    assert table["flipped"].to_list() == [0, 1, 1, 2]
    assert table["share"].to_list() == [0, 1, 0.5, 1]
    assert table[["share_low", "share_high"]].isna().all(axis=None)  # of one or two images


def test_class_flips_count_images_of_one_patient_as_they_differ() -> None:
    rows = [{**row, "case_id": f"{row['case_id']}{copy}"} for copy in range(6) for row in counted("sound", "pgd")]
    alone = [{**row, "patient_id": row["case_id"]} for row in rows]
    shared = [{**row, "patient_id": f"{row['case_id'][0]}{int(row['case_id'][1]) // 2}"} for row in rows]  # two alike
    table, by_patient = (of(class_flips(to_frame(each)), WORST_CASE) for each in (alone, shared))
    assert table["n"].to_list() == [6, 6, 12, 12]
    for found, n in ((table, [6, 6, 12, 12]), (by_patient, [3, 3, 6, 6])):
        low, high = wilson(found["share"] * n, n)
        assert (found["share_low"] <= low + 1e-12).all()
        assert (found["share_high"] >= high - 1e-12).all()
    assert table["share_low"].to_list() == pytest.approx(wilson(table["flipped"], table["n"]).low.tolist())


# --- transfer, gain, cost


def test_the_transfer_matrix_counted_by_hand(frame: pd.DataFrame) -> None:
    table = transfer(frame)
    assert set(table["preset"]) == {"pgd"}
    white, moved = (table[table["made_on"] == source] for source in ("vgg16", "inception_v3"))
    assert white["flipped"].to_list() == [0, 2]
    assert moved["flipped"].to_list() == [2, 2]
    assert table["n"].to_list() == [3] * 4  # d was wrong without attack
    assert moved["share_high"].to_list() == pytest.approx(wilson([2, 2], 3).high.tolist())
    assert transfer(to_frame(counted("sound", "pgd"))).empty


def test_gain_counted_by_hand(frame: pd.DataFrame) -> None:
    table = of(gain(frame), "pgd")
    assert table["epsilon"].to_list() == [0.003, 0.009]
    # 0.003: nothing but d on both. 0.009: the attack has b, c, d; the noise c alone
    assert table["attack_only"].to_list() == [0, 2]
    assert table["control_only"].to_list() == [0, 0]
    assert table["gain"].to_list() == [0, 0.5]
    assert table["drop"].to_list() == [0, 0.5]
    assert table["control_drop"].to_list() == [0, 0]
    assert (table["gain_low"] < table["gain"]).all()
    assert "random_sign" not in set(gain(frame)["preset"])
    assert gain(to_frame(counted("sound", "pgd"))).empty


def of_patients(both: int, first: int, second: int, n: int, *, images: int = 1) -> tuple[np.ndarray, ...]:
    """Of n patients with so many equal images each: those in both, in the first alone, in the second alone, all."""
    kinds = np.repeat([0, 1, 2, 3], [both, first, second, n - both - first - second])
    return tuple(images * each.astype(float) for each in (kinds == 0, kinds == 1, kinds == 2, kinds >= 0))


@pytest.mark.parametrize(
    ("both", "first", "second", "n", "low", "high"),
    [(36, 12, 2, 50, 0.0569, 0.3404), (36, 14, 0, 50, 0.1528, 0.4167)],  # Newcombe 1998, table II, method 10
)
def test_paired_difference_is_newcombes(both: int, first: int, second: int, n: int, low: float, high: float) -> None:
    bounds = paired_difference(both, first, second, n)
    assert (float(bounds.low), float(bounds.high)) == pytest.approx((low, high), abs=5e-5)
    alone = paired_by_patient(*of_patients(both, first, second, n))
    assert np.allclose(alone, bounds, rtol=1e-12)
    mirrored = paired_by_patient(*of_patients(both, second, first, n))
    assert (float(mirrored.low), float(mirrored.high)) == pytest.approx((-high, -low), abs=5e-5)


def test_paired_difference_has_width_where_all_or_none_differ() -> None:
    for pairs in ((0, 20, 0, 20), (0, 0, 0, 20), (20, 0, 0, 20)):
        low, high = paired_by_patient(*of_patients(*pairs))
        assert -1 <= low < high <= 1


def test_paired_difference_of_equal_images_is_that_of_their_patients() -> None:
    alone, repeated = (paired_by_patient(*of_patients(6, 12, 2, 50, images=images)) for images in (1, 4))
    assert repeated.low < alone.low
    assert float(repeated.high - repeated.low) == pytest.approx(float(alone.high - alone.low), rel=0.05)
    few = paired_by_patient(*of_patients(0, 1, 0, 2, images=9))
    assert np.isnan(few).all()  # of two patients


def test_cost_counted_by_hand(frame: pd.DataFrame) -> None:
    table = cost(frame).set_index("preset")
    assert WORST_CASE not in table.index
    pgd = table.loc["pgd"]
    assert (pgd["n"], pgd["gradients_median"], pgd["gradients_total"], pgd["queries_total"]) == (4, 40, 160, 12)
    assert (pgd["seconds_median"], pgd["seconds_low"], pgd["seconds_high"]) == (1.5, 1.5, 1.5)  # three rows a case
    assert pgd["seconds_total"] == 6
    unknown = frame.assign(n_gradients=None, n_queries=None)
    assert cost(unknown)[["gradients_median", "queries_total"]].isna().all(axis=None)


# --- a run's tables


@pytest.mark.slow  # all tables and the report of a run
def test_a_study_without_attacks_has_no_tables_of_them() -> None:
    plain = make_responses(**SMALL)
    names = set(build_tables(plain))
    assert names.isdisjoint({analyse.__name__ for analyse in OF_ATTACKS} | {"taxonomy", "evaluation"})
    facts = [{"cohort": "xray-268", "protocol": "paper", "model": "vgg16", "epsilon": 0.003, "n": 16, "n_survivors": 0}]
    assert "evaluation" in build_tables(Responses(plain.frame, {**plain.meta, "convergence": facts}))


def test_tables_beside_the_papers_stay_those_of_fgsm(tables: dict[str, pd.DataFrame]) -> None:
    for name in ("fgsm_accuracy", "probability_drop"):
        assert set(tables[name]["preset"]) == {"paper", "sound", "fgsm"}
    assert {"pgd", "random_sign", WORST_CASE} <= set(tables["epsilon50"]["preset"])
    assert set(tables["evaluation"]["verdict"]) <= {"PASS", "CAUTION", "UNRELIABLE"}


@pytest.mark.slow  # every analysis of attacks, of two seeds together and of each alone
def test_attacks_of_several_seeds_are_never_mixed() -> None:
    attacks = {"presets": ("sound",), "attacks": ("pgd", "random_sign"), "transfers": ("pgd",)}
    run = make_responses(**SMALL, **attacks, repeats=2)
    for analyse in OF_ATTACKS:
        every = analyse(run.frame)
        for seed in (0, 1):
            mine = every[every["seed"] == seed].drop(columns="seed").reset_index(drop=True)
            alone = analyse(run.frame[run.frame["seed"] == seed])
            expected = alone.sort_values(["cohort", "protocol", "model"], kind="stable", ignore_index=True)
            pd.testing.assert_frame_equal(mine, expected, check_dtype=False)


@pytest.mark.parametrize(
    "keep",
    [
        pytest.param(lambda frame: frame["status"] == "error", id="only errors"),
        pytest.param(lambda frame: frame["label"] == 1, id="one class"),
        pytest.param(lambda frame: frame["epsilon"] == 0, id="no attack"),
        pytest.param(lambda frame: frame["storage"] == "png8", id="only 8 bit"),
        pytest.param(lambda frame: frame["made_on"].notna(), id="only transferred"),
        pytest.param(lambda frame: frame["attack"] == "random_sign", id="only a control"),
        pytest.param(lambda frame: frame["case_id"].isna(), id="nothing"),
    ],
)
def test_a_poor_table_keeps_its_columns(run: Responses, tables: dict[str, pd.DataFrame], keep: Any) -> None:
    frame = run.frame[keep(run.frame)]
    for analyse in OF_ATTACKS:
        own = tables[analyse.__name__].drop(columns="evaluation")  # which `build_tables` puts beside
        assert list(analyse(frame).columns) == list(own.columns)


def test_roles_read_whole_and_compact_names_alike(frame: pd.DataFrame) -> None:
    rows = answered(frame)
    plain = rows.astype({"preset": str, "attack": str, "made_on": str})
    assert roles(rows).tolist() == roles(plain).tolist()
