"""Classifiers that may refuse to answer, from the network to the report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import linear_classifier, settings
from torch import Tensor

from dosimeter import registry
from dosimeter.analysis.base import answered
from dosimeter.analysis.clean import clean_metrics, confusion
from dosimeter.analysis.curves import fgsm_accuracy
from dosimeter.analysis.defences import defence_accuracy, helpful
from dosimeter.analysis.detection import UNKNOWN, detection
from dosimeter.analysis.flips import flip_epsilon
from dosimeter.analysis.names import model_name
from dosimeter.analysis.susceptibility import most_susceptible
from dosimeter.analysis.worst_case import with_worst_case
from dosimeter.app.explorer import Explorer
from dosimeter.attacks.base import Problem
from dosimeter.defences.base import Defence, Entry, defend
from dosimeter.defences.training import Training, nothing
from dosimeter.examinations.known.false_alarms import ATTACK, Refusal
from dosimeter.models.base import Classifier, answer
from dosimeter.models.rings import Inside, Ring, draws, excess_of, with_alarm
from dosimeter.record import table as responses
from dosimeter.replay.export import export
from dosimeter.sections.defences.page import sentences
from dosimeter.study.run import run_study
from dosimeter.sweeps.search import search


class Bright(Ring):
    """Rejects images whose mean is above a threshold."""

    alarms = True

    def __init__(self, threshold: Tensor, scale: float) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold)
        self.scale = scale

    def forward(self, images: Tensor, inside: Inside) -> Tensor:
        outputs = inside(images).outputs
        excess = self.scale * (images.mean(dim=(1, 2, 3)) - self.threshold)
        return with_alarm(outputs, excess, 2)


@dataclass(frozen=True)
class Brightness(Defence):
    """Rejects what is brighter than the brightest training image, or all."""

    scale: float = 50.0
    margin: float = 0.001

    def learn(self, classifier: Classifier, training: Training, *, seed: int, advance=nothing) -> dict[str, Tensor]:
        means = [images.mean(dim=(1, 2, 3)) for _, images, _ in training.batches(4)]
        return {"threshold": torch.cat(means).max() + self.margin}

    def put(self, classifier: Classifier, learned: Mapping[str, Tensor], *, seed: int) -> Classifier:
        return classifier.around(Bright(learned["threshold"], self.scale))


@pytest.fixture
def brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, margin in (("brightness", 0.001), ("reject_all", -2.0)):
        entry = Entry(lambda _, m=margin: Brightness(margin=m), "by mean", "brightness", "detector", "a test")
        monkeypatch.setitem(registry.ADDED, ("defences", name), entry)


def ringed(weight: float = 0.1, *, threshold: float = 0.6, scale: float = 30.0) -> Classifier:
    bare = linear_classifier(torch.full((3, 4, 4), weight), -0.5 * 48 * weight)
    return bare.around(Bright(torch.tensor(threshold), scale))


def test_an_alarm_is_an_output_behind_the_classes() -> None:
    classifier = ringed()
    images = torch.full((2, 3, 4, 4), 0.55)
    images[1] = 0.7
    outputs = classifier(images)
    assert outputs.shape == (2, 3)
    torch.testing.assert_close(excess_of(outputs), 30 * (torch.tensor([0.55, 0.7]) - 0.6))
    assert answer(classifier, images).shape == (2, 2)
    assert classifier.rejects
    assert classifier.fingerprint != ringed(threshold=0.61).fingerprint != ringed(scale=31.0).fingerprint


def test_the_true_class_takes_the_alarm_in_so_that_only_what_is_accepted_fools() -> None:
    classifier = ringed()
    images = torch.stack([torch.full((3, 4, 4), level) for level in (0.45, 0.55, 0.7)])
    problem = Problem(classifier, images, torch.zeros(3, dtype=torch.long))  # the second class is wrong
    logits = problem.ask(images)
    assert logits.shape == (3, 2)
    assert problem.fooled(logits).tolist() == [False, True, False]  # right; wrong; wrong and rejected
    bare = classifier(images)[:, :2]
    torch.testing.assert_close(logits[:2], bare[:2])
    torch.testing.assert_close(logits[2, 0], bare[2].max() + 30 * (0.7 - 0.6))


def test_the_gradient_is_that_of_what_is_still_missing() -> None:
    classifier = ringed()
    images = torch.stack([torch.full((3, 4, 4), level) for level in (0.45, 0.7)])
    problem = Problem(classifier, images, torch.zeros(2, dtype=torch.long))
    _, _, gradient = problem.gradient(images, "margin", "free")
    assert (gradient[0] > 0).all()  # still the right class: towards the other
    assert (gradient[1] < 0).all()  # the other class, rejected: away from the alarm


def test_the_smallest_change_that_raises_an_alarm_is_the_closed_form() -> None:
    """Every pixel must rise by what the mean lacks of the threshold."""
    classifier = ringed(threshold=0.52)
    images = torch.stack([torch.full((3, 4, 4), level) for level in (0.45, 0.49)])
    problem = Problem(Refusal(classifier), images, torch.zeros(2, dtype=torch.long))
    found = search(ATTACK, problem, (0.0, 0.02, 0.04, 0.06, 0.08))
    first = [next(epsilon for epsilon in (0.02, 0.04, 0.06, 0.08) if path.found(epsilon)) for path in found]
    assert first == [0.08, 0.04]  # 0.07 and 0.03 are needed


def test_draws_belong_to_the_image_and_an_attacker_gets_others() -> None:
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))

    def drawn(given: Tensor, seed: int = 1) -> list[float]:
        return torch.rand(3, generator=draws(given, seed)).tolist()

    attacker = drawn(image)
    with torch.no_grad():
        system = drawn(image)
        assert drawn(image) == system != attacker
        assert drawn(image, seed=2) != system != drawn(image + 0.1)


@pytest.mark.slow  # a study of three defences with everything that judges them
@pytest.mark.usefixtures("tiny_networks", "brightness")
def test_a_study_of_classifiers_that_refuse_is_judged_by_who_knows_them(image_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = {
        "preset": "sound",
        "attack": "pgd,random_sign",
        "effort": "quick",
        "defence": "brightness,reject_all,jpeg:50",
    }
    outcome = run_study(settings(image_folder, run, model="vgg16", **asked))
    rows = responses.read(run / "responses.parquet").frame
    rejecting = rows[rows["defence"].isin(["brightness", "reject_all"])]
    assert rejecting["alarm"].notna().all()
    assert rows.loc[rows["defence"].isin(["none", "jpeg:50"]), "alarm"].isna().all()
    assert (rejecting["abstained"] == (rejecting["alarm"] > 0)).all()
    assert not (rejecting["correct"] & rejecting["abstained"].astype(bool)).any()
    assert rejecting["logits"].map(len).unique().tolist() == [2]
    everything = rejecting[rejecting["defence"] == "reject_all"]
    assert everything["abstained"].all()

    table = pd.read_csv(run / "tables" / "defences.csv").set_index("defence")
    assert table.loc["reject_all", ["accuracy", "refused"]].tolist() == [0.0, 1.0]
    assert table.loc["none", "refused"] == 0
    assert table.loc["brightness", "fit_s"] >= 0
    curves = pd.read_csv(run / "tables" / "defence_accuracy.csv")
    assert (curves.loc[curves["defence"] == "reject_all", "known_kept"] == 1).all()
    assert (curves["worst"] <= curves[["known", "unknown"]].min(axis=1) + 1e-12).all()
    assert table.loc["none", "n_alarmed"] == table.loc["reject_all", "n_alarmed"] == 0
    right = rejecting[(rejecting["defence"] == "brightness") & rejecting["correct"] & (rejecting["epsilon"] == 0)]
    assert table.loc["brightness", "n_alarmed"] == right["case_id"].nunique()
    seen = pd.read_csv(run / "tables" / "detection.csv")
    assert set(seen["attacker"]) == {"knows the detector", "does not know it", "random noise"}
    assert "What defences are worth" in (run / "report.html").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert {row["defence"] for row in summary["defences"]["table"]} == {"none", "brightness", "reject_all", "jpeg:50"}
    flips = pd.read_csv(run / "tables" / "flip_epsilon.csv")
    assert flips.loc[flips["model"] == "vgg16 + reject_all", "flip_epsilon"].isna().all()
    assert len(list((run / "learned").glob("brightness-*.safetensors"))) == 1
    assert outcome.incomplete == []
    assert run_study(settings(image_folder, run, model="vgg16", **asked)).reused
    assert_images_are_refused(run, tmp_path / "files", rejecting)


def assert_images_are_refused(run: Path, files: Path, rows: pd.DataFrame) -> None:
    """What shows a run's images again says which of them are refused, as the table does."""
    explorer = Explorer(run)
    places = [place for place, each in enumerate(explorer.run()["curves"]) if "reject_all" in each["model"]]
    said = explorer.answer(places[0], 0, 0.009, "float")
    assert said["refused"]
    assert len(said["probabilities"]) == 2
    model = "vgg16 + brightness"
    exported = export(run, files, epsilon=0.009, storage="png8", preset="sound", model=model)
    lines = {line["case"]: line for line in json.loads((files / "manifest.json").read_text())["images"]}
    mine = rows[(rows["model"] == model) & (rows["preset"] == "sound") & (rows["made_on"].isna()) & rows["on_grid"]]
    refused = mine[mine["epsilon"] == 0.009].set_index("case_id")["abstained"]
    assert {case: line["as_float"]["refused"] for case, line in lines.items()} == refused.astype(bool).to_dict()
    right = [line for line in lines.values() if not line["original"]["refused"]]
    assert exported.n_correct <= len(right)


# --- the tables ---------------------------------------------------------------------------------------------


def rows_of(outcomes: Mapping[tuple[str, str, str], list[list[int]]], epsilons: list[float]) -> pd.DataFrame:
    """Return rows of (defence, preset, made_on) -> for each case, at each epsilon: 1 right, 0 wrong, 2 rejected."""
    from response_factory import response_row

    rows = []
    for (defence, preset, made_on), cases in outcomes.items():
        for case, values in enumerate(cases):
            for epsilon, value in zip(epsilons, values, strict=True):
                rejected = value == 2
                model = "vgg16" if defence == "none" else f"vgg16 + {defence}"
                row = response_row(label=1, probability=0.9 if value == 1 else 0.2, epsilon=epsilon)
                names = {"case_id": f"{case:05d}-0", "patient_id": f"p{case}", "model": model, "defence": defence}
                names |= {"preset": preset, "attack": preset.split(" ")[0], "made_on": made_on or None}
                alarm = {"alarm": 1.0 if rejected else -1.0, "abstained": rejected} if defence == "guard" else {}
                rows.append({**row, **names, "correct": value == 1, **alarm})
    return responses.to_frame(rows)


def test_the_worst_of_both_attackers_counts_and_a_refusal_is_no_right_answer() -> None:
    epsilons = [0.0, 0.01]
    frame = rows_of(
        {
            ("none", "pgd", ""): [[1, 0], [1, 0], [1, 0], [1, 0], [0, 0]],
            ("guard", "pgd", ""): [[1, 1], [1, 2], [1, 0], [2, 2], [0, 0]],
            ("guard", "pgd from vgg16", "vgg16"): [[1, 0], [1, 2], [1, 2], [2, 1], [0, 2]],
        },
        epsilons,
    )
    curves = defence_accuracy(frame).set_index(["defence", "epsilon"])
    attacked = curves.loc[("guard", 0.01)]
    assert attacked[["known", "known_kept", "unknown", "unknown_kept"]].tolist() == [0.2, 0.6, 0.0, 0.6]
    assert attacked[["worst", "worst_kept"]].tolist() == [0.0, 0.4]
    assert attacked["difference"] == 0.0
    clean = curves.loc[("guard", 0.0)]
    assert clean[["known", "known_kept"]].tolist() == [0.6, 0.8]
    assert curves.loc[("none", 0.01), "difference"] != curves.loc[("none", 0.01), "difference"]
    seen = detection(frame)
    unknown = seen[seen["attacker"] == UNKNOWN].iloc[0]
    assert unknown["flagged"] == 0.6
    assert unknown["passed"] == pytest.approx(1 / 3)  # of three right and accepted without attack


def test_in_the_worst_case_a_refused_image_is_refused_until_an_attack_passes() -> None:
    epsilons = [0.0, 0.01, 0.02]
    frame = rows_of(
        {
            ("guard", "apgd", ""): [[1, 2, 2], [1, 1, 1], [1, 2, 0], [1, 0, 2], [2, 2, 2]],
            ("guard", "pgd", ""): [[1, 1, 2], [1, 2, 1], [1, 0, 2], [1, 2, 1], [2, 2, 2]],
        },
        epsilons,
    )
    rows = with_worst_case(answered(frame))
    worst = rows[rows["preset"] == "worst case"].sort_values(["case_id", "epsilon"])
    assert worst["correct"].to_numpy().reshape(5, 3).tolist() == [[True, False, False]] * 4 + [[False] * 3]
    refused = [[0, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert worst["abstained"].to_numpy().reshape(5, 3).tolist() == refused
    flips = flip_epsilon(rows)
    found = flips[flips["preset"] == "worst case"].sort_values("case_id")["flip_epsilon"]
    assert found.isna().tolist() == [True, True, False, False, True]
    listed = most_susceptible(frame)
    assert listed["case_id"].tolist() == ["00002-0", "00003-0"]
    assert listed["first_attack"].tolist() == ["pgd", "apgd"]


def test_a_refused_image_is_neither_called_nor_cleared() -> None:
    frame = rows_of({("guard", "pgd", ""): [[1], [2], [2], [0]]}, [0.0])
    frame.loc[2, "label"] = 0  # answered 0, and refused
    table = confusion(frame).iloc[0]
    assert table[["tn", "fp", "fn", "tp"]].tolist() == [0, 0, 1, 1]
    metrics = clean_metrics(frame).iloc[0]
    assert metrics[["accuracy", "sensitivity", "specificity"]].tolist() == [0.25, pytest.approx(1 / 3), 0.0]
    frame = frame.assign(preset="sound", attack="fgsm")
    assert fgsm_accuracy(frame).iloc[0]["specificity"] == 0.0


def test_a_defence_helps_only_where_its_paired_interval_lies_above_none() -> None:
    curves = pd.DataFrame(
        {
            "defence": ["none", "a", "a", "a", "a", "b", "c"],
            "epsilon": [0.01, 0.0, 0.01, 0.02, 0.01, 0.01, 0.01],
            "difference_low": [np.nan, 0.5, 0.1, -0.1, 0.02, 0.3, 0.3],
        }
    )
    table = pd.DataFrame(
        {
            "defence": ["none", "a", "b", "c"],
            "verdict": ["PASS", "CAUTION", "UNRELIABLE", "PASS"],
            "constant_from": [np.nan, np.nan, np.nan, 0.01],
        }
    )
    assert helpful(curves, table) == {"a": [0.01]}


def test_what_was_learned_is_kept_and_what_was_changed_is_learned_again(tmp_path: Path, brightness: None) -> None:
    from dosimeter.cohorts.arrays import cohort_of

    bare = linear_classifier(torch.full((3, 4, 4), 0.1))
    images = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    training = cohort_of(images.numpy(), [0, 1, 0, 1], classes=bare.classes)
    first = defend(bare, "brightness", training, kept=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    assert defend(bare, "brightness", training, kept=tmp_path).fingerprint == first.fingerprint
    file.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1, whole[-1]]))
    assert defend(bare, "brightness", training, kept=tmp_path).fingerprint == first.fingerprint
    assert file.read_bytes() != whole[:-2] + bytes([whole[-2] ^ 1, whole[-1]])
    (part,) = first.card["defences"]
    assert len(part["sha256"]) == 64


def test_a_sentence_on_a_defended_classifier_names_its_seed() -> None:
    facts = {"cohort": "a", "protocol": "paper", "model": "vgg16 + b", "undefended": "vgg16", "defence": "b"}
    facts |= {"verdict": "UNRELIABLE", "because": "c", "constant_from": np.nan, "larger_class": 0.5}
    table = pd.DataFrame([{**facts, "seed": seed} for seed in (0, 1)])
    curves = pd.DataFrame(
        [{**facts, "epsilon": 0.1, "difference_low": 0.1, "known_kept": 0.5, "unknown_kept": 0.5, "n": 9}]
    )
    said = sentences({"defences": table, "defence_accuracy": curves.assign(seed=0)})
    assert [sentence.partition(")")[0] for sentence in said[1:]] == [
        f"{model_name('vgg16 + b')} on a (paper protocol, seed {seed}" for seed in (0, 1)
    ]
