"""The checks of an evaluation: each rule at its thresholds, on tables made by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from response_factory import response_row

from dosimeter.analysis.evaluation import COLUMNS, evaluate, overall, rules
from dosimeter.analysis.intervals import wilson
from dosimeter.errors import READ_ERROR
from dosimeter.record.table import to_frame

EPSILONS = (0.0, 0.01, 0.02, 0.03)
N = 200
NEVER = len(EPSILONS)


# --- frames -----------------------------------------------------------------------------------------------------


def curve(
    preset: str, breaks: Mapping[int, int], *, n: int = N, found: Mapping[int, int] | None = None, **columns: Any
) -> list[dict[str, Any]]:
    """Rows of `n` cases, all right at first. `breaks` is at which place of EPSILONS how many of the first cases break,
    `found` the same for what the attack claims."""
    at, claimed = (_places(each, n) for each in (breaks, found or {}))
    attack = "fgsm" if preset in ("paper", "sound") else preset.partition(" ")[0]
    own = {"preset": preset, "attack": attack, "model": "net", **columns}
    return [
        response_row(
            **own, case_id=f"{case:04d}", label=case % 2, epsilon=epsilon, on_grid=True,
            probability=0.9 if (case % 2 == 1) == (place < at[case]) else 0.1,
            found=None if found is None else bool(place >= claimed[case]),
        )
        for case in range(n) for place, epsilon in enumerate(EPSILONS)
    ]  # fmt: skip


def _places(breaks: Mapping[int, int], n: int) -> list[int]:
    at = [place for place, count in sorted(breaks.items()) for _ in range(count)]
    return at + [NEVER] * (n - len(at))


def with_wrong(rows: list[dict[str, Any]], wrong: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """`rows` with the answers of (case, place of epsilon) made wrong there alone."""
    for case, place in wrong:
        row = rows[case * len(EPSILONS) + place]
        row.update(predicted=1 - row["label"], correct=False)
    return rows


def verdicts(*curves: list[dict[str, Any]], family: str = "sound", **more: Any) -> dict[str, str]:
    checks = evaluate(to_frame(row for rows in curves for row in rows), **more)
    return checks[checks["preset"] == family].set_index("id")["verdict"].to_dict()


SOUND = curve("sound", {1: 100, 2: 50})
PGD = curve("pgd", {1: 100, 2: 50})


# --- the rules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pgd", "verdict"),
    [
        ({1: 100, 2: 50}, "PASS"),
        ({1: 99, 2: 51}, "PASS"),  # one image, at one epsilon
        ({1: 98, 2: 52}, "CAUTION"),
        ({1: 90, 2: 60}, "CAUTION"),  # 5 points
        ({1: 89, 2: 61}, "UNRELIABLE"),
        ({1: 150}, "PASS"),
    ],
)
def test_many_steps_against_one(pgd: dict[int, int], verdict: str) -> None:
    assert verdicts(SOUND, curve("pgd", pgd))["iterative"] == verdict


def test_the_best_of_the_iterative_attacks_counts_and_other_images_that_only_fgsm_breaks() -> None:
    half = curve("ddn", {1: 60})
    assert verdicts(SOUND, half)["iterative"] == "UNRELIABLE"
    assert verdicts(SOUND, half, PGD)["iterative"] == "PASS"
    for n_others, verdict in ((4, "PASS"), (5, "CAUTION")):  # of 200 that were right: 2 % and more
        later = curve("pgd", {1: 100 - n_others, NEVER: n_others, 0: 0})
        for case in range(195 - n_others, 200):
            later = with_wrong(later, [(case, place) for place in (1, 2, 3)])
        assert verdicts(curve("sound", {1: 100}), later)["iterative"] == verdict


@pytest.mark.parametrize(("n_back", "verdict"), [(1, "PASS"), (2, "CAUTION"), (10, "CAUTION"), (11, "UNRELIABLE")])
def test_accuracy_that_rises_under_an_iterative_attack(n_back: int, verdict: str) -> None:
    rows = with_wrong(curve("pgd", {2: 50}, effort="thorough"), [(case, 1) for case in range(100, 150 + n_back)])
    assert verdicts(SOUND, rows)["monotone"] == verdict


def test_what_a_random_search_misses_is_chance() -> None:
    wrong = [(case, 1) for case in range(100, 180)]
    rows = with_wrong(curve("square", {2: 50}, effort="thorough"), wrong)
    assert verdicts(SOUND, PGD, rows).get("monotone", "PASS") == "PASS"


def test_accuracy_that_rises_under_fgsm_is_a_note() -> None:
    checks = evaluate(to_frame(with_wrong(curve("sound", {3: 10}), [(case, 1) for case in range(40)])))
    row = checks.set_index("id").loc["monotone"]
    assert row["verdict"] == "PASS"
    assert row["measured"].startswith("Under FGSM accuracy rises by 40 images from epsilon 0.01 to 0.02, as one step")


def test_a_search_that_cannot_rise_is_not_said_to_have_passed() -> None:
    assert "monotone" not in verdicts(SOUND, PGD)
    assert verdicts(SOUND, curve("pgd", {1: 100}, effort="thorough"))["monotone"] == "PASS"


@pytest.mark.parametrize(
    ("square", "verdict"),
    [
        ({1: 100, 2: 50}, "PASS"),
        ({1: 101, 2: 50}, "PASS"),
        ({1: 102, 2: 50}, "CAUTION"),
        ({1: 110, 2: 50}, "CAUTION"),
        ({1: 111}, "UNRELIABLE"),
    ],
)
def test_a_black_box_against_the_white_one(square: dict[int, int], verdict: str) -> None:
    assert verdicts(SOUND, PGD, curve("square", square))["black_box"] == verdict
    rows = curve("pgd from other", square, made_on="other")
    assert verdicts(SOUND, PGD, rows)["transfer"] == verdict


def test_a_black_box_against_one_step_alone_must_be_far_stronger() -> None:
    for breaks, verdict in (({1: 120}, "CAUTION"), ({1: 150}, "CAUTION"), ({1: 151}, "UNRELIABLE")):
        assert verdicts(SOUND, curve("square", breaks))["black_box"] == verdict


def test_images_that_only_the_black_box_breaks() -> None:
    rows = with_wrong(curve("square", {1: 97}), [(case, place) for case in (197, 198, 199) for place in (1, 2, 3)])
    assert verdicts(curve("sound", {1: 100}), curve("pgd", {1: 100}), rows)["black_box"] == "CAUTION"


@pytest.mark.parametrize(("n_only", "verdict"), [(0, "PASS"), (1, "CAUTION"), (2, "CAUTION"), (3, "UNRELIABLE")])
def test_noise_that_breaks_what_the_gradient_left(n_only: int, verdict: str) -> None:
    broken = [(199 - index, 3) for index in range(n_only)]
    assert verdicts(SOUND, PGD, with_wrong(curve("random_sign", {}), broken))["noise"] == verdict


def test_noise_is_compared_within_epsilon_not_at_it() -> None:
    back = with_wrong(curve("sound", {}), [(0, 1), (1, 1)])  # FGSM breaks two images, and overshoots them later
    assert verdicts(back, with_wrong(curve("uniform_noise", {}), [(0, 3), (1, 3)]))["noise"] == "PASS"


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({1: 100, 2: 50}, "PASS"),
        ({1: 100, 2: 52}, "PASS"),  # two of 200 claimed that are answered rightly
        ({1: 100, 2: 53}, "CAUTION"),
        ({1: 100, 2: 60}, "CAUTION"),
        ({1: 100, 2: 61}, "UNRELIABLE"),
        ({1: 100, 2: 48}, "PASS"),  # two broken that it does not claim
        ({1: 100, 2: 47}, "CAUTION"),
    ],
)
def test_claims_against_answers(found: dict[int, int], verdict: str) -> None:
    assert verdicts(SOUND, curve("pgd", {1: 100, 2: 50}, found=found))["silent_success"] == verdict


@pytest.mark.parametrize(
    ("doubled", "restarts", "verdict"),
    [(0, 0, "PASS"), (1, 1, "PASS"), (2, 0, "CAUTION"), (0, 2, "CAUTION"), (0, 5, "UNRELIABLE")],
)
def test_more_effort(doubled: int, restarts: int, verdict: str) -> None:
    facts = {"epsilon": 0.02, "n": N, "n_survivors": 80, "n_examined": 16, "n_doubled": doubled, "n_restarts": restarts}
    scope = {"cohort": "xray-268", "protocol": "paper", "model": "net", "seed": 0}
    assert verdicts(SOUND, PGD, convergence=[{**scope, **facts}])["convergence"] == verdict
    assert "convergence" not in verdicts(SOUND, PGD, convergence=[{**scope, **facts, "model": "other"}])


def test_one_step_alone_is_a_caution() -> None:
    assert verdicts(SOUND)["attacks"] == verdicts(SOUND, curve("square", {1: 9}))["attacks"] == "CAUTION"
    assert verdicts(SOUND, PGD)["attacks"] == "PASS"


def test_attacks_that_need_each_other() -> None:
    first, second = curve("pgd", {1: 100}), curve("apgd", {1: 89})
    assert verdicts(first, second)["worst_case"] == "PASS"
    others = with_wrong(second, [(case, 1) for case in range(189, 200)])
    assert verdicts(first, others)["worst_case"] == "CAUTION"


def test_the_worst_case_is_taken_image_by_image() -> None:
    """Two attacks that each break another half leave nothing together, though their mean leaves half."""
    first, second = curve("pgd", {1: 100}), curve("apgd", {})
    second = with_wrong(second, [(case, place) for case in range(100, 200) for place in (1, 2, 3)])
    checks = evaluate(to_frame([*first, *second])).set_index("id")
    assert checks.loc["worst_case", "measured"].startswith(
        "At epsilon 0.01 the worst case over 2 attacks leaves 0.0 % of 200 images, the strongest one ("
    )


@pytest.mark.parametrize(
    ("preset", "breaks", "verdict"),
    [
        ("sound", {1: 110}, "PASS"),
        ("sound", {1: 111}, "UNRELIABLE"),
        ("pgd", {1: 150}, "PASS"),
        ("pgd", {1: 151}, "UNRELIABLE"),
    ],
)
def test_the_published_setting_against_others(preset: str, breaks: dict[int, int], verdict: str) -> None:
    paper, other = curve("paper", {1: 100}, loss="keras_bce"), curve(preset, breaks)
    assert verdicts(paper, other, family="paper")["other_attacks"] == verdict
    assert "other_attacks" not in verdicts(paper, other)
    assert "other_attacks" not in verdicts(paper, family="paper")


@pytest.mark.parametrize(("n_zero", "verdict"), [(0, "PASS"), (2, "CAUTION"), (3, "UNRELIABLE")])
def test_gradients_that_are_zero(n_zero: int, verdict: str) -> None:
    rows = curve("paper", {1: 100}, loss="keras_bce")
    for row in rows[: n_zero * len(EPSILONS)]:
        row["grad_zero"] = True
    assert verdicts(rows, family="paper")["zero_gradient"] == verdict


def test_images_without_an_answer() -> None:
    def failed(error: str) -> list[dict[str, Any]]:
        return [response_row(case_id="0000", model="net", status="error", error=error, epsilon=None, on_grid=None)]

    assert verdicts(SOUND)["answers"] == "PASS"
    assert verdicts(SOUND[len(EPSILONS) :], failed(READ_ERROR))["answers"] == "PASS"
    assert verdicts(SOUND[len(EPSILONS) :], failed("the gradient of margin is not finite"))["answers"] == "CAUTION"


# --- the pre-flight's rules -------------------------------------------------------------------------------------

CLEAN: dict[str, Any] = {
    "cohort": "xray-268", "protocol": "paper", "model": "net", "seed": 0, "loss": "margin", "channels": "tied",
    "training": {"n": 10, "training": 0, "matter": 0, "kinds": [], "n_asked": 0, "differ": 0},
    "randomness": {"n": 8, "passes": 5, "changed": 0, "largest": 0.0},
    "batching": {"n": 8, "batch": 4, "changed": 0, "largest": 1e-6},
    "outputs": {"n": 40, "not_finite": 0, "look": "logits", "saturated": 0, "constant": False},
    "accuracy": {"n": 40, "n_cohort": 200, "correct": 36, "majority": 20, "n_answers": 2, "declared": None},
    "graph": {"n": 40, "error": None},
    "identity": {"n": 40, "changed": 0, "largest": 0.0},
    "gradient": {"n": 40, "n_right": 36, "not_finite": 0, "zero": 0, "zero_right": 0, "n_pixels": 1000,
                 "zero_pixels": 0},
    "differences": {"n": 8, "wrong": 0, "off": 0, "n_random": 12, "wrong_random": 0, "off_random": 0},
    "repeated_gradient": {"n": 8, "passes": 3, "changed": 0, "lowest": 1.0},
    "still": {"n": 16, "moved": 0},
    "neighbours": {"n": 8, "jumps": 0, "changed": 0, "by": 1e-4},
    "step": {"n": 16, "fallen": 0, "median_ratio": 1.0},
    "unbounded": {"n": 16, "left": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "check", "verdict"),
    [
        ("training", {"training": 3, "kinds": ["Sequential"], "n_asked": 8}, "evaluation_mode", "PASS"),
        ("training", {"training": 3, "kinds": ["Own"], "n_asked": 8, "differ": 1}, "evaluation_mode", "CAUTION"),
        ("training", {"training": 1, "matter": 1, "kinds": ["Dropout"]}, "evaluation_mode", "UNRELIABLE"),
        ("randomness", {"largest": 1.1e-4}, "randomness", "CAUTION"),
        ("randomness", {"largest": 0.1, "changed": 1}, "randomness", "UNRELIABLE"),
        ("batching", {"largest": 1.1e-4}, "batching", "CAUTION"),
        ("batching", {"largest": 0.1, "changed": 1}, "batching", "UNRELIABLE"),
        ("neighbours", {"jumps": 1}, "neighbours", "CAUTION"),
        ("neighbours", {"jumps": 2, "changed": 2}, "neighbours", "UNRELIABLE"),
        ("outputs", {"look": "softmax"}, "logits", "CAUTION"),
        ("outputs", {"look": "sigmoid"}, "logits", "CAUTION"),
        ("outputs", {"not_finite": 1}, "logits", "UNRELIABLE"),
        ("outputs", {"saturated": 8}, "saturation", "PASS"),
        ("outputs", {"saturated": 40}, "saturation", "PASS"),  # of the margin, and every image breaks
        ("graph", {"error": "no gradient reaches the image"}, "gradient", "UNRELIABLE"),
        ("identity", {"largest": 1.1e-4}, "epsilon_zero", "UNRELIABLE"),
        ("identity", {"changed": 1}, "epsilon_zero", "UNRELIABLE"),
        ("gradient", {"not_finite": 1}, "finite_gradient", "UNRELIABLE"),
        ("gradient", {"zero_pixels": 900}, "still_pixels", "PASS"),
        ("still", {"moved": 3}, "still_pixels", "PASS"),
        ("still", {"moved": 4}, "still_pixels", "CAUTION"),
        ("still", {"moved": 7}, "still_pixels", "CAUTION"),
        ("still", {"moved": 8}, "still_pixels", "UNRELIABLE"),
        ("repeated_gradient", {"changed": 1, "lowest": 0.5}, "repeated_gradient", "CAUTION"),
        ("repeated_gradient", {"changed": 2, "lowest": 0.5}, "repeated_gradient", "UNRELIABLE"),
        ("gradient", {"zero_right": 1}, "zero_gradient", "UNRELIABLE"),
        ("differences", {"wrong": 1}, "finite_differences", "PASS"),
        ("differences", {"wrong": 2}, "finite_differences", "CAUTION"),
        ("differences", {"wrong": 3}, "finite_differences", "UNRELIABLE"),  # of 8
        ("differences", {"wrong_random": 2}, "finite_differences", "CAUTION"),
        ("differences", {"wrong_random": 4}, "finite_differences", "UNRELIABLE"),  # of 12
        ("differences", {"off": 1}, "finite_differences", "PASS"),
        ("differences", {"off": 2}, "finite_differences", "CAUTION"),
        ("differences", {"off": 4}, "finite_differences", "CAUTION"),
        ("differences", {"off": 5}, "finite_differences", "UNRELIABLE"),  # of 8
        ("differences", {"off_random": 5}, "finite_differences", "CAUTION"),
        ("differences", {"off_random": 6}, "finite_differences", "UNRELIABLE"),  # of 12
        ("step", {"fallen": 1}, "loss_rises", "PASS"),
        ("step", {"fallen": 2}, "loss_rises", "CAUTION"),
        ("step", {"fallen": 7}, "loss_rises", "CAUTION"),
        ("step", {"fallen": 8}, "loss_rises", "UNRELIABLE"),
        ("unbounded", {"left": 1}, "unbounded", "CAUTION"),
        ("unbounded", {"left": 4}, "unbounded", "CAUTION"),
        ("unbounded", {"left": 5}, "unbounded", "UNRELIABLE"),
        # of a sample: the declared figure within Wilson's interval of 36 of 40, 77 to 96 %
        ("accuracy", {"declared": 0.8}, "clean_accuracy", "PASS"),
        ("accuracy", {"declared": 0.75}, "clean_accuracy", "CAUTION"),
        ("accuracy", {"declared": 0.6}, "clean_accuracy", "UNRELIABLE"),
        # the larger class has half; Wilson's interval of 26 of 40 is 50 to 78 %, of 13 of 40 20 to 48 %
        ("accuracy", {"correct": 27}, "larger_class", "PASS"),
        ("accuracy", {"correct": 25}, "larger_class", "CAUTION"),
        ("accuracy", {"correct": 14}, "larger_class", "CAUTION"),
        ("accuracy", {"correct": 13}, "larger_class", "UNRELIABLE"),
        ("accuracy", {"n_answers": 1}, "larger_class", "CAUTION"),
        # of all images: within 0.5 points or 1 image
        ("accuracy", {"n_cohort": 40, "declared": 0.92}, "clean_accuracy", "PASS"),
        ("accuracy", {"n_cohort": 40, "declared": 0.93}, "clean_accuracy", "CAUTION"),
        ("accuracy", {"n_cohort": 40, "declared": 0.96}, "clean_accuracy", "UNRELIABLE"),
    ],
)
def test_what_the_preflight_measured(name: str, changes: dict[str, Any], check: str, verdict: str) -> None:
    facts = {**CLEAN, name: {**CLEAN[name], **changes}}
    assert verdicts(preflights=[CLEAN])[check] == "PASS"
    assert verdicts(preflights=[facts])[check] == verdict


@pytest.mark.parametrize(
    ("loss", "left", "breaks", "verdict"),
    [
        ("margin", 0, {}, "PASS"),
        ("margin", 1, {}, "CAUTION"),
        ("margin", 1, {1: 200}, "PASS"),  # PGD with epsilon 1 left one, but all attacks together left none
        ("margin", 1, {1: 199}, "CAUTION"),
        ("cross_entropy", 0, {1: 200}, "CAUTION"),
    ],
)
def test_saturation_counts_where_a_loss_suffers(loss: str, left: int, breaks: dict[int, int], verdict: str) -> None:
    facts = {**CLEAN, "outputs": {**CLEAN["outputs"], "saturated": 9}, "unbounded": {"n": 16, "left": left}}
    rows = [curve("pgd", breaks, loss=loss)] if breaks or loss != "margin" else []
    assert verdicts(*rows, preflights=[facts])["saturation"] == verdict


def test_a_constant_hides_nothing_and_is_no_better_than_the_larger_class() -> None:
    nothing = {**CLEAN["gradient"], "zero": 40, "zero_right": 36, "n_pixels": 0}
    constant = {
        **CLEAN,
        "outputs": {**CLEAN["outputs"], "constant": True},
        "accuracy": {**CLEAN["accuracy"], "correct": 20, "n_answers": 1},
        "gradient": nothing,
        "unbounded": {"n": 16, "left": 16},
    }
    table = evaluate(to_frame([]), [constant])
    assert overall(table).loc[0, "verdict"] == "CAUTION"
    assert "The classifier is better than the larger class" in overall(table).loc[0, "because"]
    detached = {**constant, "graph": {"n": 40, "error": "no gradient reaches the image"}}
    assert overall(evaluate(to_frame([]), [detached])).loc[0, "verdict"] == "CAUTION"
    assert overall(evaluate(to_frame([]), [{**CLEAN, "gradient": nothing}])).loc[0, "verdict"] == "UNRELIABLE"


def test_of_a_random_classifier_nothing_finer_is_judged() -> None:
    facts = {**CLEAN, "randomness": {**CLEAN["randomness"], "largest": 0.1}}
    assert verdicts(preflights=[CLEAN]).keys() - verdicts(preflights=[facts]).keys() == {
        "batching", "epsilon_zero", "finite_differences", "loss_rises", "still_pixels", "neighbours",
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name, fact in CLEAN.items() if isinstance(fact, dict)])
def test_what_was_not_measured_is_not_judged(name: str) -> None:
    gone = verdicts(preflights=[{**CLEAN, name: {"n": 0}}])
    assert set(gone.values()) == {"PASS"}
    assert len(gone) < len(verdicts(preflights=[CLEAN]))


def test_accuracy_is_that_of_all_images_where_they_were_attacked() -> None:
    facts = {**CLEAN, "accuracy": {**CLEAN["accuracy"], "correct": 20, "declared": 1.0}}
    checks = evaluate(to_frame(SOUND), [facts]).set_index("id")
    assert checks.loc["clean_accuracy", "measured"] == (
        "200 of 200 images (100.0 %) are classified correctly; declared were 100.0 %."
    )
    assert checks.loc["clean_accuracy", "verdict"] == "PASS"


def test_the_interval_against_the_larger_class_knows_patients() -> None:
    """27 of 40 images: 52 to 80 % if they are independent, wider where four of a patient are alike."""
    rows = curve("sound", {0: 13}, n=40)
    alone = to_frame({**row, "patient_id": f"p{row['case_id']}"} for row in rows)
    fours = to_frame({**row, "patient_id": f"p{int(row['case_id']) // 4:02d}"} for row in rows)
    low, high = wilson(27, 40)
    text = f"27 of 40 images (67.5 %) are classified correctly, 95 % interval {100 * low:.1f} % to {100 * high:.1f} %; "
    judged = [evaluate(frame).set_index("id").loc["larger_class"] for frame in (alone, fours)]
    assert judged[0]["measured"].startswith(text)
    assert [row["verdict"] for row in judged] == ["PASS", "CAUTION"]


def test_accuracy_on_some_of_the_test_images_is_that_of_a_sample() -> None:
    rows = to_frame(curve("sound", {0: 3}, n=16))  # 13 of 16 are right
    facts = {**CLEAN, "accuracy": {**CLEAN["accuracy"], "declared": 0.926}}
    for sampled, expected in ((True, "PASS"), (False, "UNRELIABLE")):
        checks = evaluate(rows, [{**facts, "sampled": sampled}]).set_index("id")
        assert checks.loc["clean_accuracy", "verdict"] == expected


def test_what_depends_on_the_loss_is_judged_with_that_loss_alone() -> None:
    paper = curve("paper", {1: 100}, loss="keras_bce")
    clipped = {**CLEAN, "loss": "keras_bce", "unbounded": {"n": 16, "left": 16}}
    both = evaluate(to_frame([*paper, *SOUND]), [CLEAN, clipped]).set_index(["preset", "id"])["verdict"]
    assert both["paper", "unbounded"] == "UNRELIABLE"
    assert both["sound", "unbounded"] == "PASS"
    one = evaluate(to_frame([*paper, *SOUND]), [CLEAN]).set_index(["preset", "id"])["verdict"]
    assert ("paper", "unbounded") not in one.index
    assert one["paper", "randomness"] == "PASS"


# --- the tables -------------------------------------------------------------------------------------------------


def test_nothing_gives_an_empty_table() -> None:
    table = evaluate(to_frame([]))
    assert list(table.columns) == COLUMNS
    assert table.empty
    assert overall(table).empty


def test_overall_is_the_worst_and_says_why() -> None:
    paper = curve("paper", {1: 10}, loss="keras_bce")
    table = overall(evaluate(to_frame([*paper, *SOUND, *PGD]))).set_index("preset")
    assert table.loc["paper", "verdict"] == "UNRELIABLE"
    assert table.loc["paper", "because"] == "No other attack shows that this one is blind"
    assert table.loc["sound"].to_dict() == {
        "cohort": "xray-268", "protocol": "paper", "model": "net", "verdict": "PASS", "because": "",
    }  # fmt: skip


def test_every_classifier_and_seed_is_judged_by_itself() -> None:
    good, bad = curve("pgd", {1: 100, 2: 50}), curve("pgd", {1: 50})
    for names in ({"model": "net"}, {"seed": 0}):
        other = {"model": "other"} if "model" in names else {"seed": 1}
        rows = [{**row, **names} for row in (*SOUND, *good)] + [{**row, **other} for row in (*SOUND, *bad)]
        table = overall(evaluate(to_frame(rows)))
        assert table["verdict"].tolist() == ["PASS", "UNRELIABLE"]
        assert ("seed" in table) == ("seed" in names)


def test_other_storages_and_refined_rows_do_not_count() -> None:
    png = [{**row, "storage": "png8"} for row in curve("pgd", {1: 10})]
    refined = [{**row, "epsilon": 0.015, "on_grid": False} for row in curve("pgd", {})]
    assert verdicts(SOUND, PGD, png, refined) == verdicts(SOUND, PGD)


def test_curves_are_compared_where_both_have_answers() -> None:
    fewer = [row for row in curve("pgd", {1: 100, 2: 50}) if row["epsilon"] != 0.02 and row["case_id"] >= "0050"]
    checks = evaluate(to_frame([*SOUND, *fewer])).set_index("id")
    assert checks.loc["iterative", "verdict"] == "PASS"
    assert "of 150 images" in checks.loc["iterative", "measured"]


def test_sentences_have_their_numbers() -> None:
    checks = evaluate(to_frame([*SOUND, *curve("pgd", {1: 90, 2: 60})])).set_index("id")["measured"]
    assert checks["iterative"] == (
        "At epsilon 0.01 FGSM leaves 50.0 % of 200 images, the iterative attacks 55.0 %. "
        "10 of 200 correctly classified images (5.0 %) are broken by FGSM alone at epsilon 0.01."
    )
    assert checks["worst_case"].startswith("At no epsilon does the worst case over 2 attacks leave fewer of 200 images")


def test_rules_have_names_of_their_own() -> None:
    ids = [rule.id for rule in rules()]
    assert len(ids) == len(set(ids)) == len({rule.title for rule in rules()})
    for rule in rules():
        assert all((rule.title, rule.rule, rule.source, rule.remedy)), rule.id
