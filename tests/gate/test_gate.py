"""Rules of a gate: their grammar, what they are tested against, what is refused, and how the outcome is written."""

import json
import math
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pages import write_responses
from response_factory import make_responses

from dosimeter.analysis.intervals import wilson
from dosimeter.analysis.names import of
from dosimeter.analysis.paired import compare
from dosimeter.cli import main
from dosimeter.errors import DosimeterError
from dosimeter.gate import written
from dosimeter.gate.judge import Judgement, judge
from dosimeter.gate.numbers import Numbers
from dosimeter.gate.rules import parse_rule, read_rules
from dosimeter.record.run import RUNNING, Run
from dosimeter.record.table import Responses, compact

EPSILONS = (0.0, 1e-3, 2e-3, 1 / 255, 0.08)
NETWORKS: dict[str, Any] = {"cohorts": {"xray-268": "xray"}, "epsilons": EPSILONS, "refine": False, "exemplars": False}


def responses(**changes: Any) -> Responses:
    made = make_responses(**{**NETWORKS, "models": ("vgg16",), "patients": False, "error_row": False, **changes})
    return Responses(compact(made.frame), made.meta)


@pytest.fixture(scope="module")
def run() -> Responses:
    return responses(attacks=("pgd", "random_sign"))


def outcomes(found: Judgement) -> list[str]:
    return [each.status for each in found.outcomes]


def judged(run: Responses, *rules: str, **options: Any) -> Judgement:
    return judge([parse_rule(rule) for rule in rules], run, **options)


# --- the grammar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "metric", "arguments", "chosen", "sign", "bound"),
    [
        ("clean_accuracy>=0.8", "clean_accuracy", (), {}, ">=", 0.8),
        ("robust_accuracy(pgd, 1/255) >= 60 %", "robust_accuracy", ("pgd", "1/255"), {}, ">=", 0.6),
        ("epsilon50( worst ) > 2/255", "epsilon50", ("worst",), {}, ">", 2 / 255),
        ("auc() < 1", "auc", (), {}, "<", 1.0),
        ("verdict(paper) >= CAUTION", "verdict", ("paper",), {}, ">=", 1.0),
        (
            "robust_accuracy(pgd from vgg16, 0.003, storage=png8, model=a b) <= 1/4",
            *("robust_accuracy", ("pgd from vgg16", "0.003"), {"storage": "png8", "model": "a b"}, "<=", 0.25),
        ),
    ],
)
def test_a_rule_reads_as_people_type_it(text, metric, arguments, chosen, sign, bound) -> None:  # type: ignore[no-untyped-def]
    rule = parse_rule(text)
    assert (rule.metric, rule.arguments, rule.chosen, rule.sign) == (metric, arguments, chosen, sign)
    assert rule.bound == pytest.approx(bound, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must read METRIC"),
        ("clean_accuracy", "must read METRIC"),
        ("clean_accuracy = 0.5", "must read METRIC"),
        ("clean_accuracy >= 0.5 <= 0.6", "must read METRIC"),
        ("clean_acuracy >= 0.5", "Did you mean 'clean_accuracy'"),
        ("clean_accuracy >= 60", "Did you mean 60 %"),
        ("clean_accuracy >= lots", "must be compared with a number"),
        ("clean_accuracy >= 1/0", "must be compared with a number"),
        ("clean_accuracy(pgd) >= 0.5", "takes no arguments but keywords"),
        ("robust_accuracy(pgd) >= 0.5", r"takes \(attack, epsilon\)"),
        ("robust_accuracy(pgd,,) >= 0.5", r"takes \(attack, epsilon\)"),
        ("robust_accuracy(pgd, 1/255, modl=x) >= 0.5", "Did you mean 'model'"),
        ("clean_accuracy(storage=png8) >= 0.5", "must be known"),
        ("clean_accuracy(model=) >= 0.5", "have a value"),
        ("epsilon50(pgd) >= 4", "Did you mean 4/255"),
        ("verdict >= PAS", "Did you mean 'PASS'"),
        ("clean_accuracy\n>= \x1b[31m", r"\\x1b\[31m"),
    ],
)
def test_what_is_no_rule_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(DosimeterError, match=said) as caught:
        parse_rule(text)
    assert "\n" not in str(caught.value)


# --- what is tested -------------------------------------------------------------------------------------------


def test_the_bound_of_the_interval_is_tested_not_the_value(run: Responses) -> None:
    rows = run.frame[(run.frame["preset"] == "pgd") & (run.frame["epsilon"] == 2e-3)]
    right, n = int(rows["correct"].sum()), len(rows)
    low, high = map(float, wilson(right, n))
    assert low < right / n < high
    for sign, bound in ((">=", float(low)), ("<=", float(high))):
        step = 1e-9 if sign == ">=" else -1e-9
        just, beyond = (f"robust_accuracy(pgd, 0.002) {sign} {each:.15f}" for each in (bound - step, bound + step))
        assert outcomes(judged(run, just, beyond)) == ["met", "not met"]
    (outcome,) = judged(run, "robust_accuracy(pgd, 0.002) >= 0").outcomes
    assert (outcome.value, outcome.n) == (right / n, n)
    assert (outcome.low, outcome.high) == pytest.approx((low, high))
    assert "lower bound" in outcome.because


def test_an_epsilon_is_found_as_it_was_typed(run: Responses) -> None:
    one, other = judged(
        run, "robust_accuracy(pgd, 1/255) >= 0", "robust_accuracy(pgd, 0.00392156862745098) >= 0"
    ).outcomes
    assert (one.value, one.low, one.n) == (other.value, other.low, other.n)
    with pytest.raises(DosimeterError, match=r"The grid is 0, 0\.001, 0\.002, 1/255, 0\.08\."):
        judged(run, "robust_accuracy(pgd, 0.004) >= 0")


def test_worst_is_the_worst_case_or_the_only_attack(run: Responses) -> None:
    with of(run.meta):
        worst = Numbers(run).of(parse_rule("robust_accuracy(worst, 0.002) >= 0"))[0]
        least = min(
            Numbers(run).of(parse_rule(f"robust_accuracy({each}, 0.002) >= 0"))[0].value for each in ("pgd", "sound")
        )
    assert worst.value <= least
    assert worst.what == "worst case"
    alone = responses()
    with of(alone.meta):
        only = Numbers(alone).of(parse_rule("robust_accuracy(worst, 0.002) >= 0"))[0]
    assert only.what == "FGSM, sound preset"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("robust_accuracy(pdg, 0.002) >= 0", "Did you mean 'pgd'"),
        ("robust_accuracy(pgd, 0.002, storage=png9) >= 0", "storage must be in the run"),
        ("clean_accuracy(model=vgg61) >= 0", "Did you mean 'vgg16'"),
        ("clean_accuracy(seed=1) >= 0", "Leave it out"),
        ("verdict(sond) >= PASS", "Did you mean 'sound'"),
    ],
)
def test_what_the_run_has_not_is_one_sentence(run: Responses, rule: str, said: str) -> None:
    with pytest.raises(DosimeterError, match=said):
        judged(run, rule)


def test_an_unreliable_evaluation_is_refused_and_not_met(run: Responses) -> None:
    other = responses(models=("vgg16", "inception_v3"), attacks=("pgd", "random_sign"))
    found = judged(other, "robust_accuracy(paper, 0.002) >= 0", "clean_accuracy >= 0")
    status = {(each.rule, each.who.partition(" on ")[0]): each.status for each in found.outcomes}
    assert status["robust_accuracy(paper, 0.002) >= 0", "Inception-v3"] == "refused"
    assert status["clean_accuracy >= 0", "Inception-v3"] == "met"
    assert not found.met
    assert "UNRELIABLE" in next(each.because for each in found.outcomes if each.status == "refused")
    unexamined = judged(responses(), "robust_accuracy(sound, 0.002) >= 0", "verdict() >= UNRELIABLE")
    assert outcomes(unexamined) == ["refused", "refused"]


def test_a_verdict_is_compared_with_a_verdict(run: Responses) -> None:
    found = judged(run, "verdict() >= PASS", "verdict(sound) > CAUTION", "verdict() < PASS")
    assert outcomes(found) == ["met", "met", "not met"]


def test_an_epsilon50_beyond_the_grid_is_only_above_its_largest_epsilon() -> None:
    run = responses(attacks=("random_sign", "pgd"), epsilons=(0.0, 1e-6, 2e-6))
    with of(run.meta):
        (found,) = Numbers(run).of(parse_rule("epsilon50(pgd) >= 0"))
    assert found.value == math.inf
    assert found.low == 2e-6  # not infinite: nothing beyond it was asked
    (outcome,) = judged(run, "epsilon50(pgd) <= 0.5").outcomes
    assert outcome.status != "met"


def test_too_few_images_for_an_interval_are_not_met() -> None:
    found = judged(responses(n_cases=2), "clean_accuracy >= 0")
    assert outcomes(found) == ["not met"]
    assert "too few" in found.outcomes[0].because


def test_an_incomplete_run_keeps_no_gate(run: Responses) -> None:
    lacking = Responses(run.frame, {**run.meta, "incomplete": ["inception_v3 failed."]})
    found = judged(lacking, "clean_accuracy >= 0")
    assert outcomes(found) == ["met"]
    assert not found.met
    assert "inception_v3 failed" in written.verdict(found)


# --- a baseline -----------------------------------------------------------------------------------------------


def worse(run: Responses, *, cases: int) -> Responses:
    """The run, with the first right answers without attack made wrong."""
    frame = run.frame.copy()
    clean = (frame["epsilon"] == 0) & frame["correct"]
    chosen = frame["case_id"].isin(sorted(frame.loc[clean, "case_id"].unique())[:cases]) & (frame["epsilon"] == 0)
    frame.loc[chosen, "correct"] = False
    frame.loc[chosen, "predicted"] = 1 - frame.loc[chosen, "label"]
    return Responses(frame, run.meta)


def test_a_drop_is_tested_against_the_lower_bound_of_the_paired_difference(run: Responses) -> None:
    new = worse(run, cases=3)
    found = judged(new, "clean_accuracy >= 0", baseline=run, max_drop=0.5)
    drop = found.outcomes[-1]
    n = run.frame["case_id"].nunique()
    before = run.frame[
        (run.frame["epsilon"] == 0) & (run.frame["preset"] == "sound") & (run.frame["storage"] == "float")
    ]
    right = before.sort_values("case_id")["correct"].to_numpy(float)
    after = right.copy()
    after[np.flatnonzero(right)[:3]] = 0
    expected = compare(after[:, None], right[:, None], np.arange(n))
    assert drop.value == pytest.approx(-3 / n)
    assert (drop.low, drop.high) == pytest.approx((expected.low[0], expected.high[0]))
    limit = -float(expected.low[0])
    assert outcomes(judged(new, "clean_accuracy >= 0", baseline=run, max_drop=limit + 1e-9))[-1] == "met"
    assert outcomes(judged(new, "clean_accuracy >= 0", baseline=run, max_drop=limit - 1e-9))[-1] == "not met"
    assert str(found.shared) == f"all {n} test images are shared"


def test_without_rules_accuracy_and_worst_case_are_compared(run: Responses) -> None:
    found = judged(run, baseline=run, max_drop=1.0)
    assert [each.rule for each in found.outcomes] == [
        "drop of clean_accuracy <= 100.0 %",
        "drop of robust_accuracy(worst, 0.00392156862745098) <= 100.0 %",  # the middle one of three
    ]
    assert found.met


def test_a_baseline_of_other_cases_labels_or_schema_is_one_sentence(run: Responses) -> None:
    other = run.frame.assign(case_id=run.frame["case_id"].astype(str) + "x")
    with pytest.raises(DosimeterError, match="share none"):
        judged(run, baseline=Responses(other, run.meta), max_drop=0.1)
    relabelled = run.frame.assign(label=1 - run.frame["label"])
    with pytest.raises(DosimeterError, match="must have one label"):
        judged(run, baseline=Responses(relabelled, run.meta), max_drop=0.1)
    with pytest.raises(DosimeterError, match="must have one schema version"):
        judged(run, baseline=Responses(run.frame, {**run.meta, "schema_version": 3}), max_drop=0.1)
    fewer = Responses(run.frame[run.frame["epsilon"] != 2e-3], run.meta)
    with pytest.raises(DosimeterError, match="same attacks and epsilons"):
        judged(run, "robust_accuracy(pgd, 0.002) >= 0", baseline=fewer, max_drop=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "a rule or a baseline"),
        ({"max_drop": 0.1}, "go together"),
        ({"baseline": True}, "go together"),
        ({"baseline": True, "max_drop": 2.0}, "a share from 0 to 1"),
    ],
)
def test_what_is_asked_must_make_a_gate(run: Responses, options: dict[str, Any], said: str) -> None:
    given = {**options, **({"baseline": run} if "baseline" in options else {})}
    with pytest.raises(DosimeterError, match=said):
        judged(run, **given)


# --- files and the command ------------------------------------------------------------------------------------


def test_a_file_of_rules(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text('rules = ["auc >= 0.5"]\nbaseline = "old"\nmax_drop = 0.02\n')
    assert read_rules(file) == (["auc >= 0.5"], tmp_path / "old", 0.02)
    for text, said in (
        ('rule = ["auc >= 0.5"]', "Did you mean 'rules'"),
        ('rules = "auc >= 0.5"', "list of texts"),
        ("rules = [1]", "list of texts"),
        ("baseline = 3", "folder of a run"),
        ('max_drop = "a"', "must be a number"),
        ("max_drop = true", "must be a number"),
        ("rules = [", "not valid TOML"),
    ):
        file.write_text(text)
        with pytest.raises(DosimeterError, match=said):
            read_rules(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = make_responses(**{**NETWORKS, "models": ("vgg16",), "attacks": ("pgd", "random_sign"), "error_row": False})
    (tmp_path / "run").mkdir()
    write_responses(made, tmp_path / "run")
    return tmp_path / "run"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["dosimeter", "gate", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_exit_codes_and_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    junit, markdown, summary = (tmp_path / name for name in ("gate.xml", "gate.md", "summary.md"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    files = ("--junit", junit, "--markdown", markdown)
    assert call(monkeypatch, folder, "--rule", "clean_accuracy >= 0", *files) == 0
    assert ElementTree.parse(junit).getroot().get("failures") == "0"
    rules = ("--rule", "clean_accuracy >= 0.999", "--rule", "robust_accuracy(pgd, 0.002) <= 100 %")
    capsys.readouterr()
    assert call(monkeypatch, folder, *rules, *files, "--github") == 3
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(" title")[0] for line in printed] == ["::error", "::error"]
    assert "%25" in printed[0]
    assert all(line.count("::") == 2 for line in printed)
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite] == ["clean_accuracy >= 0.999", "robust_accuracy(pgd, 0.002) <= 100 %"]
    assert "NOT MET" in markdown.read_text()
    assert summary.read_text() == markdown.read_text()
    assert call(monkeypatch, folder, "--rule", "nothing >= 1") == 2
    assert call(monkeypatch, folder) == 2
    capsys.readouterr()
    assert call(monkeypatch, folder, "--rule", "auc >= 0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["met"] is True


def test_the_outcome_must_go_to_a_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert call(monkeypatch, folder, "--rule", "auc >= 0", "--junit", tmp_path / "no" / "x.xml") == 2
    assert "must go to files" in capsys.readouterr().err


def test_a_run_under_way_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "0123.parquet").write_bytes(b"x")
    Run(folder).save_manifest(status=RUNNING)
    assert call(monkeypatch, folder, "--rule", "auc >= 0") == 2
    assert "under way or was interrupted (running)" in capsys.readouterr().err


def test_what_xml_and_github_cannot_hold_is_escaped(run: Responses) -> None:
    found = judged(run, "clean_accuracy >= 0.999")
    named = found._replace(outcomes=[found.outcomes[0]._replace(who="a<b>|&\x00\n::error::")])
    assert ElementTree.fromstring(written.junit(named).encode())[0][0].get("classname") == "a<b>|&\\x00\\n::error::"
    assert "\n" not in next(iter(written.annotations(named)))
    assert "a&lt;b>\\|&" in written.markdown(named)
