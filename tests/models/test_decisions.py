"""Classifiers of several classes and of several findings, swept end to end; goals of attacks against closed forms."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import convolutional_classifier
from torch import nn

import dosimeter as dm
from dosimeter.attacks.losses import dlr
from dosimeter.cohorts.base import Case, Cohort, Decoded, Record
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier, answer
from dosimeter.models.decisions import CLASS, Classes, Decided, Findings
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.record.compact import compact
from dosimeter.record.table import Responses
from dosimeter.report.build import build_tables

SIZE_PX = 32
NAMES = ("opacity", "effusion", "pacemaker")


def made(n: int, *, classes: int = 3, findings: tuple[str, ...] = ()) -> Cohort:
    """Images of smooth noise, of as many classes, or with findings of which one label in six is unknown."""
    rng = np.random.default_rng(5)
    records = []
    for index in range(n):
        image = rng.random((1, SIZE_PX, SIZE_PX)).astype(np.float32).round(2)
        told = rng.integers(0, 2, len(findings)).tolist()
        known = tuple(None if rng.random() < 1 / 6 else each for each in told)
        label = int(any(told)) if findings else index % classes
        records.append(
            Record(
                f"{index:05d}",
                label,
                f"{index:064d}",
                lambda image=image: Decoded(image, 8),
                f"p{index}",
                findings=known,
            )
        )
    names = ("no finding", "any finding") if findings else tuple(f"class {each}" for each in range(classes))
    return Cohort("made", names, tuple(records), findings=findings)


class Sums(nn.Module):
    """Logits of findings that are linear in the image: (batch, findings)."""

    def __init__(self, weights: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.weights, self.bias = nn.Parameter(weights), nn.Parameter(bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weights.T + self.bias


def linear_findings(thresholds: tuple[float, ...] = (), *, seed: int = 0) -> Classifier:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(3, 3 * SIZE_PX**2, generator=generator) / 100
    head = Sums(weights, -weights.sum(dim=1) / 2)
    return Classifier(
        nn.Identity(), head, preprocessing=PREPROCESSINGS["unit"], size_px=SIZE_PX,
        classes=Findings(NAMES, thresholds), card={"model": "linear"},
    )  # fmt: skip


# --- what outputs decide


def test_the_margin_of_classes_is_the_true_logit_less_the_best_other() -> None:
    outputs = torch.tensor([[2.0, 0.5, 1.0], [0.0, 3.0, 1.0]])
    decided = Classes(("a", "b", "c"))
    assert decided.margin(outputs, torch.tensor([0, 2])).tolist() == [[1.0], [-2.0]]
    assert decided.right(outputs, torch.tensor([0, 2])).tolist() == [[True], [False]]


def test_the_margin_of_findings_is_that_to_their_thresholds() -> None:
    decided = Findings(("a", "b"), (0.5, 0.2))
    labels = torch.tensor([[1.0, 0.0], [0.0, torch.nan]])
    margin = decided.margin(torch.tensor([[3.0, -1.0], [3.0, -1.0]]), labels)
    over = -1.0 - math.log(0.2 / 0.8)
    assert margin[0].tolist() == pytest.approx([3.0, -over])
    assert margin[1, 0] == -3.0
    assert margin[1, 1].isnan()
    assert decided.right(torch.tensor([[3.0, -1.0]]), labels[:1]).tolist() == [[True, False]]


def test_a_finding_is_the_two_logits_of_its_adapter() -> None:
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for place, decision in enumerate(Findings(NAMES, (0.3, 0.5, 0.9)).decisions):
        adapter = dm.Finding(place, (0.3, 0.5, 0.9)[place])
        torch.testing.assert_close(decision.logits(outputs), adapter(outputs))
    assert CLASS.logits(outputs) is outputs


@pytest.mark.parametrize(
    ("goal", "expected", "label"),
    [
        ("any", [0.5, 0.0], 1),  # the least of those that were right: 2, -(-0.5)
        ("hide", [2.0, 2.0], 1),
        ("fabricate", [-0.5, 1.0], 0),
    ],
)
def test_goals_by_their_formulas(goal: str, expected: list[float], label: int) -> None:
    decided = Findings(("a", "b", "c", "d"))
    labels = (1, 0, 0, None)
    right = (True, True, False, False)
    (asked,) = decided.asked(labels, goal, right=right)
    outputs = torch.tensor([[2.0, -0.5, -0.7, 9.0], [2.0, 0.0, 1.0, 9.0]])
    assert asked.decision.name == f"({goal})"
    assert asked.label == label
    assert asked.decision.logits(outputs)[:, 1].tolist() == expected


def test_there_is_nothing_to_hide_where_nothing_is_there() -> None:
    decided = Findings(("a", "b"))
    assert list(decided.asked((0, None), "hide")) == []
    assert list(decided.asked((1, 1), "fabricate")) == []
    assert list(decided.asked((0, 1), "any", right=(False, False))) == []
    assert [asked.decision.name for asked in decided.asked((0, None))] == ["a"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Findings(()), "must name one or more"),
        (lambda: Findings(("a", "a")), "got 'a' twice"),
        (lambda: Findings(("a", "b"), (0.5,)), "one for each of the 2 findings, got 1"),
        (lambda: Findings(("a",), (1.0,)), "threshold of a must be a probability between 0 and 1, got 1.0"),
        (lambda: Classes(("a",)), "must name two or more"),
        (lambda: dm.ThreatModel(goal="hid").against(classes=("a", "b"), size_px=8, fill=False, exhaustive=False),
         "goal 'hid' is not known. Did you mean 'hide'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(make, message: str) -> None:
    with pytest.raises(DosimeterError, match=message):
        make()


def test_thresholds_are_part_of_a_classifiers_name() -> None:
    assert linear_findings().name == linear_findings((0.5, 0.5, 0.5)).name
    assert linear_findings().name != linear_findings((0.5, 0.5, 0.6)).name


# --- several classes


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "apgd", "deepfool", "square"])
def test_three_classes_are_swept_to_tables(attack: str) -> None:
    classifier = convolutional_classifier(classes=("class 0", "class 1", "class 2"))
    responses = dm.sweep(
        classifier, made(9), attack, effort="quick", epsilons=[0.01, 0.1], compute=dm.Compute(workers=1)
    )
    table = dm.accuracy_table(responses)
    assert table["n"].tolist() == [9, 9, 9]
    rows = compact(responses.frame)
    assert set(rows["n_classes"]) == {3}
    assert (rows["correct"] == (rows["margin"] > 0)).all()


def test_tables_of_a_sweep_of_three_classes() -> None:
    classifier = convolutional_classifier(classes=("class 0", "class 1", "class 2"))
    frames = [
        dm.sweep(classifier, made(9), attack, effort="quick", epsilons=[0.01, 0.1], compute=dm.Compute(workers=1)).frame
        for attack in ("pgd", "square")
    ]
    tables = build_tables(Responses(pd.concat(frames), {}))
    clean = tables["confusion_by_class"]
    assert clean.groupby("label")["images"].sum().tolist() == [3, 3, 3]
    assert set(tables["flips_by_class"]["predicted"]) <= {0, 1, 2}
    assert tables["macro_recall"]["n_classes"].eq(3).all()


def test_a_target_among_three_is_reached() -> None:
    classifier = convolutional_classifier(classes=("class 0", "class 1", "class 2"))
    aimed = dm.ThreatModel(target="class 2")
    responses = dm.sweep(
        classifier, made(9), "pgd", effort="quick", epsilons=[0.3], threat=aimed, compute=dm.Compute(workers=1)
    )
    rows = compact(responses.frame).query("epsilon == 0.3 and label != 2")
    assert (rows["predicted"] == 2).mean() > 0.5


def test_a_hundred_and_thirty_classes_are_swept() -> None:
    names = tuple(f"class {each}" for each in range(130))
    responses = dm.sweep(
        convolutional_classifier(classes=names),
        made(130, classes=130),
        epsilons=[0.1],
        compute=dm.Compute(workers=1),
        refine=False,
    )
    rows = compact(responses.frame)
    assert sorted(rows["label"].unique()) == list(range(130))
    assert dm.accuracy_table(responses)["n"].tolist() == [130, 130]


def test_the_difference_of_logits_ratio_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0, -1.0], [1.0, 3.0, 0.5, 0.0]])
    assert dlr(logits, torch.tensor([0, 0])).tolist() == pytest.approx([-2 / 3, 2 / 2.5])
    with pytest.raises(DosimeterError, match="three classes or more, got 2"):
        dlr(logits[:, :2], torch.tensor([0, 0]))


def test_examine_knows_three_classes() -> None:
    examined = dm.examine(convolutional_classifier(classes=("class 0", "class 1", "class 2")), made(9))
    assert examined.facts["outputs"]["look"] == "logits"


# --- findings


def test_each_finding_is_attacked_by_itself_where_its_label_is_known() -> None:
    classifier, cohort = linear_findings(), made(10, findings=NAMES)
    responses = dm.sweep(classifier, cohort, epsilons=[0.001, 0.01], compute=dm.Compute(workers=1))
    rows = responses.frame
    for place, name in enumerate(NAMES):
        known = [record for record in cohort.records if record.findings[place] is not None]
        mine = rows[(rows["decision"] == name) & (rows["epsilon"] == 0)]
        assert mine["case_id"].tolist() == [record.case_id for record in known]
        assert mine["label"].tolist() == [record.findings[place] for record in known]
    table = dm.accuracy_table(responses)
    assert sorted(table["decision"].unique()) == sorted(NAMES)


def test_a_finding_of_a_linear_network_flips_where_it_must() -> None:
    classifier, cohort = linear_findings((0.5, 0.3, 0.6)), made(12, findings=NAMES)
    responses = dm.sweep(
        classifier, cohort, dm.FGSM(channels="free"), epsilons=[0.001, 0.003, 0.01, 0.03], compute=dm.Compute(workers=1)
    )
    flips = build_tables(Responses(responses.frame, {}))["flip_epsilon"]
    checked = 0
    for place, name in enumerate(NAMES):
        size = float(classifier.head.weights[place].abs().sum())
        for row in flips[(flips["decision"] == name) & flips["flip_epsilon"].notna()].itertuples():
            case = cohort[int(row.case_id)]
            outputs = answer(classifier, classifier.prepare(case)[None])
            labels = torch.tensor([[torch.nan if each is None else each for each in case.record.findings]])
            margin = float(classifier.decisions.margin(outputs, labels)[0, place])
            assert row.flip_epsilon == pytest.approx(margin / size, rel=0.1, abs=2e-5)  # some pixels are clipped
            checked += 1
    assert checked > 10


def test_one_pass_answers_all_findings_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, cohort = linear_findings(), made(4, findings=NAMES)
    from dosimeter.engines.base import TorchEngine

    asked: list[int] = []
    plain = TorchEngine.logits
    monkeypatch.setattr(TorchEngine, "logits", lambda self, images: asked.append(len(images)) or plain(self, images))
    dm.sweep(
        classifier, cohort, "random_sign", epsilons=[0.1], compute=dm.Compute(workers=1, engine="torch"), refine=False
    )
    n_questions = sum(label is not None for record in cohort.records for label in record.findings) * 2
    assert sum(asked) == 2 * len(cohort) < n_questions  # random signs are the same for every finding


@pytest.mark.parametrize("goal", ["any", "hide", "fabricate"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_goals_are_swept_and_never_weaker_with_epsilon(goal: str, attack: str) -> None:
    classifier, cohort = linear_findings(), made(10, findings=NAMES)
    threat = dm.ThreatModel(goal=goal)
    responses = dm.sweep(
        classifier,
        cohort,
        attack,
        effort="quick",
        epsilons=[0.001, 0.003, 0.01],
        threat=threat,
        compute=dm.Compute(workers=1),
    )
    table = dm.accuracy_table(responses)
    assert set(table["decision"]) == {f"({goal})"}
    assert table["accuracy_envelope"].is_monotonic_decreasing
    if goal == "any":
        assert table["accuracy"].iloc[0] == 1.0  # what was right stands for itself


def test_any_finding_is_as_fragile_as_the_most_fragile() -> None:
    classifier, cohort = linear_findings(), made(10, findings=NAMES)
    options = {"epsilons": [0.001, 0.003, 0.01, 0.03], "compute": dm.Compute(workers=1)}
    single = dm.sweep(classifier, cohort, dm.FGSM(channels="free"), **options)
    threat = dm.ThreatModel(goal="any")
    together = dm.sweep(classifier, cohort, dm.FGSM(channels="free"), threat=threat, **options)
    each, every = (build_tables(Responses(responses.frame, {}))["flip_epsilon"] for responses in (single, together))
    lowest = each.groupby("case_id")["flip_epsilon"].min()
    for row in every[every["flip_epsilon"].notna()].itertuples():
        assert row.flip_epsilon == pytest.approx(lowest[row.case_id], abs=2e-5)


def test_the_cohort_must_have_the_classifiers_findings() -> None:
    with pytest.raises(DosimeterError, match="the cohort's findings"):
        dm.sweep(linear_findings(), made(4, findings=NAMES[::-1]))
    with pytest.raises(DosimeterError, match="the cohort's findings"):
        dm.sweep(linear_findings(), made(4))
    with pytest.raises(DosimeterError, match="a label for each of the 1 findings"):
        Cohort("odd", ("a", "b"), (Record("0", 0, "0", lambda: Decoded(np.zeros((1, 2, 2)), 8)),), findings=("x",))


def test_a_decided_network_is_differentiable() -> None:
    classifier = linear_findings()
    network = Decided(classifier, classifier.decisions.decisions[1])
    images = torch.rand(2, 3, SIZE_PX, SIZE_PX, requires_grad=True)
    network(images)[:, 1].sum().backward()
    torch.testing.assert_close(images.grad[0].flatten(), classifier.head.weights[1])


def test_a_case_keeps_its_records_findings() -> None:
    case = made(2, findings=NAMES)[0]
    assert isinstance(case, Case)
    assert len(case.record.findings) == 3


def test_one_finding_is_a_classifier_and_a_cohort_of_two_classes() -> None:
    classifier, cohort = linear_findings((0.5, 0.3, 0.6)), made(10, findings=NAMES)
    one, images = classifier.deciding("effusion"), cohort.of_finding("effusion")
    assert one.classes == images.classes == ("no effusion", "effusion")
    assert len(images) == sum(record.findings[1] is not None for record in cohort.records)
    alone = dm.sweep(one, images, epsilons=[0.001, 0.01], compute=dm.Compute(workers=1)).frame
    every = dm.sweep(classifier, cohort, epsilons=[0.001, 0.01], compute=dm.Compute(workers=1)).frame
    mine = every[every["decision"] == "effusion"].reset_index(drop=True)
    columns = ["case_id", "epsilon", "label", "predicted", "correct", "on_grid"]
    pd.testing.assert_frame_equal(alone[columns], mine[columns])
    assert dm.examine(one, images).facts["n"] == len(images)
    with pytest.raises(DosimeterError, match="findings are examined one at a time"):
        dm.examine(classifier, cohort)
    with pytest.raises(DosimeterError, match="no finding 'edema'"):
        classifier.deciding("edema")
